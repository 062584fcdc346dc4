import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import type { LogLine } from '../types.ts';
import type { LogFile } from './files.ts';
import { EntryParser, isComplete } from './k8s-file.ts';
import { turns } from './turns.ts';

const BLOCK_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** A place in a log: bytes of the file's text from its begin, uncompressed. */
export interface LogPlace {
  file: LogFile;
  offset: number;
}

/**
 * Where the last `count` wanted lines begin: walks the files backwards, and a file from its end; a compressed one is
 * gone through twice instead. @param files at least one, oldest first
 */
export async function tailPlace(
  files: readonly LogFile[],
  count: number,
  wanted: (line: LogLine) => boolean,
): Promise<LogPlace> {
  const last = files.at(-1) as LogFile;
  if (count <= 0) return { file: last, offset: last.sizeBytes };
  let missing = count;
  for (const file of [...files].reverse()) {
    const found = await (file.compressed ? lastInCompressed : lastInPlain)(file, missing, wanted).catch(whenGone);
    if (found.missing === 0) return { file, offset: found.offset };
    missing = found.missing < 0 ? missing : found.missing;
  }
  return { file: files[0] as LogFile, offset: 0 };
}

/** -1 missing: the file was dropped meanwhile. */
function whenGone(error: unknown): { offset: number; missing: number } {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { offset: 0, missing: -1 };
  throw error;
}

/** The text of a compressed file in pieces; ends early where it is damaged. */
export async function* uncompressed(path: string): AsyncGenerator<Buffer> {
  const source = createReadStream(path);
  const text = source.pipe(createGunzip());
  source.on('error', (error) => text.destroy(error));
  try {
    yield* text as AsyncIterable<Buffer>;
  } catch (error) {
    if (!String((error as NodeJS.ErrnoException).code).startsWith('Z_')) throw error;
  } finally {
    source.destroy();
  }
}

async function lastInCompressed(
  file: LogFile,
  count: number,
  wanted: (line: LogLine) => boolean,
): Promise<{ offset: number; missing: number }> {
  let lines = 0;
  for await (const entries of entriesOf(file.path)) {
    lines += entries.filter((line) => isComplete(line) && wanted(line)).length;
  }
  if (lines <= count) return { offset: 0, missing: count - lines };
  let skip = lines - count;
  const counting = new EntryParser();
  let offset = 0;
  for await (const chunk of uncompressed(file.path)) {
    await turns.next();
    for (let start = 0; start < chunk.length;) {
      const end = chunk.indexOf(NEWLINE, start);
      const next = end < 0 ? chunk.length : end + 1;
      const line = counting.push(chunk.subarray(start, next))[0];
      offset += next - start;
      start = next;
      if (line !== undefined && isComplete(line) && wanted(line)) skip -= 1;
      if (skip === 0) return { offset, missing: 0 };
    }
  }
  return { offset, missing: 0 };
}

async function* entriesOf(path: string): AsyncGenerator<LogLine[]> {
  const parser = new EntryParser();
  for await (const chunk of uncompressed(path)) {
    await turns.next();
    yield parser.push(chunk);
  }
}

async function lastInPlain(
  file: LogFile,
  count: number,
  wanted: (line: LogLine) => boolean,
): Promise<{ offset: number; missing: number }> {
  const handle = await open(file.path, 'r');
  try {
    return await offsetOfLast(handle, file.sizeBytes, count, wanted);
  } finally {
    await handle.close();
  }
}

/** Reads a file backwards until `count` wanted lines are counted. A line begins after the previous complete entry. */
async function offsetOfLast(
  handle: FileHandle,
  sizeBytes: number,
  count: number,
  wanted: (line: LogLine) => boolean,
): Promise<{ offset: number; missing: number }> {
  const parser = new EntryParser();
  let position = sizeBytes;
  let missing = count;
  let rest = Buffer.alloc(0);
  let start = position;
  while (position > 0) {
    const length = Math.min(BLOCK_BYTES, position);
    position -= length;
    const block = Buffer.alloc(length);
    await handle.read(block, 0, length, position);
    await turns.next();
    const data = Buffer.concat([block, rest]);
    let end = data.length;
    for (;;) {
      // The entry that ends before `end`; its own line end, if any, stands at end - 1.
      const previous = end < 2 ? -1 : data.lastIndexOf(NEWLINE, end - 2);
      if (previous < 0) break;
      const line = data[end - 1] === NEWLINE ? parser.entry(data, previous + 1, end - 1) : undefined;
      // Parts belong to the line that follows them: they begin it earlier but do not count.
      const complete = line !== undefined && isComplete(line);
      if (complete && missing === 0) return { offset: start, missing: 0 };
      if (complete && wanted(line)) missing -= 1;
      start = position + previous + 1;
      end = previous + 1;
    }
    rest = Buffer.from(data.subarray(0, end));
  }
  const first = rest.at(-1) === NEWLINE ? parser.entry(rest, 0, rest.length - 1) : undefined;
  if (first !== undefined && isComplete(first)) {
    if (missing === 0) return { offset: start, missing: 0 };
    if (wanted(first)) missing -= 1;
  }
  return { offset: 0, missing };
}
