import { assert, type Random } from '../../base/index.ts';
import { SECTOR_BYTES, SimFile, type CutMode, type Dirty } from './disk-file.ts';
import type { Scheduler, SimEvent } from './scheduler.ts';

/** What a crash planned for the start of a member throws at it. */
export class SimulatedCrash extends Error {
  override readonly name = 'SimulatedCrash';
}

/** How a disk behaves now. */
export interface DiskTemper {
  /** Shortest time of an operation, and what comes on top on average, ms. */
  minMs: number;
  meanMs: number;
  /** Share of operations that take `tailMs` more. */
  tailShare: number;
  tailMs: number;
  /** Share of operations that fail with EIO. */
  eioShare: number;
  /** Nothing can be allocated. */
  full: boolean;
  /** Writes are reported as durable that are not. */
  lying: boolean;
}

export const GOOD_DISK: DiskTemper = {
  minMs: 0.05,
  meanMs: 0.3,
  tailShare: 0.002,
  tailMs: 30,
  eioShare: 0,
  full: false,
  lying: false,
};

export const CUT_MODES: readonly CutMode[] = ['lost', 'kept', 'torn'];

/** The kernel writes its cache back within this time, and a lying disk its own, ms. */
const WRITE_BACK_MS = 30_000;

/** What a cut of the power did to data that had been reported as durable. */
export type CutLoss =
  | 'none'
  /** Something is gone but the newest write of the log is there: the log must notice. */
  | 'noticeable'
  /** The newest write of the log is gone: nobody can notice. */
  | 'silent';

interface Flight {
  event: SimEvent;
  abort(cut: boolean): void;
}

interface NameChange {
  directory: string;
  undo: () => void;
  expiresAt: number;
}

/** What of a log is damaged, and how. */
export type DamagedPart = 'log' | 'snapshot' | 'vote';
export type DamageKind = 'bit' | 'bits' | 'sector';

/** A file system on one disk, in memory: it outlives the runs of its member. */
export class SimDisk {
  readonly scheduler: Scheduler;
  readonly random: Random;
  temper: DiskTemper = GOOD_DISK;
  readonly files = new Map<string, SimFile>();
  /** Nothing is finished before this instant. */
  stalledUntil = 0;
  /** What a cut of the power does to writes that are not on the platter: one of these, each time. */
  cutModes: readonly CutMode[] = CUT_MODES;
  /** Number of blocking changes until the power fails in the midst of one; null for never. */
  crashAfter: number | null = null;
  /** A write of the log began, or is durable but not reported yet; a nemesis may strike then. */
  onLogWrite: ((phase: 'begun' | 'durable') => void) | null = null;
  readonly counts = { eio: 0, enospc: 0, lied: 0 };
  #flights = new Set<Flight>();
  #names: NameChange[] = [];
  /** The newest write of the log that was reported as durable, when it was not. */
  #newestLie: Dirty | null = null;

  constructor(scheduler: Scheduler, random: Random) {
    this.scheduler = scheduler;
    this.random = random;
  }

  get empty(): boolean {
    return this.files.size === 0;
  }

  stall(ms: number): void {
    this.stalledUntil = Math.max(this.stalledUntil, this.scheduler.now + ms);
  }

  /** An operation that ends later. `abort` says what is left of it when the process dies or the power fails before. */
  fly(complete: () => void, abort: (cut: boolean) => void): void {
    const { temper, random, scheduler } = this;
    let ms = temper.minMs - Math.log(1 - random.float()) * temper.meanMs;
    if (temper.tailShare > 0 && random.float() < temper.tailShare) ms += random.float() * temper.tailMs;
    ms = Math.max(ms, this.stalledUntil - scheduler.now + random.float());
    const flight: Flight = {
      event: scheduler.after(ms, () => {
        this.#flights.delete(flight);
        complete();
      }),
      abort,
    };
    this.#flights.add(flight);
  }

  fails(): boolean {
    if (this.temper.eioShare === 0 || this.random.float() >= this.temper.eioShare) return false;
    this.counts.eio++;
    return true;
  }

  /** When something that was not synced is on the platter anyway. */
  writtenBackAt(): number {
    return this.scheduler.now + this.random.float() * WRITE_BACK_MS;
  }

