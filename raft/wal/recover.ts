import { readFileSync } from 'node:fs';
import { ShoalError, errorMessage } from '../../base/index.ts';
import type { RaftEntry, RaftHardState } from '../../proto/index.ts';
import { readFrame } from './frame.ts';
import { decodeRecords, type WalRecord } from './record.ts';
import { segmentNumbers, segmentPath, type Segment } from './segment.ts';

export const WAL_VERSION = 1;

/** What the segments say, and where the next frame goes. */
export interface Replay {
  entries: RaftEntry[];
  hardState: RaftHardState | null;
  /** Newest snapshot that the log relies on. */
  marker: { index: number; term: number } | null;
  segments: Segment[];
  sequence: number;
  /** Where the next frame is written in the last segment. */
  tail: number;
  /** A write that a crash cut short stands at the tail. */
  torn: boolean;
}

function damaged(path: string, offset: number, reason: string): ShoalError {
  return new ShoalError(
    'DataLoss',
    `raft log ${path} is damaged at offset ${offset}: ${reason}; nothing was cut; ` +
      'remove this manager from the cluster and join it anew, its data is on the other managers',
  );
}

class Replayer {
  readonly replay: Replay = {
    entries: [],
    hardState: null,
    marker: null,
    segments: [],
    sequence: 0,
    tail: 0,
    torn: false,
  };
  readonly #nodeId: number;

  constructor(nodeId: number) {
    this.#nodeId = nodeId;
  }

  readSegment(segment: Segment, last: boolean): void {
    const { replay } = this;
    const file = readFileSync(segment.path);
    replay.segments.push(segment);
    let offset = 0;
    // Bounded by the file: each frame moves on.
    for (;;) {
      const read = readFrame(file, offset);
      if (read.kind === 'corrupt') throw damaged(segment.path, offset, read.reason);
      if (read.kind === 'torn' && !last) throw damaged(segment.path, offset, 'a frame is cut and the log goes on');
      if (read.kind !== 'frame') {
        if (offset === 0) throw damaged(segment.path, 0, 'the segment has no beginning');
        replay.tail = offset;
        replay.torn = read.kind === 'torn';
        return;
      }
      if (replay.sequence !== 0 && read.sequence !== replay.sequence + 1) {
        throw damaged(segment.path, offset, `frame ${read.sequence} follows frame ${replay.sequence}`);
      }
      replay.sequence = read.sequence;
      this.#apply(segment, offset, read.payload);
      offset = read.next;
    }
  }

  #apply(segment: Segment, offset: number, payload: Buffer): void {
    let records: WalRecord[];
    try {
      records = decodeRecords(payload);
    } catch (error) {
      throw damaged(segment.path, offset, errorMessage(error));
    }
    for (const record of records) this.#applyRecord(segment, offset, record);
  }

  #applyRecord(segment: Segment, offset: number, record: WalRecord): void {
    const { replay } = this;
    switch (record.kind) {
      case 'segment':
        if (record.version !== WAL_VERSION) {
          throw damaged(segment.path, offset, `version ${record.version} is not known to this program`);
        }
        if (record.nodeId !== this.#nodeId) {
          throw new ShoalError(
            'FailedPrecondition',
            `raft log ${segment.path} belongs to member ${record.nodeId}, not to ${this.#nodeId}`,
          );
        }
        return;
      case 'hard-state':
        replay.hardState = record.hardState;
        return;
      case 'entry':
        segment.maxIndex = Math.max(segment.maxIndex, record.entry.index);
        this.#addEntry(segment, offset, record.entry);
        return;
      case 'snapshot':
        replay.marker = { index: record.index, term: record.term };
        replay.entries = replay.entries.filter((entry) => entry.index > record.index);
        return;
      case 'reset':
        replay.marker = { index: record.index, term: record.term };
        replay.entries = [];
    }
  }

  #addEntry(segment: Segment, offset: number, entry: RaftEntry): void {
    const { replay } = this;
    const { entries, marker } = replay;
    if (marker !== null && entry.index <= marker.index) return;
    const first = entries[0]?.index ?? entry.index;
    const end = entries.length === 0 ? (marker === null ? entry.index : marker.index + 1) : first + entries.length;
    if (entry.index > end) throw damaged(segment.path, offset, `entry ${entry.index} follows entry ${end - 1}`);
    // An overwritten tail gives way (Raft §5.3).
    entries.length = Math.max(0, entry.index - first);
    entries.push(entry);
  }
}

/**
 * Reads all segments of `dir`.
 * @throws ShoalError DataLoss naming file and offset when anything but an unacknowledged last write is damaged;
 *   FailedPrecondition when the log belongs to another member.
 */
export function replaySegments(dir: string, nodeId: number): Replay {
  const replayer = new Replayer(nodeId);
  const numbers = segmentNumbers(dir);
  for (const [i, number] of numbers.entries()) {
    const path = segmentPath(dir, number);
    const previous = numbers[i - 1];
    if (previous !== undefined && number !== previous + 1) throw damaged(path, 0, 'the segment before it is missing');
    replayer.readSegment({ number, path, maxIndex: 0 }, i === numbers.length - 1);
  }
  const { replay } = replayer;
  const lastPath = replay.segments.at(-1)?.path ?? dir;
  const begin = (replay.marker?.index ?? 0) + 1;
  const first = replay.entries[0]?.index ?? begin;
  if (first !== begin) throw damaged(replay.segments[0]?.path ?? dir, 0, `the log begins at ${first}, not at ${begin}`);
  const end = begin - 1 + replay.entries.length;
  const commit = replay.hardState?.commit ?? 0;
  if (commit > end) throw damaged(lastPath, replay.tail, `the log ends at ${end} but ${commit} was committed`);
  return replay;
}
