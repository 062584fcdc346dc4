import type { RaftEntry, RaftHardState, RaftSnapshot } from '../proto/index.ts';

/** What a log held when it was opened. */
export interface RecoveredLog {
  hardState: RaftHardState | null;
  snapshot: RaftSnapshot | null;
  /** Entries after the snapshot, without gaps. */
  entries: RaftEntry[];
  /**
   * Set when durable entries were damaged: the log is good up to its end, but this member once held more, and may have
   * promised it to a leader. It must fetch the rest from a peer before it votes again (core/repair.ts).
   */
  repair: LogRepair | null;
  /** Entries up to the snapshot that the log still holds, without gaps, for followers that are a little behind. */
  kept?: RaftEntry[];
}

/** How much of a damaged log must come back. */
export interface LogRepair {
  /** Highest index that may have been promised; null when the damage hides it. */
  floor: number | null;
  /** What was damaged, for people: file, offset and reason. */
  reason: string;
}

/** One batch for the disk: durable as a whole when `write` reports it. */
export interface LogWrite {
  /** Replaces everything before (received from the leader); entries follow it. */
  snapshot: RaftSnapshot | null;
  /** An entry overwrites any of the same index and all after it. */
  entries: readonly RaftEntry[];
  /** Always the newest; its term and vote are durable with the batch. */
  hardState: RaftHardState;
  /** The damaged log is whole again: it need not be remembered any more. */
  repaired: boolean;
}

/**
 * The disk of one member. One `write` at a time; `done` is called once, never before the call has returned, and without
 * an error only when all is durable. After an error the storage must not be used again but to close it: what is on the
 * disk is unknown until it is opened anew.
 */
export interface RaftStorage {
  write(batch: LogWrite, done: (error: unknown) => void): void;
  /**
   * Stores a snapshot of the own state, which may take long and runs beside writes; then entries before it may be
   * deleted from the log (some are kept for slow followers until the next one). One at a time.
   */
  saveSnapshot(snapshot: RaftSnapshot, done: (error: unknown) => void): void;
  /** The newest snapshot, to be sent. */
  loadSnapshot(done: (error: unknown, snapshot: RaftSnapshot | null) => void): void;
  /** Notes a commit index that the next write will carry; written at the latest by `close`. Costs no sync. */
  noteCommit(commit: number): void;
  /** What later snapshots leave on the disk: entries before them, and older snapshots. */
  configure?(keepEntries: number, keepOldSnapshots: number): void;
  /** Waits for what is under way, then closes the files. `done` gets the first error, if any. Idempotent. */
  close(done: (error: unknown) => void): void;
}
