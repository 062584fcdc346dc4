import { assert, must } from '../../base/index.ts';
import { RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import { membersOf } from './conf-change.ts';
import { Inflight } from './inflight.ts';
import { Progress } from './progress.ts';
import { voteResult } from './quorum.ts';
import { entriesDue } from './replication.ts';
import type { RaftState } from './state.ts';
import { INFLIGHT_BYTES_MAX, NONE } from './types.ts';
import { CAMPAIGN_TRANSFER } from './votes.ts';

export type Campaign = 'pre-election' | 'election' | 'transfer';

export function becomeFollower(state: RaftState, term: number, leaderId: number): void {
  state.reset(term);
  state.role = 'follower';
  state.leaderId = leaderId;
}

function becomePreCandidate(state: RaftState): void {
  assert(state.role !== 'leader', 'a leader does not campaign');
  // Neither term nor vote change: a pre-vote only asks (thesis §9.6).
  state.role = 'pre-candidate';
  state.votes = new Map();
  state.leaderId = NONE;
  state.randomizeTimeout();
}

function becomeCandidate(state: RaftState): void {
  assert(state.role !== 'leader', 'a leader does not campaign');
  state.reset(state.term + 1);
  state.role = 'candidate';
  state.setVote(state.id);
}

/** Takes the lead and appends the empty entry that lets earlier entries commit (Raft §8). */
function becomeLeader(state: RaftState): void {
  assert(state.role === 'candidate', 'leaders come from candidates');
  state.reset(state.term);
  state.role = 'leader';
  state.leaderId = state.id;
  syncProgress(state);
  const { log } = state;
  // Any conf change in the log may be uncommitted: none may be proposed before all of them are applied.
  state.pendingConfIndex = log.lastIndex;
  for (let i = log.committed + 1; i <= log.lastIndex; i++) {
    state.uncommittedBytes += must(log.entry(i), 'uncommitted entry').data.length;
  }
  appendOwn(state, RaftEntryType.EntryNormal, [new Uint8Array(0)]);
}

/** Gives new members a progress and drops that of removed ones. */
export function syncProgress(state: RaftState): void {
  const { options, log } = state;
  const members = new Set(membersOf(state.membership));
  for (const id of state.progress.keys()) if (!members.has(id)) state.progress.delete(id);
  for (const id of members) {
    if (state.progress.has(id)) continue;
    // What this member itself holds counts as far as it is durable.
    const match = id === state.id ? log.durable : 0;
    const inflight = new Inflight(options.maxInflightMessages, options.maxInflightBytes ?? INFLIGHT_BYTES_MAX);
    // Counted as active until the next check, so that a new member does not cost the leader its quorum.
    state.progress.set(id, new Progress(match, log.lastIndex + 1, inflight, true));
  }
}

/** Appends entries of the own term; they count for the commit once they are durable. @returns index of the first. */
export function appendOwn(state: RaftState, type: RaftEntryType, items: readonly Uint8Array[]): number {
  assert(state.role === 'leader', 'only a leader appends of its own accord');
  const { log, term } = state;
  const first = log.lastIndex + 1;
  const entries: RaftEntry[] = items.map((data, i) => ({ type, term, index: first + i, data }));
  for (const { data } of entries) state.uncommittedBytes += data.length;
  log.append(entries);
  entriesDue(state);
  return first;
}

/** Begins an election, unless this member may not win one. */
export function campaign(state: RaftState, kind: Campaign): void {
  if (state.role === 'leader' || !state.promotable) return;
  // A committed change of membership that is not applied yet might take away the right to campaign.
  if (hasUnappliedConfChange(state)) return;
  state.electionElapsed = 0;
  if (kind === 'pre-election') {
    becomePreCandidate(state);
    if (recordVote(state, state.id, true) === 'pending') askForVotes(state, kind);
    return;
  }
  // The own vote counts once it is durable, as everybody's: see `voteWritten`.
  becomeCandidate(state);
  askForVotes(state, kind);
}

function askForVotes(state: RaftState, kind: Campaign): void {
  const pre = kind === 'pre-election';
  for (const to of state.peers) {
    if (!state.isVoter(to)) continue;
    state.send({
      type: pre ? RaftMessageType.MsgPreVote : RaftMessageType.MsgVote,
      to,
      term: pre ? state.term + 1 : state.term,
      index: state.log.lastIndex,
      log_term: state.log.lastTerm,
      ...(kind === 'transfer' ? { context: CAMPAIGN_TRANSFER } : {}),
    });
  }
}

function hasUnappliedConfChange(state: RaftState): boolean {
  const { log } = state;
  for (let i = Math.max(log.applied, log.offset) + 1; i <= log.committed; i++) {
    if (must(log.entry(i), 'committed entry').type !== RaftEntryType.EntryNormal) return true;
  }
  return false;
}

/** Term and vote are durable: a candidate counts its own. */
export function voteWritten(state: RaftState): void {
  if (state.role === 'candidate' && state.outbox.voteDurable && !state.votes.has(state.id)) {
    recordVote(state, state.id, true);
  }
}

/** Counts a vote; moves on when the election is decided. */
export function recordVote(state: RaftState, from: number, granted: boolean): 'won' | 'lost' | 'pending' {
  if (!state.votes.has(from)) state.votes.set(from, granted);
  const result = voteResult(state.quorum, state.votes);
  if (result === 'won') {
    if (state.role === 'pre-candidate') campaign(state, 'election');
    else becomeLeader(state);
  } else if (result === 'lost') {
    becomeFollower(state, state.term, NONE);
  }
  return result;
}
