import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { must, SeededRandom, silentLogger, systemClock } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType } from '../proto/index.ts';
import { PENDING_PROPOSALS_MAX, PROPOSAL_BYTES_MAX, RaftNode } from './index.ts';
import { PENDING_READS_MAX } from './reads.ts';
import { ListMachine, memberOf, MemoryNetwork, TestGroup } from './testing.ts';
import { openWal } from './wal/open.ts';

let group = new TestGroup();
afterEach(async () => {
  await group.stop();
  group = new TestGroup();
});

const bootstrap = { kind: 'bootstrap' as const, member: memberOf(1) };
const write = (value: string): Promise<number> =>
  group.settled(must(group.leader()?.node, 'leader').propose(Buffer.from(value)));

test('a group of one leads at once, without waiting for a tick', async () => {
  const member = group.add(1);
  const node = await group.start(member, bootstrap);
  await group.until('it leads', () => node.status().role === 'leader', 10);
  expect(node.status()).toMatchObject({ role: 'leader', leaderId: 1, voters: [1], repair: null });
  expect(await write('x')).toBe(3);
  expect(await group.settled(node.readIndex())).toBe(3);
  await group.settled(node.stop());
  await expect(node.propose(Buffer.from('x'))).rejects.toMatchObject({ code: 'Unavailable' });
});

test('proposals are bounded in number and size; the refusal tells the way out', async () => {
  const [member] = await group.boot([1]);
  const node = must(member?.node, 'node');
  const waiting = Array.from({ length: PENDING_PROPOSALS_MAX }, () =>
    node.propose(Buffer.from('x')).catch((error: unknown) => error),
  );
  await expect(node.propose(Buffer.from('x'))).rejects.toMatchObject({
    code: 'ResourceExhausted',
    message: expect.stringMatching(/limit is 16384 changes: try again when some are done/) as string,
  });
  await expect(node.propose(new Uint8Array(PROPOSAL_BYTES_MAX + 1))).rejects.toMatchObject({ code: 'InvalidArgument' });
  await expect(node.propose(new Uint8Array(0))).rejects.toMatchObject({ code: 'InvalidArgument' });
  const stopping = node.stop();
  for (const result of await Promise.all(waiting)) expect(result).toMatchObject({ code: 'Unavailable' });
  await group.settled(stopping);
});

test('bytes of waiting proposals, and waiting reads, are bounded', async () => {
  const [member] = await group.boot([1]);
  const node = must(member?.node, 'node');
  const settle = (promise: Promise<number>): Promise<unknown> => promise.catch((error: unknown) => error);
  const large = Array.from({ length: 40 }, () => settle(node.propose(new Uint8Array(PROPOSAL_BYTES_MAX))));
  const reads = Array.from({ length: PENDING_READS_MAX + 1 }, () => settle(node.readIndex()));
  await group.clock.advanceAsync(100);
  const refused = (await Promise.all(large)).filter((result) => typeof result !== 'number');
  expect(refused).toHaveLength(8);
  for (const error of refused) expect(error).toMatchObject({ code: 'ResourceExhausted' });
  expect(await reads.at(-1)).toMatchObject({ code: 'ResourceExhausted' });
  expect(await reads.at(-2)).toBeTypeOf('number');
});

test.each([
  ['ENOSPC', /free (some )?space/],
  ['EIO', /join it anew/],
])('%s halts the member: it says what can be done, and that the outcome is not known', async (code, wayOut) => {
  const [leader] = await group.boot([1, 2, 3]);
  await write('a');
  const { node, disk, fatal } = must(leader, 'leader');
  disk.failWith = code;
  const results = ['b', 'c'].map((value) =>
    must(node, 'node')
      .propose(Buffer.from(value))
      .catch((error: unknown) => error),
  );
  await group.until('it halted', () => fatal.length > 0);
  for (const result of await Promise.all(results)) {
    expect(result).toMatchObject({
      code: 'Unavailable',
      message: expect.stringMatching(/outcome of the change is not known/) as string,
    });
  }
  expect(fatal).toMatchObject([{ message: expect.stringMatching(wayOut) as string, cause: { code } }]);
  await expect(must(node, 'node').propose(Buffer.from('d'))).rejects.toMatchObject({ code: 'Unavailable' });
  await group.until('another leads', () => group.leader() !== undefined && group.leader() !== leader);
  await write('e');
  // What was acknowledged is there when the disk works again.
  disk.failWith = undefined;
  await group.start(must(leader, 'leader'), { kind: 'restart' });
  await group.until('it caught up', () => leader?.machine.values.includes('e') === true);
  expect(leader?.machine.values).toContain('a');
  expect(fatal).toHaveLength(1);
});

