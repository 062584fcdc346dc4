import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readFileIfExists, writeFileDurably } from '../base/index.ts';
import type { LastLeader } from './membership/index.ts';

const pathOf = (stateDir: string): string => join(stateDir, 'raft', 'last-leader.json');

/** Keeps, while there is no leader, who led last and when it was last heard of: what a forced new cluster reports. */
export function saveLastLeader(stateDir: string, leader: LastLeader): void {
  writeFileDurably(pathOf(stateDir), `${JSON.stringify(leader)}\n`);
}

export function removeLastLeader(stateDir: string): void {
  rmSync(pathOf(stateDir), { force: true });
}

/** Undefined when there is a leader, when none was known since the file was last removed, or it cannot be read. */
export function loadLastLeader(stateDir: string): LastLeader | undefined {
  try {
    return JSON.parse(readFileIfExists(pathOf(stateDir)) ?? 'null') ?? undefined;
  } catch {
    return undefined;
  }
}
