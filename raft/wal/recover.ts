import { isShoalError, ShoalError } from '../../base/index.ts';
import type { RaftEntry, RaftSnapshot } from '../../proto/index.ts';
import type { LogRepair } from '../storage.ts';
import type { LogDisk } from './disk.ts';
import type { LogKeyRing } from './keys.ts';
import { lastOf, type Damage, type LogState, type Replay } from './replay.ts';
import { listSnapshots, readSnapshot, snapshotPath, type SnapshotId } from './snapshot-file.ts';
import { isNewerVote, type FoundVote } from './vote-file.ts';

/** What is to be made of a log that was read. Nothing was changed yet. */
export interface Verdict {
  term: number;
  vote: number;
  commit: number;
  /** Where the log begins; index 0 without a snapshot. */
  marker: SnapshotId;
  snapshot: RaftSnapshot | null;
  snapshotKeyId: number;
  /** Entries after the marker. */
  entries: RaftEntry[];
  /** Entries up to the marker that are still there. */
  kept: RaftEntry[];
  repair: LogRepair | null;
  /** The segments must give way to one that holds all this. */
  rewrite: boolean;
  /** Damaged files to set aside. */
  aside: string[];
  /** Number of the newest frame that was ever written, as far as is known. */
  sequence: number;
}

interface Sources {
  disk: LogDisk;
  keys: LogKeyRing | null;
  replay: Replay;
  found: FoundVote;
}

/** A snapshot with what can follow it. */
interface Base {
  marker: SnapshotId;
  snapshot: RaftSnapshot | null;
  snapshotKeyId: number;
  entries: RaftEntry[];
  kept: RaftEntry[];
}

const NO_SNAPSHOT: SnapshotId = { index: 0, term: 0 };
const EMPTY: LogState = {
  marker: NO_SNAPSHOT,
  entries: [],
  lastIndex: 0,
  commit: 0,
  repair: null,
  anchored: true,
};
function newLog(): Verdict {
  return {
    term: 0,
    vote: 0,
    commit: 0,
    marker: NO_SNAPSHOT,
    snapshot: null,
    snapshotKeyId: 0,
    entries: [],
    kept: [],
    repair: null,
    rewrite: false,
    aside: [],
    sequence: 0,
  };
}

function describe({ path, offset, reason }: Damage): string {
  return `${path} at offset ${offset}: ${reason}`;
}

function refusal(damage: Damage | undefined): ShoalError {
  const what = damage === undefined ? 'the vote file is damaged' : describe(damage);
  return new ShoalError(
    'DataLoss',
    `raft log: ${what}; what this manager voted for may be lost, so it must not vote again; nothing was changed: ` +
      'remove this manager from the cluster and join it anew, its data is on the other managers',
  );
}

/** The newest term and vote of all good places. @throws ShoalError DataLoss when a newer one may be lost. */
function newestVote({ replay, found }: Sources, endKnown: boolean, damage: Damage | undefined): Vote {
  const logged = replay.newest ?? { term: 0, vote: 0 };
  if (found.vote === null) {
    if (!endKnown || replay.newest === null) throw refusal(damage);
    return { term: logged.term, vote: logged.vote };
  }
  const newest = isNewerVote(found.vote, logged) ? found.vote : logged;
  return { term: newest.term, vote: newest.vote };
}

interface Vote {
  term: number;
  vote: number;
}

/** The damage that hides the end of the log, when the vote file knows of frames that the segments do not have. */
function missingEnd({ replay, found }: Sources): Damage | undefined {
  const sequence = replay.newest?.sequence ?? 0;
  if (found.vote === null || found.vote.sequence <= sequence) return undefined;
  const path = replay.segments.at(-1)?.path ?? 'wal';
  const reason = `the log ends with frame ${sequence}, but frame ${found.vote.sequence} was written`;
  return { path, offset: replay.tail, reason };
}

/** Judges what was read. @throws ShoalError DataLoss when a vote may be lost, FailedPrecondition without keys. */
export function judge(sources: Sources): Verdict {
  const { replay, found } = sources;
  if (replay.segments.length === 0 && (!found.exists || found.vote?.term === 0)) return newLog();
  const missing = missingEnd(sources);
  const damage = replay.damages[0] ?? missing;
  const endKnown = replay.endKnown && missing === undefined;
  const { term, vote } = newestVote(sources, endKnown, damage);
  const rest = { term, vote, sequence: Math.max(replay.newest?.sequence ?? 0, found.vote?.sequence ?? 0) };
  const aside = [...new Set(replay.damages.map(({ path }) => path))];
  if (replay.whole !== null && endKnown) {
    const settled = wholeBase(sources, replay.whole);
    aside.push(...settled.damaged);
    if (settled.base !== null) {
      const { commit, repair } = replay.whole;
      const rewrite = replay.damages.length > 0 || settled.damaged.length > 0;
      return { ...rest, ...settled.base, commit, repair, rewrite, aside };
    }
    const reason = `${settled.damaged[0] ?? ''}: the snapshot is damaged or missing`;
    return { ...rest, ...repaired(sources, replay.whole, aside, { floor: replay.whole.lastIndex, reason }) };
  }
  const floor = endKnown && replay.newest !== null ? replay.newest.lastIndex : null;
  const reason = damage === undefined ? 'the log is damaged' : describe(damage);
  const prefix = replay.whole ?? replay.prefix ?? EMPTY;
  return { ...rest, ...repaired(sources, prefix, aside, { floor, reason }) };
}

