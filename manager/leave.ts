import { isShoalError, type Clock } from '../base/index.ts';
import { LeaveRequest, RaftMembershipService } from '../proto/index.ts';
import type { LeaderAccess } from './leader-access.ts';
import { memberMessage } from './membership/index.ts';
import type { ManagerParts } from './parts.ts';

/** Tries to leave: the leader hands over the lead before it can be removed. */
const LEAVE_ATTEMPTS = 5;
const LEAVE_PAUSE_MS = 500;

/**
 * Takes this manager out of consensus for good; the lead is handed over first.
 * @throws ShoalError FailedPrecondition when it is the last manager or a quorum would be lost; Unavailable.
 */
export async function leaveConsensus(parts: ManagerParts, leaderAccess: LeaderAccess, clock: Clock): Promise<void> {
  const { members, membership, consensus } = parts;
  const raftId = consensus()?.id ?? 0;
  for (let attempt = 1; ; attempt++) {
    const member = members.get(raftId);
    if (member === undefined) return;
    const request = LeaveRequest.create({ node: memberMessage(member) });
    const here = async (): Promise<object> => {
      await membership.remove(member);
      return {};
    };
    try {
      await leaderAccess.call(RaftMembershipService.Leave, request, here, false);
      return;
    } catch (error) {
      if (attempt >= LEAVE_ATTEMPTS || !isShoalError(error, 'Unavailable', 'Aborted')) throw error;
      await clock.sleep(LEAVE_PAUSE_MS);
    }
  }
}
