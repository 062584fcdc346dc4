import { must } from '../../base/index.ts';

/** What a disk writes whole or not at all. */
export const SECTOR_BYTES = 512;
/** What the kernel copies into its cache whole or not at all when a process is killed. */
const PAGE_BYTES = 4096;

/** A write that programs see but the platter may not have. */
export interface Dirty {
  at: number;
  length: number;
  /** What the platter may still hold; null for zeros. */
  before: Buffer | null;
  /** It was reported as durable. */
  lied: boolean;
  /** Virtual time by which the kernel or the disk has written it anyway. */
  expiresAt: number;
}

/** How a cut of the power treats one write. */
export type CutMode = 'lost' | 'kept' | 'torn';

/** The bytes of one file: as programs see them, and what the platter may hold instead. */
export class SimFile {
  path: string;
  bytes: Buffer;
  /** Bytes from here on are zeros. */
  high: number;
  #dirty: Dirty[] = [];

  constructor(path: string, bytes: Buffer, high: number) {
    this.path = path;
    this.bytes = bytes;
    this.high = high;
  }

  get dirtyCount(): number {
    return this.#dirty.length;
  }

  /** Writes into the cache. @returns what has to be settled or undone. */
  write(at: number, data: Uint8Array): Dirty {
    const end = at + data.length;
    if (end > this.bytes.length) {
      const grown = Buffer.alloc(end);
      this.bytes.copy(grown);
      this.bytes = grown;
    }
    const fresh = at >= this.high;
    const before = fresh ? null : Buffer.from(this.bytes.subarray(at, end));
    this.bytes.set(data, at);
    this.high = Math.max(this.high, end);
    const dirty: Dirty = { at, length: data.length, before, lied: false, expiresAt: Number.POSITIVE_INFINITY };
    this.#dirty.push(dirty);
    return dirty;
  }

  /** The whole content was reported as durable but is not. */
  contentLied(expiresAt: number): void {
    this.#dirty.push({ at: 0, length: this.bytes.length, before: null, lied: true, expiresAt });
  }

  /** The write is on the platter; older ones cannot undo it any more. */
  settle(durable: Dirty): void {
    const end = durable.at + durable.length;
    const rest: Dirty[] = [];
    for (const dirty of this.#dirty) {
      if (dirty === durable) continue;
      const dirtyEnd = dirty.at + dirty.length;
      if (dirtyEnd <= durable.at || dirty.at >= end) {
        rest.push(dirty);
        continue;
      }
      if (dirty.at < durable.at) rest.push(part(dirty, dirty.at, durable.at));
      if (dirtyEnd > end) rest.push(part(dirty, end, dirtyEnd));
    }
    this.#dirty = rest;
  }

  /** The write was reported as durable and is not: what older ones may undo under it is now part of the lie. */
  lie(lying: Dirty, expiresAt: number): void {
    const platter = Buffer.from(lying.before ?? Buffer.alloc(lying.length));
    for (const dirty of this.#dirty.toReversed()) {
      const from = Math.max(dirty.at, lying.at);
      const to = Math.min(dirty.at + dirty.length, lying.at + lying.length);
      if (dirty === lying || from >= to) continue;
      if (dirty.before === null) platter.fill(0, from - lying.at, to - lying.at);
      else dirty.before.copy(platter, from - lying.at, from - dirty.at, to - dirty.at);
    }
    this.settle(lying);
    lying.before = platter;
    lying.lied = true;
    lying.expiresAt = expiresAt;
    this.#dirty.push(lying);
  }

  /** Takes back all of a write from `keep` bytes on, rounded up to a page of the cache. */
  undo(dirty: Dirty, keep: number): void {
    const from = keep === 0 ? dirty.at : Math.ceil((dirty.at + keep) / PAGE_BYTES) * PAGE_BYTES;
    this.#restore(dirty, Math.min(from, dirty.at + dirty.length), dirty.at + dirty.length);
    if (keep === 0) this.#dirty = this.#dirty.filter((other) => other !== dirty);
  }

  /**
   * The power fails: writes that are not on the platter are lost, kept or torn, newest first, as `modeOf` says.
   * @returns the writes that lost anything.
   */
  cut(now: number, modeOf: (dirty: Dirty) => CutMode, keepSector: () => boolean): Dirty[] {
    const hurt: Dirty[] = [];
    for (const dirty of this.#dirty.toReversed()) {
      const mode = dirty.expiresAt <= now ? 'kept' : modeOf(dirty);
      if (mode === 'kept') continue;
      const end = dirty.at + dirty.length;
      let lost = false;
      for (let at = dirty.at; at < end; at = nextSector(at)) {
        if (mode === 'torn' && keepSector()) continue;
        this.#restore(dirty, at, Math.min(end, nextSector(at)));
        lost = true;
      }
      if (lost) hurt.push(dirty);
    }
    this.#dirty = [];
    return hurt;
  }

  /** Changes bytes behind everybody's back. */
  damage(at: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, at);
    this.high = Math.max(this.high, at + bytes.length);
  }

  #restore(dirty: Dirty, from: number, to: number): void {
    if (dirty.before === null) this.bytes.fill(0, from, to);
    else dirty.before.copy(this.bytes, from, from - dirty.at, to - dirty.at);
  }
}

function nextSector(at: number): number {
  return (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES;
}

function part(dirty: Dirty, from: number, to: number): Dirty {
  const before = dirty.before === null ? null : must(dirty.before, 'before').subarray(from - dirty.at, to - dirty.at);
  return { ...dirty, at: from, length: to - from, before };
}
