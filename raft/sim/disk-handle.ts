import { assert } from '../../base/index.ts';
import type { LogDisk, LogFile } from '../wal/disk.ts';
import { SimulatedCrash, type SimDisk } from './disk.ts';
import { SimFile, type Dirty } from './disk-file.ts';
import type { SimProcess } from './process.ts';

const MESSAGES = {
  ENOENT: 'no such file or directory',
  EIO: 'i/o error',
  ENOSPC: 'no space left on device',
} as const;

function diskError(code: keyof typeof MESSAGES, path: string): Error {
  return Object.assign(new Error(`${code}: ${MESSAGES[code]}, '${path}'`), { code });
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

/** Name of what is written before it is renamed over a file. */
function besideOf(path: string): string {
  return `${path}.new`;
}

/** The disk of a member as one run of its program sees it. */
export class DiskHandle implements LogDisk {
  readonly #disk: SimDisk;
  readonly #process: SimProcess;

  constructor(disk: SimDisk, process: SimProcess) {
    this.#disk = disk;
    this.#process = process;
  }

  makeDirectory(): void {
    this.#alive();
  }

  list(path: string): string[] {
    this.#alive();
    const names: string[] = [];
    for (const file of this.#disk.files.keys()) if (directoryOf(file) === path) names.push(file.slice(path.length + 1));
    return names.sort();
  }

  read(path: string): Buffer {
    this.#alive();
    return Buffer.from(this.#find(path).bytes);
  }

  readLater(path: string, done: (error: unknown, content: Buffer | null) => void): void {
    if (!this.#process.alive) return;
    const report = (): void => {
      const file = this.#disk.files.get(path);
      if (file === undefined) done(diskError('ENOENT', path), null);
      else done(null, Buffer.from(file.bytes));
    };
    this.#disk.fly(
      () => this.#process.run(report),
      () => undefined,
    );
  }

  replace(path: string, parts: readonly Uint8Array[]): void {
    this.#alive();
    if (this.#disk.temper.full) throw this.#full(path);
    const content = Buffer.concat(parts);
    this.#perhapsCrash(() => this.#abortReplace(path, content, true));
    this.#replaceNow(path, content);
  }

  replaceLater(path: string, parts: readonly Uint8Array[], done: (error: unknown) => void): void {
    const content = Buffer.concat(parts);
    this.#later(
      path,
      true,
      done,
      () => this.#replaceNow(path, content),
      (cut) => this.#abortReplace(path, content, cut),
    );
  }

  #replaceNow(path: string, content: Buffer): void {
    const disk = this.#disk;
    const file = new SimFile(path, content, content.length);
    if (disk.temper.lying && content.length > 0) {
      disk.counts.lied++;
      file.contentLied(disk.writtenBackAt());
    }
    disk.files.set(path, file);
    disk.syncDirectory(directoryOf(path));
  }

  #abortReplace(path: string, content: Buffer, cut: boolean): void {
    const { files, random } = this.#disk;
    const beside = besideOf(path);
    const stage = random.int(4);
    if (stage === 0) return;
    if (stage === 1) {
      const half = content.subarray(0, random.int(content.length + 1));
      files.set(beside, new SimFile(beside, Buffer.from(half), half.length));
      return;
    }
    // The content was synced; the new name perhaps not.
    const old = files.get(path);
    const file = new SimFile(path, content, content.length);
    files.set(path, file);
    if (cut) return;
    this.#disk.renamed(directoryOf(path), () => {
      files.set(beside, new SimFile(beside, content, content.length));
      if (old === undefined) files.delete(path);
      else files.set(path, old);
    });
  }

  allocate(path: string, bytes: number): void {
    this.#alive();
    if (this.#disk.temper.full) throw this.#full(path);
    this.#perhapsCrash(() => this.#abortAllocate(path, bytes));
    this.#allocateNow(path, bytes);
  }

  allocateLater(path: string, bytes: number, done: (error: unknown) => void): void {
    this.#later(
      path,
      true,
      done,
      () => this.#allocateNow(path, bytes),
      () => this.#abortAllocate(path, bytes),
    );
  }

  #allocateNow(path: string, bytes: number): void {
    this.#disk.files.set(path, new SimFile(path, Buffer.alloc(bytes), 0));
    this.#disk.syncDirectory(directoryOf(path));
  }

  #abortAllocate(path: string, bytes: number): void {
    const { files, random } = this.#disk;
    if (random.int(3) > 0) files.set(path, new SimFile(path, Buffer.alloc(random.int(bytes + 1)), 0));
  }

  rename(from: string, to: string): void {
    this.#alive();
    this.#find(from);
    this.#perhapsCrash(() => this.#abortRename(from, to, true));
    this.#renameNow(from, to);
    this.#disk.syncDirectory(directoryOf(to));
  }

  renameLater(from: string, to: string, done: (error: unknown) => void): void {
    const change = (): void => {
      this.#renameNow(from, to);
      this.#disk.syncDirectory(directoryOf(to));
    };
    this.#later(from, false, done, change, (cut) => this.#abortRename(from, to, cut));
  }

  #renameNow(from: string, to: string): void {
    const { files } = this.#disk;
    const file = files.get(from);
    if (file === undefined) throw diskError('ENOENT', from);
    files.delete(from);
    file.path = to;
    files.set(to, file);
  }

  #abortRename(from: string, to: string, cut: boolean): void {
    const { files, random } = this.#disk;
    if (random.int(2) === 0 || !files.has(from)) return;
    const old = files.get(to);
    this.#renameNow(from, to);
    if (cut) return;
    this.#disk.renamed(directoryOf(to), () => {
      this.#renameNow(to, from);
      if (old !== undefined) files.set(to, old);
    });
  }

  remove(path: string): void {
    this.#alive();
    const { files } = this.#disk;
    const file = files.get(path);
    if (file === undefined) return;
    this.#perhapsCrash(() => undefined);
    files.delete(path);
    this.#disk.renamed(directoryOf(path), () => files.set(path, file));
  }

  open(path: string): LogFile {
    this.#alive();
    return this.#logFile(this.#find(path));
  }

  #logFile(file: SimFile): LogFile {
    let busy = false;
    return {
      write: (bytes, position) => {
        this.#alive();
        assert(position <= file.bytes.length, 'a write begins inside the file or at its end');
        this.#perhapsCrash(() => file.write(position, bytes));
        this.#disk.finish(file, file.write(position, bytes));
      },
      writeLater: (bytes, position, done) => {
        if (!this.#process.alive) return;
        assert(!busy, 'one write at a time per file');
        assert(position <= file.bytes.length, 'a write begins inside the file or at its end');
        busy = true;
        this.#writeLater(file, bytes, position, (error) => {
          busy = false;
          done(error);
        });
      },
      close: () => undefined,
    };
  }

  #writeLater(file: SimFile, bytes: Uint8Array, position: number, done: (error: unknown) => void): void {
    const disk = this.#disk;
    const dirty = file.write(position, bytes);
    const complete = (): void => {
      if (disk.fails()) {
        this.#fail(file, dirty);
        this.#process.run(() => done(diskError('EIO', file.path)));
        return;
      }
      disk.finish(file, dirty);
      disk.onLogWrite?.('durable');
      this.#process.run(() => done(null));
    };
    disk.fly(complete, (cut) => {
      if (cut) return;
      const fate = disk.random.int(10);
      if (fate < 5) file.undo(dirty, 0);
      else if (fate === 5) file.undo(dirty, disk.random.int(dirty.length) + 1);
      dirty.expiresAt = disk.writtenBackAt();
    });
    disk.onLogWrite?.('begun');
  }

  /** A write or its sync failed: what programs see and what the platter holds may now differ for good. */
  #fail(file: SimFile, dirty: Dirty): void {
    const { random } = this.#disk;
    const fate = random.int(3);
    if (fate === 0) file.undo(dirty, 0);
    else if (fate === 1) file.undo(dirty, random.int(dirty.length) + 1);
  }

  /** Runs `change` after the disk's delay and reports; `takesRoom` operations fail on a full disk. */
  #later(
    path: string,
    takesRoom: boolean,
    done: (error: unknown) => void,
    change: () => void,
    abort: (cut: boolean) => void,
  ): void {
    if (!this.#process.alive) return;
    const disk = this.#disk;
    disk.fly(() => {
      let error: unknown = null;
      if (takesRoom && disk.temper.full) error = this.#full(path);
      else if (disk.fails()) error = diskError('EIO', path);
      else if (!takesRoom && !disk.files.has(path)) error = diskError('ENOENT', path);
      else change();
      this.#process.run(() => done(error));
    }, abort);
  }

  #full(path: string): Error {
    this.#disk.counts.enospc++;
    return diskError('ENOSPC', path);
  }

  #find(path: string): SimFile {
    const file = this.#disk.files.get(path);
    if (file === undefined) throw diskError('ENOENT', path);
    return file;
  }

  /** Nothing of a dead process reaches the disk; what it asks for without waiting is never answered. */
  #alive(): void {
    if (!this.#process.alive) throw new SimulatedCrash('the power is off');
  }

  #perhapsCrash(half: () => void): void {
    const disk = this.#disk;
    if (disk.crashAfter === null || disk.crashAfter-- > 0) return;
    disk.crashAfter = null;
    half();
    this.#process.kill();
    throw new SimulatedCrash('the power failed in the midst of a change');
  }
}
