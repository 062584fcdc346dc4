import { assert, must } from '../../base/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import type { LogRepair } from '../storage.ts';
import type { LogDisk, LogFile } from './disk.ts';
import { encodeFrame, wholeFrameBytes, type FrameSeal } from './frame.ts';
import { entryBytes, putEntry, putRecord, recordBytes, type WalRecord } from './record.ts';
import { WAL_VERSION } from './replay.ts';
import { newSegment, segmentPath, SPARE_PATH, type Segment } from './segment.ts';
import type { SnapshotId } from './snapshot-file.ts';

type Done = (error: unknown) => void;

/** One frame to be. */
export interface Draft {
  records: readonly WalRecord[];
  /** Entries [from, to) follow the records. */
  entries: readonly RaftEntry[];
  from: number;
  to: number;
  term: number;
  vote: number;
  /** As told; what is written is never beyond the end of the log. */
  commit: number;
}

/** What every frame builds on. */
export interface AppenderState {
  nodeId: number;
  segments: Segment[];
  /** Number of the newest frame. */
  sequence: number;
  tail: number;
  lastIndex: number;
  commit: number;
  term: number;
  vote: number;
  marker: SnapshotId;
  repair: LogRepair | null;
}

export interface AppenderOptions {
  disk: LogDisk;
  segmentBytes: number;
  /** Asked for every frame. */
  seal: () => FrameSeal | null;
}

function draftBytes({ records, entries, from, to }: Draft): number {
  let bytes = 0;
  for (const record of records) bytes += recordBytes(record);
  for (let i = from; i < to; i++) bytes += entryBytes(must(entries[i], 'entry of a frame'));
  return bytes;
}

function fillDraft({ records, entries, from, to }: Draft, target: Buffer, start: number): void {
  let at = start;
  for (const record of records) at = putRecord(target, at, record);
  for (let i = from; i < to; i++) at = putEntry(target, at, must(entries[i], 'entry of a frame'));
}

/** Writes frames one after the other, over segments that are zeroed in advance. One `append` at a time. */
export class Appender {
  readonly state: AppenderState;
  readonly #options: AppenderOptions;
  #file: LogFile | null = null;
  #segmentEnd = 0;
  #spare: 'none' | 'preparing' | 'ready' | 'failed' = 'none';
  #onSpare: (() => void) | null = null;

  constructor(options: AppenderOptions, state: AppenderState) {
    this.#options = options;
    this.state = state;
  }

  /**
   * Goes on in the last segment, whose file has `fileBytes`. Its last frame is written once more: a process that was
   * killed may have left it in the kernel's cache, and from now on others will be told that it is durable.
   */
  resume(fileBytes: number, lastFrame: Buffer): void {
    const last = must(this.state.segments.at(-1), 'last segment');
    this.#file = this.#options.disk.open(last.path);
    this.#segmentEnd = Math.max(fileBytes, this.state.tail);
    this.#file.write(lastFrame, this.state.tail - lastFrame.length);
  }

  /** Zeroes what stands after the tail, so that it is not taken for a frame later. For the start of a member. */
  clearTail(): void {
    const end = Math.max(this.#segmentEnd, this.#options.segmentBytes);
    must(this.#file, 'file of the last segment').write(Buffer.alloc(end - this.state.tail), this.state.tail);
    this.#segmentEnd = end;
  }

  /**
   * Makes a segment that begins with the given frames, all or none of them. For the start of a member.
   * @param checkpoint the frames hold the whole log.
   */
  startSegment(drafts: readonly Draft[], checkpoint: boolean): void {
    const { disk, segmentBytes } = this.#options;
    const segment = newSegment((this.state.segments.at(-1)?.number ?? 0) + 1);
    this.state.segments = [segment];
    this.state.tail = 0;
    const sealed = this.#options.seal() !== null;
    const withHead = (draft: Draft, bytes: number): Draft => ({
      ...draft,
      records: [...this.#head(bytes), ...draft.records],
    });
    const sizes = drafts.map((draft, i) => wholeFrameBytes(draftBytes(i === 0 ? withHead(draft, 0) : draft), sealed));
    this.#segmentEnd = Math.max(
      segmentBytes,
      sizes.reduce((sum, size) => sum + size, 0),
    );
    const frames: Uint8Array[] = [];
    for (const [i, draft] of drafts.entries()) {
      const whole = i === 0 ? withHead(draft, this.#segmentEnd) : draft;
      const frame = this.#encode(whole, i === 0, i === 0 && checkpoint);
      this.state.tail += frame.length;
      frames.push(frame);
    }
    const rest = this.#segmentEnd - this.state.tail;
    disk.replace(segment.path, [...frames, Buffer.alloc(rest)]);
    this.#file = disk.open(segment.path);
  }

  /** Records that begin every segment, so that older ones can go. */
  #head(bytes: number): WalRecord[] {
    const { nodeId, marker, repair } = this.state;
    const head: WalRecord[] = [{ kind: 'segment', version: WAL_VERSION, nodeId, bytes, ...marker }];
    if (repair !== null) head.push({ kind: 'repair', repair });
    return head;
  }

  /** Encodes a frame for the tail, and takes what it says into the state. */
  #encode(draft: Draft, head: boolean, checkpoint: boolean): Buffer {
    const { state } = this;
    this.#take(draft);
    const segment = must(state.segments.at(-1), 'last segment');
    const seal = this.#options.seal();
    segment.keyIds.add(seal?.key.id ?? 0);
    const { sequence, lastIndex, term, vote, commit } = state;
    const header = { sequence, lastIndex, term, vote, commit, head, checkpoint };
    const fill = (target: Buffer, at: number): void => fillDraft(draft, target, at);
    return encodeFrame(header, state.tail, draftBytes(draft), fill, seal);
  }

  #take(draft: Draft): void {
    const { state } = this;
    const segment = must(state.segments.at(-1), 'last segment');
    state.sequence++;
    for (const record of draft.records) {
      if (record.kind === 'snapshot' || record.kind === 'reset') {
        state.marker = { index: record.index, term: record.term };
        if (record.kind === 'reset') state.lastIndex = record.index;
      } else if (record.kind === 'repaired') {
        state.repair = null;
      } else if (record.kind === 'repair') {
        state.repair = record.repair;
      }
    }
    for (let i = draft.from; i < draft.to; i++) {
      const { index } = must(draft.entries[i], 'entry of a frame');
      assert(index <= state.lastIndex + 1 && index > state.marker.index, 'entries follow the log, after its snapshot');
      state.lastIndex = index;
      segment.maxIndex = Math.max(segment.maxIndex, index);
    }
    state.term = draft.term;
    state.vote = draft.vote;
    // A commit index may not run ahead of the entries when a crash keeps only this frame.
    state.commit = Math.max(state.commit, Math.min(draft.commit, state.lastIndex));
  }

