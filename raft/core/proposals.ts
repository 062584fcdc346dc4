import { assert } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeV2, RaftEntryType } from '../../proto/index.ts';
import { confChangeProblem, jointChangeProblem } from './conf-change.ts';
import { appendOwn } from './roles.ts';
import type { RaftState } from './state.ts';
import { ENTRY_BYTES_MAX, NONE, UNCOMMITTED_BYTES_MAX, type ProposalResult, type Refusal } from './types.ts';

function refused(refusal: Refusal, detail: string): ProposalResult {
  return { accepted: false, refusal, detail };
}

function leadProblem(state: RaftState): ProposalResult | undefined {
  if (state.role !== 'leader') return refused('not-leader', `member ${state.id} does not lead`);
  if (!state.progress.has(state.id)) return refused('not-leader', `member ${state.id} was removed`);
  if (state.transferee !== NONE) return refused('transferring', `the lead passes to member ${state.transferee}`);
  return undefined;
}

/** Proposes entries; they are taken all or none. */
export function propose(state: RaftState, items: readonly Uint8Array[]): ProposalResult {
  assert(items.length > 0, 'a proposal has entries');
  const problem = leadProblem(state);
  if (problem !== undefined) return problem;
  const entryMax = state.options.maxEntryBytes ?? ENTRY_BYTES_MAX;
  let bytes = 0;
  for (const { length } of items) {
    if (length > entryMax) return refused('too-large', `an entry of ${length} bytes; the limit is ${entryMax}`);
    bytes += length;
  }
  const uncommittedMax = state.options.maxUncommittedBytes ?? UNCOMMITTED_BYTES_MAX;
  // One batch always gets through, so that the bound does not forbid any size for good.
  if (bytes > 0 && state.uncommittedBytes > 0 && state.uncommittedBytes + bytes > uncommittedMax) {
    return refused('too-much-uncommitted', `${state.uncommittedBytes} bytes of entries wait to be committed`);
  }
  return accepted(state, appendOwn(state, RaftEntryType.EntryNormal, items));
}

function accepted(state: RaftState, index: number): ProposalResult {
  return { accepted: true, index, term: state.term };
}

/** One at a time, and only after an entry of the own term is committed (thesis §4.1, and its correction of 2015). */
function confProblem(state: RaftState): ProposalResult | undefined {
  const problem = leadProblem(state);
  if (problem !== undefined) return problem;
  if (!state.committedInTerm) return refused('not-ready', 'this leader has not committed an entry of its term yet');
  if (state.pendingConfIndex > state.log.applied) {
    return refused('conf-change-pending', `the change at ${state.pendingConfIndex} is not applied yet`);
  }
  return undefined;
}

/** Proposes one change of membership by a single step. */
export function proposeConfChange(state: RaftState, change: RaftConfChange): ProposalResult {
  const problem = confProblem(state);
  if (problem !== undefined) return problem;
  if (state.membership.outgoing.size > 0) return refused('conf-change-pending', 'a joint change is under way');
  const invalid = confChangeProblem(state.membership, change);
  if (invalid !== undefined) return refused('invalid', invalid);
  const data = RaftConfChange.encode(change);
  return accepted(state, (state.pendingConfIndex = appendOwn(state, RaftEntryType.EntryConfChange, [data])));
}

/** Proposes to enter a joint membership, or to leave an explicit one (a change without parts). */
export function proposeJointChange(state: RaftState, change: RaftConfChangeV2): ProposalResult {
  const problem = confProblem(state);
  if (problem !== undefined) return problem;
  if (state.membership.outgoing.size > 0 && change.changes.length > 0) {
    return refused('conf-change-pending', 'a joint change is under way');
  }
  const invalid = jointChangeProblem(state.membership, change);
  if (invalid !== undefined) return refused('invalid', invalid);
  const data = RaftConfChangeV2.encode(change);
  return accepted(state, (state.pendingConfIndex = appendOwn(state, RaftEntryType.EntryConfChangeV2, [data])));
}
