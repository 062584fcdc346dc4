import { readFileSync } from 'node:fs';
import { cut } from './words.ts';

/**
 * Lines `NAME=VALUE` of a file of `--env-file` or `--label-file`; blank lines and comments (`#`) are left out.
 * @param env where a name without a value finds one; names that find none are left out.
 * @throws Error in docker's words for a file that is missing or wrong
 */
export function keyValueFile(path: string, env: Readonly<Record<string, string | undefined>> = {}): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(missing ? `open ${path}: no such file or directory` : (error as Error).message, { cause: error });
  }
  const found: string[] = [];
  for (const raw of text.replace(/^\uFEFF/, '').split(/\r?\n/)) {
    const line = raw.trimStart();
    if (line === '' || line.startsWith('#')) continue;
    const [name, value] = cut(line, '=');
    if (name === '') throw new Error(`invalid env file (${path}): no variable name on line '${line}'`);
    if (/[ \t]/.test(name)) throw new Error(`invalid env file (${path}): variable '${name}' contains whitespaces`);
    if (value !== undefined) found.push(line);
    else if (env[name] !== undefined) found.push(`${name}=${env[name]}`);
  }
  return found;
}
