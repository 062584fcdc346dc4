import type * as grpc from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import { grpcService, RaftMessage, RaftMessageType, RaftService } from '../../proto/index.ts';
import { REMOVED_MESSAGE } from './link.ts';
import { explainPeer } from './status.ts';
import { append, beat, BUSY_MS, cleanUp, FakeMember, Proxy, Sender, serve, until } from './testing.ts';

const { MsgApp, MsgVote } = RaftMessageType;
afterEach(cleanUp);

test('what is sent in one turn arrives in order in one gRPC message', async () => {
  const member = await new FakeMember(2).listen();
  const sender = new Sender();
  sender.transport.addPeer(2, member.address);
  await sender.connected();
  sender.transport.send([beat()]);
  await until('the first', () => member.got.length === 1);
  await until('the handshake', () => member.counters.batches === 1);
  for (let i = 1; i <= 100; i++) sender.transport.send([append(i), append(i + 1000)]);
  await until('all', () => member.got.length === 201);
  expect(member.counters.batches).toBe(2);
  expect(member.ofType(MsgApp).map(({ index }) => index)).toEqual(
    Array.from({ length: 100 }, (_, i) => [i + 1, i + 1001]).flat(),
  );
  expect(sender.status()).toMatchObject({ connected: true, sentMessages: 201, sentBatches: 2, droppedMessages: 0 });
});

test('a receiver of an older version gets one message at a time', async () => {
  const got: number[] = [];
  const handlers = {
    StreamRaftMessage: (
      call: grpc.ServerReadableStream<{ message: RaftMessage | null; more: RaftMessage[] }, object>,
    ) => {
      call.on('data', ({ message, more }: { message: RaftMessage | null; more: RaftMessage[] }) => {
        expect(more).toEqual([]);
        got.push(message?.index ?? -1);
      });
    },
  };
  const address = await serve(grpcService(RaftService), handlers);
  const sender = new Sender();
  sender.transport.addPeer(2, address);
  await sender.connected();
  for (let i = 0; i < 50; i++) sender.transport.send([append(i)]);
  await until('all', () => got.length === 50);
  expect(got).toEqual(Array.from({ length: 50 }, (_, i) => i));
});

test('a killed peer is noticed at once, and found again within a second of its return', async () => {
  const member = await new FakeMember(2).listen();
  const sender = new Sender();
  sender.transport.addPeer(2, member.address);
  await sender.connected();
  const port = Number(member.address.split(':')[1]);
  member.server.forceShutdown();
  expect(await until('noticed', () => sender.unreachable.length > 0)).toBeLessThan(BUSY_MS);
  await until('many attempts failed', () => sender.status().failures > 4);
  expect(explainPeer(sender.status())).toMatch(/^not connected to 127.0.0.1:\d+ for \d.\d s: nothing listens there/);
  expect(sender.unreachable).toEqual([2]);
  await member.listen(port);
  expect(await sender.connected()).toBeLessThan(1_000 + BUSY_MS);
  sender.transport.send([beat()]);
  await until('messages flow', () => member.got.length === 1);
});

test('a peer behind a cut network is noticed in about 2.5 s; after it heals a stream works within 1 s', async () => {
  const member = await new FakeMember(2).listen();
  const proxy = await new Proxy(() => member.address).listen();
  const sender = new Sender();
  sender.transport.addPeer(2, proxy.address);
  await sender.connected();
  proxy.stall();
  const noticedMs = await until('noticed', () => sender.unreachable.length > 0);
  expect(noticedMs).toBeLessThan(2_500 + BUSY_MS);
  expect(noticedMs).toBeGreaterThan(1_000);
  await systemClock.sleep(1_500);
  expect(sender.status().connected).toBe(false);
  expect(explainPeer(sender.status())).toMatch(/it does not answer|reset/);
  proxy.heal();
  const healedMs = systemClock.monotonic();
  const beats = (async () => {
    while (member.got.length === 0) {
      sender.transport.send([beat()]);
      await systemClock.sleep(20);
    }
  })();
  await beats;
  expect(systemClock.monotonic() - healedMs).toBeLessThan(1_000 + BUSY_MS);
});

