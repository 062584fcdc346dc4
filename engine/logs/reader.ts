import { statSync, watch, type FSWatcher } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { type Clock } from '../../base/index.ts';
import type { LogLine, LogQuery } from '../types.ts';
import { logFiles, type LogFile } from './files.ts';
import { EntryParser, LineJoiner, timeText } from './k8s-file.ts';
import type { LogHold } from './keeper.ts';
import { tailPlace, uncompressed, type LogPlace } from './tail.ts';
import { turns } from './turns.ts';

const BLOCK_BYTES = 64 * 1024;
/** A follower looks again after this time even when no change was told. */
const FOLLOW_POLL_MS = 1000;
/** A follower of a busy log lets this pass between two looks, so that it reads more at once. */
const FOLLOW_PAUSE_MS = 40;
/** A log that has not grown for this long is not busy: its follower is told of changes, and looks no more by itself. */
const QUIET_AFTER_MS = 400;
/** A file's time may be this much before that of its last entry. */
const FILE_TIME_SLACK_MS = 2000;

export interface LogSource {
  /** The log file that is written to; its others have numbers appended. */
  path: string;
  /** Whether more may be written. */
  live: () => boolean;
  /** Resolves when the container ends the next time; rejects when `signal` aborts. */
  nextEnd: (signal: AbortSignal) => Promise<unknown>;
  /** Keeps files that are not yet read. */
  hold?: () => LogHold;
}

/** The log's lines by a query, oldest first; with `follow` until the container ends or `signal` aborts. */
export async function* readLog(
  source: LogSource,
  query: LogQuery,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  for await (const lines of readLogBlocks(source, query, clock, signal)) yield* lines;
}

