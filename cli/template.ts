/** Go's text/template, as far as docker's `--format` needs it: a parser into a tree, and its evaluation. */
import { callFunction } from './template-functions.ts';
import { fieldOf, isTruthy, print } from './template-values.ts';
import { quote } from './units.ts';

/** Nesting of blocks and parentheses that is followed; more is refused. */
const DEPTH_MAX = 64;

export type Expression =
  | { kind: 'literal'; value: unknown }
  | { kind: 'field'; of: Expression | undefined; path: string[]; text: string }
  | { kind: 'variable'; name: string }
  | { kind: 'name'; name: string }
  | { kind: 'pipe'; commands: Expression[][] };

export type Node =
  | { kind: 'text'; text: string }
  | { kind: 'print'; value: Expression }
  | { kind: 'assign'; names: string[]; value: Expression; declare: boolean }
  | { kind: 'if' | 'with' | 'range'; names: string[]; value: Expression; body: Node[]; otherwise: Node[] };

const failure = (message: string): Error => new Error(`template parsing error: template: :1: ${message}`);

type Piece = { text: string } | { action: string };

/** Splits a template into texts and actions, with `{{-` and `-}}` trimming the texts beside them. */
function pieces(source: string): Piece[] {
  const result: Piece[] = [];
  let at = 0;
  let trimNext = false;
  while (at <= source.length) {
    const open = source.indexOf('{{', at);
    let text = open < 0 ? source.slice(at) : source.slice(at, open);
    if (trimNext) text = text.trimStart();
    if (open < 0) {
      result.push({ text });
      return result;
    }
    const close = actionEnd(source, open + 2);
    let action = source.slice(open + 2, close);
    if (/^-\s/.test(action)) {
      text = text.trimEnd();
      action = action.slice(1);
    }
    trimNext = /\s-$/.test(action);
    if (trimNext) action = action.slice(0, -1);
    result.push({ text });
    if (!/^\s*\/\*.*\*\/\s*$/s.test(action)) result.push({ action: action.trim() });
    at = close + 2;
  }
  return result;
}

function actionEnd(source: string, from: number): number {
  const token = /"(?:[^"\\\n]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)*'|\}\}/g;
  token.lastIndex = from;
  for (let match = token.exec(source); match !== null; match = token.exec(source)) {
    if (match[0] === '}}') return match.index;
  }
  throw failure('unclosed action');
}

const TOKEN =
  /\s+|"(?:[^"\\]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)*'|\$\w*(?:\.\w+)*|(?:\.\w+)+|\.|:=|[-+]?\d+(?:\.\d+)?|[A-Za-z_]\w*|[()|,=]/y;

function tokens(action: string): string[] {
  const result: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < action.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(action);
    if (match === null) throw failure(`unexpected ${quote(action.slice(at, at + 1))} in operand`);
    // Blanks part operands: `.A .B` is two, `(x).B` a field of the result.
    result.push(/^\s/.test(match[0]) ? ' ' : match[0]);
  }
  return result;
}

/** Reads the expressions of one action. */
class ActionReader {
  readonly #tokens: string[];
  #at = 0;
  #depth = 0;

  constructor(action: string) {
    this.#tokens = tokens(action);
  }

  #peek(): string | undefined {
    while (this.#tokens[this.#at] === ' ') this.#at++;
    return this.#tokens[this.#at];
  }

