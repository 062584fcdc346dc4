import { lstatSync, readdirSync, readSync, writeSync, type BigIntStats } from 'node:fs';
import { invalidArgument } from '../../base/index.ts';

/*
 * File names are bytes, not text. In the file helper every path is a string of one character per byte (latin1), so that
 * nothing is lost; only what people read is turned into text.
 */

export function pathBytes(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}

/** A path as people read it. */
export function pathText(path: string): string {
  return pathBytes(path).toString('utf8');
}

/** The bytes of a text path. */
export function pathOfText(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

export function errnoOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

/** lstat(2), or undefined when there is nothing (any more). */
export function look(path: string): BigIntStats | undefined {
  try {
    return lstatSync(pathBytes(path), { bigint: true });
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Names in a directory in the order of their bytes; none when it is gone. */
export function namesIn(path: string): string[] {
  try {
    return readdirSync(pathBytes(path), { encoding: 'buffer' })
      .map((name) => name.toString('latin1'))
      .sort();
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

export function joined(directory: string, name: string): string {
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

const IO_BYTES = 256 * 1024;

/** Reads bytes from a blocking descriptor. */
export class Input {
  readonly #fd: number;
  #buffer = Buffer.alloc(IO_BYTES);
  #start = 0;
  #end = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Makes at least one byte available; false at the end. */
  #fill(): boolean {
    if (this.#start < this.#end) return true;
    this.#start = 0;
    this.#end = readSync(this.#fd, this.#buffer, 0, IO_BYTES, null);
    return this.#end > 0;
  }

  /** What is at hand, `max` bytes at the most; valid until the next call. Empty at the end. */
  some(max: number): Buffer {
    if (!this.#fill()) return Buffer.alloc(0);
    const end = Math.min(this.#end, this.#start + max);
    const piece = this.#buffer.subarray(this.#start, end);
    this.#start = end;
    return piece;
  }

  /** Exactly `length` bytes, or undefined when the input ends before the first. @throws ShoalError InvalidArgument */
  exactly(length: number): Buffer | undefined {
    const out = Buffer.alloc(length);
    let have = 0;
    while (have < length) {
      const piece = this.some(length - have);
      if (piece.length === 0) {
        if (have === 0) return undefined;
        throw invalidArgument('damaged archive: unexpected EOF');
      }
      piece.copy(out, have);
      have += piece.length;
    }
    return out;
  }

  /** Gives the next `length` bytes away piece by piece. @throws ShoalError InvalidArgument when they do not come */
  pass(length: number, take: (piece: Buffer) => void): void {
    for (let left = length; left > 0;) {
      const piece = this.some(left);
      if (piece.length === 0) throw invalidArgument('damaged archive: unexpected EOF');
      left -= piece.length;
      take(piece);
    }
  }

  /** Reads to the end. */
  drain(): void {
    while (this.some(IO_BYTES).length > 0);
  }
}

/** Writes all of `bytes`, at a position of the file or where it stands. */
export function writeAll(fd: number, bytes: Uint8Array, position: number | null = null): void {
  for (let at = 0; at < bytes.length;) {
    at += writeSync(fd, bytes, at, bytes.length - at, position === null ? null : position + at);
  }
}

/** Gathers small writes to a blocking descriptor. */
export class Output {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(IO_BYTES);
  #length = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(bytes: Uint8Array): void {
    if (bytes.length > IO_BYTES - this.#length) this.flush();
    if (bytes.length > IO_BYTES / 2) {
      writeAll(this.#fd, bytes);
      return;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  flush(): void {
    writeAll(this.#fd, this.#buffer.subarray(0, this.#length));
    this.#length = 0;
  }
}
