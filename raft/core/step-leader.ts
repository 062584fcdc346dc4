import { assert, must } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { maybeAutoLeave } from './membership.ts';
import type { Progress } from './progress.ts';
import { hasQuorum } from './quorum.ts';
import { PENDING_READS_MAX } from './read-queue.ts';
import {
  beginRead,
  broadcastHeartbeat,
  maybeCommit,
  releaseReads,
  sendAll,
  sendAppend,
  sendCommit,
  sendProbeThroughWindow,
} from './replication.ts';
import { becomeFollower } from './roles.ts';
import type { RaftState } from './state.ts';
import { NONE } from './types.ts';

/** Messages of the current term to a leader. */
export function stepLeader(state: RaftState, message: RaftMessage): void {
  if (message.type === RaftMessageType.MsgReadIndex) {
    leaderRead(state, message.from, message.context);
    return;
  }
  assert(message.type !== RaftMessageType.MsgApp, 'one leader a term');
  const progress = state.progress.get(message.from);
  if (progress === undefined) return;
  // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the other types say nothing here
  switch (message.type) {
    case RaftMessageType.MsgAppResp:
      progress.recentActive = true;
      if (message.reject) appendRefused(state, message, progress);
      else appendAccepted(state, message, progress);
      return;
    case RaftMessageType.MsgHeartbeatResp:
      heartbeatAnswered(state, message, progress);
      return;
    default:
      return;
  }
}

/** A linearizable read, asked here or by a follower. Dropped when too many wait. */
export function leaderRead(state: RaftState, from: number, context: Uint8Array): void {
  if (state.committedInTerm) beginRead(state, from, context);
  else if (state.heldReads.length < PENDING_READS_MAX) state.heldReads.push({ from, context });
}

function appendRefused(state: RaftState, message: RaftMessage, progress: Progress): void {
  if (progress.state === 'snapshot') return;
  let hint = message.reject_hint;
  if (message.log_term > 0) hint = state.log.lastPossibleMatch(message.reject_hint, message.log_term).index;
  if (!progress.maybeDecrease(message.index, hint)) return;
  if (progress.state === 'replicate') progress.becomeProbe();
  sendAppend(state, message.from, true);
}

function appendAccepted(state: RaftState, message: RaftMessage, progress: Progress): void {
  if (message.index > state.log.lastIndex) return;
  const moved = progress.maybeUpdate(message.index);
  const probeAnswered = progress.state === 'probe' && message.index === progress.match;
  if (!moved && !probeAnswered) return;
  if (progress.state === 'probe') progress.becomeReplicate();
  else if (progress.state === 'replicate') progress.inflight.acknowledge(message.index);
  else if (progress.match + 1 >= state.log.firstIndex) progress.becomeReplicate();
  if (moved && progress.match > state.log.committed) maybeCommit(state);
  // The window may have opened for several messages.
  sendAll(state, message.from);
  // One that caught up in the meantime may not know yet how far it may commit.
  if (state.due !== 'commit' && state.options.commitAtTick !== true) sendCommit(state, message.from, progress);
  if (state.transferee === message.from && progress.match === state.log.lastIndex) {
    state.send({ type: RaftMessageType.MsgTimeoutNow, to: message.from });
  }
}

function heartbeatAnswered(state: RaftState, message: RaftMessage, progress: Progress): void {
  progress.recentActive = true;
  if (message.reject && message.reject_hint < progress.match) progress.lost(message.reject_hint);
  progress.probeSent = false;
  if (progress.match < state.log.lastIndex || progress.state === 'probe') {
    const full = progress.state === 'replicate' && progress.inflight.full;
    if (full) sendProbeThroughWindow(state, message.from, progress);
    else sendAppend(state, message.from, true);
  }
  state.reads.acknowledge(message.from, message.context);
  releaseReads(state);
}

/** One tick of a leader: check of the quorum, heartbeats, forgotten snapshots, forgotten transfers. */
export function tickLeader(state: RaftState): void {
  state.heartbeatElapsed++;
  state.electionElapsed++;
  for (const progress of state.progress.values()) {
    if (progress.state !== 'snapshot' || ++progress.snapshotTicks < state.options.snapshotRetryTicks) continue;
    progress.snapshotFailed();
    progress.becomeProbe();
  }
  if (state.electionElapsed >= state.electionTicks) {
    state.electionElapsed = 0;
    state.transferee = NONE;
    if (!checkQuorum(state)) {
      becomeFollower(state, state.term, NONE);
      return;
    }
  }
  // A new leader may have found a joint membership.
  maybeAutoLeave(state);
  if (state.options.commitAtTick === true) tellOldCommits(state);
  if (state.heartbeatElapsed < state.heartbeatTicks) return;
  state.heartbeatElapsed = 0;
  broadcastHeartbeat(state);
}

/** Where entries follow each other closely they have brought the commit index of the last tick everywhere. */
function tellOldCommits(state: RaftState): void {
  for (const to of state.peers) {
    const progress = must(state.progress.get(to), 'progress of a peer');
    if (progress.sentCommit < state.committedAtTick) sendCommit(state, to, progress);
  }
  state.committedAtTick = state.log.committed;
}

/** Whether a quorum was heard of since the last check (thesis §6.2: a leader that is cut off steps down). */
function checkQuorum(state: RaftState): boolean {
  const active = hasQuorum(state.quorum, (id) => id === state.id || state.progress.get(id)?.recentActive === true);
  for (const [id, progress] of state.progress) progress.recentActive = id === state.id;
  return active;
}

/** Begins to hand the lead to `target` (thesis §3.10): it first gets all entries, then a MsgTimeoutNow. */
export function startTransfer(state: RaftState, target: number): void {
  const progress = state.progress.get(target);
  if (progress === undefined) return;
  state.transferee = target;
  // The target may campaign at any time from now on, and voters will not mind the lease.
  state.leaseBroken = true;
  state.electionElapsed = 0;
  if (progress.match === state.log.lastIndex) state.send({ type: RaftMessageType.MsgTimeoutNow, to: target });
  else sendAppend(state, target, false);
}
