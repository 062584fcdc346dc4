import { RaftConfChangeTransition, RaftConfChangeV2, RaftEntryType } from '../../proto/index.ts';
import { isJoint, type Membership } from './conf-change.ts';
import { broadcastHeartbeat, entriesDue, flush, maybeCommit } from './replication.ts';
import { appendOwn, becomeFollower, syncProgress } from './roles.ts';
import type { RaftState } from './state.ts';
import { NONE } from './types.ts';

/** A committed change of membership is effective from now on. */
export function switchMembership(state: RaftState, membership: Membership): void {
  state.setMembership(membership);
  if (state.role !== 'leader') return;
  if (!state.isVoter(state.id)) {
    // Tell the others that the change is committed, then give way: a leader that is no voter leads nobody.
    syncProgress(state);
    state.due = 'commit';
    flush(state);
    broadcastHeartbeat(state);
    becomeFollower(state, state.term, NONE);
    return;
  }
  syncProgress(state);
  if (!membership.voters.has(state.transferee)) state.transferee = NONE;
  // Fewer may have to agree now; and new members wait for entries.
  if (!maybeCommit(state)) entriesDue(state);
  maybeAutoLeave(state);
}

/** Leader: proposes to leave the joint membership once entering it is committed and applied (Raft §6). */
export function maybeAutoLeave(state: RaftState): void {
  if (state.role !== 'leader' || !state.membership.autoLeave || !isJoint(state.membership)) return;
  if (state.log.applied < state.pendingConfIndex || !state.committedInTerm || state.transferee !== NONE) return;
  const leave = RaftConfChangeV2.encode({
    transition: RaftConfChangeTransition.ConfChangeTransitionAuto,
    changes: [],
  });
  state.pendingConfIndex = appendOwn(state, RaftEntryType.EntryConfChangeV2, [leave]);
}
