import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { invalidArgument } from '../../base/index.ts';

const LINKS_MAX = 255;

/**
 * The host path of `path` inside `root`, with every symbolic link followed as if `root` were `/`, so that a link in an
 * image cannot lead out of it. Parts that do not exist are kept as they are.
 */
export function resolveInRoot(root: string, path: string): string {
  const todo = path.split('/').reverse();
  let done: string[] = [];
  let links = 0;
  while (todo.length > 0) {
    const part = todo.pop() as string;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const here = join(root, ...done, part);
    const info = lstatSync(here, { throwIfNoEntry: false });
    if (info?.isSymbolicLink() !== true) {
      done.push(part);
      continue;
    }
    if (++links > LINKS_MAX) throw invalidArgument(`too many symbolic links in ${path}`);
    const target = readlinkSync(here);
    if (target.startsWith('/')) done = [];
    todo.push(...target.split('/').reverse());
  }
  return join(root, ...done);
}

/** Text of a file of the container, or empty when there is none. */
export function readInRoot(root: string, path: string): string {
  try {
    return readFileSync(resolveInRoot(root, path), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return '';
    throw error;
  }
}
