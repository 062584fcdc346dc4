import { assert, must, ShoalError } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftConfChangeV2, RaftEntryType, RaftMember } from '../proto/index.ts';
import type { RaftConfState, RaftEntry } from '../proto/index.ts';
import { isJoint, membershipAfter, membershipOf, membersOf, type Membership } from './core/index.ts';
import type { LogWrite, RaftStorage, RecoveredLog } from './storage.ts';

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

function leaveJoint(term: number, index: number): RaftEntry {
  const data = RaftConfChangeV2.encode(RaftConfChangeV2.create({ changes: [] }));
  return { type: RaftEntryType.EntryConfChangeV2, term, index, data };
}

function writeTo(storage: RaftStorage, batch: LogWrite): Promise<void> {
  return new Promise((resolve, reject) => {
    storage.write(batch, (error) => {
      if (error === null || error === undefined) resolve();
      else reject(error);
    });
  });
}

/** Writes the first entry of a new group. */
export async function bootstrapLog(storage: RaftStorage, member: RaftMember): Promise<RecoveredLog> {
  const entries = [addMember(member, 1, 1)];
  const hardState = { term: 1, vote: 0, commit: 1 };
  await writeTo(storage, { snapshot: null, entries, hardState, repaired: false });
  return { hardState, snapshot: null, entries, repair: null };
}

/** Who takes part according to a log, every entry of which counts. */
export function membershipIn(found: RecoveredLog): Membership {
  let membership = membershipOf(found.snapshot?.metadata?.conf_state ?? (null as RaftConfState | null));
  for (const entry of found.entries) membership = membershipAfter(membership, entry);
  return membership;
}

/**
 * Makes `member` the only one: keeps every entry (some may have been acknowledged although this disk does not know that
 * they were committed), commits them, and appends the changes that remove all others. What a damaged log lost is given
 * up: nobody is left to have it.
 */
export async function forceSingleMember(
  storage: RaftStorage,
  found: RecoveredLog,
  member: RaftMember,
): Promise<RecoveredLog> {
  const last = found.entries.at(-1)?.index ?? found.snapshot?.metadata?.index ?? 0;
  if (last === 0) {
    throw found.repair === null
      ? new ShoalError('FailedPrecondition', 'this manager has no raft log to make a new cluster from')
      : new ShoalError('DataLoss', `nothing is left of the raft log (${found.repair.reason}): put back a backup of it`);
  }
  const term = must(found.hardState, 'hard state of a log with entries').term + 1;
  const membership = membershipIn(found);
  const added: RaftEntry[] = [];
  if (isJoint(membership)) added.push(leaveJoint(term, last + 1));
  added.push(addMember(member, term, last + 1 + added.length));
  const present = added.reduce(membershipAfter, membership);
  for (const id of membersOf(present)) {
    if (id === member.raft_id) continue;
    const change = { type: RaftConfChangeType.ConfChangeRemoveNode, node_id: id };
    added.push(changeEntry(change, term, last + 1 + added.length));
  }
  const hardState = { term, vote: 0, commit: last + added.length };
  await writeTo(storage, { snapshot: null, entries: added, hardState, repaired: found.repair !== null });
  const entries = [...found.entries, ...added];
  assert(entries.at(-1)?.index === hardState.commit, 'all entries are committed');
  return { ...found, hardState, entries, repair: null };
}
