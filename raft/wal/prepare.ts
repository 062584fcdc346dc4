import { randomBytes as systemRandomBytes } from 'node:crypto';
import { assert, must } from '../../base/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import { Appender, type AppenderState, type Draft } from './appender.ts';
import type { LogDisk } from './disk.ts';
import type { FrameSeal } from './frame.ts';
import type { LogKeyRing } from './keys.ts';
import { entryBytes } from './record.ts';
import { judge, type Verdict } from './recover.ts';
import { replayLog } from './replay.ts';
import { SEAL_SALT_BYTES } from './seal.ts';
import { deleteUnfinished, setAside, SNAP_DIR, WAL_DIR } from './segment.ts';
import { encodeSnapshot, snapshotPath } from './snapshot-file.ts';
import { VoteFile } from './vote-file.ts';

/** Preallocated size of a segment. */
export const SEGMENT_BYTES = 16 * 1024 * 1024;
/** Records of one frame at the most, unless a single entry is larger. */
const FRAME_RECORD_BYTES_MAX = 4 * 1024 * 1024;
/** Entries kept before a snapshot unless the options say otherwise. */
export const KEEP_ENTRIES_DEFAULT = 500;
export interface WalOptions {
  disk: LogDisk;
  nodeId: number;
  /** Encrypts what is written from now on; null or absent writes in clear. */
  keys?: LogKeyRing | null;
  /** Default 16 MiB. */
  segmentBytes?: number;
  /** Entries before a snapshot whose segments are kept, for slow followers. Default 500. */
  keepEntries?: number;
  /** Snapshots kept besides the newest. Default 0. */
  keepOldSnapshots?: number;
  /** Salts of the encryption; default: the system's. */
  randomBytes?: (count: number) => Uint8Array;
}

/** A log that is ready to go on. */
export interface Opened {
  verdict: Verdict;
  appender: Appender;
}

/** Where the frame ends that begins with entry `from`. */
export function frameEnd(entries: readonly RaftEntry[], from: number): number {
  let bytes = 0;
  let to = from;
  for (; to < entries.length; to++) {
    bytes += entryBytes(must(entries[to], 'entry to append'));
    if (to > from && bytes > FRAME_RECORD_BYTES_MAX) break;
  }
  return to;
}

function sealOf(options: WalOptions): () => FrameSeal | null {
  const keys = options.keys ?? null;
  if (keys === null) return () => null;
  const salt = (options.randomBytes ?? systemRandomBytes)(SEAL_SALT_BYTES);
  return () => {
    const key = keys.current();
    return key === null ? null : { key, salt };
  };
}

/**
 * Reads a log and makes of it one that can be written to; judges all before it changes anything.
 * @throws as Wal.open
 */
export function prepare(options: WalOptions): Opened {
  const { disk } = options;
  disk.makeDirectory(WAL_DIR);
  disk.makeDirectory(SNAP_DIR);
  const replay = replayLog({
    disk,
    nodeId: options.nodeId,
    keys: options.keys ?? null,
    keepEntries: options.keepEntries ?? KEEP_ENTRIES_DEFAULT,
  });
  const found = VoteFile.read(disk);
  const verdict = judge({ disk, keys: options.keys ?? null, replay, found });
  deleteUnfinished(disk);
  const state: AppenderState = {
    nodeId: options.nodeId,
    segments: replay.segments,
    sequence: verdict.sequence,
    tail: replay.tail,
    lastIndex: verdict.entries.at(-1)?.index ?? verdict.marker.index,
    commit: verdict.commit,
    term: verdict.term,
    vote: verdict.vote,
    marker: verdict.marker,
    repair: verdict.repair,
  };
  const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
  assert(segmentBytes >= 4096, 'a segment has a page at least');
  const appender = new Appender({ disk, segmentBytes, seal: sealOf(options) }, state);
  if (verdict.rewrite || replay.segments.length === 0) {
    const former = state.segments;
    verdict.snapshotKeyId = storeBase(options, verdict);
    appender.startSegment(checkpoint(verdict), verdict.rewrite);
    clearAway(disk, former, verdict.aside);
  } else {
    appender.resume(replay.fileBytes, replay.lastFrame);
    if (replay.torn) appender.clearTail();
  }
  const { term, vote } = verdict;
  // Always anew: this makes both slots good, and syncs the directory, whose newest names may be in the cache alone.
  VoteFile.create(disk, { term, vote, sequence: state.sequence });
  return { verdict, appender };
}

/**
 * Stores the snapshot that a rewritten log begins with once more: its name may be in the kernel's cache alone.
 * @returns the id of the key that it stands under now.
 */
function storeBase({ disk, keys, randomBytes }: WalOptions, { snapshot, marker }: Verdict): number {
  if (snapshot === null) return 0;
  const key = keys?.current() ?? null;
  disk.replace(snapshotPath(marker), encodeSnapshot(snapshot, key, randomBytes ?? systemRandomBytes));
  return key?.id ?? 0;
}

/** The whole log as frames. */
function checkpoint({ term, vote, commit, marker, entries, repair }: Verdict): Draft[] {
  const rest = { entries, term, vote, commit };
  const out: Draft[] = [];
  let from = 0;
  do {
    const to = frameEnd(entries, from);
    const records: Draft['records'] = [
      { kind: 'reset', ...marker },
      ...(repair === null ? [] : [{ kind: 'repair' as const, repair }]),
    ];
    out.push({ ...rest, records: from === 0 ? records : [], from, to });
    from = to;
  } while (from < entries.length);
  return out;
}

/** Takes away the segments that a checkpoint replaced; damaged ones are kept for people. */
function clearAway(disk: LogDisk, former: readonly { path: string }[], aside: readonly string[]): void {
  for (const { path } of [...former].reverse()) {
    if (aside.includes(path)) setAside(disk, path);
    else disk.remove(path);
  }
  for (const path of aside) {
    const [dir = '', name = ''] = path.split('/');
    if (dir === SNAP_DIR && disk.list(dir).includes(name)) setAside(disk, path);
  }
}
