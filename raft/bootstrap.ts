import { assert, must, ShoalError } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftEntryType, RaftMember } from '../proto/index.ts';
import type { RaftConfState, RaftEntry } from '../proto/index.ts';
import { changeMembership, membershipOf } from './core/index.ts';
import type { RaftStorage, RecoveredLog } from './storage.ts';

/** How a member starts. */
export type StartMode =
  /** The first voter of a new group; its first entry adds it. */
  | { kind: 'bootstrap'; member: RaftMember }
  /** An empty log; the leader, which has added this member, fills it. */
  | { kind: 'join' }
  /** From the log on the disk. */
  | { kind: 'restart' }
  /** From the log on the disk, but as the only member: after the loss of a majority. */
  | { kind: 'force-new-cluster'; member: RaftMember };

function changeEntry(change: Partial<RaftConfChange>, term: number, index: number): RaftEntry {
  const data = RaftConfChange.encode(RaftConfChange.create({ ...change, id: index }));
  return { type: RaftEntryType.EntryConfChange, term, index, data };
}

function addMember(member: RaftMember, term: number, index: number): RaftEntry {
  const change = { type: RaftConfChangeType.ConfChangeAddNode, node_id: member.raft_id };
  return changeEntry({ ...change, context: RaftMember.encode(member) }, term, index);
}

/** Writes the first entry of a new group. */
export function bootstrapLog(storage: RaftStorage, member: RaftMember): RecoveredLog {
  const entries = [addMember(member, 1, 1)];
  const hardState = { term: 1, vote: 0, commit: 1 };
  storage.append(entries, hardState, true);
  return { hardState, snapshot: null, entries };
}

/**
 * Makes `member` the only one: keeps every entry (some may have been acknowledged although this disk does not know that
 * they were committed), commits them, and appends the changes that remove all others.
 */
export function forceSingleMember(storage: RaftStorage, found: RecoveredLog, member: RaftMember): RecoveredLog {
  const last = found.entries.at(-1)?.index ?? found.snapshot?.metadata?.index ?? 0;
  if (last === 0) {
    throw new ShoalError('FailedPrecondition', 'this manager has no raft log to make a new cluster from');
  }
  const term = must(found.hardState, 'hard state of a log with entries').term + 1;
  let membership = membershipOf(found.snapshot?.metadata?.conf_state ?? (null as RaftConfState | null));
  for (const entry of found.entries) {
    if (entry.type !== RaftEntryType.EntryConfChange) continue;
    membership = changeMembership(membership, RaftConfChange.decode(entry.data));
  }
  const others = [...membership.voters, ...membership.learners].filter((id) => id !== member.raft_id);
  const added = [addMember(member, term, last + 1)];
  for (const id of others) {
    const change = { type: RaftConfChangeType.ConfChangeRemoveNode, node_id: id };
    added.push(changeEntry(change, term, last + 1 + added.length));
  }
  const hardState = { term, vote: 0, commit: last + added.length };
  storage.append(added, hardState, true);
  const entries = [...found.entries, ...added];
  assert(entries.at(-1)?.index === hardState.commit, 'all entries are committed');
  return { hardState, snapshot: found.snapshot, entries };
}
