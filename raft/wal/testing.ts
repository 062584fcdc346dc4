import { must } from '../../base/index.ts';
import type { RaftEntry, RaftSnapshot } from '../../proto/index.ts';
import type { LogWrite, RecoveredLog } from '../storage.ts';
import type { LogDisk, LogFile } from './disk.ts';
import { readFrame } from './frame.ts';
import type { LogKey, LogKeyRing } from './keys.ts';
import { Wal, type WalOptions } from './wal.ts';

type Done = (error: unknown) => void;

/** Bound of callbacks that one settling runs. */
const SETTLE_MAX = 1_000_000;

function notFound(path: string): Error {
  return Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' });
}

/** A disk in memory for tests: what is called later happens in `settle`, in order. */
export class MemoryDisk implements LogDisk {
  readonly location = '/disk';
  files = new Map<string, Buffer>();
  /** Throws what an operation is to fail with. */
  onOperation: (kind: 'read' | 'write' | 'make' | 'rename' | 'remove', path: string) => void = () => undefined;
  #queue: (() => void)[] = [];

  /** Runs what was called later, until nothing is left. */
  settle(): void {
    for (let i = 0; i < SETTLE_MAX && this.#queue.length > 0; i++) must(this.#queue.shift(), 'callback')();
  }

  /** Runs the next callback. @returns false when there is none. */
  step(): boolean {
    const next = this.#queue.shift();
    next?.();
    return next !== undefined;
  }

  /** The disk as a power cut now would leave it: what was called later and did not happen is lost. */
  copy(): MemoryDisk {
    const out = new MemoryDisk();
    for (const [path, content] of this.files) out.files.set(path, Buffer.from(content));
    return out;
  }

  #later(run: () => void, done: Done): void {
    this.#queue.push(() => {
      let failure: unknown = null;
      try {
        run();
      } catch (error) {
        failure = error;
      }
      done(failure);
    });
  }

  makeDirectory(): void {}

  list(path: string): string[] {
    const names = [...this.files.keys()].filter((name) => name.startsWith(`${path}/`));
    return names.map((name) => name.slice(path.length + 1)).sort();
  }

  read(path: string): Buffer {
    this.onOperation('read', path);
    const file = this.files.get(path);
    if (file === undefined) throw notFound(path);
    return Buffer.from(file);
  }

  readLater(path: string, done: (error: unknown, content: Buffer | null) => void): void {
    let content: Buffer | null = null;
    this.#later(
      () => {
        content = this.read(path);
      },
      (error) => done(error, content),
    );
  }

  replace(path: string, parts: readonly Uint8Array[]): void {
    this.onOperation('make', path);
    this.files.set(path, Buffer.concat(parts));
  }

  replaceLater(path: string, parts: readonly Uint8Array[], done: Done): void {
    this.#later(() => this.replace(path, parts), done);
  }

  allocate(path: string, bytes: number): void {
    this.replace(path, [Buffer.alloc(bytes)]);
  }

  allocateLater(path: string, bytes: number, done: Done): void {
    this.#later(() => this.allocate(path, bytes), done);
  }

  rename(from: string, to: string): void {
    this.onOperation('rename', from);
    const file = this.files.get(from);
    if (file === undefined) throw notFound(from);
    this.files.delete(from);
    this.files.set(to, file);
  }

  renameLater(from: string, to: string, done: Done): void {
    this.#later(() => this.rename(from, to), done);
  }

  remove(path: string): void {
    this.onOperation('remove', path);
    this.files.delete(path);
  }

  open(path: string): LogFile {
    let file = this.files.get(path);
    if (file === undefined) throw notFound(path);
    const write = (bytes: Uint8Array, position: number): void => {
      this.onOperation('write', path);
      const before = must(file, 'file');
      if (position + bytes.length > before.length) {
        file = Buffer.concat([before, Buffer.alloc(position + bytes.length - before.length)]);
        for (const [name, content] of this.files) if (content === before) this.files.set(name, file);
      }
      must(file, 'file').set(bytes, position);
    };
    return {
      write,
      writeLater: (bytes, position, done) => this.#later(() => write(bytes, position), done),
      close: () => undefined,
    };
  }
}

/** A key ring whose keys are known beforehand. */
export class TestKeys implements LogKeyRing {
  id = 1;
  retained: ReadonlySet<number> | null = null;
  readonly known: Set<number>;

  constructor(...known: number[]) {
    this.known = new Set(known);
    this.id = known.at(-1) ?? 0;
  }

  current(): LogKey | null {
    return this.id === 0 ? null : this.#key(this.id);
  }

  find(id: number): LogKey | undefined {
    return this.known.has(id) ? this.#key(id) : undefined;
  }

  #key(id: number): LogKey {
    return { id, secret: new Uint8Array(32).fill(id) };
  }

  retain(ids: ReadonlySet<number>): void {
    this.retained = new Set(ids);
  }
}

/** Runs one call to its end. @throws what it reports. */
export function run(disk: MemoryDisk, call: (done: Done) => void): void {
  let called = 0;
  let failure: unknown = null;
  call((error) => {
    called++;
    failure = error;
  });
  if (called > 0) throw new Error('called back before the call returned');
  disk.settle();
  if (called !== 1) throw new Error(`called back ${called} times`);
  if (failure !== null && failure !== undefined) throw failure as Error;
}

export function openMemory(disk: MemoryDisk, options: Partial<WalOptions> = {}): { wal: Wal; recovered: RecoveredLog } {
  const opened = Wal.open({ disk, nodeId: 7, segmentBytes: 8192, ...options });
  return { wal: opened.storage, recovered: opened.recovered };
}

export function reopen(disk: MemoryDisk, options: Partial<WalOptions> = {}): RecoveredLog {
  const { wal, recovered } = openMemory(disk, options);
  run(disk, (done) => wal.close(done));
  return recovered;
}

export function entry(index: number, term = 1, bytes = 100): RaftEntry {
  return { type: 0, index, term, data: new Uint8Array(bytes).fill(1 + ((index * 7 + term) % 250)) };
}

export function entries(from: number, to: number, term = 1): RaftEntry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => entry(from + i, term));
}

export function snapshot(index: number, term = 1): RaftSnapshot {
  const conf_state = { voters: [7], learners: [], voters_outgoing: [], learners_next: [], auto_leave: false };
  return { data: new Uint8Array(Buffer.from(`state ${index}`)), metadata: { index, term, conf_state } };
}

/** With the data as a plain array of bytes: decoding may give a Buffer. */
export function plain(found: RaftSnapshot | null): RaftSnapshot | null {
  return found === null ? null : { ...found, data: new Uint8Array(found.data) };
}

export function batch(list: readonly RaftEntry[], commit: number, term = 1, rest: Partial<LogWrite> = {}): LogWrite {
  return { snapshot: null, entries: list, hardState: { term, vote: 7, commit }, repaired: false, ...rest };
}

/** Where each frame of a segment begins and ends. */
export function frames(file: Buffer): { start: number; end: number; lastIndex: number }[] {
  const out: { start: number; end: number; lastIndex: number }[] = [];
  let at = 0;
  for (let read = readFrame(file, 0, 0); read.kind === 'frame'; read = readFrame(file, at, read.header.sequence)) {
    out.push({ start: at, end: read.next, lastIndex: read.header.lastIndex });
    at = read.next;
  }
  return out;
}
