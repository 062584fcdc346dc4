import { ExitError } from './command.ts';
import type { Context } from './context.ts';
import { errorMessage } from '../base/index.ts';
import { Template } from './template.ts';

/** Indents JSON text without touching its tokens, so that large numbers and the server's order stay. */
export function indentJson(text: string, indent = '    '): string {
  let out = '';
  let depth = 0;
  const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g;
  let previous = '';
  for (const [part] of text.matchAll(token)) {
    const closing = part === '}' || part === ']';
    if (closing) depth--;
    const emptyPair = closing && (previous === '{' || previous === '[');
    const opened = previous === '{' || previous === '[' || previous === ',';
    if ((opened || closing) && !emptyPair) out += `\n${indent.repeat(depth)}`;
    out += part === ':' ? ': ' : part;
    if (part === '{' || part === '[') depth++;
    previous = part;
  }
  return out;
}

/** Text of one object of the API, as the daemon sent it. */
export type Find = (name: string) => Promise<string>;

/** Text that `inspect` prints for some objects. @throws Error when the format has a fault */
export function renderInspect(found: readonly string[], format: string): string {
  if (format === 'json') return `[${found.map((text) => text.trim()).join(',')}]\n`;
  if (format === '') return found.length === 0 ? '[]\n' : `${indentJson(`[${found.join(',')}]`)}\n`;
  const template = new Template(format.replaceAll('\\t', '\t').replaceAll('\\n', '\n'));
  return found.map((text) => `${template.run(JSON.parse(text))}\n`).join('');
}

/** Prints the named objects; those that are missing are named on standard error and make the exit code 1. */
export async function inspect(context: Context, names: readonly string[], format: string, find: Find): Promise<void> {
  const found: string[] = [];
  const errors: string[] = [];
  for (const name of names) {
    try {
      found.push(await find(name));
    } catch (error) {
      errors.push(errorMessage(error));
    }
  }
  if (found.length > 0 || errors.length > 0) {
    try {
      const text = renderInspect(found, format);
      context.out.write(found.length === 0 && format !== '' ? '\n' : text);
    } catch (error) {
      context.out.write('\n');
      errors.push(errorMessage(error));
    }
  }
  if (errors.length > 0) throw new ExitError(`${errors.join('\n')}\n`, 1);
}
