import { lstatSync, type BigIntStats } from 'node:fs';
import { posix } from 'node:path';
import { joined, look, namesIn, pathBytes } from './bytes.ts';
import type { TarWriter } from './tar-write.ts';

/** Adds a directory's content. @param prefix what stands before the names in the archive */
function addChildren(writer: TarWriter, directory: string, prefix: string): void {
  for (const name of namesIn(directory)) {
    const path = joined(directory, name);
    const stats = look(path);
    if (stats === undefined) continue;
    writer.add(path, `${prefix}${name}`, stats);
    if (stats.isDirectory()) addChildren(writer, path, `${prefix}${name}/`);
  }
}

/** Archives a resource under its own last name, as Docker's clients expect it: `/etc` as `etc/`, `etc/passwd` … */
export function archiveResource(writer: TarWriter, path: string, stats: BigIntStats): void {
  const base = posix.basename(path);
  if (!stats.isDirectory()) {
    writer.add(path, base, stats);
    return;
  }
  // The root has no name: its content stands below `/`.
  writer.add(path, base === '' ? '/' : base, stats);
  addChildren(writer, path, base === '' ? '/' : `${base}/`);
}

/** Archives all of the view. */
export function archiveRoot(writer: TarWriter): void {
  addChildren(writer, '/', '');
}

/** lstat(2) for a path whose absence is an error. */
export function mustLook(path: string): BigIntStats {
  return lstatSync(pathBytes(path), { bigint: true });
}
