import { randomBytes as systemRandomBytes } from 'node:crypto';
import { assert, must, ShoalError } from '../../base/index.ts';
import type { RaftEntry, RaftHardState, RaftSnapshot } from '../../proto/index.ts';
import type { LogWrite, RaftStorage, RecoveredLog } from '../storage.ts';
import { Appender, type AppenderState, type Draft } from './appender.ts';
import { Cleaner } from './cleaner.ts';
import type { LogDisk } from './disk.ts';
import { diskFailure, fullPath } from './failure.ts';
import type { FrameSeal } from './frame.ts';
import type { LogKeyRing } from './keys.ts';
import { entryBytes } from './record.ts';
import { judge, type Verdict } from './recover.ts';
import { replayLog, type Replay } from './replay.ts';
import { SEAL_SALT_BYTES } from './seal.ts';
import { deleteUnfinished, segmentNumbers, setAside, SNAP_DIR, WAL_DIR } from './segment.ts';
import { decodeSnapshot, encodeSnapshot, snapshotId, snapshotPath } from './snapshot-file.ts';
import { VOTE_PATH, VoteFile, type FoundVote } from './vote-file.ts';

/** Preallocated size of a segment. */
export const SEGMENT_BYTES = 16 * 1024 * 1024;
/** Records of one frame at the most, unless a single entry is larger. */
const FRAME_RECORD_BYTES_MAX = 4 * 1024 * 1024;
/** Entries kept before a snapshot unless the options say otherwise. */
const KEEP_ENTRIES_DEFAULT = 500;
/** Attempts to read the newest snapshot while newer ones replace it. */
const LOAD_ATTEMPTS_MAX = 5;

type Done = (error: unknown) => void;

export interface WalOptions {
  disk: LogDisk;
  nodeId: number;
  /** Encrypts what is written from now on; null or absent writes in clear. */
  keys?: LogKeyRing | null;
  /** Default 16 MiB. */
  segmentBytes?: number;
  /** Entries before a snapshot whose segments are kept, for slow followers. Default 500. */
  keepEntries?: number;
  /** Snapshots kept besides the newest. Default 0. */
  keepOldSnapshots?: number;
  /** Salts of the encryption; default: the system's. */
  randomBytes?: (count: number) => Uint8Array;
}

/** Whether a disk holds a log. */
export function holdsWal(disk: LogDisk): boolean {
  return segmentNumbers(disk).length > 0 || (VoteFile.read(disk).vote?.term ?? 0) > 0;
}

interface Job {
  run: (done: Done) => void;
  done: Done;
}

interface Opened {
  verdict: Verdict;
  appender: Appender;
}

/** The write-ahead log of one member: segments under `wal/`, snapshots under `snap/`. See frame.ts for the format. */
export class Wal implements RaftStorage {
  readonly #options: WalOptions;
  readonly #disk: LogDisk;
  readonly #keys: LogKeyRing | null;
  readonly #randomBytes: (count: number) => Uint8Array;
  readonly #appender: Appender;
  readonly #voteFile: VoteFile;
  readonly #cleaner: Cleaner;
  /** Term and vote as the vote file has them. */
  #voted: { term: number; vote: number };
  /** A newer commit index that waits for the next frame. */
  #commit: number;
  readonly #jobs: Job[] = [];
  #busy = false;
  #writing = false;
  #saving = false;
  #failed: unknown = null;
  #closing: Done[] | null = null;
  #closed = false;

