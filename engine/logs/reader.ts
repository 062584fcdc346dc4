import { watch } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { type Clock } from '../../base/index.ts';
import type { LogLine, LogQuery } from '../types.ts';
import { EntrySplitter, LineJoiner, parseLogEntry } from './k8s-file.ts';

const BLOCK_BYTES = 64 * 1024;
/** A follower looks again after this time even when no change was told. */
const FOLLOW_POLL_MS = 1000;
/** Rotated files that are looked for. */
export const LOG_FILES_MAX = 100;

export interface LogSource {
  /** The present log file; older ones have `.1`, `.2`, … appended. */
  path: string;
  /** Whether more may be written. */
  live: () => boolean;
  /** Resolves when the container ends, so that a follower can finish. */
  ended: Promise<void>;
}

/** The log's lines by a query, oldest first; with `follow` until the container ends or `signal` aborts. */
export async function* readLog(
  source: LogSource,
  query: LogQuery,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const wanted = (line: LogLine): boolean =>
    (line.stream === 'stdout' ? query.stdout : query.stderr) &&
    (query.sinceMs === undefined || line.timestampMs >= query.sinceMs) &&
    (query.untilMs === undefined || line.timestampMs <= query.untilMs);
  const files = await existingFiles(source.path);
  const begin = query.tail === undefined ? { file: 0, offset: 0 } : await tailStart(files, query, wanted);
  const joiner = new LineJoiner();
  for (let index = begin.file; index < files.length; index++) {
    const handle = await openIfExists(files[index] as string);
    if (handle === undefined) continue;
    const last = index === files.length - 1;
    const offset = index === begin.file ? begin.offset : 0;
    for await (const entry of readFrom(handle, offset, source, last && query.follow, clock, signal)) {
      if (query.untilMs !== undefined && entry.timestampMs > query.untilMs && query.follow) return;
      const line = joiner.push(entry);
      if (line !== undefined && wanted(line)) yield line;
      if (signal.aborted) return;
    }
  }
  yield* joiner.flush().filter(wanted);
}

async function existingFiles(path: string): Promise<string[]> {
  const files: string[] = [];
  for (let n = 1; n < LOG_FILES_MAX; n++) {
    const rotated = `${path}.${n}`;
    if ((await stat(rotated).catch(() => undefined)) === undefined) break;
    files.unshift(rotated);
  }
  return [...files, path];
}

