import type { RaftEntry, RaftHardState, RaftSnapshot } from '../proto/index.ts';

/** What a log held when it was opened. */
export interface RecoveredLog {
  hardState: RaftHardState | null;
  snapshot: RaftSnapshot | null;
  /** Entries after the snapshot, without gaps. */
  entries: RaftEntry[];
}

/**
 * The disk of one member. Calls are synchronous; what they wrote is durable when they return. After a call has thrown
 * the storage must not be used again: what is on the disk is unknown until it is opened anew.
 */
export interface RaftStorage {
  /**
   * Appends a batch. An entry overwrites any of the same index and all after it.
   * @param mustSync false lets the hard state wait for the next batch (a lone commit index).
   */
  append(entries: readonly RaftEntry[], hardState: RaftHardState | null, mustSync: boolean): void;
  /** Stores a snapshot of the own state; the log before it may be deleted. */
  saveSnapshot(snapshot: RaftSnapshot): void;
  /** Stores a snapshot received from the leader; it replaces the whole log. */
  installSnapshot(snapshot: RaftSnapshot, hardState: RaftHardState): void;
  /** The newest snapshot. */
  loadSnapshot(): RaftSnapshot | null;
  close(): void;
}
