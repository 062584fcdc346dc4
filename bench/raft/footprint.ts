import { systemClock } from '../../base/index.ts';
import { Group } from './group.ts';
import { fill } from './load.ts';
import type { MemberMemory } from './member-protocol.ts';

export const ENTRIES = 100_000;
/** Value of a small entry; with its key and the tags of the request an entry has 84 bytes. */
const SMALL_VALUE_BYTES = 64;
/** Members are left alone for this long before they are measured, ms. */
const IDLE_MS = 2_000;
const KEEP_ALL = 10_000_000;

/** Memory of one member after the entries were written, and after it was started again. */
interface MemberFootprint {
  id: number;
  role: string;
  empty: MemberMemory;
  written: MemberMemory;
  restarted: MemberMemory;
}

export interface FootprintResult {
  entries: number;
  valueBytes: number;
  /** What the entries cost an idle member beyond an empty one: objects, after a garbage collection; the largest. */
  addedHeapBytes: number;
  /**
   * Resident memory of members that keep all entries beyond that of members that wrote as many and keep 500: after the
   * writes, and after a restart, which leaves behind what reading the log took for a moment.
   */
  addedRssBytes: number;
  addedRssAfterRestartBytes: number;
  /** RaftNode.start on a log of that many entries, ms: the longest of the group. */
  recoveryMs: number;
  keepAll: MemberFootprint[];
  keepFew: MemberFootprint[];
}

/** Memory of idle members whose logs keep 100,000 entries, and how long they take to read them back. */
export async function footprint(dir: string, program: string, signal: AbortSignal): Promise<FootprintResult> {
  const all = await measure(`${dir}-all`, program, { snapshotEntries: KEEP_ALL, keepEntries: KEEP_ALL }, signal);
  const few = await measure(`${dir}-few`, program, {}, signal);
  const heap = ({ heapBytes, externalBytes }: MemberMemory): number => heapBytes + externalBytes;
  const most = (members: readonly MemberFootprint[], of: (member: MemberFootprint) => number): number =>
    Math.max(...members.map(of));
  const moreRss = (of: (member: MemberFootprint) => MemberMemory): number =>
    most(all.members, (member) => of(member).rssBytes) - most(few.members, (member) => of(member).rssBytes);
  return {
    entries: ENTRIES,
    valueBytes: SMALL_VALUE_BYTES,
    addedHeapBytes: most(all.members, (m) => Math.max(heap(m.written), heap(m.restarted)) - heap(m.empty)),
    addedRssBytes: moreRss((member) => member.written),
    addedRssAfterRestartBytes: moreRss((member) => member.restarted),
    recoveryMs: all.recoveryMs,
    keepAll: all.members,
    keepFew: few.members,
  };
}

async function measure(
  dir: string,
  program: string,
  keep: { snapshotEntries?: number; keepEntries?: number },
  signal: AbortSignal,
): Promise<{ members: MemberFootprint[]; recoveryMs: number }> {
  const common = { dir, program, members: 3, keepValues: false, nodeFlags: ['--expose-gc'] };
  const group = await Group.form({ ...common, ...keep });
  try {
    const { leader } = await group.settled();
    await systemClock.sleep(IDLE_MS, signal);
    const begun = [];
    for (const member of group.members) begun.push({ member, empty: await member.memory() });
    await fill({ host: leader.clientHost, port: leader.clientPort, pids: [] }, ENTRIES, SMALL_VALUE_BYTES);
    await group.settled();
    await systemClock.sleep(IDLE_MS, signal);
    const written = [];
    for (const one of begun) {
      const { role } = await one.member.status();
      written.push({ ...one, role, written: await one.member.memory() });
    }
    const members: MemberFootprint[] = [];
    let recoveryMs = 0;
    for (const { member, ...facts } of written) {
      await member.kill();
      await member.start();
      recoveryMs = Math.max(recoveryMs, member.started.startMs);
      await group.settled();
      await systemClock.sleep(IDLE_MS, signal);
      members.push({ id: member.id, ...facts, restarted: await member.memory() });
    }
    return { members, recoveryMs };
  } finally {
    await group.stop();
  }
}
