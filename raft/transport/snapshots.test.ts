import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import { RaftMessage, RaftMessageType } from '../../proto/index.ts';
import { beat, cleanUp, FakeMember, Proxy, Sender, until } from './testing.ts';

const { MsgHeartbeat, MsgSnap } = RaftMessageType;
afterEach(cleanUp);

function snapshotMessage(bytes: number, index = 100): RaftMessage {
  const data = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i += 4) data.writeUInt32LE(i ^ 0x5bd1, i);
  const metadata = { index, term: 3, conf_state: { voters: [1, 2] } };
  return RaftMessage.create({ type: MsgSnap, from: 1, to: 2, term: 3, snapshot: { data, metadata } });
}

test('a snapshot arrives whole, at the given rate, while heartbeats pass', async () => {
  const member = await new FakeMember(2).listen();
  const sender = new Sender({ snapshotBytesPerSecond: 16 * 1024 * 1024 });
  sender.transport.addPeer(2, member.address);
  await sender.connected();
  const message = snapshotMessage(8 * 1024 * 1024);
  const startMs = systemClock.monotonic();
  sender.transport.send([message]);
  const waits: number[] = [];
  for (let i = 0; member.ofType(MsgSnap).length === 0; i++) {
    const sentMs = systemClock.monotonic();
    sender.transport.send([beat(2, i)]);
    await until('heartbeat', () => member.ofType(MsgHeartbeat).some(({ index }) => index === i));
    waits.push(systemClock.monotonic() - sentMs);
  }
  const tookMs = systemClock.monotonic() - startMs;
  expect(tookMs).toBeGreaterThan(400);
  expect(tookMs).toBeLessThan(5_000);
  expect(waits.length).toBeGreaterThan(10);
  expect(waits.sort((a, b) => a - b)[Math.floor(waits.length / 2)]).toBeLessThan(30);
  expect(RaftMessage.equal(member.ofType(MsgSnap)[0], message)).toBe(true);
  await until('reported', () => sender.snapshots.length === 1);
  expect(sender.snapshots).toEqual([[2, true]]);
});

test('a snapshot whose stream breaks goes on where it was, and is checked as a whole', async () => {
  const member = await new FakeMember(2).listen();
  const proxy = await new Proxy(() => member.address).listen();
  const sender = new Sender({ snapshotBytesPerSecond: 20 * 1024 * 1024 });
  sender.transport.addPeer(2, proxy.address);
  await sender.connected();
  const total = 12 * 1024 * 1024;
  sender.transport.send([snapshotMessage(total)]);
  const progress: number[] = [];
  for (const part of [0.3, 0.6]) {
    await until('part of it', () => (sender.status().snapshot?.sentBytes ?? 0) > total * part);
    const before = sender.status().snapshot?.sentBytes ?? 0;
    proxy.cut();
    await until('it goes on', () => (sender.status().snapshot?.sentBytes ?? total) > before);
    progress.push(before);
  }
  await until('arrived', () => member.ofType(MsgSnap).length === 1);
  expect(
    RaftMessage.equal(
      member.got.find(({ type }) => type === MsgSnap),
      snapshotMessage(total),
    ),
  ).toBe(true);
  await until('reported', () => sender.snapshots.length === 1);
  expect(sender.snapshots).toEqual([[2, true]]);
  // Had it begun anew each time, about 1.9 times as many pieces would have come.
  expect(member.counters.batches).toBeLessThan((total / (256 * 1024)) * 1.5);
  expect(progress).toHaveLength(2);
});

test('a snapshot of nothing, and one to a member that cannot be reached', async () => {
  const member = await new FakeMember(2).listen();
  const sender = new Sender();
  sender.transport.addPeer(2, member.address);
  sender.transport.addPeer(3, '127.0.0.1:1');
  sender.transport.send([snapshotMessage(0), { ...snapshotMessage(12), to: 3 }]);
  await until('both fates', () => sender.snapshots.length === 2);
  expect(new Map(sender.snapshots)).toEqual(
    new Map([
      [2, true],
      [3, false],
    ]),
  );
  expect(member.got.map(({ snapshot }) => snapshot?.data.length)).toEqual([0]);
});

test('a few snapshots at once, the others in turn', async () => {
  const members = await Promise.all([2, 3, 4, 5].map((id) => new FakeMember(id).listen()));
  const sender = new Sender({ snapshotBytesPerSecond: 64 * 1024 * 1024 });
  for (const member of members) sender.transport.addPeer(member.id, member.address);
  const message = snapshotMessage(2 * 1024 * 1024);
  sender.transport.send(members.map(({ id }) => ({ ...message, to: id })));
  let most = 0;
  await until('all', () => {
    most = Math.max(most, sender.transport.status().filter(({ snapshot }) => snapshot !== undefined).length);
    return sender.snapshots.length === 4;
  });
  expect(most).toBe(2);
  expect(sender.snapshots.every(([, delivered]) => delivered)).toBe(true);
});