/** As `readLog`, many lines at a time. */
export async function* readLogBlocks(
  source: LogSource,
  query: LogQuery,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<LogLine[]> {
  const since = query.since ?? (query.sinceMs === undefined ? '' : timeText(query.sinceMs));
  const until = query.until ?? (query.untilMs === undefined ? '~' : timeText(query.untilMs));
  const wanted = (line: LogLine): boolean =>
    (line.stream === 'stdout' ? query.stdout : query.stderr) && line.time >= since && line.time <= until;
  const hold = source.hold?.();
  const stop = endOf(query, until, clock, signal);
  try {
    const files = logFiles(source.path);
    if (hold !== undefined) hold.number = files[0]?.number ?? 0;
    const begin = await beginning(files, query, since, wanted);
    if (begin === undefined && !query.follow) return;
    const joiner = new LineJoiner();
    const reading = new LogReading(source, begin, query.follow, clock, stop.signal, hold, files.at(-1));
    for await (const entries of reading.entries()) {
      const last = entries.at(-1);
      const lines = entries.map((entry) => joiner.push(entry)).filter((line) => line !== undefined && wanted(line));
      if (lines.length > 0) yield lines as LogLine[];
      if (signal.aborted || (last !== undefined && last.time > until)) return;
    }
    const rest = joiner.flush().filter(wanted);
    if (rest.length > 0) yield rest;
  } finally {
    stop.cancel();
    hold?.release();
  }
}

/** Aborts with the reader, or when the time of `until` has come. */
function endOf(
  query: LogQuery,
  until: string,
  clock: Clock,
  signal: AbortSignal,
): { signal: AbortSignal; cancel: () => void } {
  if (!query.follow || until === '~') return { signal, cancel: () => undefined };
  const over = new AbortController();
  const leftMs = Math.min(Date.parse(until) - clock.now(), 2 ** 31 - 1);
  const timer = clock.after(Math.max(0, leftMs + FOLLOW_PAUSE_MS), () => over.abort());
  return { signal: AbortSignal.any([signal, over.signal]), cancel: () => timer.cancel() };
}

async function beginning(
  files: readonly LogFile[],
  query: LogQuery,
  since: string,
  wanted: (line: LogLine) => boolean,
): Promise<LogPlace | undefined> {
  if (files.length === 0) return undefined;
  if (query.tail !== undefined) return tailPlace(files, query.tail, wanted);
  const sinceMs = since === '' ? 0 : Date.parse(since) - FILE_TIME_SLACK_MS;
  const file = files.find((one) => one.modifiedMs >= sinceMs || one.present) ?? files[0];
  return file === undefined ? undefined : { file, offset: 0 };
}

/** One way through a log's files. */
export class LogReading {
  readonly #source: LogSource;
  readonly #follow: boolean;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #hold: LogHold | undefined;
  #parser = new EntryParser();
  /** Where the log ended when the reading began: one that does not follow goes no further. */
  readonly #end: { number: number; sizeBytes: number };
  #place: LogPlace | undefined;

  constructor(
    source: LogSource,
    begin: LogPlace | undefined,
    follow: boolean,
    clock: Clock,
    signal: AbortSignal,
    hold: LogHold | undefined,
    last = logFiles(source.path).at(-1),
  ) {
    this.#source = source;
    this.#place = begin;
    this.#follow = follow;
    this.#clock = clock;
    this.#signal = signal;
    this.#hold = hold;
    this.#end = { number: last?.number ?? 0, sizeBytes: last?.sizeBytes ?? 0 };
  }

  async *entries(): AsyncGenerator<LogLine[]> {
    const waiter = this.#follow ? new ChangeWaiter(this.#source, this.#clock, this.#signal) : undefined;
    try {
      while (!this.#signal.aborted) {
        const live = this.#source.live();
        if (this.#place !== undefined) yield* this.#file(this.#place, waiter);
        const next = this.#successor();
        if (next !== undefined) this.#place = { file: next, offset: 0 };
        else if (waiter === undefined || !live) return;
        else await waiter.next(this.#source.path);
      }
    } finally {
      waiter?.close();
    }
  }

  /** What was given out: all of the files before `number`, and `offset` bytes of that one. */
  place(): { number: number; offset: number } | undefined {
    if (this.#place === undefined) return undefined;
    const { file, offset } = this.#place;
    return { number: file.number, offset: Math.min(offset - this.#parser.waitingBytes, Number.MAX_SAFE_INTEGER) };
  }

  /** The file after the one that was read, if there is one to be read. */
  #successor(): LogFile | undefined {
    const files = logFiles(this.#source.path);
    const before = this.#place?.file;
    const next =
      before === undefined
        ? files[0]
        : files.find(
            ({ number, inode, compressed }) =>
              number > before.number || (number === before.number && inode !== before.inode && !compressed),
          );
    if (next === undefined || (!this.#follow && next.number > this.#end.number)) return undefined;
    if (this.#hold !== undefined) this.#hold.number = next.number;
    // What a damaged file ends with in the middle of is no begin of an entry of the next.
    this.#parser = new EntryParser();
    return next;
  }

  /** What is in one file, and while it is the one that is written to and we follow, what comes. */
  async *#file(place: LogPlace, waiter: ChangeWaiter | undefined): AsyncGenerator<LogLine[]> {
    const { file } = place;
    try {
      if (file.compressed) yield* this.#compressed(place);
      else yield* this.#plain(place, waiter);
    } catch (error) {
      // Dropped since it was listed: as if it never had been. Compressed since: read so.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      const again = logFiles(this.#source.path).find((one) => one.number === file.number && one.compressed);
      if (again === undefined || file.compressed) return;
      place.file = again;
      yield* this.#compressed(place);
    }
  }

  async *#compressed(place: LogPlace): AsyncGenerator<LogLine[]> {
    let skip = place.offset;
    for await (const chunk of uncompressed(place.file.path)) {
      const text = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - text.length;
      await turns.next();
      yield this.#parser.push(text);
      if (this.#signal.aborted) return;
    }
    // Read to its end: nothing more of it is to be given.
    place.offset = Infinity;
  }

  async *#plain(place: LogPlace, waiter: ChangeWaiter | undefined): AsyncGenerator<LogLine[]> {
    const { file } = place;
    const bounded = !this.#follow && file.number === this.#end.number;
    const limit = bounded ? this.#end.sizeBytes : Infinity;
    const handle = await open(file.path, 'r');
    try {
      while (!this.#signal.aborted) {
        // Both asked before reading: what was written before the end, or before the next file, is then surely read.
        const live = this.#source.live();
        const present = statSync(this.#source.path, { throwIfNoEntry: false })?.ino === file.inode;
        const block = await readBlock(handle, place.offset, limit);
        place.offset += block.length;
        if (block.length > 0) {
          waiter?.grown();
          await turns.next();
          yield this.#parser.push(block);
          // Short: that was all for now.
          if (waiter !== undefined && present && live && block.length < BLOCK_BYTES) await waiter.pause();
        } else if (waiter === undefined || !present || !live) return;
        else await waiter.next(this.#source.path);
      }
    } finally {
      await handle.close();
    }
  }
}

async function readBlock(handle: FileHandle, offset: number, limit: number): Promise<Buffer> {
  const length = Math.max(0, Math.min(BLOCK_BYTES, limit - offset));
  if (length === 0) return Buffer.alloc(0);
  const block = Buffer.allocUnsafeSlow(length);
  const { bytesRead } = await handle.read(block, 0, length, offset);
  return block.subarray(0, bytesRead);
}

/**
 * Waits until a log may have grown: a change was told, the container ended, time passed, or the reader went away. The
 * first `next` only begins to watch and comes back at once, so that nothing falls between looking and watching.
 */
class ChangeWaiter {
  readonly #source: LogSource;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #gone = new AbortController();
  #watcher: FSWatcher | undefined;
  #told = false;
  #wake: () => void = () => undefined;
  #waitsForEnd = false;
  /** When the log was last seen to grow; long ago at first, so that the first change is told at once. */
  #grownMs = -Infinity;

  constructor(source: LogSource, clock: Clock, signal: AbortSignal) {
    this.#source = source;
    this.#clock = clock;
    this.#signal = signal;
    signal.addEventListener('abort', this.#tell, { once: true });
  }

  readonly #tell = (): void => {
    this.#told = true;
    this.#unwatch();
    this.#wake();
  };

  async next(path: string): Promise<void> {
    if (this.#signal.aborted) return;
    this.#watchEnd();
    if (!this.#told && this.#clock.monotonic() - this.#grownMs < QUIET_AFTER_MS) return this.pause();
    if (this.#watcher === undefined && !this.#told) {
      this.#watchFile(path);
      if (this.#watcher !== undefined) return;
    }
    if (!this.#told) await this.#sleep(FOLLOW_POLL_MS);
    this.#told = false;
  }

  /** Something was read: one who writes all the time need not be watched. */
  grown(): void {
    this.#grownMs = this.#clock.monotonic();
    this.#unwatch();
  }

  /** Lets a busy log grow. The end of the container, and of the reader, cut it short. */
  async pause(): Promise<void> {
    this.#watchEnd();
    if (!this.#told && !this.#signal.aborted) await this.#sleep(FOLLOW_PAUSE_MS);
    this.#told = false;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(ms, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** One change is told, then the watch ends: a busy log would tell thousands. */
  #watchFile(path: string): void {
    try {
      this.#watcher = watch(path, { persistent: false }, this.#tell);
      this.#watcher.on('error', this.#tell);
    } catch {
      // The file is not there, or there are no watches left: the poll is enough.
    }
  }

  #watchEnd(): void {
    if (this.#waitsForEnd) return;
    this.#waitsForEnd = true;
    const ended = (): void => {
      this.#waitsForEnd = false;
      this.#tell();
    };
    this.#source.nextEnd(AbortSignal.any([this.#signal, this.#gone.signal])).then(ended, () => undefined);
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  close(): void {
    this.#gone.abort();
    this.#unwatch();
    this.#signal.removeEventListener('abort', this.#tell);
  }
}