  /** Variables before `:=` or `=`, when there are any. */
  assignment(): { names: string[]; declare: boolean } | undefined {
    const joined = this.#tokens.filter((token) => token !== ' ');
    const end = joined.findIndex((token) => token === ':=' || token === '=');
    if (end < 1 || joined.slice(0, end).some((token, i) => (i % 2 === 0 ? !/^\$\w+$/.test(token) : token !== ','))) {
      return undefined;
    }
    while (this.#tokens[this.#at] !== joined[end]) this.#at++;
    this.#at++;
    return { names: joined.slice(0, end).filter((token) => token !== ','), declare: joined[end] === ':=' };
  }

  pipeline(closing?: string): Expression {
    if (++this.#depth > DEPTH_MAX) throw failure(`more than ${DEPTH_MAX} nested parentheses`);
    const commands: Expression[][] = [];
    for (;;) {
      const command: Expression[] = [];
      for (let token = this.#peek(); token !== undefined && token !== '|' && token !== closing; token = this.#peek()) {
        command.push(this.#operand());
      }
      if (command.length === 0) throw failure('missing value for command');
      commands.push(command);
      const next = this.#peek();
      this.#at++;
      if (next === closing) break;
      if (next === undefined) throw failure('unclosed left paren');
    }
    this.#depth--;
    return { kind: 'pipe', commands };
  }

  #operand(): Expression {
    const token = this.#peek() ?? '';
    this.#at++;
    if (token === '(') {
      const inner = this.pipeline(')');
      const after = this.#tokens[this.#at];
      if (after === undefined || !/^\.\w/.test(after)) return inner;
      this.#at++;
      return { kind: 'field', of: inner, path: after.slice(1).split('.'), text: after };
    }
    if (token === '.') return { kind: 'field', of: undefined, path: [], text: '.' };
    if (token.startsWith('.')) return { kind: 'field', of: undefined, path: token.slice(1).split('.'), text: token };
    if (token.startsWith('$')) {
      const [name = '$', ...path] = token.split('.');
      const variable: Expression = { kind: 'variable', name };
      return path.length === 0 ? variable : { kind: 'field', of: variable, path, text: token };
    }
    if (token.startsWith('"')) return { kind: 'literal', value: JSON.parse(token) as string };
    if (token.startsWith('`')) return { kind: 'literal', value: token.slice(1, -1) };
    if (token.startsWith("'")) return { kind: 'literal', value: token.codePointAt(1) ?? 0 };
    if (/^[-+]?\d/.test(token)) return { kind: 'literal', value: Number(token) };
    if (token === 'true' || token === 'false') return { kind: 'literal', value: token === 'true' };
    if (token === 'nil') return { kind: 'literal', value: null };
    if (/^[A-Za-z_]/.test(token)) return { kind: 'name', name: token };
    throw failure(`unexpected ${quote(token)} in operand`);
  }
}

/** Builds the tree; blocks end at `else` and `end`. */
class TreeReader {
  readonly #pieces: Piece[];
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#pieces = pieces(source);
  }

  all(): Node[] {
    const { nodes, stop } = this.#list();
    if (stop !== undefined) throw failure(`unexpected {{${stop}}}`);
    return nodes;
  }

  #list(): { nodes: Node[]; stop: string | undefined } {
    if (++this.#depth > DEPTH_MAX) throw failure(`more than ${DEPTH_MAX} nested blocks`);
    const nodes: Node[] = [];
    while (this.#at < this.#pieces.length) {
      const piece = this.#pieces[this.#at++] as Piece;
      if ('text' in piece) {
        if (piece.text !== '') nodes.push({ kind: 'text', text: piece.text });
        continue;
      }
      const { action } = piece;
      if (action === 'end' || action === 'else' || /^else\s/.test(action)) {
        this.#depth--;
        return { nodes, stop: action };
      }
      const block = /^(if|with|range)\s+(.*)$/s.exec(action);
      nodes.push(block === null ? this.#single(action) : this.#block(block[1] as 'if', block[2] ?? ''));
    }
    this.#depth--;
    return { nodes, stop: undefined };
  }

  #single(action: string): Node {
    if (/^(define|template|block|break|continue)\b/.test(action)) {
      throw failure(`${action.split(/\s/)[0]} is not supported in formats`);
    }
    const reader = new ActionReader(action);
    const assigned = reader.assignment();
    const value = reader.pipeline();
    return assigned === undefined ? { kind: 'print', value } : { kind: 'assign', ...assigned, value };
  }

  #block(kind: 'if' | 'with' | 'range', head: string): Node {
    const reader = new ActionReader(head);
    const names = reader.assignment()?.names ?? [];
    const value = reader.pipeline();
    const body = this.#list();
    let otherwise: Node[] = [];
    if (body.stop === undefined) throw failure('unexpected EOF');
    const chained = /^else\s+(if|with)\s+(.*)$/s.exec(body.stop);
    if (chained !== null) {
      otherwise = [this.#block(chained[1] as 'if', chained[2] ?? '')];
    } else if (body.stop !== 'end') {
      const rest = this.#list();
      if (rest.stop !== 'end') throw failure('unexpected EOF');
      otherwise = rest.nodes;
    }
    return { kind, names, value, body: body.nodes, otherwise };
  }
}

interface Scope {
  dot: unknown;
  variables: Map<string, unknown>;
  /** Functions only shape their argument (a table's header line). */
  header: boolean;
}

function evaluate(expression: Expression, scope: Scope, piped: unknown[] = []): unknown {
  switch (expression.kind) {
    case 'literal':
      return expression.value;
    case 'variable':
      if (!scope.variables.has(expression.name)) throw failure(`undefined variable ${quote(expression.name)}`);
      return scope.variables.get(expression.name);
    case 'name':
      return callFunction(expression.name, piped, scope.header);
    case 'field': {
      let value = expression.of === undefined ? scope.dot : evaluate(expression.of, scope);
      for (const [i, name] of expression.path.entries()) {
        value = fieldOf(value, name, expression.text, i === expression.path.length - 1 ? piped : []);
      }
      return value;
    }
    case 'pipe': {
      let last: unknown[] = [];
      for (const [head, ...rest] of expression.commands) {
        last = [evaluate(head as Expression, scope, [...rest.map((one) => evaluate(one, scope)), ...last])];
      }
      return last[0];
    }
  }
}

/** Items of what `range` is given: pairs of index or key, and value. */
function items(value: unknown): [unknown, unknown][] {
  if (typeof value === 'number') return Array.from({ length: value }, (_, i) => [i, i]);
  if (Array.isArray(value)) return value.map((item, i) => [i, item as unknown]);
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  }
  if (value === null || value === undefined || value === '') return [];
  throw failure(`range can't iterate over ${print(value)}`);
}

