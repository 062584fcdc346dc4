import { afterEach, describe, expect, test } from 'vitest';
import { must } from '../base/index.ts';
import { RaftMessageType } from '../proto/index.ts';
import { TestGroup, type TestMember } from './testing.ts';

let group = new TestGroup();
afterEach(async () => {
  await group.stop();
  group = new TestGroup();
});

const write = (value: string): Promise<number> =>
  group.settled(must(group.leader()?.node, 'leader').propose(Buffer.from(value)));

const terms = (): number[] => [...group.members.values()].map((member) => member.node?.status().term ?? 0);

async function three(): Promise<[TestMember, TestMember, TestMember]> {
  const members = await group.boot([1, 2, 3]);
  await write('before');
  return members as [TestMember, TestMember, TestMember];
}

describe('a slow disk', () => {
  test('a stall of 400 ms of the leader’s disk causes no election, and costs nobody his write', async () => {
    const [leader] = await three();
    const before = terms();
    leader.disk.stalledUntilMs = group.clock.monotonic() + 400;
    const began = group.clock.monotonic();
    // A majority has the entry long before; but what is applied here must be durable here.
    await write('during');
    expect(group.clock.monotonic() - began).toBeGreaterThanOrEqual(399);
    await group.clock.advanceAsync(3_000);
    expect(terms()).toEqual(before);
    expect(group.leader()).toBe(leader);
  });

  test('followers have committed what a stalled leader has not written yet', async () => {
    const [leader, second, third] = await three();
    leader.disk.stalledUntilMs = group.clock.monotonic() + 400;
    const writing = must(leader.node, 'leader').propose(Buffer.from('during'));
    await group.until('applied by the others', () =>
      [second, third].every(({ machine }) => machine.values.includes('during')),
    );
    expect(leader.machine.values).not.toContain('during');
    await group.settled(writing);
    expect(leader.machine.values).toContain('during');
  });

  test('a stall of every disk for less than an election causes none', async () => {
    const members = await three();
    const before = terms();
    for (const { disk } of members) disk.stalledUntilMs = group.clock.monotonic() + 400;
    await write('during');
    await group.clock.advanceAsync(3_000);
    expect(terms()).toEqual(before);
  });

  test('a disk that always needs 30 ms for a write still serves many writers', async () => {
    const members = await three();
    for (const { disk } of members) disk.latencyMs = 30;
    const began = group.clock.monotonic();
    const node = must(group.leader()?.node, 'leader');
    const all = Array.from({ length: 2_000 }, (_, i) => node.propose(Buffer.from(`w${i}`)));
    await group.settled(Promise.all(all));
    expect(group.clock.monotonic() - began).toBeLessThan(200);
  });
});