async function openIfExists(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Where the last `query.tail` lines begin: walks the files backwards, counting complete lines that are wanted. */
async function tailStart(
  files: readonly string[],
  query: LogQuery,
  wanted: (line: LogLine) => boolean,
): Promise<{ file: number; offset: number }> {
  let missing = query.tail ?? 0;
  const lastFile = files.length - 1;
  if (missing <= 0) {
    const size = (await stat(files[lastFile] as string).catch(() => undefined))?.size ?? 0;
    return { file: lastFile, offset: size };
  }
  for (let file = lastFile; file >= 0; file--) {
    const handle = await openIfExists(files[file] as string);
    if (handle === undefined) continue;
    try {
      const found = await offsetOfLast(handle, missing, wanted);
      if (found.missing === 0) return { file, offset: found.offset };
      missing = found.missing;
    } finally {
      await handle.close();
    }
  }
  return { file: 0, offset: 0 };
}

/** Reads a file backwards until `count` wanted lines are counted. A line begins after the previous complete entry. */
async function offsetOfLast(
  handle: FileHandle,
  count: number,
  wanted: (line: LogLine) => boolean,
): Promise<{ offset: number; missing: number }> {
  let position = (await handle.stat()).size;
  let missing = count;
  let rest = Buffer.alloc(0);
  let start = position;
  while (position > 0) {
    const length = Math.min(BLOCK_BYTES, position);
    position -= length;
    const block = Buffer.alloc(length);
    await handle.read(block, 0, length, position);
    const data = Buffer.concat([block, rest]);
    let end = data.length;
    for (;;) {
      // The entry that ends before `end`; its own line end, if any, stands at end - 1.
      const previous = end < 2 ? -1 : data.lastIndexOf(0x0a, end - 2);
      if (previous < 0) break;
      const line = parseLogEntry(data.subarray(previous + 1, data[end - 1] === 0x0a ? end - 1 : end));
      // Parts belong to the line that follows them: they begin it earlier but do not count.
      const complete = line !== undefined && line.data.at(-1) === 0x0a;
      if (complete && missing === 0) return { offset: start, missing: 0 };
      if (complete && wanted(line)) missing -= 1;
      start = position + previous + 1;
      end = previous + 1;
    }
    rest = Buffer.from(data.subarray(0, end));
  }
  const first = rest.at(-1) === 0x0a ? parseLogEntry(rest.subarray(0, -1)) : undefined;
  if (first !== undefined && first.data.at(-1) === 0x0a) {
    if (missing === 0) return { offset: start, missing: 0 };
    if (wanted(first)) missing -= 1;
  }
  return { offset: 0, missing };
}

/** Entries of one open file from an offset; when following, goes on into the file that replaces it. Closes the handle. */
async function* readFrom(
  first: FileHandle,
  offset: number,
  source: LogSource,
  follow: boolean,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  let handle = first;
  let position = offset;
  let splitter = new EntrySplitter();
  const changes = follow ? new ChangeWaiter(source, clock, signal) : undefined;
  try {
    for (;;) {
      // Asked before reading: what is written before the end is then surely read.
      const live = source.live();
      const block = Buffer.alloc(BLOCK_BYTES);
      const { bytesRead } = await handle.read(block, 0, BLOCK_BYTES, position);
      position += bytesRead;
      for (const entry of splitter.push(block.subarray(0, bytesRead))) {
        const line = parseLogEntry(entry);
        if (line !== undefined) yield line;
      }
      if (bytesRead > 0) continue;
      if (changes === undefined || signal.aborted) return;
      const next = await replacement(handle, source.path);
      if (next !== undefined) {
        // Whatever was written to the old file between our last read and the change of names is read first.
        const tail = Buffer.alloc(BLOCK_BYTES);
        const late = await handle.read(tail, 0, BLOCK_BYTES, position);
        if (late.bytesRead > 0) {
          await next.close();
          position += late.bytesRead;
          for (const entry of splitter.push(tail.subarray(0, late.bytesRead))) {
            const line = parseLogEntry(entry);
            if (line !== undefined) yield line;
          }
          continue;
        }
        await handle.close();
        handle = next;
        position = 0;
        splitter = new EntrySplitter();
        continue;
      }
      if (!live) return;
      await changes.next();
    }
  } finally {
    changes?.close();
    await handle.close();
  }
}

/** The file that took the log's name since `handle` was opened, or undefined when it is still the same. */
async function replacement(handle: FileHandle, path: string): Promise<FileHandle | undefined> {
  const [mine, named] = await Promise.all([handle.stat(), stat(path).catch(() => undefined)]);
  if (named === undefined || named.ino === mine.ino) return undefined;
  return openIfExists(path);
}

/** Waits until a log may have grown: a change was told, the container ended, time passed, or the reader went away. */
class ChangeWaiter {
  #wake: () => void = () => undefined;
  #told = false;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #close: () => void;

  constructor(source: LogSource, clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
    const tell = (): void => {
      this.#told = true;
      this.#wake();
    };
    const directory = source.path.slice(0, source.path.lastIndexOf('/'));
    const watcher = watch(directory, tell);
    // The directory goes away with the container; the poll and the end are enough then.
    watcher.on('error', () => watcher.close());
    signal.addEventListener('abort', tell, { once: true });
    void source.ended.then(tell);
    this.#close = () => {
      watcher.close();
      signal.removeEventListener('abort', tell);
    };
  }

  async next(): Promise<void> {
    if (!this.#told && !this.#signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = this.#clock.after(FOLLOW_POLL_MS, resolve);
        this.#wake = () => {
          timer.cancel();
          resolve();
        };
      });
    }
    this.#told = false;
  }

  close(): void {
    this.#close();
  }
}
