import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/*
 * A log's files. conmon writes `ctr.log`; when that is full it puts a new file in its place. Each of them has a second
 * name with a number, `ctr.log.7`, from before it can be replaced, so that none is lost by being replaced: beginning a
 * new file is giving the next number to what then stands at `ctr.log`. Compressed ones end in `.gz`.
 */

export interface LogFile {
  /** Rises from file to file. */
  number: number;
  path: string;
  /** Identity of the file; a compressed one has another than before. */
  inode: number;
  sizeBytes: number;
  modifiedMs: number;
  compressed: boolean;
  /** Whether it is the one that is written to. */
  present: boolean;
}

export const numbered = (path: string, number: number): string => `${path}.${number}`;

/** All files of a log, oldest first; none when it was removed with its container. One at `path` that has no number yet counts as the next. */
export function logFiles(path: string): LogFile[] {
  const prefix = `${basename(path)}.`;
  const found = new Map<number, LogFile>();
  const present = fileAt(path, 0, true);
  for (const name of entriesOf(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const form = /^(\d+)(\.gz)?$/.exec(name.slice(prefix.length));
    const file = form === null ? undefined : fileAt(join(dirname(path), name), Number(form[1]), false);
    // Both forms are there after a crash between the two steps of compressing; the compressed one is whole.
    if (file !== undefined && (file.compressed || !found.has(file.number))) found.set(file.number, file);
  }
  const files = [...found.values()].sort((a, b) => a.number - b.number);
  if (present === undefined) return files;
  const named = files.find((file) => file.inode === present.inode);
  if (named !== undefined) named.present = true;
  else files.push({ ...present, number: (files.at(-1)?.number ?? 0) + 1 });
  return files;
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function fileAt(path: string, number: number, present: boolean): LogFile | undefined {
  const info = statSync(path, { throwIfNoEntry: false });
  if (info === undefined) return undefined;
  const { ino: inode, size: sizeBytes, mtimeMs: modifiedMs } = info;
  return { number, path, inode, sizeBytes, modifiedMs, compressed: path.endsWith('.gz'), present };
}
