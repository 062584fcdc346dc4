import { closeSync, createReadStream, createWriteStream, linkSync, openSync, readdirSync } from 'node:fs';
import { rmSync, statSync, unlinkSync } from 'node:fs';
import { rename, unlink, utimes } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip } from 'node:zlib';
import { errorMessage, MoveWatcher, type Clock, type Logger, type Timer } from '../../base/index.ts';
import { logFiles, numbered, type LogFile } from './files.ts';
import type { LogPolicy } from './policy.ts';

/**
 * conmon itself begins a new file at `max-size`, but not below this: filling less takes a busy container no longer than
 * the daemon may need to look, and what it does not see is lost. Smaller files are begun at the daemon's word, and
 * exceed their size by at most this while a container writes faster than that comes.
 */
const CONMON_SIZE_MIN_BYTES = 32 * 1024 * 1024;
/**
 * conmon counts what it writes since it last began a file by itself; the daemon's word does not reset that. A file begun
 * at that word must not be replaced again before the daemon has seen it, so this much must be left of conmon's count,
 * or the container must write slowly.
 */
const REOPEN_MARGIN_BYTES = 8 * 1024 * 1024;
const SLOW_BYTES_PER_MS = 1000;
/** A writer that has not done as it was told for this long has not heard it. */
const ASK_AGAIN_MS = 10_000;
/** Between two looks at a log whose size the daemon must mind. */
const POLL_MAX_MS = 1000;
const POLL_MIN_MS = 20;
/** Files beyond the policy that are kept for readers which have not come so far, bytes. */
const HELD_MAX_BYTES = 256 * 1024 * 1024;

/** The size at which conmon begins a new file, the old one going away unless it has another name; 0 for never. */
export function conmonSizeLimit({ maxSizeBytes }: LogPolicy): number {
  return maxSizeBytes === 0 ? 0 : Math.max(maxSizeBytes, CONMON_SIZE_MIN_BYTES);
}

/** A reader's place: files from `number` on stay while it is held. */
export interface LogHold {
  number: number;
  release(): void;
}

interface Kept {
  path: string;
  policy: LogPolicy;
  /** Makes the writer begin a new file; false when there is no writer. */
  reopen: () => boolean;
  inode: number;
  /** What conmon has counted before the present file; undefined when it ran before we looked. */
  counted: number | undefined;
  /** When the writer was told to begin a new file, and has not yet; told twice, it would begin two in a row. */
  askedMs: number | undefined;
  timer: Timer | undefined;
  seen: { sizeBytes: number; atMs: number };
  unwatch: () => void;
  compressing: Promise<void>;
  ended: AbortController;
}

export interface LogKeeperOptions {
  clock: Clock;
  log: Logger;
}

/**
 * Keeps the files of logs within their policy while containers write: numbers each file before it can be replaced,
 * drops the oldest, compresses. The bound holds also when the daemon is gone: conmon then goes on with one file.
 */
export class LogKeeper {
  readonly #options: LogKeeperOptions;
  readonly #kept = new Map<string, Kept>();
  readonly #holds = new Map<string, Set<LogHold>>();
  #watcher: MoveWatcher | undefined;

  constructor(options: LogKeeperOptions) {
    this.#options = options;
  }

  /**
   * Begins to look after a log. @param fresh no writer has it open yet, so a full file can be put aside.
   * @throws ShoalError Unavailable when the directory cannot be watched.
   */
  begin(path: string, policy: LogPolicy, fresh: boolean, reopen: () => boolean): void {
    if (policy.maxSizeBytes === 0 || this.#kept.has(path)) return;
    for (const name of readdirSync(dirname(path))) {
      if (name.endsWith('.gz.tmp')) rmSync(join(dirname(path), name), { force: true });
    }
    closeSync(openSync(path, 'a', 0o640));
    const kept: Kept = {
      path,
      policy,
      reopen,
      inode: 0,
      counted: undefined,
      askedMs: undefined,
      timer: undefined,
      seen: { sizeBytes: 0, atMs: this.#options.clock.monotonic() },
      unwatch: () => undefined,
      compressing: Promise.resolve(),
      ended: new AbortController(),
    };
    this.#settle(kept);
    if (fresh && statSync(path).size >= policy.maxSizeBytes) {
      unlinkSync(path);
      closeSync(openSync(path, 'a', 0o640));
      this.#settle(kept);
    }
    // conmon counts what is in the file that it opens.
    kept.counted = fresh ? 0 : undefined;
    this.#watcher ??= new MoveWatcher();
    kept.unwatch = this.#watcher.watch(dirname(path), (name) => {
      if (name === basename(path) || name === '') this.#settleSafely(kept);
    });
    this.#kept.set(path, kept);
    // Whatever was replaced before the watch stood.
    this.#settleSafely(kept);
    if (policy.maxSizeBytes < CONMON_SIZE_MIN_BYTES) this.#poll(kept);
  }

  /** The writer has ended, or is not ours to mind any more. */
  async end(path: string): Promise<void> {
    const kept = this.#kept.get(path);
    if (kept === undefined) return;
    this.#kept.delete(path);
    kept.timer?.cancel();
    kept.unwatch();
    this.#settleSafely(kept);
    kept.ended.abort();
    await kept.compressing;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#kept.keys()].map((path) => this.end(path)));
    this.#watcher?.close();
  }

