import { crc32 } from 'node:zlib';
import { must } from '../../base/index.ts';
import type { LogDisk, LogFile } from './disk.ts';
import { get64, put64 } from './record.ts';
import { WAL_DIR } from './segment.ts';

export const VOTE_PATH = `${WAL_DIR}/vote`;
const MAGIC = Buffer.from('ShVt', 'latin1');
const SLOT_BYTES = 40;
/** Slots stand in pages of their own, so that one bad block does not take both. */
const SLOT_STEP_BYTES = 4096;
const SLOTS = 2;

export interface Vote {
  term: number;
  vote: number;
  /** Number of the last durable frame when it was written. */
  sequence: number;
}

/** What the vote file says. */
export interface FoundVote {
  /** The newest of its good slots. */
  vote: Vote | null;
  /** Slots that are good. */
  goodSlots: number;
  exists: boolean;
}

/** Whether `a` was written after `b`. In one term a vote is given once. */
export function isNewerVote(a: { term: number; vote: number }, b: { term: number; vote: number }): boolean {
  return a.term > b.term || (a.term === b.term && a.vote !== 0 && b.vote === 0);
}

function encodeSlot({ term, vote, sequence }: Vote): Buffer {
  const slot = Buffer.alloc(SLOT_BYTES);
  MAGIC.copy(slot, 0);
  put64(slot, 8, term);
  put64(slot, 16, vote);
  put64(slot, 24, sequence);
  slot.writeUInt32LE(crc32(slot.subarray(0, 36)), 36);
  return slot;
}

function decodeSlot(file: Buffer, at: number): Vote | null {
  if (at + SLOT_BYTES > file.length) return null;
  const slot = file.subarray(at, at + SLOT_BYTES);
  if (!slot.subarray(0, 4).equals(MAGIC) || crc32(slot.subarray(0, 36)) !== slot.readUInt32LE(36)) return null;
  return { term: get64(slot, 8), vote: get64(slot, 16), sequence: get64(slot, 24) };
}

/** A sector that the disk cannot give back. */
function isUnreadable(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EIO';
}

/**
 * A second place for term and vote, which no damage of the log can touch. Both slots are written one after the other
 * before a change counts as durable (not in turns): so a slot that is good is never older than what was promised,
 * whatever happened to the other, and a write that a crash cut short spoils one slot at the most.
 */
export class VoteFile {
  readonly #file: LogFile;
  /** At most two: a change of term, and the beginning of a segment. */
  readonly #waiting: { vote: Vote; done: (error: unknown) => void }[] = [];

  constructor(disk: LogDisk) {
    this.#file = disk.open(VOTE_PATH);
  }

  static read(disk: LogDisk): FoundVote {
    let file: Buffer;
    try {
      file = disk.read(VOTE_PATH);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { vote: null, goodSlots: 0, exists: false };
      if (isUnreadable(error)) return { vote: null, goodSlots: 0, exists: true };
      throw error;
    }
    const slots: Vote[] = [];
    for (let i = 0; i < SLOTS; i++) {
      const slot = decodeSlot(file, i * SLOT_STEP_BYTES);
      if (slot !== null) slots.push(slot);
    }
    if (slots.length === 0) return { vote: null, goodSlots: 0, exists: true };
    const [first, second = must(first, 'slot')] = slots;
    const newest = isNewerVote(second, must(first, 'slot')) ? second : must(first, 'slot');
    const sequence = Math.max(...slots.map((slot) => slot.sequence));
    return { vote: { ...newest, sequence }, goodSlots: slots.length, exists: true };
  }

  /** Makes the file anew, both slots alike. For the start of a member. */
  static create(disk: LogDisk, vote: Vote): void {
    const file = Buffer.alloc(SLOTS * SLOT_STEP_BYTES);
    for (let i = 0; i < SLOTS; i++) encodeSlot(vote).copy(file, i * SLOT_STEP_BYTES);
    disk.replace(VOTE_PATH, [file]);
  }

  /** Writes both slots; one after the other when called again meanwhile. */
  write(vote: Vote, done: (error: unknown) => void): void {
    this.#waiting.push({ vote, done });
    if (this.#waiting.length === 1) this.#next();
  }

  #next(): void {
    const next = this.#waiting[0];
    if (next === undefined) return;
    const slot = encodeSlot(next.vote);
    const finish = (error: unknown): void => {
      this.#waiting.shift();
      this.#next();
      next.done(error);
    };
    this.#file.writeLater(slot, 0, (error) => {
      if (error !== null && error !== undefined) finish(error);
      else this.#file.writeLater(slot, SLOT_STEP_BYTES, finish);
    });
  }

  close(): void {
    this.#file.close();
  }
}
