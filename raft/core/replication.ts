import { assert, must } from '../../base/index.ts';
import { RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import type { Progress } from './progress.ts';
import { quorumValue } from './quorum.ts';
import type { RaftState } from './state.ts';

const NO_CONTEXT = new Uint8Array(0);
const NO_ENTRIES: RaftEntry[] = [];

/**
 * Sends what a follower lacks, if its progress allows: an append, or the snapshot when the log no longer reaches back.
 * @param evenEmpty also send an append without entries (it carries the commit index or probes).
 * @returns whether anything was sent.
 */
export function sendAppend(state: RaftState, to: number, evenEmpty: boolean): boolean {
  const progress = must(state.progress.get(to), 'progress of a peer');
  if (progress.paused) return false;
  const { log } = state;
  if (!evenEmpty && progress.next > log.lastIndex) return false;
  if (log.term(progress.next - 1) === undefined) return sendSnapshot(state, to, progress);
  const entries =
    progress.next > log.lastIndex ? NO_ENTRIES : log.slice(progress.next, log.lastIndex, state.options.maxAppendBytes);
  sendEntries(state, to, progress, progress.next - 1, entries);
  return true;
}

function sendEntries(state: RaftState, to: number, progress: Progress, index: number, entries: RaftEntry[]): void {
  const log_term = must(state.log.term(index), 'term of the entry before an append');
  const commit = state.log.committed;
  let bytes = 0;
  for (const entry of entries) bytes += entry.data.length;
  progress.sent(entries.length, bytes, commit);
  state.send({ type: RaftMessageType.MsgApp, to, index, log_term, entries, commit });
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

/** Sends all that a follower lacks, as far as its window allows. */
export function sendAll(state: RaftState, to: number): void {
  for (let i = 0; i < state.options.maxInflightMessages; i++) if (!sendAppend(state, to, false)) return;
}

/**
 * An empty append through a full window, whose messages may be lost: if they are, it is refused, and the follower is
 * probed; if they are not, it is accepted. The window does not grow.
 */
export function sendProbeThroughWindow(state: RaftState, to: number, progress: Progress): void {
  // Behind the log's beginning nothing can be asked; who lost messages from there gets the snapshot after its refusal.
  sendEntries(state, to, progress, Math.max(progress.next - 1, state.log.offset), NO_ENTRIES);
}

/** Tells the commit index, unless the peer knows it; who was just sent entries does. */
export function sendCommit(state: RaftState, to: number, progress: Progress): void {
  if (progress.sentCommit < state.log.committed) sendAppend(state, to, true);
}

/** Sends what became due since the last turn: entries and the commit index, and heartbeats for reads. */
export function flush(state: RaftState): void {
  const { due } = state;
  state.due = 'nothing';
  if (due !== 'nothing') {
    for (const to of state.peers) {
      const progress = must(state.progress.get(to), 'progress of a peer');
      sendAll(state, to);
      if (due === 'commit') sendCommit(state, to, progress);
    }
  }
  if (state.heartbeatDue) broadcastHeartbeat(state);
}

/** New entries are in the log. */
export function entriesDue(state: RaftState): void {
  if (state.due === 'nothing') state.due = 'entries';
}

/** Tells the peers that the leader lives, and how far a follower may commit of what it surely holds. */
export function broadcastHeartbeat(state: RaftState): void {
  state.heartbeatDue = false;
  const context = state.reads.beginRound(state.now);
  for (const to of state.peers) {
    const progress = must(state.progress.get(to), 'progress of a peer');
    const commit = Math.min(progress.match, state.log.committed);
    state.send({ type: RaftMessageType.MsgHeartbeat, to, commit, context });
  }
}

/**
 * Moves the commit index to what a quorum holds, but only by counting an entry of the own term; earlier entries follow
 * with it (Raft §5.4.2). @returns whether it moved.
 */
export function maybeCommit(state: RaftState): boolean {
  const { log } = state;
  const index = quorumValue(state.quorum, (id) => state.progress.get(id)?.match ?? 0);
  if (index <= log.committed) return false;
  // Entries of earlier terms are not committed by counting: a later leader could still overwrite them (figure 8).
  if (log.term(index) !== state.term) return false;
  // A member that is removed is no peer any more at the next tick.
  let urgent = state.options.commitAtTick !== true;
  for (let i = log.committed + 1; i <= index; i++) {
    const { data, type } = must(log.entry(i), 'committed entry');
    state.uncommittedBytes -= data.length;
    if (type !== RaftEntryType.EntryNormal) urgent = true;
  }
  log.commitTo(index);
  if (urgent) state.due = 'commit';
  releaseHeldReads(state);
  return true;
}

/** Serves reads that waited for this leader's first commit. */
function releaseHeldReads(state: RaftState): void {
  if (state.heldReads.length === 0 || !state.committedInTerm) return;
  const held = state.heldReads;
  state.heldReads = [];
  for (const read of held) beginRead(state, read.from, read.context);
}

/** Starts the confirmation of one read at the leader (thesis §6.4); those of one turn share a round of heartbeats. */
export function beginRead(state: RaftState, from: number, context: Uint8Array): void {
  if (!state.reads.add(state.log.committed, from, context)) return;
  releaseReads(state);
  if (state.reads.length > 0) state.heartbeatDue = true;
}

/** Answers the reads that a quorum has confirmed. */
export function releaseReads(state: RaftState): void {
  for (const read of state.reads.release(state.quorum, state.id)) {
    if (read.from === state.id) state.readStates.push({ index: read.index, context: read.context });
    else {
      state.send({ type: RaftMessageType.MsgReadIndexResp, to: read.from, index: read.index, context: read.context });
    }
  }
}
