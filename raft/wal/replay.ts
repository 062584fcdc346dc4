import { errorMessage, ShoalError } from '../../base/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import type { LogRepair } from '../storage.ts';
import type { LogDisk } from './disk.ts';
import { applyMask, isFormat1, readFrame, type ReadHeader } from './frame.ts';
import type { LogKeyRing } from './keys.ts';
import { decodeRecords, Slabs, type WalRecord } from './record.ts';
import { findKey, openPayload } from './seal.ts';
import { newSegment, segmentNumbers, type Segment } from './segment.ts';
import type { SnapshotId } from './snapshot-file.ts';

export const WAL_VERSION = 2;

/** Where a segment is not what was written. */
export interface Damage {
  path: string;
  offset: number;
  reason: string;
}

/** A log as far as it is known at some frame. */
export interface LogState {
  /** Snapshot that the log relies on; index 0 for none; null when not known. */
  marker: SnapshotId | null;
  /** Entries without gaps, some of them before the marker. */
  entries: RaftEntry[];
  /** Last index of the whole log, known or not. */
  lastIndex: number;
  commit: number;
  repair: LogRepair | null;
  /** No entry between the snapshot and the end is missing; once so, always so. */
  anchored: boolean;
}

/** What the segments say. */
export interface Replay {
  /** The log at its end, with no gap after its snapshot; null when it cannot be told. */
  whole: LogState | null;
  /** The last state without a gap before the first damage that matters; null when there was none. */
  prefix: LogState | null;
  /** Newest snapshot that any good frame names. */
  marker: SnapshotId | null;
  /** The repair in force, as far as good frames tell. */
  repair: LogRepair | null;
  /** Header of the newest frame that can be read. */
  newest: ReadHeader | null;
  /** Nothing that was durable can have stood after `newest`. */
  endKnown: boolean;
  damages: Damage[];
  segments: Segment[];
  /** Where the next frame is written in the last segment. */
  tail: number;
  /** Something that is not a frame stands at the tail, and was never acknowledged. */
  torn: boolean;
  /** Bytes of the last segment's file. */
  fileBytes: number;
  /** The last frame as it stands before the tail: the only one that may be in the kernel's cache alone. */
  lastFrame: Buffer;
  nodeId: number | null;
}

/** What a reader that goes through frame by frame is told. */
export interface ReplayWatcher {
  frame?(segment: Segment, offset: number, header: ReadHeader, records: readonly WalRecord[]): void;
  end?(segment: Segment, offset: number, kind: 'end' | 'torn'): void;
}

export interface ReplayOptions {
  disk: LogDisk;
  /** Refuses the log of another member; undefined takes any. */
  nodeId?: number | undefined;
  keys: LogKeyRing | null;
  /** Entries before the snapshot that are remembered. */
  keepEntries: number;
  watch?: ReplayWatcher | undefined;
}

function unknownState(): LogState {
  return { marker: null, entries: [], lastIndex: 0, commit: 0, repair: null, anchored: false };
}

/** Whether everything after the snapshot is there. */
function isWhole({ marker, entries, lastIndex }: LogState): boolean {
  if (marker === null) return false;
  const [first] = entries;
  if (first === undefined) return marker.index >= lastIndex;
  return first.index <= marker.index + 1 && first.index + entries.length - 1 === lastIndex;
}

class Replayer {
  readonly replay: Replay = {
    whole: null,
    prefix: null,
    marker: null,
    repair: null,
    newest: null,
    endKnown: true,
    damages: [],
    segments: [],
    tail: 0,
    torn: false,
    fileBytes: 0,
    lastFrame: Buffer.alloc(0),
    nodeId: null,
  };
  readonly #options: ReplayOptions;
  readonly #slabs = new Slabs();
  #state: LogState = unknownState();
  /** Size of the present segment's file as its head says; 0 when that is damaged. */
  #madeBytes = 0;

  constructor(options: ReplayOptions) {
    this.#options = options;
  }

