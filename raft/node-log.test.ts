import { afterEach, describe, expect, test } from 'vitest';
import { must } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftMember, RaftMessageType } from '../proto/index.ts';
import type { LogKey, LogKeyRing } from './index.ts';
import { memberOf, TestGroup, type TestMember } from './testing.ts';

let group = new TestGroup();
afterEach(async () => {
  await group.stop();
  group = new TestGroup();
});

const write = (value: string): Promise<number> =>
  group.settled(must(group.leader()?.node, 'leader').propose(Buffer.from(value)));

/** Keeps writing while something else happens; those that fail are not counted. */
function load(): { stop(): Promise<string[]> } {
  const acknowledged: string[] = [];
  let running = true;
  let number = 0;
  const one = async (): Promise<void> => {
    while (running) {
      const value = `load-${number++}`;
      const node = group.leader()?.node;
      if (node === undefined) await group.clock.sleep(5);
      else
        await node.propose(Buffer.from(value)).then(
          () => acknowledged.push(value),
          () => group.clock.sleep(5),
        );
    }
  };
  const all = Promise.all(Array.from({ length: 8 }, one));
  const stop = async (): Promise<string[]> => {
    running = false;
    await group.settled(all);
    return acknowledged;
  };
  return { stop };
}

function change(type: RaftConfChangeType, id: number): RaftConfChange {
  return RaftConfChange.create({ type, node_id: id, context: RaftMember.encode(memberOf(id)) });
}

const { ConfChangeAddNode: ADD, ConfChangeRemoveNode: REMOVE } = RaftConfChangeType;

function bytesOf(member: TestMember, text: string): string[] {
  return [...member.disk.files].filter(([, content]) => content.includes(text)).map(([path]) => path);
}

describe('snapshots of the own state', () => {
  test('are written beside the log: writes go on meanwhile', async () => {
    group = new TestGroup({ snapshotEntries: 50, keepEntries: 5 });
    const [member] = await group.boot([1]);
    const { disk, machine } = must(member, 'member');
    // The disk takes 300 ms for a snapshot's file, and as little as ever for the log.
    const { replaceLater } = disk;
    let saves = 0;
    disk.replaceLater = (path, parts, done) => {
      saves++;
      group.clock.after(300, () => replaceLater.call(disk, path, parts, done));
    };
    const began = group.clock.monotonic();
    for (let i = 0; i < 80; i++) await write(`${i}`);
    expect(group.clock.monotonic() - began).toBeLessThan(250);
    expect(saves).toBe(1);
    await group.clock.advanceAsync(1_000);
    const { node } = must(member, 'member');
    expect(must(node, 'node').core.firstIndex).toBeGreaterThan(40);
    const values = [...machine.values];
    await group.stop();
    await group.start(must(member, 'member'), { kind: 'restart' });
    expect(member?.machine.restored).toBe(1);
    expect(member?.machine.values).toEqual(values);
  });

  test('are taken on demand', async () => {
    const [member] = await group.boot([1]);
    const node = must(member?.node, 'node');
    await write('a');
    await group.settled(node.snapshotNow());
    expect(member?.disk.list('snap')).toHaveLength(1);
    const first = member?.disk.list('snap');
    await write('b');
    await group.settled(Promise.all([node.snapshotNow(), node.snapshotNow()]));
    expect(member?.disk.list('snap')).toHaveLength(1);
    expect(member?.disk.list('snap')).not.toEqual(first);
    // Nothing new: the same again.
    await group.settled(node.snapshotNow());
    await write('c');
  });

  test('that are still on their way when the member stops do no harm', async () => {
    const [member] = await group.boot([1]);
    const node = must(member?.node, 'node');
    await write('a');
    const outcome = node.snapshotNow().catch((error: unknown) => error);
    await group.clock.advanceAsync(0);
    await group.stop();
    expect(await outcome).toMatchObject({ code: 'Unavailable' });
    await group.start(must(member, 'member'), { kind: 'restart' });
    await group.until('it leads', () => group.leader() !== undefined);
    expect(member?.machine.values).toEqual(['a']);
    await write('b');
  });
});

