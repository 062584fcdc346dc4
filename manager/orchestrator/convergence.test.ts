import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  TaskState,
  UpdateStatus_UpdateState,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

type Op = 'fail' | 'down' | 'up' | 'drain' | 'scale' | 'update' | 'leader' | 'lost' | 'time' | 'flaky';
interface Step {
  op: Op;
  n: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom<Op>('fail', 'down', 'up', 'drain', 'scale', 'update', 'leader', 'lost', 'time', 'flaky'),
  n: fc.nat(20),
});

async function perform(cluster: TestCluster, { op, n }: Step): Promise<void> {
  const nodeId = `n${1 + (n % 3)}`;
  const running = cluster.running('web');
  const victim = running[n % Math.max(1, running.length)];
  if (op === 'fail' && victim !== undefined) {
    const status = { ...victim.status!, state: TaskState.FAILED };
    await cluster.store.update((tx) => tx.update('task', { ...tx.get('task', victim.id)!, status }));
  }
  if (op === 'down') await cluster.setNode(nodeId, { state: NodeStatus_State.DOWN });
  if (op === 'up') {
    const change = { state: NodeStatus_State.READY, availability: NodeSpec_Availability.ACTIVE };
    await cluster.setNode(nodeId, change);
  }
  if (op === 'drain') await cluster.setNode(nodeId, { availability: NodeSpec_Availability.DRAIN });
  if (op === 'scale') await cluster.updateService('web', (spec) => ({ ...spec, replicated: { replicas: n % 7 } }));
  if (op === 'update') await cluster.updateService('web', withImage(`image${n % 4}`));
  if (op === 'leader') await cluster.changeLeader();
  if (op === 'lost') cluster.store.failNext(n % 2 === 0 ? 'lost' : 'doubt');
  if (op === 'flaky')
    cluster.behaviour = (task) =>
      task.status?.state === TaskState.READY && n % 2 === 0 ? { state: TaskState.REJECTED } : obedient(task);
}

/** A write of the test itself; one that the store was told to lose is made again. */
async function insist(cluster: TestCluster, write: () => Promise<void>): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    await cluster.run(100);
    const done = await write().then(
      () => true,
      () => false,
    );
    if (done) return;
  }
}

/** Everything heals: nodes come back, images are good, a paused update gets a new spec. */
async function heal(cluster: TestCluster): Promise<void> {
  cluster.behaviour = obedient;
  const change = { state: NodeStatus_State.READY, availability: NodeSpec_Availability.ACTIVE };
  for (const id of ['n1', 'n2', 'n3']) await insist(cluster, () => cluster.setNode(id, change));
  await insist(cluster, () => cluster.updateService('web', withImage('final')));
  await cluster.run(40_000);
}

describe('whatever happens to a service', () => {
  it('it comes to rest with one task of its spec per slot once the trouble is over', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 25 }), fc.boolean(), async (steps, startFirst) => {
        const cluster = new TestCluster(orchestratorDuties);
        await cluster.store.seed({ node: [aNode('n1'), aNode('n2'), aNode('n3')] });
        cluster.lead();
        const restart = { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 1 } };
        const spec = {
          annotations: { name: 'web' },
          replicated: { replicas: 4 },
          task: { container: { image: 'first' }, restart },
          update: { parallelism: 2, monitor: { seconds: 1 }, order: startFirst ? (1 as const) : (0 as const) },
        };
        await cluster.store.update((tx) => tx.create('service', aService('web', { spec })));
        for (const one of steps) {
          await perform(cluster, one).catch(() => undefined);
          await cluster.run(one.op === 'time' ? 1_500 : 150);
        }
        await heal(cluster);
        const replicas = cluster.service('web').spec!.replicated!.replicas;
        const running = cluster.running('web');
        expect(running.map((task) => task.spec?.container?.image)).toEqual(Array(replicas).fill('final'));
        expect(new Set(running.map((task) => task.slot)).size).toBe(replicas);
        expect(cluster.wanted('web')).toHaveLength(replicas);
        const state = cluster.service('web').update_status?.state ?? UpdateStatus_UpdateState.COMPLETED;
        expect(state).toBe(UpdateStatus_UpdateState.COMPLETED);
        const entries = cluster.store.entries.length;
        await cluster.run(3_000);
        expect(cluster.store.entries.length).toBe(entries);
        await cluster.stop();
      }),
      { numRuns: 25 },
    );
  });
});
