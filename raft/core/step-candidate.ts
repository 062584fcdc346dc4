import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { becomeFollower, recordVote } from './roles.ts';
import type { RaftState } from './state.ts';
import { stepFollower } from './step-follower.ts';

/** Messages of the current term to a candidate or pre-candidate. */
export function stepCandidate(state: RaftState, message: RaftMessage): void {
  // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the other types say nothing here
  switch (message.type) {
    case RaftMessageType.MsgApp:
    case RaftMessageType.MsgHeartbeat:
    case RaftMessageType.MsgSnap:
      // Another member won this term (Raft §5.2).
      becomeFollower(state, message.term, message.from);
      stepFollower(state, message);
      return;
    case RaftMessageType.MsgPreVoteResp:
      if (state.role !== 'pre-candidate') return;
      // A grant names the term it was asked for; one for an older question counts for nothing.
      if (message.reject || message.term === state.term + 1) recordVote(state, message.from, !message.reject);
      return;
    case RaftMessageType.MsgVoteResp:
      if (state.role === 'candidate') recordVote(state, message.from, !message.reject);
      return;
    default:
      return;
  }
}