  private constructor(options: WalOptions, { verdict, appender }: Opened) {
    this.#options = options;
    this.#disk = options.disk;
    this.#keys = options.keys ?? null;
    this.#randomBytes = options.randomBytes ?? systemRandomBytes;
    this.#appender = appender;
    this.#voted = { term: verdict.term, vote: verdict.vote };
    this.#commit = verdict.commit;
    this.#voteFile = new VoteFile(options.disk);
    this.#cleaner = new Cleaner({
      disk: options.disk,
      keys: this.#keys,
      keepEntries: options.keepEntries ?? KEEP_ENTRIES_DEFAULT,
      keepOldSnapshots: options.keepOldSnapshots ?? 0,
    });
    this.#cleaner.opened(appender.state, verdict.snapshotKeyId);
  }

  /**
   * Opens the log of a disk, making an empty one when there is none. Blocks; for the start of a member.
   * @throws ShoalError DataLoss when it is so damaged that a vote may be lost; FailedPrecondition when it belongs to
   *   another member or its keys are not known; ResourceExhausted when the disk is full.
   */
  static open(options: WalOptions): { storage: Wal; recovered: RecoveredLog } {
    const { disk } = options;
    try {
      disk.makeDirectory(WAL_DIR);
      disk.makeDirectory(SNAP_DIR);
      const replay = replayLog({
        disk,
        nodeId: options.nodeId,
        keys: options.keys ?? null,
        keepEntries: options.keepEntries ?? KEEP_ENTRIES_DEFAULT,
      });
      const found = VoteFile.read(disk);
      const opened = prepare(options, replay, found);
      const storage = new Wal(options, opened);
      return { storage, recovered: recoveredLog(opened.verdict) };
    } catch (error) {
      throw diskFailure(error, disk, WAL_DIR);
    }
  }

  /** Paths of the segments, for tests and tools. */
  segmentPaths(): string[] {
    return this.#appender.state.segments.map(({ path }) => path);
  }

  write(batch: LogWrite, done: Done): void {
    assert(!this.#writing, 'one write at a time');
    this.#writing = true;
    this.#enqueue(
      (next) => this.#writeBatch(batch, next),
      (error) => {
        this.#writing = false;
        done(error);
      },
    );
  }

  saveSnapshot(snapshot: RaftSnapshot, done: Done): void {
    assert(!this.#saving, 'one snapshot at a time');
    assert(this.#closing === null, 'the log is open');
    this.#saving = true;
    const finish: Done = (error) => {
      this.#saving = false;
      done(error);
      this.#maybeClose();
    };
    if (this.#failed !== null) {
      this.#later(() => finish(this.#failure()));
      return;
    }
    this.#storeSnapshot(snapshot, (error) => {
      if (isError(error)) {
        this.#failed ??= error;
        finish(error);
      } else this.#enqueue((next) => this.#writeMarker(snapshot, next), finish);
    });
  }

  noteCommit(commit: number): void {
    this.#commit = Math.max(this.#commit, commit);
  }

  loadSnapshot(done: (error: unknown, snapshot: RaftSnapshot | null) => void): void {
    this.#load(done, LOAD_ATTEMPTS_MAX);
  }

  #load(done: (error: unknown, snapshot: RaftSnapshot | null) => void, attempts: number): void {
    const { marker } = this.#appender.state;
    if (marker.index === 0) {
      this.#later(() => done(null, null));
      return;
    }
    const path = snapshotPath(marker);
    this.#disk.readLater(path, (error, file) => {
      if (isError(error)) {
        // A newer one took its place meanwhile.
        const replaced = this.#appender.state.marker.index !== marker.index;
        if (replaced && attempts > 1) this.#load(done, attempts - 1);
        else done(diskFailure(error, this.#disk, path), null);
        return;
      }
      let snapshot: RaftSnapshot;
      try {
        snapshot = decodeSnapshot(must(file, 'content of a snapshot'), marker, this.#keys, fullPath(this.#disk, path));
      } catch (damage) {
        done(damage, null);
        return;
      }
      done(null, snapshot);
    });
  }

  close(done: Done): void {
    if (this.#closed) {
      this.#later(() => done(this.#failed));
      return;
    }
    if (this.#closing !== null) {
      this.#closing.push(done);
      return;
    }
    const { state } = this.#appender;
    const held = Math.min(this.#commit, state.lastIndex) > state.commit;
    if (this.#failed === null && held && !this.#saving) this.#enqueue((next) => this.#writeCommit(next), ignore);
    else if (!this.#busy) this.#enqueue((next) => this.#later(() => next(null)), ignore);
    this.#closing = [done];
  }

  /** Calls back from a turn of the disk: an answer never comes before the question has returned. */
  #later(run: () => void): void {
    this.#disk.readLater(VOTE_PATH, () => run());
  }

  #failure(): ShoalError {
    return new ShoalError('Unavailable', 'the raft log failed before and must be opened anew', {
      cause: this.#failed,
    });
  }

  #enqueue(run: (done: Done) => void, done: Done): void {
    assert(this.#closing === null || this.#saving, 'the log is open');
    this.#jobs.push({ run, done });
    this.#pump();
  }

  #pump(): void {
    if (this.#busy) return;
    const job = this.#jobs.shift();
    if (job === undefined) {
      this.#maybeClose();
      return;
    }
    this.#busy = true;
    const finish: Done = (error) => {
      const failure = isError(error) ? diskFailure(error, this.#disk, this.#lastPath()) : null;
      this.#failed ??= failure;
      this.#busy = false;
      job.done(failure);
      this.#pump();
    };
    if (this.#failed !== null) {
      this.#later(() => finish(this.#failure()));
      return;
    }
    try {
      job.run(finish);
    } catch (error) {
      this.#later(() => finish(error));
    }
  }

  #lastPath(): string {
    return this.#appender.state.segments.at(-1)?.path ?? WAL_DIR;
  }

  #writeBatch(batch: LogWrite, done: Done): void {
    const { hardState, snapshot } = batch;
    this.#commit = Math.max(this.#commit, hardState.commit);
    const finish = both(done);
    const frames = (error: unknown): void => {
      if (isError(error)) finish(error);
      else this.#writeFrames(batch, 0, finish);
    };
    const { term, vote } = hardState;
    if (term === this.#voted.term && vote === this.#voted.vote) finish(null);
    else {
      this.#voted = { term, vote };
      this.#voteFile.write({ term, vote, sequence: this.#appender.state.sequence }, finish);
    }
    if (snapshot === null) frames(null);
    else this.#storeSnapshot(snapshot, guarded(frames, finish));
  }

  /** Writes frames of the entries from `from` on, each when the one before is durable. */
  #writeFrames(batch: LogWrite, from: number, done: Done): void {
    const { entries, hardState, snapshot } = batch;
    const records: Draft['records'] = [
      ...(from === 0 && batch.repaired ? [{ kind: 'repaired' as const }] : []),
      ...(from === 0 && snapshot !== null ? [{ kind: 'reset' as const, ...snapshotId(snapshot) }] : []),
    ];
    const to = frameEnd(entries, from);
    const draft: Draft = {
      records,
      entries,
      from,
      to,
      term: hardState.term,
      vote: hardState.vote,
      commit: this.#commit,
    };
    this.#appender.append(
      draft,
      guarded((error) => {
        if (isError(error)) done(error);
        else if (to < entries.length) this.#writeFrames(batch, to, done);
        else {
          if (snapshot !== null) this.#cleaner.covered(this.#appender.state, true);
          done(null);
        }
      }, done),
    );
  }

  #storeSnapshot(snapshot: RaftSnapshot, done: Done): void {
    const key = this.#keys?.current() ?? null;
    const id = snapshotId(snapshot);
    this.#cleaner.snapshotWritten(id, key?.id ?? 0);
    const parts = encodeSnapshot(snapshot, key, this.#randomBytes);
    const path = snapshotPath(id);
    this.#disk.replaceLater(path, parts, (error) => {
      done(isError(error) ? diskFailure(error, this.#disk, path) : null);
    });
  }

  #writeMarker(snapshot: RaftSnapshot, done: Done): void {
    const { state } = this.#appender;
    const id = snapshotId(snapshot);
    if (id.index <= state.marker.index) {
      // The leader's snapshot came in between.
      this.#cleaner.superseded(state, id);
      this.#later(() => done(null));
      return;
    }
    assert(id.index <= state.lastIndex, 'a snapshot of the own state covers entries of the log');
    this.#commit = Math.max(this.#commit, id.index);
    const draft = { ...this.#bareDraft(), records: [{ kind: 'snapshot' as const, ...id }] };
    const finish: Done = guarded((error) => {
      if (!isError(error)) this.#cleaner.covered(state, false);
      done(error);
    }, done);
    if (this.#appender.keyChanged) this.#appender.appendToNew(draft, finish);
    else this.#appender.append(draft, finish);
  }

  #writeCommit(done: Done): void {
    this.#appender.append(this.#bareDraft(), done);
  }

  #bareDraft(): Draft {
    const { term, vote } = this.#appender.state;
    return { records: [], entries: [], from: 0, to: 0, term, vote, commit: this.#commit };
  }

  #maybeClose(): void {
    const waiting = this.#closing;
    if (waiting === null || this.#closed || this.#busy || this.#saving || this.#jobs.length > 0) return;
    this.#closed = true;
    this.#cleaner.close(() => {
      this.#appender.close(() => {
        this.#voteFile.close();
        for (const done of waiting) done(this.#failed);
      });
    });
  }
}

