import { lchownSync, lstatSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { resolveInRoot } from '../runtime/in-root.ts';

const there = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

/**
 * What Docker puts into every new root: the mark by which programs know that they are in a container, and the table of
 * mounts. Links of the image are followed inside its root only. Nothing that is there is changed.
 * @param owner root of the container on the host
 */
export function placeFirstFiles(rootPath: string, { uid, gid }: { uid: number; gid: number }): void {
  const give = (path: string): void => (uid === 0 ? undefined : lchownSync(path, uid, gid));
  const mark = resolveInRoot(rootPath, '/.dockerenv');
  if (!there(mark)) {
    writeFileSync(mark, '', { mode: 0o755, flag: 'wx' });
    give(mark);
  }
  const etc = resolveInRoot(rootPath, '/etc');
  const table = `${etc}/mtab`;
  if (!there(dirname(table)) || there(table)) return;
  symlinkSync('/proc/mounts', table);
  give(table);
}
