import { must, systemClock } from '../../base/index.ts';
import { Group } from './group.ts';
import { fill } from './load.ts';
import type { MemberMemory } from './member-protocol.ts';

export const ENTRIES = 100_000;
/** Value of a small entry; with its key and the tags of the request an entry has 84 bytes. */
const SMALL_VALUE_BYTES = 64;
/** Members are left alone for this long before they are measured, ms. */
const IDLE_MS = 2_000;
const KEEP_ALL = 10_000_000;

export interface FootprintResult {
  entries: number;
  valueBytes: number;
  /** What the entries cost beyond an empty member: the largest of the group, and of each. */
  addedRssBytes: number;
  addedHeapBytes: number;
  members: { id: number; role: string; empty: MemberMemory; full: MemberMemory; recovered: MemberMemory }[];
  /** RaftNode.start on a log of that many entries, ms: the longest of the group. */
  recoveryMs: number;
}

/** Memory of idle members whose logs keep 100,000 entries, and how long they take to read them back. */
export async function footprint(dir: string, program: string, signal: AbortSignal): Promise<FootprintResult> {
  const group = await Group.form({
    dir,
    program,
    members: 3,
    keepValues: false,
    snapshotEntries: KEEP_ALL,
    keepEntries: KEEP_ALL,
    nodeFlags: ['--expose-gc'],
  });
  try {
    const { leader } = await group.settled();
    await systemClock.sleep(IDLE_MS, signal);
    const measured = [];
    for (const member of group.members) measured.push({ member, empty: await member.memory() });
    await fill({ host: leader.clientHost, port: leader.clientPort, pids: [] }, ENTRIES, SMALL_VALUE_BYTES);
    await group.settled();
    await systemClock.sleep(IDLE_MS, signal);
    const full = [];
    for (const one of measured) {
      const { role } = await one.member.status();
      full.push({ ...one, role, full: await one.member.memory() });
    }
    const members: FootprintResult['members'] = [];
    let recoveryMs = 0;
    for (const { member, empty, role, full: memory } of full) {
      await member.kill();
      await member.start();
      recoveryMs = Math.max(recoveryMs, member.started.startMs);
      await group.settled();
      await systemClock.sleep(IDLE_MS, signal);
      members.push({ id: member.id, role, empty, full: memory, recovered: await member.memory() });
    }
    const most = (of: (memory: MemberMemory) => number): number =>
      Math.max(...members.map((m) => Math.max(of(m.full), of(m.recovered)) - of(m.empty)));
    return {
      entries: ENTRIES,
      valueBytes: SMALL_VALUE_BYTES,
      addedRssBytes: most((memory) => memory.rssBytes),
      addedHeapBytes: most((memory) => memory.heapBytes + memory.externalBytes),
      members,
      recoveryMs: must(recoveryMs, 'recovery'),
    };
  } finally {
    await group.stop();
  }
}