  /** A write is over: on the platter, or a lie. */
  finish(file: SimFile, dirty: Dirty): void {
    const inLog = isLogFile(file.path);
    if (this.temper.lying) {
      file.lie(dirty, this.writtenBackAt());
      this.counts.lied++;
      if (inLog) this.#newestLie = dirty;
      return;
    }
    file.settle(dirty);
    if (inLog) this.#newestLie = null;
  }

  /** A change of names that a cut of the power may take back until its directory is synced. */
  renamed(directory: string, undo: () => void): void {
    this.#names.push({ directory, undo, expiresAt: this.writtenBackAt() });
  }

  syncDirectory(directory: string): void {
    if (this.#names.length > 0) this.#names = this.#names.filter((change) => change.directory !== directory);
  }

  /** The process is gone: what it had under way is done, or not, or half, and stands in the cache only. */
  kill(): void {
    this.#abortFlights(false);
  }

  /**
   * The power fails. @param mayLose whether what a lying disk reported as durable may go; if not, it was lucky.
   */
  powerCut(mayLose: boolean): CutLoss {
    this.#abortFlights(true);
    const { random } = this;
    const { now } = this.scheduler;
    const hurt: Dirty[] = [];
    const modes = this.cutModes;
    const modeOf = (dirty: Dirty): CutMode =>
      dirty.lied && !mayLose ? 'kept' : (modes[random.int(modes.length)] as CutMode);
    for (const file of this.files.values()) {
      if (file.dirtyCount > 0) hurt.push(...file.cut(now, modeOf, () => random.int(2) === 0));
    }
    this.#undoNames();
    this.stalledUntil = 0;
    const lies = hurt.filter((dirty) => dirty.lied);
    const newest = this.#newestLie;
    this.#newestLie = null;
    if (lies.length === 0) return 'none';
    return newest !== null && lies.includes(newest) ? 'silent' : 'noticeable';
  }

  #undoNames(): void {
    const open = this.#names.filter((change) => change.expiresAt > this.scheduler.now);
    this.#names = [];
    const keep = this.random.int(open.length + 1);
    for (const change of open.slice(keep).toReversed()) change.undo();
  }

  #abortFlights(cut: boolean): void {
    const flights = this.#flights;
    this.#flights = new Set();
    for (const { event, abort } of flights) {
      event.run = null;
      abort(cut);
    }
  }

  /** Everything is gone: a new disk is in its place. */
  wipe(): void {
    assert(this.#flights.size === 0, 'a disk is replaced while nobody uses it');
    this.files.clear();
    this.#names = [];
    this.#newestLie = null;
    this.temper = GOOD_DISK;
  }

  /** Changes bytes at rest; returns what, for people, or undefined when there is no such file. */
  damage(what: DamagedPart, how: DamageKind, newest: boolean): { file: SimFile; text: string } | undefined {
    const { random } = this;
    const isTarget = { log: isLogFile, snapshot: isSnapshotFile, vote: isVoteFile }[what];
    const candidates = [...this.files.values()].filter((file) => isTarget(file.path) && file.high > 0);
    candidates.sort((a, b) => (a.path < b.path ? -1 : 1));
    // The newest file half of the time.
    const pick = newest || random.int(2) === 0 ? candidates.length - 1 : random.int(Math.max(1, candidates.length));
    const file = candidates[pick];
    if (file === undefined) return undefined;
    // The newest bytes a third of the time.
    const from = newest || random.int(3) === 0 ? Math.max(0, file.high - 256) : 0;
    const at = from + random.int(file.high - from);
    if (how === 'sector') {
      const start = at - (at % SECTOR_BYTES);
      file.damage(start, random.bytes(Math.min(SECTOR_BYTES, file.bytes.length - start)));
    } else {
      for (let i = how === 'bit' ? 1 : 2 + random.int(15); i > 0; i--) {
        const place = Math.min(at + (how === 'bit' ? 0 : random.int(64)), file.high - 1);
        file.damage(place, Uint8Array.of((file.bytes[place] as number) ^ (1 << random.int(8))));
      }
    }
    return { file, text: `${how} at ${at} of ${file.path} (${file.high} bytes)` };
  }
}

function isLogFile(path: string): boolean {
  return /^wal\/wal-[0-9a-f]+\.log$/.test(path);
}

function isSnapshotFile(path: string): boolean {
  return /^snap\/.*\.snap$/.test(path);
}

function isVoteFile(path: string): boolean {
  return path === 'wal/vote';
}
