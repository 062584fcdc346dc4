import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import type { RaftState } from './state.ts';
import { NONE } from './types.ts';

/** Context of a MsgVote that follows a leader's request: voters skip the leader lease (thesis §4.2.3). */
export const CAMPAIGN_TRANSFER = new TextEncoder().encode('CampaignTransfer');

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/**
 * Whether a request for a vote is not even answered: a member that hears its leader does not help to depose it (thesis
 * §4.2.3), unless the leader itself asked. Nor does one that was just started: it may have promised that before.
 */
export function ignoredByLease(state: RaftState, message: RaftMessage): boolean {
  if (message.type !== RaftMessageType.MsgVote && message.type !== RaftMessageType.MsgPreVote) return false;
  if (sameBytes(message.context, CAMPAIGN_TRANSFER)) return false;
  if (state.leaderId !== NONE && state.electionElapsed < state.electionTicks) return true;
  return state.guardTicks > 0;
}

/** Whether this member has not promised its vote of the message's term to another (Raft §5.2). */
function voteIsFree(state: RaftState, message: RaftMessage): boolean {
  if (state.repair.active) return false;
  // A pre-vote asks about a term that has not begun here.
  if (message.type === RaftMessageType.MsgPreVote && message.term > state.term) return true;
  return state.vote === message.from || (state.vote === NONE && state.leaderId === NONE);
}

/** RequestVote at the receiver (Raft §5.2, §5.4.1) and its pre-vote form (thesis §9.6). */
export function answerVote(state: RaftState, message: RaftMessage): void {
  const pre = message.type === RaftMessageType.MsgPreVote;
  const type = pre ? RaftMessageType.MsgPreVoteResp : RaftMessageType.MsgVoteResp;
  if (!voteIsFree(state, message) || !state.log.isUpToDate(message.index, message.log_term)) {
    state.send({ type, to: message.from, reject: true });
    return;
  }
  if (!pre) {
    state.electionElapsed = 0;
    state.setVote(message.from);
  }
  // After `setVote`, so that the answer waits until the vote is durable.
  state.send({ type, to: message.from, term: message.term });
}

/** A message of an older term changes nothing; some are answered, so that their senders learn of the present one. */
export function answerOldTerm(state: RaftState, message: RaftMessage): void {
  // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the other types say nothing here
  switch (message.type) {
    case RaftMessageType.MsgApp:
    case RaftMessageType.MsgHeartbeat:
    case RaftMessageType.MsgSnap:
      // With pre-vote and leases a stale leader may never see a higher term in a vote: tell it.
      state.send({ type: RaftMessageType.MsgAppResp, to: message.from });
      return;
    case RaftMessageType.MsgPreVote:
      // Lets a candidate with an old term catch up, so that it cannot be stuck asking.
      state.send({ type: RaftMessageType.MsgPreVoteResp, to: message.from, reject: true });
      return;
    default:
      return;
  }
}