test('a full disk of the real kind stops the member; the log is whole afterwards', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'shoal-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', dir]);
  try {
    const fatal: unknown[] = [];
    const node = await RaftNode.start(
      {
        ...{ id: 1, dir, clock: systemClock, random: new SeededRandom(1), log: silentLogger },
        transport: new MemoryNetwork(systemClock, 1).transport(),
        stateMachine: new ListMachine(),
        onFatal: (error) => fatal.push(error),
      },
      bootstrap,
    );
    while (node.status().role !== 'leader') await systemClock.sleep(1);
    let acknowledged = 0;
    let refused: unknown;
    for (let i = 0; i < 100 && refused === undefined; i++) {
      await node.propose(Buffer.alloc(1_000_000, `${i} `)).then(
        () => {
          acknowledged++;
        },
        (error: unknown) => {
          refused = error;
        },
      );
    }
    expect(fatal).toMatchObject([{ cause: { code: 'ENOSPC' } }]);
    expect(refused).toMatchObject({ code: 'Unavailable' });
    await node.stop();
    execFileSync('mount', ['-o', 'remount,size=80m', dir]);
    const { storage, recovered } = openWal(dir, { nodeId: 1 });
    const whole = recovered.entries.filter((entry) => entry.data.length === 1_000_000);
    expect(recovered.repair).toBeNull();
    expect(whole.length).toBeGreaterThanOrEqual(acknowledged);
    expect(acknowledged).toBeGreaterThan(10);
    await new Promise((resolve) => {
      storage.close(resolve);
    });
  } finally {
    execFileSync('umount', ['-l', dir]);
    rmSync(dir, { recursive: true });
  }
});

test('a state machine that throws is fatal, not skipped', async () => {
  const member = group.add(1);
  const machine = new ListMachine();
  machine.apply = () => expect.fail('bad command');
  const node = await group.start(member, bootstrap, { stateMachine: machine });
  await group.until('it leads', () => node.status().role === 'leader');
  const result = node.propose(Buffer.from('x')).catch((error: unknown) => error);
  await group.until('it halted', () => member.fatal.length > 0);
  expect(await result).toMatchObject({ code: 'Unavailable' });
  expect(member.fatal).toMatchObject([{ message: 'bad command' }]);
});

test('all that is proposed while a batch is written becomes the next batch', async () => {
  const [member] = await group.boot([1]);
  const { node, disk } = must(member, 'member');
  disk.latencyMs = 5;
  const before = disk.writes;
  const first = must(node, 'node').propose(Buffer.from('first'));
  await group.clock.advanceAsync(1);
  const rest = Array.from({ length: 1000 }, (_, i) => must(node, 'node').propose(Buffer.from(`${i}`)));
  const indexes = await group.settled(Promise.all([first, ...rest]));
  expect(indexes).toEqual(indexes.map((_, i) => (indexes[0] ?? 0) + i));
  expect(disk.writes - before).toBe(2);
});

test('a removed member is told once, refuses proposals and stops cleanly', async () => {
  const [, second] = await group.boot([1, 2, 3]);
  const change = RaftConfChange.create({ type: RaftConfChangeType.ConfChangeRemoveNode, node_id: 2 });
  await group.settled(must(group.leader()?.node, 'leader').proposeConfChange(change));
  await group.until('told', () => second?.removed === 1);
  await expect(must(second?.node, 'node').propose(Buffer.from('x'))).rejects.toThrow(/was removed from the cluster/);
  await group.clock.advanceAsync(2000);
  expect(second).toMatchObject({ removed: 1, fatal: [] });
  expect(must(group.leader()?.node, 'leader').isRemoved(2)).toBe(true);
});
