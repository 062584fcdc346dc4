import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import { isShoalError, must, silentLogger, systemClock, systemRandom } from '../base/index.ts';
import { grpcService, RaftConfChange, RaftConfChangeType, RaftMember, RaftService } from '../proto/index.ts';
import { GrpcRaftTransport, RaftNode, raftServiceHandlers, removeWal } from './index.ts';
import type { RaftNodeOptions, StartMode } from './index.ts';
import { ListMachine } from './testing.ts';

class Host {
  readonly id: number;
  readonly dir = mkdtempSync(join(tmpdir(), 'shoal-raft-'));
  address = '';
  machine!: ListMachine;
  node: RaftNode | undefined;
  transport!: GrpcRaftTransport;
  removed = false;
  readonly server = new grpc.Server();

  constructor(id: number) {
    this.id = id;
  }

  async listen(): Promise<this> {
    const handlers = raftServiceHandlers({
      node: () => this.node,
      authorize: () => undefined,
      addressOf: (id) => this.machine.members.get(id),
    });
    this.server.addService(grpcService(RaftService), handlers);
    const port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    this.address = `127.0.0.1:${port}`;
    return this;
  }

  get member(): RaftMember {
    return RaftMember.create({ raft_id: this.id, node_id: `node${this.id}`, addr: this.address });
  }

  async start(how: StartMode, overrides: Partial<RaftNodeOptions> = {}): Promise<void> {
    const common = { clock: systemClock, random: systemRandom, log: silentLogger };
    this.transport = new GrpcRaftTransport({
      ...common,
      credentials: () => grpc.credentials.createInsecure(),
      channelOptions: {},
    });
    const { transport } = this;
    this.machine = new ListMachine((id, address) => {
      if (address === undefined) transport.removePeer(id);
      else if (id !== this.id) transport.addPeer(id, address);
    });
    this.node = await RaftNode.start(
      {
        ...common,
        id: this.id,
        dir: this.dir,
        transport,
        stateMachine: this.machine,
        onFatal: (error) => {
          throw error;
        },
        onRemoved: () => {
          this.removed = true;
        },
        ...overrides,
      },
      how,
    );
  }

  async stop(): Promise<void> {
    await this.node?.stop();
    this.node = undefined;
    await this.transport.stop();
  }
}

const hosts: Host[] = [];
afterEach(async () => {
  for (const host of hosts.splice(0)) {
    await host.stop();
    host.server.forceShutdown();
    rmSync(host.dir, { recursive: true, force: true });
  }
});

async function until(what: string, test_: () => boolean, timeoutMs = 15_000): Promise<void> {
  const end = systemClock.monotonic() + timeoutMs;
  while (!test_()) {
    if (systemClock.monotonic() > end) throw new Error(`not in time: ${what}`);
    await systemClock.sleep(5);
  }
}

function leader(): Host | undefined {
  return hosts.find((host) => host.node?.status().role === 'leader');
}

/** Proposes at whoever leads, as a client that tries again. */
async function write(value: string): Promise<void> {
  for (;;) {
    await until('a leader', () => leader() !== undefined);
    try {
      await must(leader()?.node, 'leading node').propose(Buffer.from(value));
      return;
    } catch (error) {
      if (!isShoalError(error, 'Unavailable')) throw error;
    }
  }
}

async function newHost(): Promise<Host> {
  const host = await new Host(1000 + hosts.length * 7).listen();
  hosts.push(host);
  return host;
}

/** The manager's way: add as learner, start, promote once it is there. */
async function addHost(overrides: Partial<RaftNodeOptions> = {}): Promise<Host> {
  const host = await newHost();
  await change(RaftConfChangeType.ConfChangeAddLearnerNode, host);
  await host.start({ kind: 'join' }, overrides);
  for (const other of hosts) if (other !== host) host.transport.addPeer(other.id, other.address);
  await change(RaftConfChangeType.ConfChangeAddNode, host);
  await until('voter', () => host.node?.status().voters.includes(host.id) === true);
  return host;
}

async function change(type: RaftConfChange['type'], host: Host): Promise<void> {
  const fields = { type, node_id: host.id, context: RaftMember.encode(host.member) };
  for (;;) {
    await until('a leader', () => leader() !== undefined);
    try {
      await must(leader()?.node, 'leading node').proposeConfChange(RaftConfChange.create(fields));
      return;
    } catch (error) {
      // A new leader takes none before it has committed an entry of its term.
      if (!isShoalError(error, 'Unavailable')) throw error;
      await systemClock.sleep(5);
    }
  }
}

