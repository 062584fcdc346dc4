import { unreachable } from '../base/index.ts';
import {
  InternalRaftRequest,
  RaftConfChange,
  RaftConfChangeType,
  RaftConfChangeV2,
  RaftEntryType,
  StoreActionKind,
  type RaftConfState,
  type RaftEntry,
  type StoreAction,
} from '../proto/index.ts';
import type { LogInspection } from '../raft/index.ts';

/** Actions of one entry that are shown. */
const ACTIONS_SHOWN_MAX = 6;
/** Terms that are shown to people, the newest. */
const TERMS_SHOWN_MAX = 8;

const OBJECTS = [
  'node',
  'service',
  'task',
  'network',
  'cluster',
  'secret',
  'resource',
  'extension',
  'config',
  'volume',
  'task_patch',
  'revision',
] as const satisfies readonly (keyof StoreAction)[];

const KINDS: Readonly<Record<StoreActionKind, string>> = {
  [StoreActionKind.UNKNOWN]: 'unknown',
  [StoreActionKind.STORE_ACTION_CREATE]: 'create',
  [StoreActionKind.STORE_ACTION_UPDATE]: 'update',
  [StoreActionKind.STORE_ACTION_REMOVE]: 'remove',
};

const CHANGES: Readonly<Record<RaftConfChangeType, string>> = {
  [RaftConfChangeType.ConfChangeAddNode]: 'add voter',
  [RaftConfChangeType.ConfChangeRemoveNode]: 'remove',
  [RaftConfChangeType.ConfChangeUpdateNode]: 'update',
  [RaftConfChangeType.ConfChangeAddLearnerNode]: 'add learner',
};

const id = (value: number): string => value.toString(16);
const ids = (values: readonly number[]): string => (values.length === 0 ? 'none' : values.map(id).join(', '));

function typeName({ type, data }: RaftEntry): string {
  switch (type) {
    case RaftEntryType.EntryNormal:
      return data.length === 0 ? 'empty' : 'normal';
    case RaftEntryType.EntryConfChange:
      return 'conf-change';
    case RaftEntryType.EntryConfChangeV2:
      return 'conf-change-v2';
    default:
      return unreachable(type);
  }
}

/** What an entry does, in words; never the content of objects, which may be secret. */
function contentOf(entry: RaftEntry): string[] {
  try {
    switch (entry.type) {
      case RaftEntryType.EntryNormal:
        return entry.data.length === 0 ? [] : InternalRaftRequest.decode(entry.data).action.map(actionWords);
      case RaftEntryType.EntryConfChange: {
        const change = RaftConfChange.decode(entry.data);
        return [`${CHANGES[change.type]} ${id(change.node_id)}`];
      }
      case RaftEntryType.EntryConfChangeV2: {
        const { changes } = RaftConfChangeV2.decode(entry.data);
        if (changes.length === 0) return ['leave joint membership'];
        return changes.map((change) => `${CHANGES[change.type]} ${id(change.node_id)}`);
      }
      default:
        return unreachable(entry.type);
    }
  } catch {
    return ['not readable'];
  }
}

function actionWords(action: StoreAction): string {
  const what = OBJECTS.find((name) => action[name] !== undefined && action[name] !== null) ?? 'nothing';
  return `${KINDS[action.action]} ${what === 'task_patch' ? 'task' : what}`;
}

/** Equal words once, with their number. */
function summed(words: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  const shown = [...counts].slice(0, ACTIONS_SHOWN_MAX).map(([word, n]) => (n === 1 ? word : `${n} × ${word}`));
  if (counts.size > ACTIONS_SHOWN_MAX) shown.push('…');
  return shown.join(', ');
}

function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd((widths[i] ?? 0) + 3))).join('');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}

/** Runs of one term: `3 (401–450)`. */
function termRuns(entries: readonly RaftEntry[]): string[] {
  const runs: { term: number; from: number; to: number }[] = [];
  for (const { term, index } of entries) {
    const last = runs.at(-1);
    if (last?.term === term) last.to = index;
    else runs.push({ term, from: index, to: index });
  }
  return runs.map(({ term, from, to }) => `${term} (${from === to ? from : `${from}–${to}`})`);
}

function termWords(entries: readonly RaftEntry[]): string {
  const runs = termRuns(entries);
  const shown = runs.slice(-TERMS_SHOWN_MAX);
  if (shown.length < runs.length) shown.unshift(`${runs.length - shown.length} older`);
  return shown.join(', ') || 'none';
}

function keyWords(keyIds: readonly number[]): string {
  return keyIds.map((key) => (key === 0 ? 'clear' : String(key))).join(', ');
}

