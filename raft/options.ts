import { invalidArgument } from '../base/index.ts';
import type { Clock, Logger, Random } from '../base/index.ts';
import type { RaftConfChange } from '../proto/index.ts';
import type { RaftRole } from './core/index.ts';
import type { RaftTransport } from './transport/transport.ts';
import type { LogDisk } from './wal/disk.ts';
import type { LogKeyRing } from './wal/keys.ts';

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

/** Times of a group; every member should have the same. May change while members run. */
export interface RaftTicks {
  /** Length of a tick, ms. */
  tickMs: number;
  /** Silent ticks before a follower campaigns: this many to twice as many. */
  electionTicks: number;
  /** Ticks between heartbeats of a leader; fewer than `electionTicks`. */
  heartbeatTicks: number;
  /** Of `electionTicks`, those that every member keeps whatever else it knows: a lease counts on no more. Default all. */
  leaseTicks?: number;
}

export interface RaftNodeOptions extends Partial<RaftTicks> {
  /** This member's raft id, 1 to 2^53 - 1; never used again after a removal. */
  id: number;
  /** Directory of the log and its snapshots. */
  dir: string;
  clock: Clock;
  random: Random;
  log: Logger;
  transport: RaftTransport;
  stateMachine: StateMachine;
  /** Entries applied between snapshots. Default 10 000. */
  snapshotEntries?: number;
  /** Entries kept before a snapshot, for followers that are a little behind. Default 500. */
  keepEntries?: number;
  /** Snapshots kept besides the newest. Default 0. */
  keepOldSnapshots?: number;
  /** Entry bytes of one message to a follower, about; one entry is always sent. Default APPEND_BYTES_MAX. */
  maxAppendBytes?: number;
  /** Appends on their way to one follower at the most. Default INFLIGHT_MESSAGES_MAX. */
  maxInflightMessages?: number;
  /** Size of a file of the log. Default 16 MiB. */
  segmentBytes?: number;
  /** Encrypts the log and its snapshots on the disk. Default: they are written in clear. */
  keys?: LogKeyRing;
  /**
   * Members that the owner knows of from elsewhere, this one included. Tells a lone member, whose damaged log nobody
   * can repair, even if the log lost its membership too.
   */
  knownMembers?: number;
  /**
   * The disk failed or an invariant broke: the member has stopped and must be started anew. Called once. Errors of the
   * file system come as ShoalError Unavailable that says what can be done; the cause is the error itself.
   */
  onFatal(error: unknown): void;
  /**
   * This member was removed from the cluster: its log or a peer says so. Called once, not inside another call. It takes
   * no proposals any more; stop it.
   */
  onRemoved?(): void;
  /** Defers work to the end of the current turn; default `setImmediate`. Simulations give their own. */
  schedule?: (run: () => void) => void;
  /** What the log is written to; default: the file system below `dir`. Simulations give their own. */
  disk?: LogDisk;
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
  /** What was damaged, while this member fetches from the leader what its log lost; it neither votes nor leads. */
  repair: string | null;
  /** Leader only, by raft id. */
  progress?: Map<number, { match: number; recentActive: boolean }>;
}

export const DEFAULT_TICKS: RaftTicks = { tickMs: 50, electionTicks: 10, heartbeatTicks: 2 };
export const DEFAULT_SNAPSHOT_ENTRIES = 10_000;
export const DEFAULT_KEEP_ENTRIES = 500;
/** Entry bytes of one MsgApp, about; below one gRPC message even with one largest proposal on top. */
export const APPEND_BYTES_MAX = 256 * 1024;
/** MsgApp messages on their way to one follower (SwarmKit's figure). */
export const INFLIGHT_MESSAGES_MAX = 256;
/** A snapshot that nobody reported on is sent again after so many election timeouts. */
export const SNAPSHOT_RETRY_ELECTIONS = 20;

/** The times of a member that starts. */
export function ticksOf(options: RaftNodeOptions): RaftTicks {
  return {
    tickMs: options.tickMs ?? DEFAULT_TICKS.tickMs,
    electionTicks: options.electionTicks ?? DEFAULT_TICKS.electionTicks,
    heartbeatTicks: options.heartbeatTicks ?? DEFAULT_TICKS.heartbeatTicks,
  };
}

/** @throws ShoalError InvalidArgument when times do not go together. */
export function checkTicks(ticks: Partial<RaftTicks>): void {
  const { tickMs, electionTicks, heartbeatTicks } = { ...DEFAULT_TICKS, ...ticks };
  if (!(tickMs > 0)) throw invalidArgument(`a raft tick of ${tickMs} ms is no time`);
  if (!Number.isSafeInteger(heartbeatTicks) || heartbeatTicks < 1) {
    throw invalidArgument(`a heartbeat every ${heartbeatTicks} raft ticks: it must be a whole number from 1 on`);
  }
  if (!Number.isSafeInteger(electionTicks) || electionTicks <= heartbeatTicks) {
    throw invalidArgument(
      `an election after ${electionTicks} raft ticks: it must be a whole number above the ${heartbeatTicks} of a heartbeat`,
    );
  }
}