test('a connection that is reset is replaced, and the newest vote of the pause is not lost', async () => {
  const member = await new FakeMember(2).listen();
  let target = member.address;
  const proxy = await new Proxy(() => target).listen();
  const sender = new Sender();
  sender.transport.addPeer(2, proxy.address);
  await sender.connected();
  target = '127.0.0.1:1';
  proxy.cut();
  await until('noticed', () => sender.unreachable.length === 1);
  const vote = (term: number): RaftMessage => RaftMessage.create({ type: MsgVote, from: 1, to: 2, term });
  sender.transport.send([vote(5), append(1), beat(), vote(6)]);
  await until('dropped', () => sender.status().queuedMessages === 1);
  expect(sender.unreachable.length).toBe(1);
  target = member.address;
  await until('the vote', () => member.got.length > 0);
  expect(member.got.map(({ type, term }) => [type, term])).toEqual([[MsgVote, 6]]);
});

test('a stream that the peer does not read is noticed and given up', async () => {
  const handlers = { StreamRaftMessage: () => undefined };
  const address = await serve(grpcService(RaftService), handlers);
  const sender = new Sender();
  sender.transport.addPeer(2, address);
  await sender.connected();
  for (let i = 0; sender.unreachable.length === 0; i++) {
    sender.transport.send([append(i, 100_000)]);
    expect(sender.status().queuedBytes).toBeLessThan(80 * 1024 * 1024);
    await systemClock.sleep(20);
    expect(i).toBeLessThan(500);
  }
  expect(sender.status().lastError).toMatch(/takes no messages/);
});

test('messages for another member are dropped and counted; a removed sender is told', async () => {
  const member = await new FakeMember(2).listen();
  const sender = new Sender();
  sender.transport.addPeer(3, member.address);
  await sender.connected(3);
  sender.transport.send([beat(3)]);
  await until('counted', () => member.counters.staleTo === 1);
  expect(member.got).toEqual([]);
  member.removedIds.add(1);
  sender.transport.send([beat(3)]);
  await until('told', () => sender.removed > 0);
  await until('status says so', () => sender.status(3).lastError === REMOVED_MESSAGE);
});

test('a peer that moves is found: by its own word, and by asking another', async () => {
  const [a, b] = [await new FakeMember(2).listen(), await new FakeMember(3).listen()];
  const sender = new Sender();
  sender.transport.addPeer(2, a.address);
  sender.transport.addPeer(3, b.address);
  await sender.connected(2);
  await sender.connected(3);
  expect(a.learnt.get(1)).toBe('10.9.9.9:1');
  a.server.forceShutdown();
  const moved = await new FakeMember(2).listen();
  b.addresses.set(2, moved.address);
  await until('found by asking', () => sender.status(2).connected);
  expect(sender.transport.addressOf(2)).toBe(moved.address);
  const again = await new FakeMember(2).listen();
  sender.transport.learnAddress(2, again.address);
  await until('found by its word', () => sender.status(2).connected && sender.status(2).address === again.address);
  sender.transport.send([beat()]);
  await until('there', () => again.got.length === 1);
  // What the owner says counts most.
  sender.transport.updatePeer(2, moved.address);
  await until('back', () => sender.status(2).connected && sender.status(2).address === moved.address);
});

test('another manager at the peer’s address is not taken for it', async () => {
  const member = await new FakeMember(2).listen();
  const sender = new Sender({ checkPeer: (id) => (id === 2 ? 'another manager answers there: n9' : undefined) });
  sender.transport.addPeer(2, member.address);
  await until('noticed', () => sender.status().lastError === 'another manager answers there: n9');
});
