import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { must, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { RaftMessage, RaftMessageType } from '../../proto/index.ts';
import { GrpcRaftTransport, type GrpcRaftTransportOptions } from './grpc-transport.ts';
import { newReceiveCounters, raftServiceDefinition, raftServiceHandlers, type RaftHandlerOptions } from './handlers.ts';
import type { PeerStatus } from './status.ts';

const { MsgApp, MsgHeartbeat } = RaftMessageType;

/** Allowance for a machine that is busy with other tests, ms. */
export const BUSY_MS = 500;

/** What must be stopped after a test; the newest first. */
export const cleanups: (() => void | Promise<void>)[] = [];

export async function cleanUp(): Promise<void> {
  for (const stop of cleanups.splice(0).reverse()) await stop();
}

/** A gRPC server with these handlers of the service `Raft`. @returns its address. */
export async function serve(
  definition: grpc.ServiceDefinition,
  handlers: grpc.UntypedServiceImplementation,
): Promise<string> {
  const server = new grpc.Server();
  server.addService(definition, handlers);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, at) =>
      error === null ? resolve(at) : reject(error),
    );
  });
  cleanups.push(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

export async function until(what: string, ready: () => boolean, timeoutMs = 10_000): Promise<number> {
  const start = systemClock.monotonic();
  while (!ready()) {
    if (systemClock.monotonic() - start > timeoutMs) throw new Error(`not in time: ${what}`);
    await systemClock.sleep(2);
  }
  return systemClock.monotonic() - start;
}

/** A member that only notes what it gets, behind a real gRPC server. */
export class FakeMember {
  readonly id: number;
  readonly got: RaftMessage[] = [];
  readonly counters = newReceiveCounters();
  readonly learnt = new Map<number, string>();
  readonly removedIds = new Set<number>();
  readonly addresses = new Map<number, string>();
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
    cleanups.push(() => this.server.forceShutdown());
    return this;
  }

  ofType(type: RaftMessageType): RaftMessage[] {
    return this.got.filter((message) => message.type === type);
  }
}

export class Sender {
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
    cleanups.push(() => this.transport.stop());
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
export class Proxy {
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
    cleanups.push(() => {
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

export const beat = (to = 2, index = 0): RaftMessage => RaftMessage.create({ type: MsgHeartbeat, from: 1, to, index });
export const append = (index: number, dataBytes = 0): RaftMessage =>
  RaftMessage.create({
    type: MsgApp,
    from: 1,
    to: 2,
    index,
    entries: [{ index, data: Buffer.alloc(dataBytes, index) }],
  });
