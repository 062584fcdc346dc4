/** Specs as text for people, and what differs between two of them. No input or output here. */

/** Lines of context around a difference. */
const CONTEXT_LINES = 3;
/** Names of changed fields that a short list tells. */
const NAMES_MAX = 3;

type Json = string | number | boolean | null | undefined | Json[] | { [key: string]: Json };

const isEmpty = (value: Json): boolean =>
  value === null ||
  value === undefined ||
  (typeof value === 'object' && (Array.isArray(value) ? value : Object.values(value)).every(isEmpty));

/** A text that no reader takes for something else is left bare. */
function scalar(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value);
  return /^[\w./@+-][\w./@+=:, -]*$/.test(value) && !/[: ]$/.test(value) ? value : JSON.stringify(value);
}

/** Lines of a value in the manner of YAML; what is empty is left out. */
export function specLines(value: unknown, indent = ''): string[] {
  const json = value as Json;
  if (isEmpty(json)) return [];
  if (typeof json !== 'object' || json === null) return [`${indent}${scalar(json as string)}`];
  if (Array.isArray(json)) {
    return json.flatMap((item) => {
      const [first = '', ...rest] = specLines(item, `${indent}  `);
      return first === '' ? [] : [`${indent}- ${first.slice(indent.length + 2)}`, ...rest];
    });
  }
  return Object.entries(json).flatMap(([key, member]) => {
    if (isEmpty(member)) return [];
    if (typeof member !== 'object' || member === null) return [`${indent}${key}: ${scalar(member as string)}`];
    return [`${indent}${key}:`, ...specLines(member, `${indent}  `)];
  });
}

export type DiffLine = readonly [sign: ' ' | '-' | '+', text: string];

/** The shortest way from one list of lines to another (longest common subsequence). */
export function diffLines(before: readonly string[], after: readonly string[]): DiffLine[] {
  const width = after.length + 1;
  const common = new Uint32Array((before.length + 1) * width);
  const at = (i: number, j: number): number => common[i * width + j] ?? 0;
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      const same = before[i] === after[j];
      common[i * width + j] = same ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      lines.push([' ', before[i++] as string]);
      j++;
    } else if (j >= after.length || (i < before.length && at(i + 1, j) >= at(i, j + 1))) {
      lines.push(['-', before[i++] as string]);
    } else {
      lines.push(['+', after[j++] as string]);
    }
  }
  return lines;
}

/** Only the differences, with a few lines around them; `…` stands for lines left out. Empty when there are none. */
export function shortened(lines: readonly DiffLine[]): DiffLine[] {
  const near = (index: number): boolean =>
    lines.slice(Math.max(0, index - CONTEXT_LINES), index + CONTEXT_LINES + 1).some(([sign]) => sign !== ' ');
  const result: DiffLine[] = [];
  let isCut = false;
  for (const [index, line] of lines.entries()) {
    if (near(index)) {
      if (isCut && result.length > 0) result.push([' ', '…']);
      result.push(line);
      isCut = false;
    } else isCut = true;
  }
  return result;
}

/** Leaves of a value with the names of the fields that lead to them; lists count as one leaf. */
function leaves(value: Json, name: string, into: Map<string, string>): void {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, member] of Object.entries(value)) leaves(member, name === '' ? key : `${name}.${key}`, into);
  } else if (!isEmpty(value)) into.set(name, JSON.stringify(value));
}

/** What changed between two specs, in a few words: names of fields, numbers with their values. */
export function changedFields(before: unknown, after: unknown): string {
  const [old, now] = [new Map<string, string>(), new Map<string, string>()];
  leaves(before as Json, '', old);
  leaves(after as Json, '', now);
  const names: string[] = [];
  for (const path of new Set([...old.keys(), ...now.keys()])) {
    const [a, b] = [old.get(path), now.get(path)];
    if (a === b) continue;
    // A label's name may hold dots: it is told by the map that holds it.
    const parts = path.split('.');
    const label = parts.indexOf('Labels');
    const name = label >= 0 ? `Labels ${parts.slice(label + 1).join('.')}` : (parts.at(-1) ?? path);
    const isNumber = a !== undefined && b !== undefined && /^\d{1,6}$/.test(a) && /^\d{1,6}$/.test(b);
    names.push(isNumber ? `${name} ${a}→${b}` : name);
  }
  const unique = [...new Set(names)];
  const more = unique.length - NAMES_MAX;
  return unique.slice(0, NAMES_MAX).join(', ') + (more > 0 ? `, ${more} more` : '');
}