function ignore(): void {}

function isError(error: unknown): boolean {
  return error !== null && error !== undefined;
}

/** `run` as a callback whose own failure goes to `done`. */
function guarded(run: Done, done: Done): Done {
  return (error) => {
    try {
      run(error);
    } catch (failure) {
      done(failure);
    }
  };
}

/** A callback for two things that run beside each other: `done` after both, with the first error. */
function both(done: Done): Done {
  let left = 2;
  let failure: unknown = null;
  return (error) => {
    failure ??= error;
    if (--left === 0) done(failure);
  };
}

function frameEnd(entries: readonly RaftEntry[], from: number): number {
  let bytes = 0;
  let to = from;
  for (; to < entries.length; to++) {
    bytes += entryBytes(must(entries[to], 'entry to append'));
    if (to > from && bytes > FRAME_RECORD_BYTES_MAX) break;
  }
  return to;
}

function recoveredLog({ term, vote, commit, snapshot, entries, kept, repair }: Verdict): RecoveredLog {
  const hardState: RaftHardState | null = term === 0 && commit === 0 ? null : { term, vote, commit };
  return { hardState, snapshot, entries, repair, kept };
}

function sealOf(options: WalOptions): () => FrameSeal | null {
  const keys = options.keys ?? null;
  if (keys === null) return () => null;
  const salt = (options.randomBytes ?? systemRandomBytes)(SEAL_SALT_BYTES);
  return () => {
    const key = keys.current();
    return key === null ? null : { key, salt };
  };
}