function runRange(node: Extract<Node, { kind: 'if' | 'with' | 'range' }>, scope: Scope): string {
  const list = items(evaluate(node.value, scope));
  if (list.length === 0) return runNodes(node.otherwise, scope);
  let out = '';
  for (const [key, item] of list) {
    const variables = new Map(scope.variables);
    const [first, second] = node.names;
    if (second !== undefined) {
      variables.set(first as string, key);
      variables.set(second, item);
    } else if (first !== undefined) variables.set(first, item);
    out += runNodes(node.body, { ...scope, variables, dot: item });
  }
  return out;
}

function runNodes(nodes: readonly Node[], scope: Scope): string {
  let out = '';
  for (const node of nodes) {
    switch (node.kind) {
      case 'text':
        out += node.text;
        break;
      case 'print':
        out += print(evaluate(node.value, scope));
        break;
      case 'assign':
        for (const name of node.names) scope.variables.set(name, evaluate(node.value, scope));
        break;
      case 'range':
        out += runRange(node, scope);
        break;
      case 'if':
      case 'with': {
        const value = evaluate(node.value, scope);
        const dot = node.kind === 'with' && isTruthy(value) ? value : scope.dot;
        const variables = new Map(scope.variables);
        for (const name of node.names) variables.set(name, value);
        out += runNodes(isTruthy(value) ? node.body : node.otherwise, { ...scope, dot, variables });
        break;
      }
    }
  }
  return out;
}

/** A parsed template. */
export class Template {
  readonly #nodes: Node[];

  /** @throws Error with the place and the reason when the template has a fault */
  constructor(source: string) {
    this.#nodes = new TreeReader(source).all();
  }

  /** Text of the template for one value. @throws Error naming the field or function that fails */
  run(value: unknown): string {
    return runNodes(this.#nodes, { dot: value, variables: new Map([['$', value]]), header: false });
  }

  /** Text with fields replaced by their headers; functions leave their argument alone. */
  runHeader(headers: Readonly<Record<string, string>>): string {
    return runNodes(this.#nodes, { dot: headers, variables: new Map([['$', headers]]), header: true });
  }
}
