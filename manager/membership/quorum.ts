import type { MemberProgress } from './raft-port.ts';

/** Voters that must agree out of `voters`. */
export const quorumOf = (voters: number): number => Math.floor(voters / 2) + 1;

/**
 * Whether the cluster still has a quorum of live voters after a member is removed (swarmkit.md §2.7). Removing a learner
 * never costs a quorum.
 */
export function canRemove(progress: readonly MemberProgress[], raftId: number): boolean {
  const target = progress.find((one) => one.raftId === raftId);
  if (target === undefined || target.learner) return true;
  const rest = progress.filter((one) => !one.learner && one.raftId !== raftId);
  if (rest.length === 0) return false;
  return rest.filter((one) => one.active).length >= quorumOf(rest.length);
}
