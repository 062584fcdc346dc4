import { must } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { membershipOf } from './conf-change.ts';
import { campaign } from './roles.ts';
import type { RaftState } from './state.ts';

/** Messages of the current term to a follower (or learner). */
export function stepFollower(state: RaftState, message: RaftMessage): void {
  // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the other types say nothing here
  switch (message.type) {
    case RaftMessageType.MsgApp:
      hearLeader(state, message);
      handleAppend(state, message);
      return;
    case RaftMessageType.MsgHeartbeat:
      hearLeader(state, message);
      handleHeartbeat(state, message);
      return;
    case RaftMessageType.MsgSnap:
      hearLeader(state, message);
      handleSnapshot(state, message);
      return;
    case RaftMessageType.MsgTimeoutNow:
      // The leader asks for an election now; no pre-vote, the leader knows that it gives way.
      campaign(state, 'transfer');
      return;
    case RaftMessageType.MsgReadIndexResp:
      state.readStates.push({ index: message.index, context: message.context });
      return;
    default:
      return;
  }
}

function hearLeader(state: RaftState, message: RaftMessage): void {
  state.electionElapsed = 0;
  state.leaderId = message.from;
}

/** AppendEntries at the receiver (Raft §5.3, figure 2). */
export function handleAppend(state: RaftState, message: RaftMessage): void {
  const { log } = state;
  const answer = { type: RaftMessageType.MsgAppResp, to: message.from };
  if (message.index < log.committed) {
    state.send({ ...answer, index: log.committed });
    return;
  }
  const lastNew = log.maybeAppend(message.index, message.log_term, message.commit, message.entries);
  if (lastNew !== undefined) {
    state.send({ ...answer, index: lastNew });
    return;
  }
  const hint = log.lastPossibleMatch(Math.min(message.index, log.lastIndex), message.log_term);
  state.send({ ...answer, index: message.index, reject: true, reject_hint: hint.index, log_term: hint.term });
}

export function handleHeartbeat(state: RaftState, message: RaftMessage): void {
  state.log.commitTo(message.commit);
  state.send({ type: RaftMessageType.MsgHeartbeatResp, to: message.from, context: message.context });
}

/** InstallSnapshot at the receiver (Raft §7): skips it when the log already holds what it covers. */
export function handleSnapshot(state: RaftState, message: RaftMessage): void {
  const snapshot = must(message.snapshot, 'snapshot of a MsgSnap');
  const metadata = must(snapshot.metadata, 'snapshot metadata');
  const answer = { type: RaftMessageType.MsgAppResp, to: message.from };
  if (metadata.index <= state.log.committed) {
    state.send({ ...answer, index: state.log.committed });
    return;
  }
  if (state.log.matches(metadata.index, metadata.term)) {
    state.log.commitTo(metadata.index);
    state.send({ ...answer, index: state.log.committed });
    return;
  }
  state.log.restore(snapshot);
  state.snapshot = metadata;
  state.membership = membershipOf(metadata.conf_state);
  state.send({ ...answer, index: state.log.lastIndex });
}
