import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import { must, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { grpcService, RaftMessage, RaftMessageType, RaftService } from '../../proto/index.ts';
import { GrpcRaftTransport, type GrpcRaftTransportOptions } from './grpc-transport.ts';
import { newReceiveCounters, raftServiceDefinition, raftServiceHandlers, type RaftHandlerOptions } from './handlers.ts';
import { REMOVED_MESSAGE } from './link.ts';
import { explainPeer, type PeerStatus } from './status.ts';

const { MsgApp, MsgHeartbeat, MsgSnap, MsgVote } = RaftMessageType;
const stops: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function until(what: string, ready: () => boolean, timeoutMs = 10_000): Promise<number> {
  const start = systemClock.monotonic();
  while (!ready()) {
    if (systemClock.monotonic() - start > timeoutMs) throw new Error(`not in time: ${what}`);
    await systemClock.sleep(2);
  }
  return systemClock.monotonic() - start;
}

/** A member that only notes what it gets, behind a real gRPC server. */
class FakeMember {
  readonly id: number;
  readonly got: RaftMessage[] = [];
  readonly counters = newReceiveCounters();
  readonly learnt = new Map<number, string>();
  readonly removedIds = new Set<number>();
  readonly addresses = new Map<number, string>();
  /** When set, the server half fails as an old version or a broken one would. */
  server!: grpc.Server;
  address = '';

  constructor(id: number) {
    this.id = id;
  }

  step(message: RaftMessage): void {
    this.got.push(message);
  }

  isRemoved(raftId: number): boolean {
    return this.removedIds.has(raftId);
  }

  async listen(port = 0, overrides: Partial<RaftHandlerOptions> = {}): Promise<this> {
    this.server = new grpc.Server();
    const handlers = raftServiceHandlers({
      node: () => this,
      authorize: () => undefined,
      addressOf: (id) => this.addresses.get(id),
      onAddress: (id, address) => this.learnt.set(id, address),
      counters: this.counters,
      ...overrides,
    });
    this.server.addService(raftServiceDefinition(), handlers);
    const bound = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, at) =>
        error === null ? resolve(at) : reject(error),
      );
    });
    this.address = `127.0.0.1:${bound}`;
    stops.push(() => this.server.forceShutdown());
    return this;
  }

  ofType(type: RaftMessageType): RaftMessage[] {
    return this.got.filter((message) => message.type === type);
  }
}

class Sender {
  readonly transport: GrpcRaftTransport;
  readonly unreachable: number[] = [];
  readonly snapshots: [number, boolean][] = [];
  removed = 0;

  constructor(options: Partial<GrpcRaftTransportOptions> = {}) {
    this.transport = new GrpcRaftTransport({
      credentials: () => grpc.credentials.createInsecure(),
      channelOptions: {},
      clock: systemClock,
      random: systemRandom,
      log: silentLogger,
      self: () => ({ raftId: 1, address: '10.9.9.9:1' }),
      ...options,
    });
    this.transport.attach({
      unreachable: (id) => this.unreachable.push(id),
      snapshot: (id, delivered) => this.snapshots.push([id, delivered]),
      removed: () => this.removed++,
    });
    stops.push(() => this.transport.stop());
  }

  status(raftId = 2): PeerStatus {
    return must(
      this.transport.status().find((one) => one.raftId === raftId),
      'status of the peer',
    );
  }

  connected(raftId = 2): Promise<number> {
    return until('connected', () => this.status(raftId).connected);
  }
}

/** A TCP proxy that can cut (reset) its connections, refuse new ones, or stall: hold all bytes back. */
class Proxy {
  readonly #target: () => string;
  readonly #sockets = new Set<Socket>();
  #server!: Server;
  #stalled = false;
  address = '';

  constructor(target: () => string) {
    this.#target = target;
  }

  async listen(): Promise<this> {
    this.#server = createServer((near) => {
      const far = connect(Number(this.#target().split(':')[1]), '127.0.0.1');
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.setNoDelay();
        if (this.#stalled) from.pause();
        from.on('data', (bytes) => to.write(bytes));
        from.on('error', () => to.destroy());
        from.on('close', () => {
          this.#sockets.delete(from);
          to.destroy();
        });
      }
      if (this.#stalled) for (const one of [near, far]) one.pause();
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.address = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    stops.push(() => {
      this.cut();
      this.#server.close();
    });
    return this;
  }

  /** As when the process at the other end is killed. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** As when the network swallows every packet. */
  stall(): void {
    this.#stalled = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** What was held back is lost with its connections, as it is after a long cut. */
  heal(): void {
    this.#stalled = false;
    this.cut();
  }
}

const beat = (to = 2, index = 0): RaftMessage => RaftMessage.create({ type: MsgHeartbeat, from: 1, to, index });
const append = (index: number, dataBytes = 0): RaftMessage =>
  RaftMessage.create({
    type: MsgApp,
    from: 1,
    to: 2,
    index,
    entries: [{ index, data: Buffer.alloc(dataBytes, index) }],
  });

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
  const server = new grpc.Server();
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
  server.addService(grpcService(RaftService), handlers as unknown as grpc.UntypedServiceImplementation);
  const port = await new Promise<number>((resolve) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (_error, at) => resolve(at)),
  );
  stops.push(() => server.forceShutdown());
  const sender = new Sender();
  sender.transport.addPeer(2, `127.0.0.1:${port}`);
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
  expect(await until('noticed', () => sender.unreachable.length > 0)).toBeLessThan(300);
  await until('many attempts failed', () => sender.status().failures > 4);
  expect(explainPeer(sender.status())).toMatch(/^not connected to 127.0.0.1:\d+ for \d.\d s: nothing listens there/);
  expect(sender.unreachable).toEqual([2]);
  await member.listen(port);
  expect(await sender.connected()).toBeLessThan(1_000);
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
  expect(noticedMs).toBeLessThan(3_000);
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
  expect(systemClock.monotonic() - healedMs).toBeLessThan(1_000);
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
  const server = new grpc.Server();
  const handlers = { StreamRaftMessage: () => undefined };
  server.addService(grpcService(RaftService), handlers as unknown as grpc.UntypedServiceImplementation);
  const port = await new Promise<number>((resolve) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (_error, at) => resolve(at)),
  );
  stops.push(() => server.forceShutdown());
  const sender = new Sender();
  sender.transport.addPeer(2, `127.0.0.1:${port}`);
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
  let slowestMs = 0;
  for (let i = 0; member.ofType(MsgSnap).length === 0; i++) {
    const sentMs = systemClock.monotonic();
    sender.transport.send([beat(2, i)]);
    await until('heartbeat', () => member.ofType(MsgHeartbeat).some(({ index }) => index === i));
    slowestMs = Math.max(slowestMs, systemClock.monotonic() - sentMs);
  }
  const tookMs = systemClock.monotonic() - startMs;
  expect(tookMs).toBeGreaterThan(400);
  expect(tookMs).toBeLessThan(5_000);
  expect(slowestMs).toBeLessThan(150);
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
