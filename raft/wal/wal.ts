import { randomBytes as systemRandomBytes } from 'node:crypto';
import { assert, must, ShoalError } from '../../base/index.ts';
import type { RaftHardState, RaftSnapshot } from '../../proto/index.ts';
import type { LogWrite, RaftStorage, RecoveredLog } from '../storage.ts';
import type { Appender, Draft } from './appender.ts';
import { Cleaner } from './cleaner.ts';
import type { LogDisk } from './disk.ts';
import { diskFailure, fullPath } from './failure.ts';
import type { LogKeyRing } from './keys.ts';
import { frameEnd, KEEP_ENTRIES_DEFAULT, prepare, type Opened, type WalOptions } from './prepare.ts';
import type { Verdict } from './recover.ts';
import { segmentNumbers, WAL_DIR } from './segment.ts';
import { decodeSnapshot, encodeSnapshot, snapshotId, snapshotPath } from './snapshot-file.ts';
import { VOTE_PATH, VoteFile } from './vote-file.ts';

export type { WalOptions } from './prepare.ts';

/** Attempts to read the newest snapshot while newer ones replace it. */
const LOAD_ATTEMPTS_MAX = 5;

type Done = (error: unknown) => void;

/** Whether a disk holds a log. */
export function holdsWal(disk: LogDisk): boolean {
  if (segmentNumbers(disk).length > 0) return true;
  // What is left when all segments were lost.
  const { exists, vote } = VoteFile.read(disk);
  return exists && vote?.term !== 0;
}

interface Job {
  run: (done: Done) => void;
  done: Done;
}

/** The write-ahead log of one member: segments under `wal/`, snapshots under `snap/`. See frame.ts for the format. */
export class Wal implements RaftStorage {
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
  #ending = false;
  #closed = false;

  private constructor(options: WalOptions, { verdict, appender }: Opened) {
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
      const opened = prepare(options);
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

  configure(keepEntries: number, keepOldSnapshots: number): void {
    this.#cleaner.configure(keepEntries, keepOldSnapshots);
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
    this.#closing = [done];
    if (!this.#busy && !this.#saving) this.#later(() => this.#maybeClose());
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
    let finished = false;
    const finish: Done = (error) => {
      // What the owner's callback throws comes by here once more, and is the owner's.
      if (finished) throw error;
      finished = true;
      const failure = isError(error) ? diskFailure(error, this.#disk, this.#lastPath()) : null;
      this.#failed ??= failure;
      this.#busy = false;
      try {
        job.done(failure);
      } finally {
        this.#pump();
      }
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
    this.#commit = Math.max(this.#commit, hardState.commit, snapshot === null ? 0 : snapshotId(snapshot).index);
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
    this.#append(
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
    // The same once more, after a change of keys: older segments still stand under the old one.
    const anew = this.#appender.keyChanged && id.index === state.marker.index && id.term === state.marker.term;
    if (id.index <= state.marker.index && !anew) {
      // The leader's snapshot came in between.
      this.#cleaner.superseded(state, id);
      // Deletions that a crash cut short.
      this.#cleaner.covered(state, false);
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
    this.#append(draft, finish, this.#appender.keyChanged);
  }

  /** Appends a frame; when it begins a segment, the vote file learns of it, so that a lost last segment shows. */
  #append(draft: Draft, done: Done, toNew = false): void {
    const { state } = this.#appender;
    const former = state.segments.at(-1)?.number;
    const appended: Done = guarded((error) => {
      if (isError(error) || state.segments.at(-1)?.number === former) done(error);
      else this.#voteFile.write({ ...this.#voted, sequence: state.sequence }, done);
    }, done);
    if (toNew) this.#appender.appendToNew(draft, appended);
    else this.#appender.append(draft, appended);
  }

  #bareDraft(): Draft {
    const { term, vote } = this.#appender.state;
    return { records: [], entries: [], from: 0, to: 0, term, vote, commit: this.#commit };
  }

  #maybeClose(): void {
    const waiting = this.#closing;
    if (waiting === null || this.#ending || this.#busy || this.#saving || this.#jobs.length > 0) return;
    const { state } = this.#appender;
    const held = Math.min(this.#commit, state.lastIndex) > state.commit;
    if (held && this.#failed === null) {
      this.#jobs.push({ run: (next) => this.#append(this.#bareDraft(), next), done: ignore });
      this.#pump();
      return;
    }
    this.#ending = true;
    this.#cleaner.close(() => {
      this.#appender.close(() => {
        this.#voteFile.close();
        this.#closed = true;
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

function recoveredLog({ term, vote, commit, snapshot, entries, kept, repair }: Verdict): RecoveredLog {
  const hardState: RaftHardState | null = term === 0 && commit === 0 ? null : { term, vote, commit };
  return { hardState, snapshot, entries, repair, kept };
}
