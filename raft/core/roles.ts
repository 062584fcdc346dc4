import { assert, must } from '../../base/index.ts';
import { RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import { Progress } from './progress.ts';
import { voteResult } from './quorum.ts';
import { broadcastAppend } from './replication.ts';
import type { RaftState } from './state.ts';
import { NONE } from './types.ts';

/** Context of a MsgVote that follows a leader's request: voters skip the leader lease (thesis §4.2.3). */
export const CAMPAIGN_TRANSFER = new TextEncoder().encode('CampaignTransfer');

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
  state.vote = state.id;
}

/** Takes the lead and appends the empty entry that lets earlier entries commit (Raft §8). */
export function becomeLeader(state: RaftState): void {
  assert(state.role === 'candidate', 'leaders come from candidates');
  state.reset(state.term);
  state.role = 'leader';
  state.leaderId = state.id;
  syncProgress(state);
  // Any conf change in the log may be uncommitted: none may be proposed before all of them are applied.
  state.pendingConfIndex = state.log.lastIndex;
  appendOwn(state, [{ type: RaftEntryType.EntryNormal, data: new Uint8Array(0) }]);
  broadcastAppend(state);
}

/** Gives new members a progress and drops that of removed ones. */
export function syncProgress(state: RaftState): void {
  const { options, log } = state;
  const members = new Set([...state.membership.voters, ...state.membership.learners]);
  for (const id of state.progress.keys()) if (!members.has(id)) state.progress.delete(id);
  for (const id of members) {
    if (state.progress.has(id)) continue;
    const own = id === state.id;
    // Counted as active until the next check, so that a new member does not cost the leader its quorum.
    state.progress.set(
      id,
      own
        ? new Progress(log.stable, log.lastIndex + 1, options.maxInflightMessages, true)
        : new Progress(0, log.lastIndex + 1, options.maxInflightMessages, true),
    );
  }
}

/** Appends entries of the own term; they count for the commit once the driver reports them durable. */
export function appendOwn(state: RaftState, items: readonly { type: RaftEntryType; data: Uint8Array }[]): number {
  assert(state.role === 'leader', 'only a leader appends of its own accord');
  const first = state.log.lastIndex + 1;
  const entries: RaftEntry[] = items.map((item, i) => ({
    type: item.type,
    term: state.term,
    index: first + i,
    data: item.data,
  }));
  state.log.append(entries);
  return first;
}

/** Begins an election, unless this member may not win one. */
export function campaign(state: RaftState, kind: Campaign): void {
  if (state.role === 'leader' || !state.promotable) return;
  // A committed change of membership that is not applied yet might take away the right to campaign.
  if (hasUnappliedConfChange(state)) return;
  state.electionElapsed = 0;
  if (kind === 'pre-election') becomePreCandidate(state);
  else becomeCandidate(state);
  const pre = kind === 'pre-election';
  if (recordVote(state, state.id, true) !== 'pending') return;
  for (const to of state.membership.voters) {
    if (to === state.id) continue;
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
  for (let i = state.log.applied + 1; i <= state.log.committed; i++) {
    if (must(state.log.entry(i), 'committed entry').type !== RaftEntryType.EntryNormal) return true;
  }
  return false;
}

/** Counts a vote; moves on when the election is decided. */
export function recordVote(state: RaftState, from: number, granted: boolean): 'won' | 'lost' | 'pending' {
  if (!state.votes.has(from)) state.votes.set(from, granted);
  const result = voteResult(state.membership.voters, state.votes);
  if (result === 'won') {
    if (state.role === 'pre-candidate') campaign(state, 'election');
    else becomeLeader(state);
  } else if (result === 'lost') {
    becomeFollower(state, state.term, NONE);
  }
  return result;
}