describe('a follower that was away for long', () => {
  /** A group of three whose third member was stopped before 120 writes. */
  async function leftBehind(
    keepEntries: number,
  ): Promise<{ leader: TestMember; second: TestMember; away: TestMember }> {
    group = new TestGroup({ snapshotEntries: 50, keepEntries });
    const [leader, second, away] = (await group.boot([1, 2, 3])) as [TestMember, TestMember, TestMember];
    const gone = must(away.node, 'node');
    away.node = undefined;
    await group.settled(gone.stop());
    for (let i = 0; i < 120; i++) await write(`${i}`);
    return { leader, second, away };
  }

  test('gets a snapshot that is read beside everything else', async () => {
    const { leader, away } = await leftBehind(5);
    const { readLater } = leader.disk;
    leader.disk.readLater = (path, done) => {
      group.clock.after(path.startsWith('snap/') ? 700 : 0, () => readLater.call(leader.disk, path, done));
    };
    const term = leader.node?.status().term;
    await group.start(away, { kind: 'restart' });
    await group.clock.advanceAsync(300);
    const began = group.clock.monotonic();
    for (let i = 0; i < 20; i++) await write(`more-${i}`);
    expect(group.clock.monotonic() - began).toBeLessThan(200);
    await group.until('it caught up', () => away.machine.values.includes('more-19'));
    expect(away.machine.restored).toBeGreaterThan(0);
    expect(away.machine.values).toEqual(leader.machine.values);
    expect(leader.node?.status().term).toBe(term);
  });

  test('gets entries, not a snapshot, from a leader that was started again and still has them', async () => {
    const { leader, second, away } = await leftBehind(200);
    await group.clock.advanceAsync(100);
    for (const member of [leader, second]) {
      const node = must(member.node, 'node');
      member.node = undefined;
      await group.settled(node.stop());
      await group.start(member, { kind: 'restart' });
      expect(member.machine.restored).toBe(1);
    }
    await group.start(away, { kind: 'restart' });
    await group.until('it caught up', () => away.machine.values.includes('119'));
    expect(away.machine.restored).toBe(0);
  });

  test('does not get one that a leader of an earlier term was still reading', async () => {
    const { leader, away } = await leftBehind(5);
    const { readLater } = leader.disk;
    leader.disk.readLater = (path, done) => {
      group.clock.after(path.startsWith('snap/') ? 3_000 : 0, () => readLater.call(leader.disk, path, done));
    };
    const sent: number[] = [];
    group.network.lost = (message) => {
      if (message.type === RaftMessageType.MsgSnap) sent.push(message.from);
      return false;
    };
    await group.start(away, { kind: 'restart' });
    await group.clock.advanceAsync(300);
    await group.settled(must(leader.node, 'leader').transferLeadership(2));
    await group.until('it caught up', () => away.machine.values.includes('119'));
    await group.clock.advanceAsync(5_000);
    expect(sent).toEqual([2]);
  });

  test('is served anew when the leader’s snapshot file turns out to be damaged', async () => {
    const { leader, away } = await leftBehind(5);
    await group.clock.advanceAsync(100);
    const [name] = leader.disk.list('snap');
    const file = must(leader.disk.files.get(`snap/${name}`), 'snapshot file');
    file[file.length - 3] = (file[file.length - 3] ?? 0) ^ 0xff;
    await group.start(away, { kind: 'restart' });
    await group.clock.advanceAsync(500);
    await write('new');
    await group.until('it caught up', () => away.machine.values.includes('new'));
    expect(away.machine.values).toEqual(leader.machine.values);
    expect(leader.fatal).toEqual([]);
  });
});

describe('keys', () => {
  function ring(): LogKeyRing & { keys: LogKey[]; retained: number[] } {
    const keys: LogKey[] = [{ id: 1, secret: new Uint8Array(32).fill(1) }];
    const self: ReturnType<typeof ring> = {
      keys,
      retained: [],
      current: () => keys.at(-1) ?? null,
      find: (id) => keys.find((key) => key.id === id),
      retain: (ids) => {
        self.retained = [...ids].sort((a, b) => a - b);
      },
    };
    return self;
  }

  test('encrypt the log and its snapshots; after a change and a snapshot the old key is not needed', async () => {
    const keys = ring();
    group = new TestGroup({ keys });
    const [member] = (await group.boot([1])) as [TestMember];
    await write('very secret');
    await group.settled(must(member.node, 'node').snapshotNow());
    await write('also very secret');
    expect(bytesOf(member, 'very secret')).toEqual([]);
    keys.keys.push({ id: 2, secret: new Uint8Array(32).fill(2) });
    await group.settled(must(member.node, 'node').snapshotNow());
    await group.clock.advanceAsync(50);
    expect(keys.retained).toEqual([2]);
    keys.keys.shift();
    await write('third');
    await group.stop();
    await group.start(member, { kind: 'restart' });
    expect(member.machine.values).toEqual(['very secret', 'also very secret', 'third']);
    await group.stop();
    keys.keys.length = 0;
    await expect(group.start(member, { kind: 'restart' })).rejects.toMatchObject({ code: 'FailedPrecondition' });
  });

  test('can be changed while nothing else happens', async () => {
    const keys = ring();
    group = new TestGroup({ keys });
    const [member] = (await group.boot([1])) as [TestMember];
    await write('secret');
    await group.settled(must(member.node, 'node').snapshotNow());
    keys.keys.push({ id: 2, secret: new Uint8Array(32).fill(2) });
    await group.settled(must(member.node, 'node').snapshotNow());
    await group.clock.advanceAsync(50);
    expect(keys.retained).toEqual([2]);
  });
});

