import type { RaftState } from './state.ts';
import { NONE } from './types.ts';

/** Ticks that the lease ends before a follower may vote: each side counts its ticks up to one off. */
const LEASE_MARGIN_TICKS = 2;
/** Part of the rest that clocks may run apart. */
const LEASE_DRIFT = 0.1;

/**
 * Commit index for a read that needs no round (thesis §6.4.1), or null when the lease does not surely hold: followers
 * elect no other leader for `leaseTicks` after a heartbeat of this one, so that it leads for nearly as long after a
 * heartbeat that a quorum answered was sent.
 * @param now the present time in ticks, on the clock that `Raft.tick` is given.
 */
export function leaseRead(state: RaftState, now: number): number | null {
  if (state.role !== 'leader' || !state.committedInTerm) return null;
  if (state.transferee !== NONE || state.leaseBroken) return null;
  const sentAt = state.reads.confirmedAt(state.quorum, state.id);
  const lengthTicks = (state.leaseTicks - LEASE_MARGIN_TICKS) * (1 - LEASE_DRIFT);
  return now - sentAt < lengthTicks ? state.log.committed : null;
}
