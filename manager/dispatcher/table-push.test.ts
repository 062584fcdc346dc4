import { expect, it, vi } from 'vitest';
import { Network, NetworkEndpoint, NodeStatus_State, TaskState, type Task } from '../../proto/index.ts';
import { aNode, aTask, createMemoryStore } from '../store/testing.ts';
import { AssignmentCodec } from './assignment-codec.ts';
import { AssignmentFeed, FeedLoad, type TablesTaken } from './assignment-feed.ts';
import { NetworkIndex } from './network-index.ts';

const AGENTS = 100;
const ENDPOINTS = 1_000;
/** Changed endpoints that one commit brings: dispatchers store reports in batches. */
const PER_COMMIT = 20;
const COMMIT_INTERVAL_MS = 10;

const net = Network.create({ id: 'net', driver_state: { name: 'overlay' }, spec: { annotations: { name: 'net' } } });

const place = (n: number, state: TaskState): Task =>
  aTask(`task-${n}`.padEnd(25, 'x'), {
    service_id: `service-${n % 10}`.padEnd(25, 'x'),
    service_annotations: { name: `service-${n % 10}` },
    slot: n,
    node_id: `node-${n % AGENTS}`,
    status: { state },
    networks: [{ network: net, addresses: [`10.0.${n >> 8}.${n & 255}/16`, `fd00::${n.toString(16)}/64`] }],
  });

/** A manager with the agents' feeds, in virtual time; counts what it sends. */
async function cluster(takes: TablesTaken): Promise<{
  change: (from: number, to: number) => Promise<void>;
  pump: (nowMs: number) => void;
  sent: { messages: number; bytes: number };
  versions: Map<string, number>;
  /** Version of the table as of now. */
  latest: () => number | undefined;
}> {
  const store = createMemoryStore();
  const index = new NetworkIndex();
  const codec = new AssignmentCodec();
  const load = new FeedLoad();
  const nodes = Array.from({ length: AGENTS }, (_, n) => `node-${n}`);
  await store.seed({
    network: [net],
    node: nodes.map((id, n) => aNode(id, { status: { state: NodeStatus_State.READY, addr: `192.0.2.${n}` } })),
    task: Array.from({ length: ENDPOINTS }, (_, n) => place(n, TaskState.STARTING)),
  });
  index.rebuild(store.view(), store.currentIndex);
  index.takeDirty();
  const sent = { messages: 0, bytes: 0 };
  const versions = new Map<string, number>();
  const feeds = nodes.map((id) => ({ id, feed: new AssignmentFeed(id, index, takes, load), sentMs: -1e6 }));
  const send = (agent: (typeof feeds)[number], nowMs: number): void => {
    const changes = agent.feed.changes(store.view(), nowMs);
    if (changes.length === 0) return;
    agent.sentMs = nowMs;
    sent.messages++;
    sent.bytes += codec.encode({ type: 1, applies_to: '1', results_in: '2', changes }).length;
    for (const { assignment } of changes) {
      if (assignment?.network_table) versions.set(agent.id, assignment.network_table.version);
    }
  };
  for (const agent of feeds) {
    agent.feed.markAll(store.view());
    send(agent, 0);
  }
  sent.messages = sent.bytes = 0;
  const change = async (from: number, to: number): Promise<void> => {
    const watch = store.watch();
    await store.update((tx) => {
      for (let n = from; n < to; n++) {
        const task = tx.get('task', place(n, 0).id)!;
        tx.update('task', { ...task, status: { ...task.status!, state: TaskState.RUNNING } });
      }
    });
    for (const commit of watch.drain()) for (const one of commit.changes) index.apply(store.view(), one, commit.index);
    watch.close();
    for (const networkId of index.takeDirty()) for (const { feed } of feeds) feed.markTable(networkId);
  };
  const pump = (nowMs: number): void => {
    for (const agent of feeds) if (agent.feed.delayMs(nowMs, agent.sentMs) === 0) send(agent, nowMs);
  };
  return { change, pump, sent, versions, latest: () => index.table(store.view(), net.id)?.version };
}

/** Messages per agent and bytes of all of them, in which the changes may go. */
const PUSHES = [
  { takes: 'whole', messages: 3, bytes: 60e6 },
  { takes: 'deltas', messages: 4, bytes: 25e6 },
] as const;

it.each(PUSHES)('1,000 endpoint changes reach 100 agents within a second, each encoded once ($takes)', async (most) => {
  const { change, pump, sent, versions, latest } = await cluster(most.takes);
  const encode = vi.spyOn(NetworkEndpoint, 'encode');
  const began = process.cpuUsage();
  const startMs = 5_000;
  let nowMs = startMs;
  const tick = (): void => pump((nowMs += COMMIT_INTERVAL_MS));
  for (let from = 0; from < ENDPOINTS; from += PER_COMMIT) {
    await change(from, from + PER_COMMIT);
    tick();
  }
  const allKnow = (): boolean => [...versions.values()].every((version) => version === latest());
  while (!allKnow() && nowMs < startMs + 10_000) tick();
  const { user, system } = process.cpuUsage(began);
  expect(versions.size).toBe(AGENTS);
  // Half of it is the time in which the changes come.
  expect(nowMs - startMs).toBeLessThanOrEqual(1_000);
  expect(sent.messages).toBeLessThanOrEqual(most.messages * AGENTS);
  expect(sent.bytes).toBeLessThan(most.bytes);
  expect(encode).toHaveBeenCalledTimes(ENDPOINTS);
  expect((user + system) / 1000, 'ms of one processor').toBeLessThan(1_000);
  encode.mockRestore();
});
