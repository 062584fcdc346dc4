import { unreachable } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftConfChangeV2, RaftEntryType } from '../../proto/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftConfChangeSingle, RaftEntry, RaftMessage } from '../../proto/index.ts';
import type { LogWrite } from '../storage.ts';
import { confStateOf, type Membership, type Raft } from './index.ts';

/** Test help: what happens in a transcript, in words. An entry or a place in a log is `index/term`. */
const text = (data: Uint8Array): string => new TextDecoder().decode(data);

function partWords({ type, node_id }: RaftConfChangeSingle): string {
  switch (type) {
    case RaftConfChangeType.ConfChangeAddNode:
      return `add ${node_id}`;
    case RaftConfChangeType.ConfChangeAddLearnerNode:
      return `learner ${node_id}`;
    case RaftConfChangeType.ConfChangeRemoveNode:
      return `remove ${node_id}`;
    case RaftConfChangeType.ConfChangeUpdateNode:
      return `update ${node_id}`;
    default:
      return unreachable(type);
  }
}

export function entryWords(entry: RaftEntry): string {
  const at = `${entry.index}/${entry.term}`;
  if (entry.type === RaftEntryType.EntryConfChange) return `${at} ${partWords(RaftConfChange.decode(entry.data))}`;
  if (entry.type === RaftEntryType.EntryConfChangeV2) {
    const { changes } = RaftConfChangeV2.decode(entry.data);
    return changes.length === 0 ? `${at} leave joint` : `${at} joint ${changes.map(partWords).join(' + ')}`;
  }
  const data = text(entry.data);
  if (data.length === 0) return `${at} empty`;
  return data.length > 12 ? `${at} ${data.slice(0, 4)}… (${data.length} bytes)` : `${at} ${data}`;
}

export function entriesWords(entries: readonly RaftEntry[]): string {
  return entries.length === 0 ? 'nothing' : entries.map(entryWords).join(', ');
}

function set(ids: readonly number[]): string {
  return ids.length === 0 ? 'none' : ids.join(' ');
}

export function membershipWords(membership: Membership): string {
  const { voters, learners, voters_outgoing, learners_next, auto_leave } = confStateOf(membership);
  const parts = [`voters ${set(voters)}`];
  if (voters_outgoing.length > 0) parts.push(`and old voters ${set(voters_outgoing)}`);
  if (learners.length > 0) parts.push(`learners ${set(learners)}`);
  if (learners_next.length > 0) parts.push(`learners soon ${set(learners_next)}`);
  if (voters_outgoing.length > 0 && !auto_leave) parts.push('until told to leave');
  return parts.join(', ');
}

function requestWords(message: RaftMessage): string | null {
  const { index, log_term, term } = message;
  const ends = `my log ends at ${index}/${log_term}`;
  // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the rest are answers
  switch (message.type) {
    case RaftMessageType.MsgApp: {
      const after = `append after ${index}/${log_term}`;
      const what = message.entries.length === 0 ? 'nothing new' : entriesWords(message.entries);
      return `${after}: ${what}; commit ${message.commit}`;
    }
    case RaftMessageType.MsgVote:
      return `vote for me in term ${term}, ${ends}${message.context.length > 0 ? ', the leader asked me' : ''}`;
    case RaftMessageType.MsgPreVote:
      return `would you vote for me in term ${term}? ${ends}`;
    case RaftMessageType.MsgSnap:
      return `snapshot ${message.snapshot?.metadata?.index}/${message.snapshot?.metadata?.term}`;
    case RaftMessageType.MsgHeartbeat:
      return `heartbeat; commit ${message.commit}`;
    case RaftMessageType.MsgTimeoutNow:
      return 'take the lead now';
    case RaftMessageType.MsgReadIndex:
      return `where may ${text(message.context)} be read?`;
    default:
      return null;
  }
}

function answerWords(message: RaftMessage): string {
  const { index, log_term, reject, reject_hint, term } = message;
  // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the rest are requests
  switch (message.type) {
    case RaftMessageType.MsgAppResp:
      if (reject) return `nothing of mine matches after ${index}; we may agree at ${reject_hint}/${log_term}`;
      return index === 0 ? `the term is ${term}` : `I hold all up to ${index}`;
    case RaftMessageType.MsgHeartbeatResp:
      return reject ? `heard you; my log was damaged and ends at ${reject_hint}` : 'heard you';
    case RaftMessageType.MsgVoteResp:
      return reject ? 'no vote for you' : `my vote of term ${term} is yours`;
    case RaftMessageType.MsgPreVoteResp:
      return reject ? `I would not vote for you, the term is ${term}` : `I would vote for you in term ${term}`;
    case RaftMessageType.MsgReadIndexResp:
      return `${text(message.context)} may be read at ${index}`;
    default:
      return `message ${message.type}`;
  }
}

export function messageWords(message: RaftMessage): string {
  return `${message.from} → ${message.to}: ${requestWords(message) ?? answerWords(message)}`;
}

export function writeWords(write: LogWrite): string {
  const { term, vote, commit } = write.hardState;
  const parts = [`term ${term}`, `vote ${vote === 0 ? 'none' : vote}`, `commit ${commit}`];
  if (write.snapshot !== null)
    parts.push(`snapshot ${write.snapshot.metadata?.index}/${write.snapshot.metadata?.term}`);
  if (write.entries.length > 0) parts.push(`entries ${entriesWords(write.entries)}`);
  if (write.repaired) parts.push('repaired');
  return parts.join(', ');
}

export function statusWords(core: Raft): string {
  const leader = core.leaderId === 0 ? 'no leader' : `leader ${core.leaderId}`;
  const done = `durable ${core.durable}, commit ${core.commit}, applied ${core.applied}`;
  const log = `log ${core.firstIndex}–${core.lastIndex}, ${done}`;
  const damaged = core.repairReason === null ? '' : ', damaged';
  return `${core.role} of term ${core.term}, ${leader}, ${log}, ${membershipWords(core.membership)}${damaged}`;
}

export function progressWords(core: Raft, id: number): string {
  const progress = core.progress.get(id);
  if (progress === undefined) return 'unknown';
  const { state, match, next, inflight, probeSent, paused } = progress;
  const onTheWay = inflight.count > 0 ? `, ${inflight.count} appends (${inflight.bytes} bytes) on their way` : '';
  const pause = paused ? (probeSent ? ', waits for an answer' : ', paused') : '';
  return `${state}, match ${match}, next ${next}${onTheWay}${pause}`;
}
