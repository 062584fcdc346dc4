import {
  close,
  closeSync,
  constants,
  fsync,
  fsyncSync,
  mkdirSync,
  open,
  openSync,
  readdirSync,
  readFile,
  readFileSync,
  rename,
  renameSync,
  rm,
  rmSync,
  write,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { syncDirectory } from '../../base/index.ts';
import type { LogDisk, LogFile } from './disk.ts';
import { UNFINISHED } from './segment.ts';

type Done = (error: unknown) => void;

const MODE = 0o600;
/** Zeros written at once: small, so that a frame that is written meanwhile does not wait for long. */
const ZEROS = Buffer.alloc(256 * 1024);
const { O_CREAT, O_DSYNC, O_RDWR, O_TRUNC } = constants;

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

function writeAllLater(fd: number, bytes: Uint8Array, position: number, done: Done, from = 0): void {
  write(fd, bytes, from, bytes.length - from, position + from, (error, written) => {
    if (error !== null) done(error);
    else if (from + written < bytes.length) writeAllLater(fd, bytes, position, done, from + written);
    else done(null);
  });
}

/** Chunks of `bytes` zeros. */
function* zeros(bytes: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes; at += ZEROS.length) yield ZEROS.subarray(0, Math.min(ZEROS.length, bytes - at));
}

function writePartsLater(fd: number, parts: Iterator<Uint8Array>, position: number, done: Done): void {
  const part = parts.next();
  if (part.done === true) {
    done(null);
    return;
  }
  writeAllLater(fd, part.value, position, (error) => {
    if (error !== null) done(error);
    else writePartsLater(fd, parts, position + part.value.length, done);
  });
}

/** Runs steps one after the other until one fails. */
function inTurn(steps: readonly ((done: Done) => void)[], done: Done, at = 0): void {
  const step = steps[at];
  if (step === undefined) {
    done(null);
    return;
  }
  step((error) => {
    if (error !== null && error !== undefined) done(error);
    else inTurn(steps, done, at + 1);
  });
}

/** A file opened with O_DSYNC: one call of the thread pool writes and syncs. */
class NodeFile implements LogFile {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, O_RDWR | O_DSYNC, MODE);
  }

  write(bytes: Uint8Array, position: number): void {
    writeAll(this.#fd, bytes, position);
  }

  writeLater(bytes: Uint8Array, position: number, done: Done): void {
    writeAllLater(this.#fd, bytes, position, done);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** The log's files under one directory of the host's file system. */
export class NodeDisk implements LogDisk {
  readonly location: string;

  /** @param directory of one member alone. */
  constructor(directory: string) {
    this.location = directory;
  }

  #path(path: string): string {
    return join(this.location, path);
  }

  makeDirectory(path: string): void {
    const full = this.#path(path);
    const made = mkdirSync(full, { recursive: true, mode: 0o700 });
    if (made !== undefined) syncDirectory(dirname(full));
  }

  list(path: string): string[] {
    try {
      return readdirSync(this.#path(path)).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }

  read(path: string): Buffer {
    return readFileSync(this.#path(path));
  }

  readLater(path: string, done: (error: unknown, content: Buffer | null) => void): void {
    readFile(this.#path(path), (error, content) => done(error, error === null ? content : null));
  }

  replace(path: string, parts: readonly Uint8Array[]): void {
    const beside = `${path}${UNFINISHED}`;
    this.#make(beside, O_CREAT | O_TRUNC | O_RDWR, parts.values());
    this.rename(beside, path);
  }

  replaceLater(path: string, parts: readonly Uint8Array[], done: Done): void {
    const beside = `${path}${UNFINISHED}`;
    this.#makeLater(beside, O_CREAT | O_TRUNC | O_RDWR, parts.values(), (error) => {
      if (error !== null && error !== undefined) done(error);
      else this.renameLater(beside, path, done);
    });
  }

  allocate(path: string, bytes: number): void {
    this.#make(path, O_CREAT | O_TRUNC | O_RDWR, zeros(bytes));
  }

  allocateLater(path: string, bytes: number, done: Done): void {
    // Synced piece by piece: one large sync would hold up the frames that are written meanwhile.
    this.#makeLater(path, O_CREAT | O_TRUNC | O_RDWR | O_DSYNC, zeros(bytes), done);
  }

  /** Writes a file and syncs it; takes it away again when that fails. */
  #make(path: string, flags: number, parts: Iterable<Uint8Array>): void {
    const full = this.#path(path);
    const fd = openSync(full, flags, MODE);
    try {
      let at = 0;
      for (const part of parts) {
        writeAll(fd, part, at);
        at += part.length;
      }
      fsyncSync(fd);
    } catch (error) {
      rmSync(full, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  #makeLater(path: string, flags: number, parts: Iterator<Uint8Array>, done: Done): void {
    const full = this.#path(path);
    open(full, flags, MODE, (openError, fd) => {
      if (openError !== null) {
        done(openError);
        return;
      }
      const steps = [(next: Done) => writePartsLater(fd, parts, 0, next), (next: Done) => fsync(fd, next)];
      inTurn(steps, (error) => {
        close(fd, (closeError) => {
          const failure = error ?? closeError;
          if (failure === null || failure === undefined) done(null);
          else rm(full, { force: true }, () => done(failure));
        });
      });
    });
  }

  rename(from: string, to: string): void {
    renameSync(this.#path(from), this.#path(to));
    syncDirectory(dirname(this.#path(to)));
    if (dirname(from) !== dirname(to)) syncDirectory(dirname(this.#path(from)));
  }

  renameLater(from: string, to: string, done: Done): void {
    const directories = [...new Set([dirname(to), dirname(from)])];
    const steps = [
      (next: Done) => rename(this.#path(from), this.#path(to), next),
      ...directories.map((directory) => (next: Done) => this.#syncDirectoryLater(directory, next)),
    ];
    inTurn(steps, done);
  }

  #syncDirectoryLater(path: string, done: Done): void {
    open(this.#path(path), constants.O_RDONLY, (openError, fd) => {
      if (openError !== null) done(openError);
      else fsync(fd, (error) => close(fd, (closeError) => done(error ?? closeError)));
    });
  }

  remove(path: string): void {
    rmSync(this.#path(path), { force: true });
  }

  open(path: string): LogFile {
    return new NodeFile(this.#path(path));
  }
}
