import type { Random } from '../../base/index.ts';
import type { RaftEntry, RaftHardState, RaftMessage, RaftSnapshot, RaftSnapshotMetadata } from '../../proto/index.ts';

/** Role of a member. Learners are followers that never campaign. */
export type RaftRole = 'follower' | 'pre-candidate' | 'candidate' | 'leader';

/** Id that stands for "no member". */
export const NONE = 0;

/** Settings of one member's state machine. Ticks are abstract; the driver gives them a length. */
export interface RaftOptions {
  /** This member's id, a positive integer below 2^53. */
  id: number;
  random: Random;
  /** A follower campaigns after [electionTicks, 2 × electionTicks) silent ticks (Raft §5.2). */
  electionTicks: number;
  heartbeatTicks: number;
  /** Entry bytes in one MsgApp at the most; one entry is always sent. */
  maxAppendBytes: number;
  /** MsgApp messages on their way to one follower at the most. */
  maxInflightMessages: number;
  /** Ticks after which a snapshot that nobody reported on is sent again. */
  snapshotRetryTicks: number;
}

/** What a restarting member finds on its disk. */
export interface InitialState {
  hardState: RaftHardState | null;
  /** Where the log begins; null when no snapshot was ever taken. */
  snapshot: RaftSnapshotMetadata | null;
  /** Entries after the snapshot, without gaps. */
  entries: readonly RaftEntry[];
}

/** Volatile facts that others like to watch. */
export interface SoftState {
  leaderId: number;
  role: RaftRole;
}

/** A confirmed read: everything up to `index` must be applied before the read is served (thesis §6.4). */
export interface ReadState {
  index: number;
  context: Uint8Array;
}

/**
 * The work that the state machine asks its driver to do, in this order: hand over `earlyMessages`; make `snapshot`,
 * `entries` and `hardState` durable; call `persisted`; send `messages`; restore `snapshot`; apply `committed`; call
 * `appliedTo`. Arrays belong to the driver, entries are shared and never changed.
 */
export interface Ready {
  /** Set when it differs from the last one handed out. */
  hardState: RaftHardState | null;
  softState: SoftState | null;
  /** Entries to append; the first may overwrite entries of the same index and all that follow. */
  entries: RaftEntry[];
  /** A snapshot received from the leader; replaces log and state. */
  snapshot: RaftSnapshot | null;
  /** May be sent before anything is durable: appends of a leader whose term and vote are durable already. */
  earlyMessages: RaftMessage[];
  messages: RaftMessage[];
  committed: RaftEntry[];
  readStates: ReadState[];
  /** Whether the disk must be synced: entries, term or vote changed (a lone new commit index may wait). */
  mustSync: boolean;
}

/** Why a proposal was not taken. */
export type Refusal = 'not-leader' | 'transferring' | 'not-ready' | 'conf-change-pending' | 'invalid';

export type ProposalResult =
  { accepted: true; index: number; term: number } | { accepted: false; refusal: Refusal; detail: string };
