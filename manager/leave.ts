import { isShoalError, type Clock, type Logger } from '../base/index.ts';
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

/** Hands the lead over if there is somebody to take it, ends all calls and duties, closes the log. */
export async function stopParts(parts: ManagerParts, log: Logger): Promise<void> {
  const { leadership, consensus, server, clients, store, quorum, keyKeeper } = parts;
  const raft = consensus();
  await quorum.stop();
  const others = raft?.progress().some((one) => !one.learner && one.active && one.raftId !== raft.id) === true;
  if (raft?.isLeader() === true && others) {
    await raft.transferLeadership().catch((error: unknown) => log.info('the lead was not handed over', { error }));
  }
  leadership.end();
  // Duties and calls may wait for a commit: the log must end first.
  await raft?.stop();
  await keyKeeper.stop();
  await leadership.stop();
  await server.stop();
  clients.close();
  store.close();
}