  run(): Replay {
    const { disk } = this.#options;
    const numbers = segmentNumbers(disk);
    for (const [i, number] of numbers.entries()) {
      const segment = newSegment(number);
      const previous = numbers[i - 1];
      if (previous !== undefined && number !== previous + 1) {
        this.#damaged({ path: segment.path, offset: 0, reason: 'the segment before it is missing' });
      }
      this.#readSegment(segment, i === numbers.length - 1);
    }
    if (this.#state.anchored) this.replay.whole = this.#state;
    else if (this.replay.damages.length === 0 && numbers.length > 0) {
      const path = this.replay.segments[0]?.path ?? '';
      this.#damaged({ path, offset: 0, reason: 'the segments before it are missing' });
      this.replay.endKnown = true;
    }
    return this.replay;
  }

  /** From here on the log is known only as far as later frames tell. */
  #damaged(damage: Damage): void {
    this.replay.damages.push(damage);
    if (this.#state.anchored) this.replay.prefix = this.#state;
    this.#state = unknownState();
    this.replay.endKnown = false;
  }

  #readSegment(segment: Segment, last: boolean): void {
    const { replay } = this;
    replay.segments.push(segment);
    const file = this.#content(segment);
    this.#madeBytes = 0;
    replay.fileBytes = file.length;
    if (isFormat1(file)) {
      throw new ShoalError(
        'FailedPrecondition',
        `raft log ${segment.path} was written by an earlier version of shoal; remove this manager and join it anew`,
      );
    }
    let offset = 0;
    let lastStart = 0;
    // Bounded by the file: each frame moves on.
    for (;;) {
      const read = readFrame(file, offset, replay.newest?.sequence ?? 0);
      if (read.kind === 'frame') {
        this.#frame(segment, offset, read.header, read.payload);
        lastStart = offset;
        offset = read.next;
        continue;
      }
      if (read.kind === 'damaged') {
        this.#damaged({ path: segment.path, offset, reason: read.reason });
        if (read.header !== null) this.#note(read.header);
        // With its header a newest frame still tells what was promised.
        replay.endKnown = read.header !== null;
        if (read.next === null) return;
        offset = read.next;
        continue;
      }
      if (last) replay.lastFrame = Buffer.from(file.subarray(lastStart, offset));
      if (file.length < this.#madeBytes) {
        const reason = `the file has ${file.length} bytes of the ${this.#madeBytes} that it was made with`;
        this.#damaged({ path: segment.path, offset: file.length, reason });
        return;
      }
      this.#end(segment, offset, read.kind === 'torn' && !(read.stray && !last) ? 'torn' : 'end', last);
      return;
    }
  }