  /** Writes one frame; `done` when it is durable. */
  append(draft: Draft, done: Done): void {
    const sealed = this.#options.seal() !== null;
    const room = wholeFrameBytes(draftBytes(draft), sealed);
    if (this.state.tail + room > this.#segmentEnd) {
      this.#roll(draft, sealed, done);
      return;
    }
    const frame = this.#encode(draft, false, false);
    const position = this.state.tail;
    this.state.tail += frame.length;
    must(this.#file, 'file of the last segment').writeLater(frame, position, done);
    if (this.state.tail > this.#segmentEnd / 2) this.#prepareSpare();
  }

  /** Whether the next frame should begin a segment: the last one holds frames under other keys. */
  get keyChanged(): boolean {
    const { keyIds } = must(this.state.segments.at(-1), 'last segment');
    return keyIds.size !== 1 || !keyIds.has(this.#options.seal()?.key.id ?? 0);
  }

  /** Starts a segment with a frame; it bears its name only when that frame is durable. */
  #roll(draft: Draft, sealed: boolean, done: Done): void {
    const { disk, segmentBytes } = this.#options;
    const records = [...this.#head(0), ...draft.records];
    const bytes = Math.max(segmentBytes, wholeFrameBytes(draftBytes({ ...draft, records }), sealed));
    const whole = { ...draft, records: [...this.#head(bytes), ...draft.records] };
    const begin = (): void => {
      const number = must(this.state.segments.at(-1), 'last segment').number + 1;
      this.state.segments.push(newSegment(number));
      this.state.tail = 0;
      const frame = this.#encode(whole, true, false);
      this.#file?.close();
      this.#file = disk.open(SPARE_PATH);
      this.#spare = 'none';
      this.state.tail = frame.length;
      this.#segmentEnd = bytes;
      this.#file.writeLater(frame, 0, (error) => {
        if (error !== null && error !== undefined) done(error);
        else disk.renameLater(SPARE_PATH, segmentPath(number), done);
      });
    };
    this.#withSpare(bytes, begin, done);
  }

  /** Begins a segment with this frame even when the last one has room. */
  appendToNew(draft: Draft, done: Done): void {
    this.#roll(draft, this.#options.seal() !== null, done);
  }

  /** Runs `use` once a zeroed file of `bytes` stands at SPARE_PATH. */
  #withSpare(bytes: number, use: () => void, done: Done): void {
    const { disk, segmentBytes } = this.#options;
    const guarded = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        done(error);
      }
    };
    if (this.#spare === 'preparing') {
      this.#onSpare = () => guarded(() => this.#withSpare(bytes, use, done));
    } else if (this.#spare === 'ready' && bytes === segmentBytes) {
      use();
    } else {
      disk.allocateLater(SPARE_PATH, bytes, (error) => {
        if (error !== null && error !== undefined) done(error);
        else guarded(use);
      });
    }
  }

  /** Zeroes a file for the next segment in the background; without one, the roll makes it itself. */
  #prepareSpare(): void {
    if (this.#spare !== 'none') return;
    this.#spare = 'preparing';
    this.#options.disk.allocateLater(SPARE_PATH, this.#options.segmentBytes, (error) => {
      // A disk that is full will say so when the log itself needs the room.
      this.#spare = error === null || error === undefined ? 'ready' : 'failed';
      const waiting = this.#onSpare;
      this.#onSpare = null;
      waiting?.();
    });
  }

  /** Waits for what runs in the background, then closes. */
  close(done: () => void): void {
    if (this.#spare === 'preparing') {
      this.#onSpare = () => this.close(done);
      return;
    }
    this.#file?.close();
    this.#file = null;
    this.#options.disk.remove(SPARE_PATH);
    done();
  }
}
