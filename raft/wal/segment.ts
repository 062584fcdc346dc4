import type { LogDisk } from './disk.ts';

export const WAL_DIR = 'wal';
export const SNAP_DIR = 'snap';
/** Files that are not whole yet, or not needed any more; deleted when a log is opened. */
export const UNFINISHED = '.new';
/** The next segment, zeroed and waiting. */
export const SPARE_PATH = `${WAL_DIR}/spare${UNFINISHED}`;
/** Takes the place of a segment that is about to be deleted. */
export const DROPPED_PATH = `${WAL_DIR}/dropped${UNFINISHED}`;
/** Damaged files are kept under names that begin so. */
const DAMAGED = 'damaged-';
/** Damaged files that are kept at the most; older ones are deleted. */
const DAMAGED_KEPT_MAX = 4;

/** A segment that is part of the log. */
export interface Segment {
  number: number;
  path: string;
  /** Highest entry index that stands in it; 0 without entries. */
  maxIndex: number;
  /** Keys of its frames; 0 stands for clear. */
  keyIds: Set<number>;
}

export function segmentPath(number: number): string {
  return `${WAL_DIR}/wal-${number.toString(16).padStart(14, '0')}.log`;
}

export function newSegment(number: number): Segment {
  return { number, path: segmentPath(number), maxIndex: 0, keyIds: new Set() };
}

/** Numbers of the segments, ascending. */
export function segmentNumbers(disk: LogDisk): number[] {
  const out: number[] = [];
  for (const name of disk.list(WAL_DIR)) {
    const match = /^wal-([0-9a-f]{14})\.log$/.exec(name);
    if (match?.[1] !== undefined) out.push(Number.parseInt(match[1], 16));
  }
  return out.sort((a, b) => a - b);
}

export function deleteUnfinished(disk: LogDisk): void {
  for (const dir of [WAL_DIR, SNAP_DIR]) {
    for (const name of disk.list(dir)) if (name.endsWith(UNFINISHED)) disk.remove(`${dir}/${name}`);
  }
}

function damagedNames(disk: LogDisk): { name: string; number: number }[] {
  const out: { name: string; number: number }[] = [];
  for (const name of disk.list(WAL_DIR)) {
    if (name.startsWith(DAMAGED)) out.push({ name, number: Number.parseInt(name.slice(DAMAGED.length), 10) });
  }
  return out.sort((a, b) => a.number - b.number);
}

/** Gives a damaged file a name under which it is kept for people, and forgets the oldest of such files. */
export function setAside(disk: LogDisk, path: string): void {
  const known = damagedNames(disk);
  const number = (known.at(-1)?.number ?? 0) + 1;
  for (const { name } of known.slice(0, Math.max(0, known.length - DAMAGED_KEPT_MAX + 1))) {
    disk.remove(`${WAL_DIR}/${name}`);
  }
  disk.rename(path, `${WAL_DIR}/${DAMAGED}${number}-${path.slice(path.lastIndexOf('/') + 1)}`);
}

/** Deletes what was kept of damaged files. */
export function deleteDamaged(disk: LogDisk): void {
  for (const { name } of damagedNames(disk)) disk.remove(`${WAL_DIR}/${name}`);
}
