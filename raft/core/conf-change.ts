import { unreachable } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeTransition, RaftConfChangeType, RaftConfChangeV2 } from '../../proto/index.ts';
import { RaftEntryType } from '../../proto/index.ts';
import type { RaftConfChangeSingle, RaftConfState, RaftEntry } from '../../proto/index.ts';

/**
 * Who takes part. No two of `voters`, `learners` and `learnersNext` share a member; a learner is not in `outgoing`
 * either, and who is in `learnersNext` is.
 */
export interface Membership {
  readonly voters: ReadonlySet<number>;
  readonly learners: ReadonlySet<number>;
  /** The old voters of a joint membership (Raft §6), which decide too; else empty. */
  readonly outgoing: ReadonlySet<number>;
  /** Voters that are learners once the joint membership is left. */
  readonly learnersNext: ReadonlySet<number>;
  /** The leader leaves the joint membership of its own accord. */
  readonly autoLeave: boolean;
}

const NOBODY: ReadonlySet<number> = new Set();

export function membershipOf(state: RaftConfState | null): Membership {
  return {
    voters: new Set(state?.voters),
    learners: new Set(state?.learners),
    outgoing: new Set(state?.voters_outgoing),
    learnersNext: new Set(state?.learners_next),
    autoLeave: state?.auto_leave ?? false,
  };
}

export function confStateOf(membership: Pick<Membership, 'voters' | 'learners'> & Partial<Membership>): RaftConfState {
  const sorted = (ids: ReadonlySet<number>): number[] => [...ids].sort((a, b) => a - b);
  return {
    voters: sorted(membership.voters),
    learners: sorted(membership.learners),
    voters_outgoing: sorted(membership.outgoing ?? NOBODY),
    learners_next: sorted(membership.learnersNext ?? NOBODY),
    auto_leave: membership.autoLeave ?? false,
  };
}

export function isJoint(membership: Membership): boolean {
  return membership.outgoing.size > 0;
}

/** Every member, each once: voters old and new, then learners. */
export function membersOf(membership: Membership): number[] {
  return [...new Set([...membership.voters, ...membership.outgoing, ...membership.learners])];
}

/** Why one part of a change cannot be made, or undefined when it can. */
function singleProblem(membership: Membership, change: RaftConfChangeSingle): string | undefined {
  const { voters, learners } = membership;
  const id = change.node_id;
  if (!Number.isSafeInteger(id) || id <= 0) return `${id} is no member id`;
  switch (change.type) {
    case RaftConfChangeType.ConfChangeAddNode:
    case RaftConfChangeType.ConfChangeAddLearnerNode:
      return undefined;
    case RaftConfChangeType.ConfChangeRemoveNode:
    case RaftConfChangeType.ConfChangeUpdateNode:
      return voters.has(id) || learners.has(id) ? undefined : `${id} is not a member`;
    default:
      return unreachable(change.type);
  }
}

/**
 * Why a change of one step cannot be made, or undefined when it can: voters grow or shrink by one, so that majorities
 * before and after always share a member (thesis §4.1).
 */
export function confChangeProblem(membership: Membership, change: RaftConfChangeSingle): string | undefined {
  if (isJoint(membership)) return 'a joint change is under way';
  const problem = singleProblem(membership, change);
  if (problem !== undefined) return problem;
  if (membership.voters.size !== 1 || !membership.voters.has(change.node_id)) return undefined;
  if (change.type === RaftConfChangeType.ConfChangeAddLearnerNode) return 'the only voter cannot become a learner';
  if (change.type === RaftConfChangeType.ConfChangeRemoveNode) return 'the only voter cannot be removed';
  return undefined;
}

/** The membership after a change of one step. One that has a problem leaves it as it is, on every member alike. */
export function changeMembership(membership: Membership, change: RaftConfChangeSingle): Membership {
  if (confChangeProblem(membership, change) !== undefined) return membership;
  return withChange(membership, change);
}

function withChange(membership: Membership, change: RaftConfChangeSingle): Membership {
  const voters = new Set(membership.voters);
  const learners = new Set(membership.learners);
  const learnersNext = new Set(membership.learnersNext);
  const id = change.node_id;
  switch (change.type) {
    case RaftConfChangeType.ConfChangeAddNode:
      learners.delete(id);
      learnersNext.delete(id);
      voters.add(id);
      break;
    case RaftConfChangeType.ConfChangeAddLearnerNode:
      voters.delete(id);
      // Who still decides as an old voter cannot be a learner at the same time.
      if (membership.outgoing.has(id)) learnersNext.add(id);
      else learners.add(id);
      break;
    case RaftConfChangeType.ConfChangeRemoveNode:
      voters.delete(id);
      learners.delete(id);
      learnersNext.delete(id);
      break;
    case RaftConfChangeType.ConfChangeUpdateNode:
      break;
    default:
      unreachable(change.type);
  }
  return { ...membership, voters, learners, learnersNext };
}

/** Why a joint change cannot be made, or undefined when it can. One without changes leaves the joint membership. */
export function jointChangeProblem(membership: Membership, change: RaftConfChangeV2): string | undefined {
  if (change.changes.length === 0) return isJoint(membership) ? undefined : 'there is no joint membership to leave';
  if (isJoint(membership)) return 'a joint change is under way';
  const seen = new Set<number>();
  for (const part of change.changes) {
    const problem = singleProblem(membership, part);
    if (problem !== undefined) return problem;
    if (seen.has(part.node_id)) return `member ${part.node_id} is named twice`;
    seen.add(part.node_id);
  }
  if (membership.voters.size === 0) return 'a group without voters cannot change';
  return entered(membership, change).voters.size === 0 ? 'no voter would be left' : undefined;
}

function entered(membership: Membership, change: RaftConfChangeV2): Membership {
  const autoLeave = change.transition !== RaftConfChangeTransition.ConfChangeTransitionJointExplicit;
  let after: Membership = { ...membership, outgoing: membership.voters, autoLeave };
  for (const part of change.changes) after = withChange(after, part);
  return after;
}

/** The membership after a joint change is entered, or left when `change` holds none. Problems leave it as it is. */
export function changeMembershipJointly(membership: Membership, change: RaftConfChangeV2): Membership {
  if (jointChangeProblem(membership, change) !== undefined) return membership;
  if (change.changes.length > 0) return entered(membership, change);
  return {
    voters: membership.voters,
    learners: new Set([...membership.learners, ...membership.learnersNext]),
    outgoing: NOBODY,
    learnersNext: NOBODY,
    autoLeave: false,
  };
}

/** The membership after an entry of any type is applied. */
export function membershipAfter(membership: Membership, entry: RaftEntry): Membership {
  switch (entry.type) {
    case RaftEntryType.EntryNormal:
      return membership;
    case RaftEntryType.EntryConfChange:
      return changeMembership(membership, RaftConfChange.decode(entry.data));
    case RaftEntryType.EntryConfChangeV2:
      return changeMembershipJointly(membership, RaftConfChangeV2.decode(entry.data));
    default:
      return unreachable(entry.type);
  }
}
