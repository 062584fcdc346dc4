import type { RaftEntry, RaftEntryType, RaftHardState } from '../../proto/index.ts';

/** One fact of the log. A frame's payload is a sequence of records. */
export type WalRecord =
  | { kind: 'segment'; version: number; nodeId: number }
  | { kind: 'entry'; entry: RaftEntry }
  | { kind: 'hard-state'; hardState: RaftHardState }
  /** Entries up to `index` are covered by a snapshot file. */
  | { kind: 'snapshot'; index: number; term: number }
  /** A snapshot from the leader replaced the log: entries before this record count for nothing. */
  | { kind: 'reset'; index: number; term: number };

const TAG = { segment: 1, entry: 2, hardState: 3, snapshot: 4, reset: 5 } as const;

function put(out: Buffer, at: number, value: number): number {
  out.writeUInt32LE(value >>> 0, at);
  return out.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function get(from: Buffer, at: number): number {
  return from.readUInt32LE(at + 4) * 2 ** 32 + from.readUInt32LE(at);
}

/** Tag and numbers: the form of all records but entries. */
function numbers(tag: number, ...values: number[]): Buffer {
  const out = Buffer.alloc(1 + values.length * 8);
  out[0] = tag;
  let at = 1;
  for (const value of values) at = put(out, at, value);
  return out;
}

/** Bytes before an entry's data: tag, type, term, index, length. */
const ENTRY_HEAD_BYTES = 1 + 1 + 8 + 8 + 4;

export function encodeRecord(record: WalRecord): Buffer {
  switch (record.kind) {
    case 'segment':
      return numbers(TAG.segment, record.version, record.nodeId);
    case 'entry': {
      const { type, term, index, data } = record.entry;
      const out = Buffer.allocUnsafe(ENTRY_HEAD_BYTES + data.length);
      out[0] = TAG.entry;
      out[1] = type;
      put(out, 2, term);
      put(out, 10, index);
      out.writeUInt32LE(data.length, 18);
      out.set(data, ENTRY_HEAD_BYTES);
      return out;
    }
    case 'hard-state':
      return numbers(TAG.hardState, record.hardState.term, record.hardState.vote, record.hardState.commit);
    case 'snapshot':
      return numbers(TAG.snapshot, record.index, record.term);
    case 'reset':
      return numbers(TAG.reset, record.index, record.term);
  }
}

function decodeEntry(payload: Buffer, at: number): { record: WalRecord; next: number } {
  const start = at + ENTRY_HEAD_BYTES;
  const next = start + payload.readUInt32LE(at + 18);
  if (next > payload.length) throw new RangeError('entry is longer than its frame');
  const entry: RaftEntry = {
    type: payload.readUInt8(at + 1) as RaftEntryType,
    term: get(payload, at + 2),
    index: get(payload, at + 10),
    // A copy: the file's buffer must not stay in memory for the sake of one entry.
    data: new Uint8Array(payload.subarray(start, next)),
  };
  return { record: { kind: 'entry', entry }, next };
}

/** All records of a frame. @throws RangeError when the payload is no sequence of records. */
export function decodeRecords(payload: Buffer): WalRecord[] {
  const out: WalRecord[] = [];
  let at = 0;
  while (at < payload.length) {
    const tag = payload.readUInt8(at);
    if (tag === TAG.entry) {
      const decoded = decodeEntry(payload, at);
      out.push(decoded.record);
      at = decoded.next;
    } else if (tag === TAG.hardState) {
      const hardState = { term: get(payload, at + 1), vote: get(payload, at + 9), commit: get(payload, at + 17) };
      out.push({ kind: 'hard-state', hardState });
      at += 25;
    } else if (tag === TAG.segment) {
      out.push({ kind: 'segment', version: get(payload, at + 1), nodeId: get(payload, at + 9) });
      at += 17;
    } else if (tag === TAG.snapshot || tag === TAG.reset) {
      const kind = tag === TAG.snapshot ? 'snapshot' : 'reset';
      out.push({ kind, index: get(payload, at + 1), term: get(payload, at + 9) });
      at += 17;
    } else {
      throw new RangeError(`unknown record ${tag}`);
    }
  }
  return out;
}
