import { closeSync, fdatasyncSync, fsyncSync, mkdirSync, openSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { assert, must, ShoalError, syncDirectory } from '../../base/index.ts';
import type { RaftEntry, RaftHardState, RaftSnapshot } from '../../proto/index.ts';
import type { RaftStorage, RecoveredLog } from '../storage.ts';
import { encodeFrame, frameBytes } from './frame.ts';
import { encodeRecord, type WalRecord } from './record.ts';
import { replaySegments, WAL_VERSION, type Replay } from './recover.ts';
import { createSegment, prepareSpare, segmentNumbers, segmentPath, writeZeros, type Segment } from './segment.ts';
import { deleteOtherSnapshots, readSnapshotFile, writeFully, writeSnapshotFile } from './snapshot-file.ts';

/** Preallocated size of a segment. */
export const SEGMENT_BYTES = 16 * 1024 * 1024;
/** Payload of one frame at the most, unless a single entry is larger. */
const FRAME_PAYLOAD_MAX_BYTES = 4 * 1024 * 1024;

export interface WalOptions {
  /** Directory of this log alone; made when missing. */
  dir: string;
  nodeId: number;
  segmentBytes?: number;
}

/** Whether `dir` holds a log. */
export function hasWal(dir: string): boolean {
  try {
    return segmentNumbers(join(dir, 'wal')).length > 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Deletes a log with its snapshots, so that the member can join anew. */
export function removeWal(dir: string): void {
  // A spare segment may still be on its way into the directory when the log has just been closed.
  const options = { recursive: true, force: true, maxRetries: 20, retryDelay: 10 };
  rmSync(join(dir, 'wal'), options);
  rmSync(join(dir, 'snap'), options);
}

/** The write-ahead log of one member: segments under `wal/`, snapshots under `snap/`. See frame.ts for the format. */
export class Wal implements RaftStorage {
  readonly #walDir: string;
  readonly #snapDir: string;
  readonly #nodeId: number;
  readonly #segmentBytes: number;
  #segments: Segment[] = [];
  #fd = -1;
  #segmentEnd = 0;
  #tail = 0;
  #sequence = 0;
  #hardState: RaftHardState | null = null;
  /** The hard state as the segments have it; the newer one could name entries that are not written yet. */
  #written: RaftHardState | null = null;
  /** The newer hard state waits for the next frame. */
  #held = false;
  #marker: { index: number; term: number } | null = null;
  #lastIndex = 0;
  #spare: string | null = null;
  #preparing = false;
  #failed: unknown = null;
  #closed = false;

  private constructor(options: WalOptions) {
    this.#walDir = join(options.dir, 'wal');
    this.#snapDir = join(options.dir, 'snap');
    this.#nodeId = options.nodeId;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    assert(this.#segmentBytes >= 4096, 'a segment has a page at least');
  }

  /**
   * Opens the log of `options.dir`, making an empty one when there is none.
   * @throws ShoalError DataLoss naming file and offset when it is damaged; FailedPrecondition when it belongs to another
   *   member; errors of the file system as they are.
   */
  static open(options: WalOptions): { wal: Wal; recovered: RecoveredLog } {
    const wal = new Wal(options);
    mkdirSync(wal.#walDir, { recursive: true, mode: 0o700 });
    mkdirSync(wal.#snapDir, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(wal.#walDir)) if (name.endsWith('.new')) unlinkSync(join(wal.#walDir, name));
    if (segmentNumbers(wal.#walDir).length === 0) {
      wal.#roll(1, frameBytes(0));
      return { wal, recovered: { hardState: null, snapshot: null, entries: [] } };
    }
    const recovered = wal.#recover(replaySegments(wal.#walDir, options.nodeId));
    return { wal, recovered };
  }

  #recover(replay: Replay): RecoveredLog {
    const last = must(replay.segments.at(-1), 'last segment');
    this.#segments = replay.segments;
    this.#sequence = replay.sequence;
    this.#hardState = replay.hardState;
    this.#written = replay.hardState;
    this.#marker = replay.marker;
    this.#tail = replay.tail;
    this.#lastIndex = (replay.marker?.index ?? 0) + replay.entries.length;
    this.#segmentEnd = Math.max(this.#segmentBytes, replay.tail);
    this.#fd = openSync(last.path, 'r+');
    if (replay.torn) {
      // What is left of the torn write must not be taken for a frame later.
      writeZeros(this.#fd, this.#tail, this.#segmentEnd);
      fsyncSync(this.#fd);
    }
    const marker = replay.marker;
    const snapshot = marker === null ? null : readSnapshotFile(this.#snapDir, marker.index, marker.term);
    deleteOtherSnapshots(this.#snapDir, marker?.index ?? 0, marker?.term ?? 0);
    return { hardState: replay.hardState, snapshot, entries: replay.entries };
  }

  /** Files that hold entries now; for tests and metrics. */
  segmentPaths(): string[] {
    return this.#segments.map((segment) => segment.path);
  }

  append(entries: readonly RaftEntry[], hardState: RaftHardState | null, mustSync: boolean): void {
    this.#guard(() => {
      if (hardState !== null) {
        this.#hardState = hardState;
        this.#held = true;
      }
      if (!mustSync && entries.length === 0) return;
      for (let from = 0; from < entries.length || this.#held;) from = this.#appendSome(entries, from);
    });
  }

  /** Writes one frame of the entries from `from` on. @returns where the next frame goes on. */
  #appendSome(entries: readonly RaftEntry[], from: number): number {
    const records: Buffer[] = [];
    let bytes = 0;
    let next = from;
    for (; next < entries.length; next++) {
      const entry = must(entries[next], 'entry to append');
      if (next > from && bytes + entry.data.length > FRAME_PAYLOAD_MAX_BYTES) break;
      records.push(encodeRecord({ kind: 'entry', entry }));
      bytes += entry.data.length;
      this.#lastIndex = entry.index;
    }
    const complete = next === entries.length;
    let hardState = this.#written;
    if (this.#held && this.#hardState !== null) {
      // A commit index may not run ahead of the entries when a crash keeps only this frame.
      const commit = complete ? this.#hardState.commit : Math.min(this.#hardState.commit, this.#lastIndex);
      hardState = { ...this.#hardState, commit };
      records.push(encodeRecord({ kind: 'hard-state', hardState }));
      if (complete) this.#held = false;
    }
    this.#writeFrame(Buffer.concat(records), next > from ? this.#lastIndex : 0);
    this.#written = hardState;
    return next;
  }

  saveSnapshot(snapshot: RaftSnapshot): void {
    this.#guard(() => this.#storeSnapshot(snapshot, 'snapshot'));
  }

  installSnapshot(snapshot: RaftSnapshot, hardState: RaftHardState): void {
    this.#guard(() => {
      this.#hardState = hardState;
      this.#storeSnapshot(snapshot, 'reset');
    });
  }

  #storeSnapshot(snapshot: RaftSnapshot, kind: 'snapshot' | 'reset'): void {
    const metadata = must(snapshot.metadata, 'snapshot metadata');
    const { index, term } = metadata;
    assert(index > (this.#marker?.index ?? 0), 'snapshots move forward');
    // The file stands before the log mentions it; the old one goes only after that.
    writeSnapshotFile(this.#snapDir, snapshot);
    const records: WalRecord[] = [{ kind, index, term }];
    const hardState = must(this.#hardState, 'hard state of a log with a snapshot');
    assert(hardState.commit >= index, 'a snapshot holds committed entries only');
    records.push({ kind: 'hard-state', hardState });
    this.#held = false;
    this.#writeFrame(Buffer.concat(records.map(encodeRecord)), 0);
    this.#written = hardState;
    this.#marker = { index, term };
    if (kind === 'reset') this.#lastIndex = index;
    deleteOtherSnapshots(this.#snapDir, index, term);
    this.#deleteSegments(kind === 'reset' ? Number.MAX_SAFE_INTEGER : index);
  }

  /** Deletes leading segments all of whose entries are covered; one by one, so that a crash leaves no gap. */
  #deleteSegments(coveredIndex: number): void {
    while (this.#segments.length > 1 && must(this.#segments[0], 'first segment').maxIndex <= coveredIndex) {
      unlinkSync(must(this.#segments.shift(), 'first segment').path);
      syncDirectory(this.#walDir);
    }
  }

  loadSnapshot(): RaftSnapshot | null {
    if (this.#marker === null) return null;
    return readSnapshotFile(this.#snapDir, this.#marker.index, this.#marker.term);
  }

  #writeFrame(payload: Buffer, maxIndex: number): void {
    const room = frameBytes(payload.length);
    if (this.#tail + room > this.#segmentEnd) {
      this.#roll(must(this.#segments.at(-1), 'last segment').number + 1, room);
    }
    const frame = encodeFrame(++this.#sequence, payload);
    writeFully(this.#fd, frame, this.#tail);
    fdatasyncSync(this.#fd);
    this.#tail += frame.length;
    if (this.#tail > this.#segmentEnd / 2) this.#startSpare();
    const segment = must(this.#segments.at(-1), 'last segment');
    segment.maxIndex = Math.max(segment.maxIndex, maxIndex);
  }

  /** Starts a segment. Its head repeats the hard state, so that older segments can go. */
  #roll(number: number, room: number): void {
    const head: WalRecord[] = [{ kind: 'segment', version: WAL_VERSION, nodeId: this.#nodeId }];
    if (this.#written !== null) head.push({ kind: 'hard-state', hardState: this.#written });
    const frame = encodeFrame(++this.#sequence, Buffer.concat(head.map(encodeRecord)));
    const bytes = Math.max(this.#segmentBytes, frame.length + room);
    const spare = bytes === this.#segmentBytes ? this.#spare : null;
    if (spare !== null) this.#spare = null;
    const fd = createSegment(this.#walDir, number, bytes, frame, spare);
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = fd;
    this.#tail = frame.length;
    this.#segmentEnd = bytes;
    this.#segments.push({ number, path: segmentPath(this.#walDir, number), maxIndex: 0 });
  }

  /** Zeroes a file for the next segment in the background; without one, the roll makes it itself. */
  #startSpare(): void {
    if (this.#spare !== null || this.#preparing) return;
    this.#preparing = true;
    prepareSpare(this.#walDir, this.#segmentBytes).then(
      (path) => {
        this.#preparing = false;
        if (!this.#closed) this.#spare = path;
        else rmSync(path, { force: true });
      },
      // A disk that is full will say so when the log itself needs the room.
      () => {
        this.#preparing = false;
      },
    );
  }

  #guard(run: () => void): void {
    assert(!this.#closed, 'the log is open');
    if (this.#failed !== null) {
      throw new ShoalError('Unavailable', 'the raft log failed before and must be opened anew', {
        cause: this.#failed,
      });
    }
    try {
      run();
    } catch (error) {
      this.#failed = error;
      throw error;
    }
  }

  close(): void {
    if (this.#closed) return;
    try {
      if (this.#failed === null && this.#held) this.append([], this.#hardState, true);
    } finally {
      this.#closed = true;
      closeSync(this.#fd);
      if (this.#spare !== null) rmSync(this.#spare, { force: true });
    }
  }
}
