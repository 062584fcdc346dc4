import { assert, must } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { confStateOf, membershipOf } from './conf-change.ts';
import { campaign } from './roles.ts';
import type { RaftState } from './state.ts';
import { NONE } from './types.ts';

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
  assert(state.leaderId === NONE || state.leaderId === message.from, 'one leader a term');
  if (state.leaderId !== NONE) state.patience.heard(state.electionElapsed);
  state.electionElapsed = 0;
  state.leaderId = message.from;
}

/** AppendEntries at the receiver (Raft §5.3, figure 2). */
function handleAppend(state: RaftState, message: RaftMessage): void {
  const { log } = state;
  if (message.index < log.committed) {
    state.sendAccept(message.from, log.committed);
    return;
  }
  const lastNew = log.maybeAppend(message.index, message.log_term, message.commit, message.entries);
  if (lastNew !== undefined) {
    state.sendAccept(message.from, lastNew);
    return;
  }
  const hint = log.lastPossibleMatch(Math.min(message.index, log.lastIndex), message.log_term);
  state.send({
    type: RaftMessageType.MsgAppResp,
    to: message.from,
    index: message.index,
    reject: true,
    reject_hint: hint.index,
    log_term: hint.term,
  });
}

function handleHeartbeat(state: RaftState, message: RaftMessage): void {
  const { log, repair } = state;
  // The leader may count on entries that a damaged disk has lost; it learns so by the answer. What stands there now may
  // be what those entries had replaced: then only a MsgApp, which compares terms, can say what is committed.
  if (!repair.active) log.commitTo(message.commit);
  state.send({
    type: RaftMessageType.MsgHeartbeatResp,
    to: message.from,
    context: message.context,
    ...(repair.active ? { reject: true, reject_hint: log.lastIndex } : {}),
  });
}

/** InstallSnapshot at the receiver (Raft §7): skips it when the log already holds what it covers. */
function handleSnapshot(state: RaftState, message: RaftMessage): void {
  const snapshot = must(message.snapshot, 'snapshot of a MsgSnap');
  const metadata = must(snapshot.metadata, 'snapshot metadata');
  const { log } = state;
  if (metadata.index > log.committed) {
    if (log.matches(metadata.index, metadata.term)) log.commitTo(metadata.index);
    else {
      if (log.pendingSnapshot === null) {
        const { applied } = log;
        const term = log.term(applied);
        // Not known while an earlier snapshot waits to be restored; then that stays.
        if (term !== undefined)
          state.beforeRestore = { index: applied, term, conf_state: confStateOf(state.membership) };
      }
      log.restore(snapshot);
      state.snapshot = metadata;
      state.setMembership(membershipOf(metadata.conf_state));
    }
  }
  state.sendAccept(message.from, log.committed);
}
