import { assert, must } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import { committedIndex } from './quorum.ts';
import { encodeSequence } from './read-queue.ts';
import type { Progress } from './progress.ts';
import type { RaftState } from './state.ts';

const NO_CONTEXT = new Uint8Array(0);

/**
 * Sends what a follower lacks, if its progress allows: an append, or the snapshot when the log no longer reaches back.
 * @param evenEmpty also send an append without entries (it carries the commit index or probes).
 * @returns whether anything was sent.
 */
export function sendAppend(state: RaftState, to: number, evenEmpty: boolean): boolean {
  const progress = must(state.progress.get(to), 'progress of a peer');
  if (progress.paused) return false;
  const previous = progress.next - 1;
  const previousTerm = state.log.term(previous);
  if (previousTerm === undefined) return sendSnapshot(state, to, progress);
  const entries =
    progress.next > state.log.lastIndex
      ? []
      : state.log.slice(progress.next, state.log.lastIndex, state.options.maxAppendBytes);
  if (entries.length === 0 && !evenEmpty) return false;
  progress.sent(previous + entries.length);
  state.send({
    type: RaftMessageType.MsgApp,
    to,
    index: previous,
    log_term: previousTerm,
    entries,
    commit: state.log.committed,
  });
  return true;
}

/** The message carries only the metadata; the driver fills in the data of its newest snapshot. */
function sendSnapshot(state: RaftState, to: number, progress: Progress): boolean {
  // A silent peer would only fill the transport; the next answer of any kind tries again.
  if (!progress.recentActive) return false;
  const metadata = must(state.snapshot, 'a snapshot behind a compacted log');
  assert(metadata.index >= state.log.offset, 'the snapshot reaches to where the log begins');
  progress.becomeSnapshot(metadata.index);
  state.send({ type: RaftMessageType.MsgSnap, to, snapshot: { data: NO_CONTEXT, metadata } });
  return true;
}

export function broadcastAppend(state: RaftState, evenEmpty = true): void {
  for (const id of state.peers()) sendAppend(state, id, evenEmpty);
}

/** Tells the peers that the leader lives, and how far a follower may commit of what it surely holds. */
export function broadcastHeartbeat(state: RaftState): void {
  const newest = state.reads.newest;
  const context = newest === 0 ? NO_CONTEXT : encodeSequence(newest);
  for (const to of state.peers()) {
    const match = must(state.progress.get(to), 'progress of a peer').match;
    const commit = Math.min(match, state.log.committed);
    state.send({ type: RaftMessageType.MsgHeartbeat, to, commit, context });
  }
}

/**
 * Moves the commit index to what a majority holds, but only by counting an entry of the own term; earlier entries
 * follow with it (Raft §5.4.2). @returns whether it moved.
 */
export function maybeCommit(state: RaftState): boolean {
  const index = committedIndex(state.membership.voters, (id) => state.progress.get(id)?.match ?? 0);
  if (index <= state.log.committed || state.log.term(index) !== state.term) return false;
  state.log.commitTo(index);
  return true;
}

/** Serves reads that waited for this leader's first commit. */
export function releaseHeldReads(state: RaftState): void {
  if (state.heldReads.length === 0 || !state.committedInTerm) return;
  const held = state.heldReads;
  state.heldReads = [];
  for (const read of held) beginRead(state, read.from, read.context);
}

/** Starts the confirmation of one read at the leader (thesis §6.4). */
export function beginRead(state: RaftState, from: number, context: Uint8Array): void {
  if (!state.reads.add(state.log.committed, from, context)) return;
  releaseReads(state);
  if (state.reads.length > 0) broadcastHeartbeat(state);
}

/** Answers the reads that a majority has confirmed. */
export function releaseReads(state: RaftState): void {
  for (const read of state.reads.release(state.membership.voters, state.id)) {
    if (read.from === state.id) state.readStates.push({ index: read.index, context: read.context });
    else {
      state.send({ type: RaftMessageType.MsgReadIndexResp, to: read.from, index: read.index, context: read.context });
    }
  }
}
