import { errorMessage, isShoalError } from '../../base/index.ts';
import type { RaftConfState, RaftEntry } from '../../proto/index.ts';
import { membershipIn } from '../bootstrap.ts';
import { confStateOf } from '../core/index.ts';
import type { LogRepair } from '../storage.ts';
import type { LogDisk } from './disk.ts';
import type { LogKeyRing } from './keys.ts';
import { NodeDisk } from './node-disk.ts';
import { judge, type Verdict } from './recover.ts';
import { replayLog, type Damage, type Replay } from './replay.ts';
import { SNAP_DIR, WAL_DIR } from './segment.ts';
import { listSnapshots, readSnapshot, snapshotPath } from './snapshot-file.ts';
import { VoteFile } from './vote-file.ts';

/** One segment of a log that was looked at. */
export interface InspectedSegment {
  path: string;
  frames: number;
  /** Of the frames that can be read; 0 without. */
  firstSequence: number;
  lastSequence: number;
  /** Indices of the entries that stand in it; 0 without. */
  firstIndex: number;
  lastIndex: number;
  /** Keys of its frames; 0 stands for clear. */
  keyIds: number[];
  /** Bytes up to the end of the last frame; the rest is zeroed in advance. */
  usedBytes: number;
}

export interface InspectedSnapshot {
  path: string;
  index: number;
  term: number;
  /** Of the state, in clear. */
  bytes: number;
  keyId: number;
  /** Why it cannot be used; null when it is good. */
  problem: string | null;
}

/** What a log says that nobody has open; made without changing anything. */
export interface LogInspection {
  nodeId: number | null;
  segments: InspectedSegment[];
  /** Of the log, in order; without the data of a snapshot. */
  entries: RaftEntry[];
  /** Where the log begins; index 0 without a snapshot. */
  begin: { index: number; term: number };
  snapshots: InspectedSnapshot[];
  hardState: { term: number; vote: number; commit: number } | null;
  /** The second place of term and vote. */
  voteFile: { term: number; vote: number; goodSlots: number } | null;
  /** As of the last entry, committed or not; null when the snapshot that it builds on cannot be read. */
  membership: RaftConfState | null;
  /** What is in force now, or what the next start will make of it. */
  repair: LogRepair | null;
  damages: Damage[];
  /** Files that were set aside. */
  aside: string[];
  /** Where the log stops, and why. */
  end: { path: string; offset: number; reason: string };
  /** Why a manager would not start with it; null when it would. */
  refusal: string | null;
}

interface Seen {
  segments: InspectedSegment[];
  end: LogInspection['end'];
}

function watchInto(seen: Seen): NonNullable<Parameters<typeof replayLog>[0]['watch']> {
  const segmentOf = (path: string): InspectedSegment => {
    const known = seen.segments.at(-1);
    if (known?.path === path) return known;
    const numbers = { frames: 0, firstSequence: 0, lastSequence: 0, firstIndex: 0, lastIndex: 0, usedBytes: 0 };
    const fresh: InspectedSegment = { path, ...numbers, keyIds: [] };
    seen.segments.push(fresh);
    return fresh;
  };
  return {
    frame: ({ path }, offset, header, records) => {
      const segment = segmentOf(path);
      segment.frames++;
      if (segment.firstSequence === 0) segment.firstSequence = header.sequence;
      segment.lastSequence = header.sequence;
      if (!segment.keyIds.includes(header.keyId)) segment.keyIds.push(header.keyId);
      for (const record of records) {
        if (record.kind !== 'entry') continue;
        const { index } = record.entry;
        segment.firstIndex = segment.firstIndex === 0 ? index : Math.min(segment.firstIndex, index);
        segment.lastIndex = Math.max(segment.lastIndex, index);
      }
      segment.usedBytes = Math.max(segment.usedBytes, offset);
    },
    end: ({ path }, offset, kind) => {
      segmentOf(path).usedBytes = offset;
      const reason = kind === 'end' ? 'nothing was written after it' : 'a write that a crash cut short; it will be cut';
      seen.end = { path, offset, reason };
    },
  };
}

function inspectSnapshots(disk: LogDisk, keys: LogKeyRing | null): InspectedSnapshot[] {
  return listSnapshots(disk).map((id) => {
    const common = { path: snapshotPath(id), ...id };
    try {
      const { snapshot, keyId } = readSnapshot(disk, id, keys);
      return { ...common, bytes: snapshot.data.length, keyId, problem: null };
    } catch (error) {
      return { ...common, bytes: 0, keyId: 0, problem: errorMessage(error) };
    }
  });
}

/** What a start would make of the log, or why it would refuse. */
function verdictOf(
  disk: LogDisk,
  keys: LogKeyRing | null,
  replay: Replay,
): { verdict: Verdict | null; refusal: string | null } {
  try {
    return { verdict: judge({ disk, keys, replay, found: VoteFile.read(disk) }), refusal: null };
  } catch (error) {
    if (isShoalError(error)) return { verdict: null, refusal: error.message };
    throw error;
  }
}

function membershipAt(verdict: Verdict): RaftConfState | null {
  const { snapshot, entries, marker, repair } = verdict;
  if (marker.index > 0 && snapshot === null) return null;
  return confStateOf(membershipIn({ hardState: null, snapshot, entries, repair }));
}

function endOf(replay: Replay, seen: Seen): LogInspection['end'] {
  const [damage] = replay.damages;
  if (replay.whole === null && damage !== undefined) return damage;
  return seen.end;
}

/**
 * Reads a log on a disk; writes nothing.
 * @throws ShoalError FailedPrecondition when it is encrypted and `keys` do not open it.
 */
export function inspectLog(disk: LogDisk, keys: LogKeyRing | null): LogInspection {
  const seen: Seen = { segments: [], end: { path: WAL_DIR, offset: 0, reason: 'there is no segment' } };
  const replay = replayLog({ disk, keys, keepEntries: Number.MAX_SAFE_INTEGER, watch: watchInto(seen) });
  const { vote, goodSlots } = VoteFile.read(disk);
  const { verdict, refusal } = verdictOf(disk, keys, replay);
  const state = replay.whole ?? replay.prefix;
  const entries = verdict === null ? (state?.entries ?? []) : [...verdict.kept, ...verdict.entries];
  return {
    nodeId: replay.nodeId,
    segments: seen.segments,
    entries,
    begin: verdict?.marker ?? state?.marker ?? { index: 0, term: 0 },
    snapshots: inspectSnapshots(disk, keys),
    hardState: verdict === null ? null : { term: verdict.term, vote: verdict.vote, commit: verdict.commit },
    voteFile: vote === null ? null : { term: vote.term, vote: vote.vote, goodSlots },
    membership: verdict === null ? null : membershipAt(verdict),
    repair: verdict?.repair ?? null,
    damages: replay.damages,
    aside: disk.list(WAL_DIR).filter((name) => name.startsWith('damaged-')),
    end: endOf(replay, seen),
    refusal,
  };
}

/** Whether a directory looks like that of a log. */
export function looksLikeLog(dir: string): boolean {
  const disk = new NodeDisk(dir);
  return disk.list(WAL_DIR).length > 0 || disk.list(SNAP_DIR).length > 0;
}

/** `inspectLog` over a directory. */
export function inspectLogDirectory(dir: string, keys: LogKeyRing | null): LogInspection {
  return inspectLog(new NodeDisk(dir), keys);
}
