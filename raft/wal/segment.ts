import { closeSync, fsyncSync, openSync, readdirSync, renameSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '../../base/index.ts';
import { writeFully } from './snapshot-file.ts';

const ZEROS = Buffer.alloc(256 * 1024);
let spares = 0;

/** A segment that is part of the log. */
export interface Segment {
  number: number;
  path: string;
  /** Highest entry index that stands in it; 0 without entries. */
  maxIndex: number;
}

export function segmentPath(dir: string, number: number): string {
  return join(dir, `wal-${number.toString(16).padStart(14, '0')}.log`);
}

/** Numbers of the segments in `dir`, ascending. */
export function segmentNumbers(dir: string): number[] {
  const out: number[] = [];
  for (const name of readdirSync(dir)) {
    const match = /^wal-([0-9a-f]{14})\.log$/.exec(name);
    if (match?.[1] !== undefined) out.push(Number.parseInt(match[1], 16));
  }
  return out.sort((a, b) => a - b);
}

/** Writes zeros, so that later writes need no new blocks and unwritten sectors are known to be zero. */
export function writeZeros(fd: number, from: number, to: number): void {
  for (let at = from; at < to; at += ZEROS.length)
    writeFully(fd, ZEROS.subarray(0, Math.min(ZEROS.length, to - at)), at);
}

/**
 * Creates a segment whose first frame is `head`; it appears under its name only when that frame is durable.
 * @returns its descriptor, open for reading and writing.
 */
export function createSegment(dir: string, number: number, bytes: number, head: Buffer, spare: string | null): number {
  const path = segmentPath(dir, number);
  const beside = spare ?? `${path}.new`;
  const fd = openSync(beside, spare === null ? 'w+' : 'r+', 0o600);
  try {
    if (spare === null) writeZeros(fd, head.length, bytes);
    writeFully(fd, head, 0);
    fsyncSync(fd);
    renameSync(beside, path);
    syncDirectory(dir);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Makes a zeroed file for the next segment without blocking the event loop. @returns its path. */
export async function prepareSpare(dir: string, bytes: number): Promise<string> {
  const path = join(dir, `spare-${process.pid}-${spares++}.new`);
  const handle = await open(path, 'w', 0o600);
  try {
    for (let at = 0; at < bytes; at += ZEROS.length) {
      await handle.write(ZEROS, 0, Math.min(ZEROS.length, bytes - at), at);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return path;
}
