import { unreachable } from '../../base/index.ts';
import { RaftConfChangeType } from '../../proto/index.ts';
import type { RaftConfChange, RaftConfState } from '../../proto/index.ts';

/** Who takes part. A member is a voter or a learner, never both. */
export interface Membership {
  readonly voters: ReadonlySet<number>;
  readonly learners: ReadonlySet<number>;
}

export function membershipOf(state: RaftConfState | null): Membership {
  return { voters: new Set(state?.voters), learners: new Set(state?.learners) };
}

export function confStateOf(membership: Membership): RaftConfState {
  return {
    voters: [...membership.voters].sort((a, b) => a - b),
    learners: [...membership.learners].sort((a, b) => a - b),
    voters_outgoing: [],
    learners_next: [],
    auto_leave: false,
  };
}

/**
 * Why a change cannot be made, or undefined when it can. Changes are single steps: voters grow or shrink by one, so
 * that majorities before and after always share a member (thesis §4.1).
 */
export function confChangeProblem(membership: Membership, change: RaftConfChange): string | undefined {
  const { voters, learners } = membership;
  const id = change.node_id;
  if (!Number.isSafeInteger(id) || id <= 0) return `${id} is no member id`;
  switch (change.type) {
    case RaftConfChangeType.ConfChangeAddNode:
      return undefined;
    case RaftConfChangeType.ConfChangeAddLearnerNode:
      return voters.has(id) && voters.size === 1 ? 'the only voter cannot become a learner' : undefined;
    case RaftConfChangeType.ConfChangeRemoveNode:
      if (!voters.has(id) && !learners.has(id)) return `${id} is not a member`;
      return voters.has(id) && voters.size === 1 ? 'the only voter cannot be removed' : undefined;
    case RaftConfChangeType.ConfChangeUpdateNode:
      return voters.has(id) || learners.has(id) ? undefined : `${id} is not a member`;
    default:
      return unreachable(change.type);
  }
}

/** The membership after a change. A change that has a problem leaves it as it is, on every member alike. */
export function changeMembership(membership: Membership, change: RaftConfChange): Membership {
  if (confChangeProblem(membership, change) !== undefined) return membership;
  const voters = new Set(membership.voters);
  const learners = new Set(membership.learners);
  const id = change.node_id;
  switch (change.type) {
    case RaftConfChangeType.ConfChangeAddNode:
      learners.delete(id);
      voters.add(id);
      break;
    case RaftConfChangeType.ConfChangeAddLearnerNode:
      voters.delete(id);
      learners.add(id);
      break;
    case RaftConfChangeType.ConfChangeRemoveNode:
      voters.delete(id);
      learners.delete(id);
      break;
    case RaftConfChangeType.ConfChangeUpdateNode:
      break;
    default:
      unreachable(change.type);
  }
  return { voters, learners };
}
