import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RecoveredLog } from '../storage.ts';
import { NodeDisk } from './node-disk.ts';
import { SNAP_DIR, WAL_DIR } from './segment.ts';
import { holdsWal, Wal, type WalOptions } from './wal.ts';

/** Opens the log of one member in a directory of its own. See Wal.open for the errors. */
export function openWal(dir: string, options: Omit<WalOptions, 'disk'>): { storage: Wal; recovered: RecoveredLog } {
  return Wal.open({ ...options, disk: new NodeDisk(dir) });
}

/** Whether `dir` holds a log. */
export function hasWal(dir: string): boolean {
  return holdsWal(new NodeDisk(dir));
}

/** Deletes a log with its snapshots, so that the member can join anew. */
export function removeWal(dir: string): void {
  for (const part of [WAL_DIR, SNAP_DIR]) rmSync(join(dir, part), { recursive: true, force: true });
}