describe('joint changes', () => {
  test('replace a voter under load without losing a write', async () => {
    const [, , third] = (await group.boot([1, 2, 3])) as [TestMember, TestMember, TestMember];
    await write('first');
    const fourth = group.add(4);
    await group.start(fourth, { kind: 'join' });
    const running = load();
    await group.clock.advanceAsync(50);
    const leader = must(group.leader()?.node, 'leader');
    await group.settled(leader.proposeJointChange([change(ADD, 4), change(REMOVE, 3)]));
    await group.until('the joint membership was left', () => {
      const { voters, outgoing } = leader.core.membership;
      return outgoing.size === 0 && !voters.has(3) && voters.has(4);
    });
    await group.clock.advanceAsync(200);
    const acknowledged = await running.stop();
    expect(acknowledged.length).toBeGreaterThan(100);
    await group.until('the new one caught up', () =>
      acknowledged.every((value) => fourth.machine.values.includes(value)),
    );
    expect([...fourth.machine.members.keys()].sort((a, b) => a - b)).toEqual([1, 2, 4]);
    for (const id of [1, 2]) {
      const { machine } = must(group.members.get(id), 'member');
      expect([...machine.members.keys()].sort((a, b) => a - b)).toEqual([1, 2, 4]);
      expect(machine.members.get(4)).toBe('host4:1');
    }
    expect(leader.isRemoved(3)).toBe(true);
    const terms = leader.status().term;
    await group.clock.advanceAsync(2_000);
    expect(leader.status().term).toBe(terms);
    // The old voter may still be there; it no longer counts.
    const { node } = third;
    third.node = undefined;
    await group.settled(must(node, 'node').stop());
    await write('last');
  });

  test('replace all voters at once', async () => {
    const old = await group.boot([1, 2, 3]);
    await write('first');
    for (const id of [4, 5, 6]) await group.start(group.add(id), { kind: 'join' });
    const leader = must(group.leader()?.node, 'leader');
    const changes = [...[4, 5, 6].map((id) => change(ADD, id)), ...[1, 2, 3].map((id) => change(REMOVE, id))];
    await group.settled(leader.proposeJointChange(changes));
    await group.until('the old ones were removed', () => leader.isRemoved(1) && leader.status().role === 'follower');
    await group.until('a new one leads', () => (group.leader()?.id ?? 0) > 3);
    for (const member of old) {
      const { node } = member;
      member.node = undefined;
      await group.settled(must(node, 'node').stop());
    }
    await write('last');
    for (const id of [4, 5, 6]) {
      const { machine } = must(group.members.get(id), 'member');
      await group.until('caught up', () => machine.values.includes('last'));
      expect(machine.values).toEqual(['first', 'last']);
      expect([...machine.members.keys()].sort((a, b) => a - b)).toEqual([4, 5, 6]);
    }
  });

  test('are refused when they name nobody, or somebody twice', async () => {
    const [member] = (await group.boot([1])) as [TestMember];
    const node = must(member.node, 'node');
    await write('a');
    expect(() => node.proposeJointChange([])).toThrow(/names 1 to 64 members/);
    await expect(node.proposeJointChange([change(ADD, 2), change(REMOVE, 2)])).rejects.toMatchObject({
      code: 'FailedPrecondition',
    });
  });
});

describe('a damaged log', () => {
  /** Flips bits in the middle of what the log holds of a text. */
  function damage(member: TestMember, text: string): void {
    for (const content of member.disk.files.values()) {
      const at = content.indexOf(text);
      if (at >= 0) content[at] = (content[at] ?? 0) ^ 0xff;
    }
  }

  test('of a member is fetched again from its peers', async () => {
    const [, follower] = (await group.boot([1, 2, 3])) as [TestMember, TestMember, TestMember];
    for (let i = 0; i < 10; i++) await write(`value-${i};`);
    await group.until('caught up', () => follower.machine.values.length === 10);
    const gone = must(follower.node, 'node');
    follower.node = undefined;
    await group.settled(gone.stop());
    damage(follower, 'value-4;');
    const node = await group.start(follower, { kind: 'restart' });
    expect(node.status().repair).toMatch(/wal/);
    await group.until('repaired', () => node.status().repair === null);
    await group.until('caught up', () => follower.machine.values.length === 10);
    await group.stop();
    const again = await group.start(follower, { kind: 'restart' });
    expect(again.status().repair).toBeNull();
  });

  test('of a lone member is refused with what can be done, and can be given up', async () => {
    const [member] = (await group.boot([1])) as [TestMember];
    for (let i = 0; i < 10; i++) await write(`value-${i};`);
    await group.stop();
    damage(member, 'value-4;');
    await expect(group.start(member, { kind: 'restart' })).rejects.toMatchObject({
      code: 'DataLoss',
      message: expect.stringMatching(/no other manager has what it lost.*--force-new-cluster/) as string,
    });
    await group.start(member, { kind: 'force-new-cluster', member: memberOf(1) });
    await group.until('it leads', () => group.leader() !== undefined);
    await write('after');
    expect(member.machine.values).toEqual(['value-0;', 'value-1;', 'value-2;', 'value-3;', 'after']);
    await group.stop();
    await group.start(member, { kind: 'restart' });
    expect(member.machine.values).toContain('after');
  });
});