  /** Keeps a reader's files, within a bound, until it is released. */
  hold(path: string, policy: LogPolicy): LogHold {
    const holds = this.#holds.get(path) ?? new Set();
    const hold: LogHold = {
      number: 0,
      release: () => {
        if (!holds.delete(hold)) return;
        if (holds.size === 0) this.#holds.delete(path);
        try {
          if (policy.maxSizeBytes > 0) this.#prune(path, policy);
        } catch {
          // The container was removed with its files.
        }
      },
    };
    this.#holds.set(path, holds.add(hold));
    return hold;
  }

  #settleSafely(kept: Kept): void {
    try {
      this.#settle(kept);
    } catch (error) {
      const gone = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!gone) this.#options.log.warn('a log cannot be rotated', { path: kept.path, error: errorMessage(error) });
    }
  }

  /** Gives a file that conmon has begun its number, then drops and compresses what the policy wants. */
  #settle(kept: Kept): void {
    const { path, policy } = kept;
    const inode = statSync(path, { throwIfNoEntry: false })?.ino;
    if (inode === undefined || inode === kept.inode) return;
    const files = logFiles(path);
    const before = files.find((file) => file.inode === kept.inode);
    if (kept.askedMs === undefined) kept.counted = 0;
    else if (kept.counted !== undefined) kept.counted += before?.sizeBytes ?? 0;
    kept.askedMs = undefined;
    const present = files.at(-1);
    if (present?.path === path) linkSync(path, numbered(path, present.number));
    kept.inode = present?.inode ?? 0;
    kept.seen.sizeBytes = 0;
    const rest = this.#prune(path, policy);
    if (policy.compress) kept.compressing = kept.compressing.then(() => this.#compress(kept, rest));
  }

  /** Drops the oldest files beyond the policy, except those that a reader still needs. Gives what is left. */
  #prune(path: string, policy: LogPolicy): LogFile[] {
    const others = logFiles(path).filter((file) => !file.present);
    const needed = this.#needed(path);
    const room = (policy.maxFiles - 1) * policy.maxSizeBytes;
    const left: LogFile[] = [];
    let bytes = 0;
    let held = 0;
    for (const [age, file] of others.reverse().entries()) {
      bytes += file.sizeBytes;
      const wanted = age < policy.maxFiles - 1 && (age === 0 || bytes <= room);
      if (!wanted && file.number >= needed) held += file.sizeBytes;
      if (wanted || (file.number >= needed && held <= HELD_MAX_BYTES)) left.push(file);
      else rmSync(file.path, { force: true });
    }
    return left.reverse();
  }

  /** The first file that some reader needs. */
  #needed(path: string): number {
    return Math.min(...[...(this.#holds.get(path) ?? [])].map((hold) => hold.number), Infinity);
  }

  async #compress(kept: Kept, files: readonly LogFile[]): Promise<void> {
    for (const file of files) {
      if (file.compressed || file.number >= this.#needed(kept.path) || kept.ended.signal.aborted) continue;
      await compressFile(file, kept.ended.signal).catch((error: unknown) => {
        // Dropped meanwhile, or the container has ended; else it stays as it is.
        const expected = ['ENOENT', 'ABORT_ERR'].includes((error as NodeJS.ErrnoException).code ?? '');
        const facts = { path: file.path, error: errorMessage(error) };
        if (!expected) this.#options.log.warn('a log file cannot be compressed', facts);
      });
    }
  }

  /** Has conmon begin a new file when this one has its size; looks again in time for how fast it grows. */
  #poll(kept: Kept): void {
    const { clock } = this.#options;
    const { maxSizeBytes } = kept.policy;
    const size = statSync(kept.path, { throwIfNoEntry: false })?.size ?? 0;
    const now = clock.monotonic();
    const rate = Math.max(0, size - kept.seen.sizeBytes) / Math.max(1, now - kept.seen.atMs);
    kept.seen = { sizeBytes: size, atMs: now };
    const full = size >= maxSizeBytes;
    const asked = kept.askedMs !== undefined && now - kept.askedMs < ASK_AGAIN_MS;
    const left = conmonSizeLimit(kept.policy) - size - (kept.counted ?? Infinity);
    try {
      const safe = left >= REOPEN_MARGIN_BYTES || rate < SLOW_BYTES_PER_MS;
      if (full && !asked && safe && kept.reopen()) kept.askedMs = now;
    } catch (error) {
      this.#options.log.warn('a log cannot be rotated', { path: kept.path, error: errorMessage(error) });
    }
    const room = full ? maxSizeBytes : maxSizeBytes - size;
    const waitMs = Math.min(POLL_MAX_MS, Math.max(POLL_MIN_MS, rate === 0 ? POLL_MAX_MS : room / rate / 2));
    kept.timer = clock.after(waitMs, () => this.#poll(kept));
  }
}

/** Replaces a file by its compressed form; a crash leaves one of them whole, or both. */
async function compressFile(file: LogFile, signal: AbortSignal): Promise<void> {
  const temporary = `${file.path}.gz.tmp`;
  try {
    const gzip = createGzip({ level: constants.Z_BEST_SPEED });
    await pipeline(createReadStream(file.path), gzip, createWriteStream(temporary, { mode: 0o640 }), { signal });
    // Readers tell by it which files are too old for them.
    await utimes(temporary, file.modifiedMs / 1000, file.modifiedMs / 1000);
    await rename(temporary, `${file.path}.gz`);
    await unlink(file.path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