async function group(overrides: Partial<RaftNodeOptions> = {}): Promise<void> {
  const first = await newHost();
  await first.start({ kind: 'bootstrap', member: first.member }, overrides);
  await addHost(overrides);
  await addHost(overrides);
}

const all = (value: string) => () =>
  hosts.every((host) => host.node === undefined || host.machine.values.includes(value));

test('three members elect, replicate, survive the loss of the leader, and take it back', async () => {
  await group();
  await write('a');
  await until('a everywhere', all('a'));
  const old = must(leader(), 'leader');
  await old.stop();
  await write('b');
  expect(leader()).not.toBe(old);
  await until('b on the two', all('b'));
  await old.start({ kind: 'restart' });
  await until('b everywhere', all('b'));
  for (const host of hosts) expect(host.machine.values).toEqual(['a', 'b']);
  expect(hosts.map((host) => host.node?.status().voters.length)).toEqual([3, 3, 3]);
});

test('a member that was away for long catches up by a snapshot, in several pieces', async () => {
  const overrides = { snapshotEntries: 50, keepEntries: 5 };
  await group(overrides);
  await write('first');
  const away = must(
    hosts.find((host) => host !== leader()),
    'follower',
  );
  await away.stop();
  const filler = 'x'.repeat(40_000);
  for (let i = 0; i < 120; i++) await write(`${i} ${filler}`);
  await away.start({ kind: 'restart' }, overrides);
  await write('last');
  await until('last everywhere', all('last'));
  expect(away.machine.restored).toBeGreaterThan(0);
  expect(away.machine.values).toEqual(must(leader(), 'leader').machine.values);
});

test('proposals made in one turn share their batch and keep their order', async () => {
  await group();
  await write('start');
  const burst = (): Promise<number[]> => {
    const node = must(leader()?.node, 'leader');
    return Promise.all(Array.from({ length: 500 }, (_, i) => node.propose(Buffer.from(`p${i}`))));
  };
  // On a machine that stalls, the lead may move once.
  const indexes = await burst().catch(async () => {
    await write('again');
    return burst();
  });
  expect(indexes).toEqual(indexes.map((_, i) => (indexes[0] as number) + i));
  await until('all', all('p499'));
});

test('leadership is handed over, reads are confirmed on any member', async () => {
  await group();
  await write('a');
  const before = must(leader(), 'leader');
  const target = must(
    hosts.find((host) => host !== before),
    'follower',
  );
  await must(before.node, 'node').transferLeadership(target.id);
  await until('new leader', () => leader() === target);
  await write('b');
  const index = await must(before.node, 'node').readIndex();
  expect(before.node?.status().applied).toBeGreaterThanOrEqual(index);
  expect(before.machine.values).toContain('b');
});

test('a removed member is told so, and a refused proposal names the leader', async () => {
  await group();
  await write('a');
  const gone = must(
    hosts.find((host) => host !== leader()),
    'follower',
  );
  await expect(must(gone.node, 'node').propose(Buffer.from('x'))).rejects.toThrow(/leads the cluster/);
  await gone.stop();
  await change(RaftConfChangeType.ConfChangeRemoveNode, gone);
  await write('b');
  await gone.start({ kind: 'restart' });
  await until('told', () => gone.removed);
  expect(must(leader(), 'leader').node?.status().voters).not.toContain(gone.id);
});

test('force-new-cluster keeps every acknowledged write after the loss of the majority', async () => {
  await group();
  for (let i = 0; i < 20; i++) await write(`w${i}`);
  await until('all', all('w19'));
  const [survivor, ...lost] = hosts as [Host, ...Host[]];
  for (const host of hosts) await host.stop();
  for (const host of lost) removeWal(host.dir);
  await expect(must(lost[0], 'lost').start({ kind: 'restart' })).rejects.toThrow(/holds no raft log/);
  await survivor.start({ kind: 'force-new-cluster', member: survivor.member });
  await write('alone');
  expect(survivor.machine.values).toEqual([...Array.from({ length: 20 }, (_, i) => `w${i}`), 'alone']);
  expect(survivor.node?.status().voters).toEqual([survivor.id]);
  await expect(survivor.start({ kind: 'join' })).rejects.toThrow(/already holds/);
});
