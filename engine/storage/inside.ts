import { lstatSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { invalidArgument } from '../../base/index.ts';

/** Symbolic links followed on one path (the kernel's own limit). */
const LINKS_MAX = 40;

/**
 * Where `path` leads for a process whose root is `root`: links are followed, but never out of it. Components that do
 * not exist are taken as written. The answer holds only while nobody changes the tree.
 */
export function resolveInside(root: string, path: string): string {
  const pending = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const at = join(root, ...done, part);
    if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() !== true) {
      done.push(part);
      continue;
    }
    if (++links > LINKS_MAX) throw invalidArgument(`too many levels of symbolic links in ${path}`);
    const to = readlinkSync(at);
    if (to.startsWith('/')) done.length = 0;
    pending.push(...to.split('/').reverse());
  }
  return join(root, ...done);
}
