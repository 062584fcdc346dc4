import type { Clock, Logger, Random } from '../base/index.ts';
import type { RaftConfChange } from '../proto/index.ts';
import type { RaftRole } from './core/index.ts';
import type { RaftStorage, RecoveredLog } from './storage.ts';
import type { RaftTransport } from './transport/transport.ts';

/** One applied entry. */
export interface AppliedEntry {
  index: number;
  term: number;
  data: Uint8Array;
}

/** What is replicated. All calls are synchronous; the same calls give the same state on every member. */
export interface StateMachine {
  /** Entries in the order of the log; entries without data are left out. */
  apply(entries: readonly AppliedEntry[]): void;
  /** A change of membership, after it became effective here. `context` holds an encoded RaftMember. */
  applyConfChange(change: RaftConfChange, index: number): void;
  /** The whole state, everything up to the last applied entry. */
  snapshot(): Uint8Array;
  /** Replaces the whole state by a snapshot whose last entry is `index`. */
  restore(data: Uint8Array, index: number): void;
}

export interface RaftNodeOptions {
  /** This member's raft id, 1 to 2^53 - 1; never used again after a removal. */
  id: number;
  /** Directory of the log and its snapshots. */
  dir: string;
  clock: Clock;
  random: Random;
  log: Logger;
  transport: RaftTransport;
  stateMachine: StateMachine;
  /** Default 50 ms. */
  tickMs?: number;
  /** Silent ticks before a follower campaigns: this many to twice as many. Default 10. */
  electionTicks?: number;
  /** Default 2. */
  heartbeatTicks?: number;
  /** Entries applied between snapshots. Default 10 000. */
  snapshotEntries?: number;
  /** Entries kept before a snapshot, for followers that are a little behind. Default 500. */
  keepEntries?: number;
  /** The disk failed or an invariant broke: the member has stopped and must be started anew. */
  onFatal(error: unknown): void;
  /** A peer says that this member was removed from the cluster. */
  onRemoved?(): void;
  /** Defers work to the end of the current turn; default `setImmediate`. Simulations give their own. */
  schedule?: (run: () => void) => void;
  /** Opens the disk; default: the write-ahead log in `dir`. Simulations give their own. */
  openStorage?: () => { storage: RaftStorage; recovered: RecoveredLog };
}

/** What one member knows of the group now. */
export interface RaftStatus {
  id: number;
  /** 0 when none is known. */
  leaderId: number;
  term: number;
  role: RaftRole;
  commit: number;
  applied: number;
  voters: number[];
  learners: number[];
  /** Leader only, by raft id. */
  progress?: Map<number, { match: number; recentActive: boolean }>;
}

export const DEFAULT_TICK_MS = 50;
export const DEFAULT_ELECTION_TICKS = 10;
export const DEFAULT_HEARTBEAT_TICKS = 2;
export const DEFAULT_SNAPSHOT_ENTRIES = 10_000;
export const DEFAULT_KEEP_ENTRIES = 500;
/** Entry bytes of one MsgApp, about; below one gRPC message even with one largest proposal on top. */
export const APPEND_BYTES_MAX = 256 * 1024;
/** MsgApp messages on their way to one follower (SwarmKit's figure). */
export const INFLIGHT_MESSAGES_MAX = 256;