describe('a process that is stopped for a while', () => {
  test.each([300, 1_000, 5_000, 30_000])('a follower (%i ms) elects nobody when it goes on', async (pauseMs) => {
    const [leader, follower] = await three();
    const before = terms();
    follower.clock.pause();
    await group.clock.advanceAsync(pauseMs);
    await write('meanwhile');
    follower.clock.resume();
    await group.until('caught up', () => follower.machine.values.includes('meanwhile'));
    await group.clock.advanceAsync(3_000);
    expect(terms()).toEqual(before);
    expect(group.leader()).toBe(leader);
  });

  test('a follower elects nobody even if all that was sent meanwhile is lost, if only the leader lives', async () => {
    const [leader, follower] = await three();
    const before = terms();
    follower.clock.pause();
    group.network.lost = (message) => message.to === follower.id;
    await group.clock.advanceAsync(5_000);
    group.network.lost = () => false;
    follower.clock.resume();
    await group.clock.advanceAsync(3_000);
    expect(terms()).toEqual(before);
    expect(group.leader()).toBe(leader);
  });

  test('a leader learns of the newer term at once, and its lease is void', async () => {
    const [leader, second, third] = await three();
    await group.clock.advanceAsync(1_000);
    const node = must(leader.node, 'leader');
    leader.clock.pause();
    await group.until('another leads', () => [second, third].some((one) => one.node?.status().role === 'leader'));
    await write('newer');
    leader.clock.resume();
    // Still in the turn in which the process goes on: it cannot know yet, but it may not answer from memory.
    expect(node.status().role).toBe('leader');
    const read = node.readLease();
    const index = await group.settled(read);
    expect(leader.machine.values).toContain('newer');
    expect(index).toBeGreaterThan(3);
    expect(node.status().role).toBe('follower');
  });

  test('a leader that is cut off while it is stopped steps down within an election time', async () => {
    const [leader] = await three();
    const node = must(leader.node, 'leader');
    leader.clock.pause();
    group.network.lost = (message) => message.to === leader.id || message.from === leader.id;
    await group.clock.advanceAsync(2_000);
    leader.clock.resume();
    await group.clock.advanceAsync(600);
    expect(node.status().role).toBe('follower');
  });

  test('a leader that was stopped only briefly stays', async () => {
    const [leader] = await three();
    const before = terms();
    for (const pauseMs of [60, 120, 200, 300]) {
      leader.clock.pause();
      await group.clock.advanceAsync(pauseMs);
      leader.clock.resume();
      await group.clock.advanceAsync(200);
    }
    await group.clock.advanceAsync(2_000);
    expect(terms()).toEqual(before);
    expect(group.leader()).toBe(leader);
  });

  test('a leader whose timers get no turn keeps the lead while it is pulsed, but not for ever', async () => {
    const [leader] = await three();
    const before = terms();
    const node = must(leader.node, 'leader');
    const busy = async (ms: number): Promise<void> => {
      for (let i = 0; i < ms / 20; i++) {
        node.pulse();
        await group.clock.advanceAsync(20);
      }
    };
    leader.clock.pause();
    await busy(1_400);
    leader.clock.resume();
    await group.clock.advanceAsync(2_000);
    expect(terms()).toEqual(before);
    expect(group.leader()).toBe(leader);
    leader.clock.pause();
    await busy(5_000);
    expect(group.leader()).not.toBe(leader);
  });

  test('a leader whose every turn is long keeps the lead, though its followers answer slowly', async () => {
    const [leader] = await three();
    const before = terms();
    group.network.delayMs = 310;
    for (let turn = 0; turn < 30; turn++) {
      leader.clock.pause();
      for (let i = 0; i < (turn % 3 === 0 ? 57 : 26); i++) {
        leader.node?.pulse();
        await group.clock.advanceAsync(10);
      }
      leader.clock.resume();
      await group.clock.advanceAsync(1);
    }
    await group.clock.advanceAsync(2_000);
    expect(terms()).toEqual(before);
    expect(group.leader()).toBe(leader);
  });

  test('followers wait longer for a leader that was late before, and soon no more', async () => {
    const [leader] = await three();
    const before = terms();
    const late = async (ms: number): Promise<void> => {
      leader.clock.pause();
      await group.clock.advanceAsync(ms);
      leader.clock.resume();
      await group.clock.advanceAsync(200);
    };
    await late(450);
    await late(600);
    for (let i = 0; i < 5; i++) await late(850);
    expect(terms()).toEqual(before);
    await group.clock.advanceAsync(120_000);
    leader.clock.pause();
    await group.clock.advanceAsync(1_400);
    expect(group.leader()).not.toBe(leader);
  });

  test('pulses of a leader that is in time send nothing', async () => {
    const [leader] = await three();
    let sent = 0;
    group.network.lost = (message) => {
      sent += message.from === leader.id ? 1 : 0;
      return false;
    };
    const count = async (pulse: boolean): Promise<number> => {
      sent = 0;
      for (let i = 0; i < 1_000; i++) {
        if (pulse) leader.node?.pulse();
        await group.clock.advanceAsync(1);
      }
      return sent;
    };
    await group.clock.advanceAsync(1_000);
    const quiet = await count(false);
    expect(quiet).toBeGreaterThan(0);
    expect(await count(true)).toBe(quiet);
  });

  test('when all are stopped together the group goes on with some leader', async () => {
    const members = await three();
    for (const { clock } of members) clock.pause();
    await group.clock.advanceAsync(60_000);
    for (const { clock } of members) clock.resume();
    await group.clock.advanceAsync(3_000);
    await write('after');
    for (const { machine } of members) expect(machine.values).toContain('before');
  });
});