/** Makes of what was read a log that can be written to. Judges all before it changes anything. */
function prepare(options: WalOptions, replay: Replay, found: FoundVote): Opened {
  const { disk } = options;
  const verdict = judge({ disk, keys: options.keys ?? null, replay, found });
  deleteUnfinished(disk);
  const state: AppenderState = {
    nodeId: options.nodeId,
    segments: replay.segments,
    sequence: verdict.sequence,
    tail: replay.tail,
    lastIndex: verdict.entries.at(-1)?.index ?? verdict.marker.index,
    commit: verdict.commit,
    term: verdict.term,
    vote: verdict.vote,
    marker: verdict.marker,
    repair: verdict.repair,
  };
  const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
  assert(segmentBytes >= 4096, 'a segment has a page at least');
  const appender = new Appender({ disk, segmentBytes, seal: sealOf(options) }, state);
  if (verdict.rewrite || replay.segments.length === 0) {
    const former = state.segments;
    appender.startSegment(checkpoint(verdict), verdict.rewrite);
    clearAway(disk, former, verdict.aside);
  } else {
    appender.resume(replay.fileBytes);
    if (replay.torn) appender.clearTail();
  }
  const { term, vote } = verdict;
  const same = found.vote?.term === term && found.vote.vote === vote;
  if (!found.whole || !same) VoteFile.create(disk, { term, vote, sequence: state.sequence });
  return { verdict, appender };
}

/** The whole log as frames. */
function checkpoint({ term, vote, commit, marker, entries, repair }: Verdict): Draft[] {
  const rest = { entries, term, vote, commit };
  const out: Draft[] = [];
  let from = 0;
  do {
    const to = frameEnd(entries, from);
    const records: Draft['records'] = [
      { kind: 'reset', ...marker },
      ...(repair === null ? [] : [{ kind: 'repair' as const, repair }]),
    ];
    out.push({ ...rest, records: from === 0 ? records : [], from, to });
    from = to;
  } while (from < entries.length);
  return out;
}

/** Takes away the segments that a checkpoint replaced; damaged ones are kept for people. */
function clearAway(disk: LogDisk, former: readonly { path: string }[], aside: readonly string[]): void {
  for (const { path } of [...former].reverse()) {
    if (aside.includes(path)) setAside(disk, path);
    else disk.remove(path);
  }
  for (const path of aside) {
    const [dir = '', name = ''] = path.split('/');
    if (dir === SNAP_DIR && disk.list(dir).includes(name)) setAside(disk, path);
  }
}
