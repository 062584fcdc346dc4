/** What agents hold by deltas is the table, whatever happened and whenever they were told. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  applyTableDelta,
  isTableDelta,
  Network,
  NetworkTable,
  NodeStatus_State,
  TaskState,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore } from '../store/testing.ts';
import { AssignmentFeed } from './assignment-feed.ts';
import { NetworkIndex } from './network-index.ts';
import { TableCodec } from './table-codec.ts';

const NODES = 4;
const net = Network.create({ id: 'net', driver_state: { name: 'overlay' }, spec: { annotations: { name: 'net' } } });

const placed = (id: number, node: number, state: TaskState, address: number): Task =>
  aTask(`t${id}`, {
    service_id: `s${id % 3}`,
    node_id: `n${node}`,
    status: { state },
    networks: [{ network: net, addresses: [`10.0.0.${address}/24`] }],
  });

const step = fc.oneof(
  fc.record({
    kind: fc.constant('task' as const),
    id: fc.integer({ min: 1, max: 12 }),
    node: fc.integer({ min: 1, max: NODES }),
    state: fc.constantFrom(TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE),
    address: fc.integer({ min: 3, max: 20 }),
  }),
  fc.record({ kind: fc.constant('gone' as const), id: fc.integer({ min: 1, max: 12 }) }),
  fc.record({
    kind: fc.constant('service' as const),
    id: fc.integer({ min: 0, max: 2 }),
    vip: fc.integer({ min: 100, max: 102 }),
    present: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('node' as const), id: fc.integer({ min: 1, max: NODES }), host: fc.integer({ min: 1, max: 9 }) }), // prettier-ignore
  fc.record({ kind: fc.constant('network' as const), name: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant('pump' as const), agents: fc.subarray(Array.from({ length: NODES }, (_, n) => n + 1)) }), // prettier-ignore
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A table without the order of its members. */
function facts(table: NetworkTable | undefined): unknown {
  if (table === undefined) return undefined;
  const byId = <T>(list: readonly T[], idOf: (one: T) => string): T[] =>
    [...list].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
  const endpoints = byId(table.endpoints, (one) => one.task_id);
  const services = byId(table.services, (one) => one.service_id);
  return { ...table, endpoints, services, peers: byId(table.peers, (one) => one.node_id) };
}

async function history(steps: readonly Step[], counts: { deltas: number; whole: number }): Promise<void> {
  const store = createMemoryStore();
  const index = new NetworkIndex();
  const codec = new TableCodec();
  const node = (id: number, host: number) =>
    aNode(`n${id}`, { status: { state: NodeStatus_State.READY, addr: `192.0.2.${host}` } });
  const service = (id: number, vip: number) =>
    aService(`s${id}`, { endpoint: { virtual_ips: [{ network_id: 'net', addr: `10.0.0.${vip}/24` }] } });
  const task = Array.from({ length: 16 }, (_, n) => placed(n + 1, 1 + (n % NODES), TaskState.RUNNING, n + 3));
  await store.seed({ task, network: [net], node: Array.from({ length: NODES }, (_, n) => node(n + 1, n + 1)) });
  index.rebuild(store.view(), store.currentIndex);
  index.takeDirty();
  const agents = Array.from({ length: NODES }, (_, n) => {
    const feed = new AssignmentFeed(`n${n + 1}`, index, 'deltas');
    feed.markAll(store.view());
    return { id: n + 1, feed, table: undefined as NetworkTable | undefined };
  });
  let nowMs = 0;
  const pump = (ids: readonly number[]): void => {
    nowMs += 10_000;
    for (const agent of agents.filter(({ id }) => ids.includes(id))) {
      for (const { action, assignment } of agent.feed.changes(store.view(), nowMs)) {
        if (!assignment?.network_table) continue;
        const table = NetworkTable.decode(codec.encode(assignment.network_table));
        if (action !== 0) agent.table = undefined;
        else if (isTableDelta(table)) {
          counts.deltas++;
          // Lost or told twice, it does not fit.
          expect(applyTableDelta(NetworkTable.create({ network_id: 'net', version: 0 }), table)).toBeUndefined();
          agent.table = applyTableDelta(agent.table, table);
          expect(applyTableDelta(agent.table, table)).toBeUndefined();
        } else {
          counts.whole++;
          agent.table = table;
        }
      }
      const wanted = index.networksOf(`n${agent.id}`).has('net') ? index.table(store.view(), 'net') : undefined;
      expect(facts(agent.table)).toEqual(facts(wanted));
    }
  };
  for (const one of steps) {
    if (one.kind === 'pump') {
      pump(one.agents);
      continue;
    }
    const watch = store.watch();
    await store.update((tx) => {
      const put = (kind: 'task' | 'service' | 'node', object: never): void => {
        const { id } = object as { id: string };
        if (tx.get(kind, id) === undefined) tx.create(kind, object);
        else tx.update(kind, { ...(object as object), meta: (tx.get(kind, id) as { meta: unknown }).meta } as never);
      };
      if (one.kind === 'task') put('task', placed(one.id, one.node, one.state, one.address) as never);
      else if (one.kind === 'gone') {
        if (tx.get('task', `t${one.id}`) !== undefined) tx.remove('task', `t${one.id}`);
      } else if (one.kind === 'node') put('node', node(one.id, one.host) as never);
      else if (one.kind === 'network') {
        const known = tx.get('network', 'net')!;
        tx.update('network', Network.create({ ...known, spec: { annotations: { name: `net${one.name}` } } }));
      } else if (one.present) put('service', service(one.id, one.vip) as never);
      else if (tx.get('service', `s${one.id}`) !== undefined) tx.remove('service', `s${one.id}`);
    });
    for (const commit of watch.drain())
      for (const change of commit.changes) index.apply(store.view(), change, commit.index);
    watch.close();
    for (const networkId of index.takeDirty()) for (const { feed } of agents) feed.markTable(networkId);
  }
  pump(agents.map(({ id }) => id));
}

it('any history ends in the same tables by deltas as whole, whenever each agent is told', async () => {
  const counts = { deltas: 0, whole: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => history(steps, counts)),
    { numRuns: 60 },
  );
  // Tables of a few members are sent whole when half of them changed.
  expect(counts.deltas).toBeGreaterThan(20);
  expect(counts.whole).toBeGreaterThan(20);
});