describe('reads by lease', () => {
  test('need no message while the lease holds, and a round when it does not', async () => {
    const [leader] = await three();
    await group.clock.advanceAsync(500);
    const node = must(leader.node, 'leader');
    let messages = 0;
    group.network.lost = () => {
      messages++;
      return false;
    };
    const began = group.clock.monotonic();
    expect(await node.readLease()).toBe(node.status().commit);
    expect(messages).toBe(0);
    expect(group.clock.monotonic()).toBe(began);
    // Nobody answers any more: the lease runs out before anybody else can be elected.
    group.network.lost = (message) => message.type === RaftMessageType.MsgHeartbeatResp;
    await group.clock.advanceAsync(450);
    const outcome = node.readLease().catch((error: unknown) => error);
    expect(await group.settled(outcome)).toMatchObject({ code: 'Unavailable' });
  });
});

test('a read by lease waits for what is committed, not for a round', async () => {
  const [leader] = await three();
  await group.clock.advanceAsync(500);
  const node = must(leader.node, 'leader');
  leader.disk.stalledUntilMs = group.clock.monotonic() + 200;
  const writing = node.propose(Buffer.from('during'));
  await group.clock.advanceAsync(50);
  expect(node.status().commit).toBeGreaterThan(node.status().applied);
  group.network.lost = (message) => message.type === RaftMessageType.MsgHeartbeatResp;
  const index = await group.settled(node.readLease());
  expect(leader.machine.values).toContain('during');
  expect(index).toBe(await group.settled(writing));
});

test('a read on a follower sees what was written just before, without waiting for a tick', async () => {
  const [, follower] = await three();
  for (let i = 0; i < 5; i++) {
    await write(`value-${i}`);
    const began = group.clock.monotonic();
    await group.settled(must(follower.node, 'follower').readIndex());
    expect(group.clock.monotonic() - began).toBeLessThan(10);
    expect(follower.machine.values).toContain(`value-${i}`);
    await group.clock.advanceAsync(7);
  }
});

describe('the ticks of a group', () => {
  test('change while it runs', async () => {
    const [leader, second, third] = await three();
    const before = terms();
    for (const { node } of [leader, second, third]) {
      must(node, 'node').setTicks({ tickMs: 200, electionTicks: 20, heartbeatTicks: 4 });
    }
    let heartbeats = 0;
    group.network.lost = (message) => {
      if (message.type === RaftMessageType.MsgHeartbeat && message.to === 2) heartbeats++;
      return false;
    };
    await group.clock.advanceAsync(8_000);
    expect(heartbeats).toBeGreaterThanOrEqual(9);
    expect(heartbeats).toBeLessThanOrEqual(11);
    expect(terms()).toEqual(before);
    // An election takes 4 s of silence now, and no more than about 8.
    const gone = must(leader.node, 'leader');
    leader.node = undefined;
    await group.settled(gone.stop());
    const began = group.clock.monotonic();
    await group.until('another leads', () => group.leader() !== undefined);
    expect(group.clock.monotonic() - began).toBeGreaterThan(3_000);
    for (const { node } of [second, third]) {
      must(node, 'node').setTicks({ tickMs: 20, electionTicks: 10, heartbeatTicks: 2 });
    }
    const next = must(group.leader(), 'leader');
    next.clock.pause();
    await group.start(leader, { kind: 'restart' });
    const again = group.clock.monotonic();
    await group.until('a third leads', () => group.leader() !== undefined && group.leader() !== next);
    expect(group.clock.monotonic() - again).toBeLessThan(1_500);
  });

  test('must go together', async () => {
    const [leader] = await three();
    const node = must(leader.node, 'node');
    expect(() => node.setTicks({ tickMs: 0, electionTicks: 10, heartbeatTicks: 2 })).toThrow(/no time/);
    expect(() => node.setTicks({ tickMs: 50, electionTicks: 2, heartbeatTicks: 2 })).toThrow(/above the 2 of a/);
    expect(() => node.setTicks({ tickMs: 50, electionTicks: 10, heartbeatTicks: 0 })).toThrow(/whole number from 1/);
  });
});
