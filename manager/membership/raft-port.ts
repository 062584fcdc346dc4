import type { RaftConfChange } from '../../proto/index.ts';

/** What the leader knows of one member. */
export interface MemberProgress {
  readonly raftId: number;
  readonly learner: boolean;
  /** Heard of within the last election timeout; always true for the leader itself. */
  readonly active: boolean;
  /** Entries of the log that it lacks. */
  readonly lag: number;
}

/** What membership needs of consensus. */
export interface MembershipRaft {
  readonly id: number;
  isLeader(): boolean;
  /** Resolves when the change is applied here. @throws ShoalError Unavailable, FailedPrecondition */
  proposeConfChange(change: RaftConfChange): Promise<void>;
  /** Hands the lead to another voter. @throws ShoalError */
  transferLeadership(to: number): Promise<void>;
  /** The leader's knowledge of all members, itself included; empty elsewhere. */
  progress(): MemberProgress[];
}