function range(from: number, to: number): string {
  return from === 0 ? 'none' : `${from}–${to}`;
}

function membershipWords(state: RaftConfState | null): string {
  if (state === null) return 'not known: the snapshot that it builds on cannot be read';
  const parts = [`voters ${ids(state.voters)}`, `learners ${ids(state.learners)}`];
  if (state.voters_outgoing.length > 0) parts.push(`leaving (joint) ${ids(state.voters_outgoing)}`);
  if (state.learners_next.length > 0) parts.push(`learners next ${ids(state.learners_next)}`);
  return parts.join('; ');
}

function stateLines(found: LogInspection): string[][] {
  const { hardState, voteFile, entries, begin, repair, end } = found;
  const first = entries[0]?.index ?? 0;
  const last = entries.at(-1)?.index ?? begin.index;
  const lines = [
    ['Member', found.nodeId === null ? 'not known' : id(found.nodeId)],
    [
      'Hard state',
      hardState === null
        ? 'not known'
        : `term ${hardState.term}, vote ${hardState.vote === 0 ? 'none' : id(hardState.vote)}, commit ${hardState.commit}`,
    ],
    [
      'Vote file',
      voteFile === null
        ? 'missing or damaged'
        : `term ${voteFile.term}, vote ${voteFile.vote === 0 ? 'none' : id(voteFile.vote)}, ${voteFile.goodSlots} of 2 slots good`,
    ],
    ['Snapshot', begin.index === 0 ? 'none' : `index ${begin.index}, term ${begin.term}`],
    ['Entries', entries.length === 0 ? 'none' : `${range(first, last)} (${entries.length})`],
    ['Terms', termWords(entries)],
    ['Membership', membershipWords(found.membership)],
    ['Stops at', `${end.path}, offset ${end.offset}: ${end.reason}`],
  ];
  if (repair !== null) {
    const floor = repair.floor === null ? 'what a leader has committed' : `at least index ${repair.floor}`;
    lines.push(['Repair', `${repair.reason}; a start fetches from the leader ${floor} before it votes again`]);
  }
  for (const { path, offset, reason } of found.damages) lines.push(['Damage', `${path}, offset ${offset}: ${reason}`]);
  if (found.aside.length > 0) lines.push(['Set aside', found.aside.join(', ')]);
  if (found.refusal !== null) lines.push(['Refused', found.refusal]);
  return lines;
}

/** A log for people. */
export function raftLogText(dir: string, found: LogInspection, withEntries: boolean): string {
  const segments = [
    ['SEGMENT', 'FRAMES', 'NUMBERS', 'ENTRIES', 'BYTES USED', 'KEY'],
    ...found.segments.map((one) => [
      one.path,
      String(one.frames),
      range(one.firstSequence, one.lastSequence),
      range(one.firstIndex, one.lastIndex),
      String(one.usedBytes),
      keyWords(one.keyIds),
    ]),
  ];
  const snapshots = [
    ['SNAPSHOT', 'INDEX', 'TERM', 'BYTES', 'KEY', 'STATE'],
    ...found.snapshots.map((one) => {
      const numbers = [String(one.index), String(one.term), String(one.bytes), keyWords([one.keyId])];
      return [one.path, ...numbers, one.problem ?? 'good'];
    }),
  ];
  const parts = [
    `Raft log ${dir}\n`,
    table(stateLines(found).map(([name, text]) => [`${name}:`, text ?? ''])),
    table(segments),
  ];
  if (snapshots.length > 1) parts.push(table(snapshots));
  if (withEntries) {
    const rows = found.entries.map((entry) => {
      const numbers = [String(entry.index), String(entry.term), typeName(entry), String(entry.data.length)];
      return [...numbers, summed(contentOf(entry))];
    });
    parts.push(table([['INDEX', 'TERM', 'TYPE', 'BYTES', 'CONTENT'], ...rows]));
  }
  return parts.join('\n');
}

/** A log for programs: entries only when asked for, and without their data. */
export function raftLogJson(dir: string, found: LogInspection, withEntries: boolean): object {
  const { entries, ...rest } = found;
  return {
    dir,
    ...rest,
    firstIndex: entries[0]?.index ?? 0,
    lastIndex: entries.at(-1)?.index ?? found.begin.index,
    terms: termRuns(entries),
    ...(withEntries
      ? {
          entries: entries.map((entry) => ({
            index: entry.index,
            term: entry.term,
            type: typeName(entry),
            bytes: entry.data.length,
            content: contentOf(entry),
          })),
        }
      : {}),
  };
}
