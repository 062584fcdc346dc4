import type { RaftEntry, RaftEntryType } from '../../proto/index.ts';
import type { LogRepair } from '../storage.ts';

/** One fact of the log. A frame's payload is a sequence of records; index 0 stands for "no snapshot". */
export type WalRecord =
  /** Head of every segment: whose log it is, the size of its file, and the snapshot that it relies on. */
  | { kind: 'segment'; version: number; nodeId: number; bytes: number; index: number; term: number }
  | { kind: 'entry'; entry: RaftEntry }
  /** Entries up to `index` are covered by a snapshot file. */
  | { kind: 'snapshot'; index: number; term: number }
  /** A snapshot from the leader replaced the log: entries before this record count for nothing. */
  | { kind: 'reset'; index: number; term: number }
  /** The log was damaged; in force, over segments, until `repaired`. */
  | { kind: 'repair'; repair: LogRepair }
  | { kind: 'repaired' };

const TAG = { segment: 1, entry: 2, snapshot: 4, reset: 5, repair: 6, repaired: 7 } as const;

/** Bytes before an entry's data: tag, type, term, index, length. */
const ENTRY_HEAD_BYTES = 1 + 1 + 8 + 8 + 4;
const SEGMENT_RECORD_BYTES = 41;
const REASON_BYTES_MAX = 1000;

export function put64(out: Buffer, at: number, value: number): number {
  out.writeUInt32LE(value >>> 0, at);
  return out.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

export function get64(from: Buffer, at: number): number {
  return from.readUInt32LE(at + 4) * 2 ** 32 + from.readUInt32LE(at);
}

function reasonOf(repair: LogRepair): Buffer {
  return Buffer.from(repair.reason).subarray(0, REASON_BYTES_MAX);
}

export function entryBytes(entry: RaftEntry): number {
  return ENTRY_HEAD_BYTES + entry.data.length;
}

export function recordBytes(record: WalRecord): number {
  switch (record.kind) {
    case 'segment':
      return SEGMENT_RECORD_BYTES;
    case 'entry':
      return entryBytes(record.entry);
    case 'snapshot':
    case 'reset':
      return 17;
    case 'repair':
      return 12 + reasonOf(record.repair).length;
    case 'repaired':
      return 1;
  }
}

/** Writes an entry at `at`. @returns where the next record goes. */
export function putEntry(out: Buffer, at: number, { type, term, index, data }: RaftEntry): number {
  out[at] = TAG.entry;
  out[at + 1] = type;
  put64(out, at + 2, term);
  put64(out, at + 10, index);
  out.writeUInt32LE(data.length, at + 18);
  out.set(data, at + ENTRY_HEAD_BYTES);
  return at + ENTRY_HEAD_BYTES + data.length;
}

function putNumbers(out: Buffer, at: number, tag: number, values: readonly number[]): number {
  out[at] = tag;
  let next = at + 1;
  for (const value of values) next = put64(out, next, value);
  return next;
}

/** Writes a record at `at`. @returns where the next one goes. */
export function putRecord(out: Buffer, at: number, record: WalRecord): number {
  switch (record.kind) {
    case 'segment':
      return putNumbers(out, at, TAG.segment, [record.version, record.nodeId, record.bytes, record.index, record.term]);
    case 'entry':
      return putEntry(out, at, record.entry);
    case 'snapshot':
      return putNumbers(out, at, TAG.snapshot, [record.index, record.term]);
    case 'reset':
      return putNumbers(out, at, TAG.reset, [record.index, record.term]);
    case 'repair': {
      const { floor } = record.repair;
      const reason = reasonOf(record.repair);
      const next = putNumbers(out, at, TAG.repair, [floor ?? 0]);
      out[next] = floor === null ? 0 : 1;
      out.writeUInt16LE(reason.length, next + 1);
      reason.copy(out, next + 3);
      return next + 3 + reason.length;
    }
    case 'repaired':
      out[at] = TAG.repaired;
      return at + 1;
  }
}

/** Bytes of one slab: many small entries share it, and it lives as long as the youngest of them. */
const SLAB_BYTES = 64 * 1024;
/** Entries larger than this get memory of their own. */
const SLAB_SHARE_MAX_BYTES = 8 * 1024;

/**
 * Copies entry data out of segment buffers, which must not stay in memory for the sake of a few entries, without an
 * ArrayBuffer for each.
 */
export class Slabs {
  #slab = new Uint8Array(0);
  #used = 0;

  copy(source: Uint8Array, from: number, to: number): Uint8Array {
    const bytes = to - from;
    if (bytes > SLAB_SHARE_MAX_BYTES) return Uint8Array.prototype.slice.call(source, from, to);
    if (this.#used + bytes > this.#slab.length) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#used = 0;
    }
    const out = this.#slab.subarray(this.#used, this.#used + bytes);
    out.set(source.subarray(from, to));
    this.#used += bytes;
    return out;
  }
}

function decodeEntry(payload: Buffer, at: number, slabs: Slabs): { entry: RaftEntry; next: number } {
  const start = at + ENTRY_HEAD_BYTES;
  const next = start + payload.readUInt32LE(at + 18);
  if (next > payload.length) throw new RangeError('entry is longer than its frame');
  const entry: RaftEntry = {
    type: payload.readUInt8(at + 1) as RaftEntryType,
    term: get64(payload, at + 2),
    index: get64(payload, at + 10),
    data: slabs.copy(payload, start, next),
  };
  return { entry, next };
}

function decodeRepair(payload: Buffer, at: number): { record: WalRecord; next: number } {
  const start = at + 12;
  const next = start + payload.readUInt16LE(at + 10);
  if (next > payload.length) throw new RangeError('repair is longer than its frame');
  const floor = payload.readUInt8(at + 9) === 0 ? null : get64(payload, at + 1);
  return { record: { kind: 'repair', repair: { floor, reason: payload.toString('utf8', start, next) } }, next };
}

/** All records of a frame. @throws RangeError when the payload is no sequence of records. */
export function decodeRecords(payload: Buffer, slabs: Slabs): WalRecord[] {
  const out: WalRecord[] = [];
  let at = 0;
  while (at < payload.length) {
    const tag = payload.readUInt8(at);
    if (tag === TAG.entry) {
      const { entry, next } = decodeEntry(payload, at, slabs);
      out.push({ kind: 'entry', entry });
      at = next;
    } else if (tag === TAG.segment) {
      const [version, nodeId, bytes] = [get64(payload, at + 1), get64(payload, at + 9), get64(payload, at + 17)];
      const marker = { index: get64(payload, at + 25), term: get64(payload, at + 33) };
      out.push({ kind: 'segment', version, nodeId, bytes, ...marker });
      at += SEGMENT_RECORD_BYTES;
    } else if (tag === TAG.snapshot || tag === TAG.reset) {
      const kind = tag === TAG.snapshot ? 'snapshot' : 'reset';
      out.push({ kind, index: get64(payload, at + 1), term: get64(payload, at + 9) });
      at += 17;
    } else if (tag === TAG.repair) {
      const { record, next } = decodeRepair(payload, at);
      out.push(record);
      at = next;
    } else if (tag === TAG.repaired) {
      out.push({ kind: 'repaired' });
      at += 1;
    } else {
      throw new RangeError(`unknown record ${tag}`);
    }
  }
  return out;
}
