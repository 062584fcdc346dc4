import type { Random } from '../../base/index.ts';
import type { RaftEntry, RaftHardState, RaftMessage, RaftSnapshot, RaftSnapshotMetadata } from '../../proto/index.ts';
import type { LogRepair, LogWrite } from '../storage.ts';

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
  /** Entry bytes on their way to one follower at the most, one append always; default INFLIGHT_BYTES_MAX. */
  maxInflightBytes?: number;
  /** Entry bytes that a leader takes before they are committed; default UNCOMMITTED_BYTES_MAX. */
  maxUncommittedBytes?: number;
  /** Bytes of one proposed entry at the most; default ENTRY_BYTES_MAX. */
  maxEntryBytes?: number;
  /** Ticks after which a snapshot that nobody reported on is sent again. */
  snapshotRetryTicks: number;
  /**
   * A commit index that no entry carries waits for the second tick from then, or for a heartbeat, unless it commits a
   * change of membership. Under load it goes with the next entries, and half of all messages are saved. Default: it is
   * sent at once.
   */
  commitAtTick?: boolean;
  /**
   * Ticks for which a member that was started again elects nobody: it may have promised so to a leader that reads by
   * its lease (thesis §6.4.1). Default electionTicks − 1, more than any lease lasts.
   */
  restartGuardTicks?: number;
}

export const INFLIGHT_BYTES_MAX = 16 * 1024 * 1024;
export const UNCOMMITTED_BYTES_MAX = 64 * 1024 * 1024;
export const ENTRY_BYTES_MAX = 3 * 1024 * 1024;

/** What a restarting member finds on its disk. */
export interface InitialState {
  hardState: RaftHardState | null;
  /** Where the log begins; null when no snapshot was ever taken. */
  snapshot: RaftSnapshotMetadata | null;
  /** Entries after the snapshot, without gaps. */
  entries: readonly RaftEntry[];
  /** Entries up to the snapshot, its last one included, that are still there for followers a little behind. */
  kept?: readonly RaftEntry[];
  /** See RecoveredLog. */
  repair: LogRepair | null;
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
 * The work that the state machine asks its driver to do. The disk works beside everything else: while one write is
 * under way, `ready` goes on to hand out messages and entries to apply, and what the next write will hold gathers in
 * the core (group commit). In this order: send `messages`; begin `write` and, when it is durable, call `written` with
 * it; give `restore` to the state machine; apply `committed`, then call `appliedTo`; answer `readStates`. Arrays belong
 * to the driver, entries are shared and never changed.
 */
export interface Ready {
  /** Set when it differs from the last one handed out. */
  softState: SoftState | null;
  /** May leave at once: all that they promise is durable. What is not yet is held back by the core. */
  messages: RaftMessage[];
  /**
   * What must become durable; null while a write is under way, or when nothing but the commit index changed and no change
   * of membership waits for that.
   */
  write: LogWrite | null;
  /** A leader's snapshot that is durable now; it replaces the state. Comes before `committed`. */
  restore: RaftSnapshot | null;
  /** Committed entries that are durable here, in order, none twice. */
  committed: RaftEntry[];
  readStates: ReadState[];
}

/** Why a proposal was not taken. */
export type Refusal =
  | 'not-leader'
  | 'transferring'
  | 'not-ready'
  | 'conf-change-pending'
  | 'invalid'
  /** Too many bytes wait to be committed: ask again when some are. */
  | 'too-much-uncommitted'
  /** One entry is larger than the log takes. */
  | 'too-large';

export type ProposalResult =
  { accepted: true; index: number; term: number } | { accepted: false; refusal: Refusal; detail: string };