/** What two damages need. */
function bothRepairs(fresh: LogRepair, former: LogRepair | null): LogRepair {
  if (former === null) return fresh;
  const floor = fresh.floor === null || former.floor === null ? null : Math.max(fresh.floor, former.floor);
  return { floor, reason: fresh.reason };
}

function repaired(
  sources: Sources,
  prefix: LogState,
  aside: string[],
  fresh: LogRepair,
): Omit<Verdict, 'term' | 'vote' | 'sequence'> {
  const base = bestBase(sources, prefix, aside);
  // As the prefix knew it: what later frames called committed may have replaced entries of the prefix.
  const end = base.entries.at(-1)?.index ?? base.marker.index;
  const commit = Math.max(base.marker.index, Math.min(prefix.commit, end));
  return { ...base, commit, repair: bothRepairs(fresh, sources.replay.repair ?? prefix.repair), rewrite: true, aside };
}

function split(entries: readonly RaftEntry[], index: number): { entries: RaftEntry[]; kept: RaftEntry[] } {
  const at = entries.findIndex((entry) => entry.index > index);
  const cut = at < 0 ? entries.length : at;
  return { kept: entries.slice(0, cut), entries: entries.slice(cut) };
}

/** Whether a log of `entries` can go on from a snapshot: it holds what follows, and agrees on what is in it. */
function continues({ marker, entries }: LogState, id: SnapshotId): boolean {
  const first = entries[0]?.index;
  if (first === undefined || first > id.index + 1) return false;
  const covered = entries[id.index - first];
  return covered === undefined ? first === id.index + 1 || marker?.index === id.index : covered.term === id.term;
}

/** The base of a log without damage: its snapshot, or, should that be damaged, an older one that the log reaches to. */
function wholeBase(sources: Sources, state: LogState): { base: Base | null; damaged: string[] } {
  const marker = state.marker ?? NO_SNAPSHOT;
  if (marker.index === 0) {
    return { base: { marker, snapshot: null, snapshotKeyId: 0, ...split(state.entries, 0) }, damaged: [] };
  }
  const damaged: string[] = [];
  const own = tryRead(sources, marker, damaged);
  if (own !== null) return { base: { marker, ...own, ...split(state.entries, marker.index) }, damaged };
  for (const id of listSnapshots(sources.disk)) {
    if (id.index >= marker.index || !continues(state, id)) continue;
    const older = tryRead(sources, id, damaged);
    if (older !== null) return { base: { marker: id, ...older, ...split(state.entries, id.index) }, damaged };
  }
  if (state.entries[0]?.index === 1) {
    return { base: { marker: NO_SNAPSHOT, snapshot: null, snapshotKeyId: 0, ...split(state.entries, 0) }, damaged };
  }
  return { base: null, damaged };
}

/** Any snapshot holds committed entries only: so the newest good one is the best start of a damaged log. */
function bestBase(sources: Sources, prefix: LogState, aside: string[]): Base {
  for (const marker of listSnapshots(sources.disk)) {
    if (aside.includes(snapshotPath(marker))) continue;
    const read = tryRead(sources, marker, aside);
    if (read === null) continue;
    const isOwn = prefix.marker?.index === marker.index && prefix.marker.term === marker.term;
    const follow = isOwn || continues(prefix, marker);
    return { marker, ...read, ...(follow ? split(prefix.entries, marker.index) : { entries: [], kept: [] }) };
  }
  const fromStart = (prefix.marker?.index ?? 0) === 0 && lastOf(prefix) > 0 && prefix.entries[0]?.index === 1;
  const entries = fromStart ? prefix.entries : [];
  return { marker: NO_SNAPSHOT, snapshot: null, snapshotKeyId: 0, entries, kept: [] };
}

/** A snapshot file, or null when it is damaged or missing; its path is then added to `damaged`. */
function tryRead(
  { disk, keys, replay }: Sources,
  id: SnapshotId,
  damaged: string[],
): { snapshot: RaftSnapshot; snapshotKeyId: number } | null {
  try {
    const { snapshot, keyId } = readSnapshot(disk, id, keys);
    return { snapshot, snapshotKeyId: keyId };
  } catch (error) {
    const isOwn = replay.marker?.index === id.index && replay.marker.term === id.term;
    // A key that is not known any more belongs to a file that should have been deleted.
    if (isShoalError(error, 'DataLoss') || (isShoalError(error, 'FailedPrecondition') && !isOwn)) {
      damaged.push(snapshotPath(id));
      return null;
    }
    throw error;
  }
}