  #content(segment: Segment): Buffer {
    try {
      return this.#options.disk.read(segment.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
      this.#damaged({ path: segment.path, offset: 0, reason: 'the disk cannot read it' });
      return Buffer.alloc(0);
    }
  }

  #end(segment: Segment, offset: number, kind: 'end' | 'torn', last: boolean): void {
    const { replay } = this;
    if (offset === 0) this.#damaged({ path: segment.path, offset, reason: 'the segment has no beginning' });
    else if (kind === 'torn' && !last) {
      this.#damaged({ path: segment.path, offset, reason: 'a frame is cut and the log goes on' });
    }
    replay.tail = offset;
    replay.torn = kind === 'torn';
    this.#options.watch?.end?.(segment, offset, kind);
  }

  /** Takes the header of a frame as the newest word on term, vote and last index. */
  #note(header: ReadHeader): void {
    const { replay } = this;
    if (replay.newest === null || header.sequence > replay.newest.sequence) replay.newest = header;
  }

  #frame(segment: Segment, offset: number, header: ReadHeader, payload: Buffer): void {
    const { replay } = this;
    const previous = replay.newest;
    if (previous !== null && header.sequence <= previous.sequence) {
      const reason = `frame ${header.sequence} stands after frame ${previous.sequence}`;
      this.#damaged({ path: segment.path, offset, reason });
      return;
    }
    const follows = previous === null || header.sequence === previous.sequence + 1 || header.checkpoint;
    if (!follows && replay.endKnown) {
      const reason = `frame ${header.sequence} follows frame ${previous.sequence}`;
      this.#damaged({ path: segment.path, offset, reason });
    }
    const records = this.#records(segment, offset, header, payload);
    if (records === undefined) return;
    segment.keyIds.add(header.keyId);
    // What was lost before it stays in `damages`; after a good frame the end of the log is known again.
    replay.endKnown = true;
    this.#note(header);
    for (const record of records) this.#apply(segment, offset, record);
    this.#close(segment, offset, header);
    this.#options.watch?.frame?.(segment, offset, header, records);
  }

  /** Checks and takes what the header says of the log after its frame. */
  #close(segment: Segment, offset: number, header: ReadHeader): void {
    const { lastIndex, commit } = header;
    const last = lastOf(this.#state);
    if (this.#state.anchored && (last !== lastIndex || commit > lastIndex)) {
      const reason = `the log should end at ${lastIndex}, not at ${last}, and be committed up to ${commit}`;
      this.#damaged({ path: segment.path, offset, reason });
      this.replay.endKnown = true;
    }
    const state = this.#state;
    state.lastIndex = lastIndex;
    state.commit = commit;
    state.anchored ||= isWhole(state);
    this.replay.repair = state.repair;
  }

  #records(segment: Segment, offset: number, header: ReadHeader, payload: Buffer): WalRecord[] | undefined {
    let plain = payload;
    if (header.mask !== 0) {
      plain = Buffer.from(payload);
      applyMask(plain, header.mask);
    }
    if (header.keyId !== 0) {
      const what = `raft log ${segment.path}`;
      const key = findKey(this.#options.keys, header.keyId, what);
      plain = openPayload(plain, header.sequence, key, header.bound, what);
    }
    try {
      return decodeRecords(plain, this.#slabs);
    } catch (error) {
      this.#damaged({ path: segment.path, offset, reason: errorMessage(error) });
      this.#note(header);
      this.replay.endKnown = true;
      return undefined;
    }
  }

  #apply(segment: Segment, offset: number, record: WalRecord): void {
    const state = this.#state;
    switch (record.kind) {
      case 'segment':
        this.#checkOwner(segment, record.version, record.nodeId);
        this.#madeBytes = record.bytes;
        this.#setMarker({ index: record.index, term: record.term });
        return;
      case 'entry':
        segment.maxIndex = Math.max(segment.maxIndex, record.entry.index);
        this.#addEntry(segment, offset, record.entry);
        return;
      case 'snapshot':
        this.#setMarker({ index: record.index, term: record.term });
        return;
      case 'reset':
        this.#setMarker({ index: record.index, term: record.term });
        state.entries = [];
        return;
      case 'repair':
        state.repair = record.repair;
        return;
      case 'repaired':
        state.repair = null;
    }
  }

  #setMarker(marker: SnapshotId): void {
    const state = this.#state;
    state.marker = marker;
    this.replay.marker = marker;
    const [first] = state.entries;
    const drop = first === undefined ? 0 : marker.index - this.#options.keepEntries + 1 - first.index;
    if (drop > 0) state.entries = state.entries.slice(drop);
  }

  #checkOwner(segment: Segment, version: number, nodeId: number): void {
    if (version !== WAL_VERSION) {
      throw new ShoalError(
        'FailedPrecondition',
        `raft log ${segment.path} has format ${version}, which this program does not know; use a newer shoal`,
      );
    }
    const expected = this.#options.nodeId;
    if (expected !== undefined && nodeId !== expected) {
      const message = `raft log ${segment.path} belongs to member ${nodeId}, not to ${expected}`;
      throw new ShoalError('FailedPrecondition', message);
    }
    this.replay.nodeId = nodeId;
  }

  #addEntry(segment: Segment, offset: number, entry: RaftEntry): void {
    const { entries, marker, anchored } = this.#state;
    const end = lastOf(this.#state);
    // Without an anchor the first entry is where knowledge begins again.
    if (entry.index > end + 1 && (anchored || entries.length > 0)) {
      const what = entries.length === 0 ? `snapshot ${marker?.index ?? 0}` : `entry ${end}`;
      this.#damaged({ path: segment.path, offset, reason: `entry ${entry.index} follows ${what}` });
      this.replay.endKnown = true;
      this.#state.entries.push(entry);
      return;
    }
    const first = entries[0]?.index ?? entry.index;
    // An overwritten tail gives way (Raft §5.3).
    entries.length = Math.max(0, entry.index - first);
    entries.push(entry);
  }
}

/** Last index of what is known. */
export function lastOf({ marker, entries }: LogState): number {
  const first = entries[0]?.index;
  return first === undefined ? (marker?.index ?? 0) : first + entries.length - 1;
}

/**
 * Reads all segments; changes nothing.
 * @throws ShoalError FailedPrecondition when the log belongs to another member, or its keys are not known.
 */
export function replayLog(options: ReplayOptions): Replay {
  return new Replayer(options).run();
}
