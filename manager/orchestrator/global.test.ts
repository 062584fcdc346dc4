import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeSpec_Availability, NodeStatus_State, TaskState, type Service } from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { createdAtMs } from './service-view.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2'), aNode('n3')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

async function start(service: Service): Promise<void> {
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

const nodes = (): string[] =>
  cluster
    .running('web')
    .map((task) => task.node_id)
    .sort();

const global = (constraints: string[] = []): Service =>
  aService('web', {
    spec: {
      annotations: { name: 'web' },
      task: { container: { image: 'one' }, placement: { constraints } },
      global: {},
      update: { parallelism: 1, monitor: { seconds: 1 } },
    },
  });

const job = (mode: object): Service =>
  aService('web', {
    spec: {
      annotations: { name: 'web' },
      task: { container: { image: 'one' }, restart: { condition: 1, delay: {} } },
      ...mode,
    },
    job_status: { job_iteration: { index: 1 } },
  });

describe('the global orchestrator', () => {
  it('runs one task on each eligible node, and follows nodes as they come and go', async () => {
    await cluster.setNode('n3', { availability: NodeSpec_Availability.PAUSE });
    await start(global());
    expect(nodes()).toEqual(['n1', 'n2']);
    expect(cluster.running('web').every((task) => task.slot === 0)).toBe(true);
    await cluster.store.seed({ node: [aNode('n4')] });
    await cluster.setNode('n3', { availability: NodeSpec_Availability.ACTIVE });
    await cluster.setNode('n1', { availability: NodeSpec_Availability.DRAIN });
    await cluster.setNode('n2', { state: NodeStatus_State.DOWN });
    await cluster.run(500);
    expect(nodes()).toEqual(['n3', 'n4']);
    await cluster.setNode('n2', { state: NodeStatus_State.READY });
    await cluster.setNode('n1', { availability: NodeSpec_Availability.ACTIVE });
    await cluster.run(500);
    expect(nodes()).toEqual(['n1', 'n2', 'n3', 'n4']);
    await cluster.store.update((tx) => tx.remove('node', 'n4'));
    await cluster.run(800);
    expect(cluster.tasks('web').some((task) => task.node_id === 'n4')).toBe(false);
  });

  it('keeps a task on a paused node, and one whose node is not known to be down', async () => {
    await start(global());
    await cluster.setNode('n1', { availability: NodeSpec_Availability.PAUSE });
    await cluster.setNode('n2', { state: NodeStatus_State.UNKNOWN });
    await cluster.run(500);
    expect(nodes()).toEqual(['n1', 'n2', 'n3']);
  });

  it('observes constraints, also when they or the labels change', async () => {
    await start(global(['node.hostname != n2']));
    expect(nodes()).toEqual(['n1', 'n3']);
    await cluster.updateService('web', (spec) => ({
      ...spec,
      task: { ...spec.task!, placement: { ...spec.task!.placement!, constraints: ['node.hostname != n3'] } },
    }));
    await cluster.run(3000);
    expect(nodes()).toEqual(['n1', 'n2']);
  });

  it('updates node by node', async () => {
    await start(global());
    await cluster.updateService('web', withImage('two'));
    await cluster.run(6000);
    expect(cluster.service('web').update_status?.state).toBe(3);
    expect(cluster.running('web').map((task) => task.spec?.container?.image)).toEqual(['two', 'two', 'two']);
  });
});

describe('the jobs orchestrator', () => {
  beforeEach(() => {
    cluster.behaviour = (task) =>
      task.status?.state === TaskState.RUNNING ? { state: TaskState.COMPLETE } : obedient(task);
  });

  const completed = (): number[] =>
    cluster
      .tasks('web')
      .filter((task) => task.status?.state === TaskState.COMPLETE)
      .map((task) => task.slot)
      .sort((a, b) => a - b);

  it('runs a replicated job in slots from 0, never more at once than asked', async () => {
    await start(job({ replicated_job: { total_completions: 5, max_concurrent: 2 } }));
    expect(cluster.tasks('web').every((task) => task.desired_state === TaskState.COMPLETE)).toBe(true);
    let most = 0;
    for (let i = 0; i < 40; i++) {
      await cluster.run(50);
      most = Math.max(most, cluster.tasks('web').filter((task) => task.status!.state <= TaskState.RUNNING).length);
    }
    expect(completed()).toEqual([0, 1, 2, 3, 4]);
    expect(cluster.tasks('web')).toHaveLength(5);
    expect(most).toBeLessThanOrEqual(2);
  });

  it('runs failed tasks again, and everything again for a new iteration', async () => {
    let failures = 2;
    cluster.behaviour = (task) => {
      if (task.status?.state !== TaskState.RUNNING) return obedient(task);
      return { state: failures-- > 0 ? TaskState.FAILED : TaskState.COMPLETE };
    };
    await start(job({ replicated_job: { total_completions: 2, max_concurrent: 0 } }));
    await cluster.run(2000);
    expect(completed()).toEqual([0, 1]);
    const before = cluster.tasks('web').map((task) => task.id);
    await cluster.store.update((tx) => {
      tx.update('service', {
        ...tx.get('service', 'web')!,
        job_status: { job_iteration: { index: 2 }, last_execution: null },
      });
    });
    await cluster.run(2000);
    expect(completed()).toEqual([0, 1]);
    expect(cluster.tasks('web').some((task) => before.includes(task.id))).toBe(false);
  });

  it('runs a global job once on each node', async () => {
    await start(job({ global_job: {} }));
    await cluster.run(1000);
    expect(
      cluster
        .tasks('web')
        .map((task) => task.node_id)
        .sort(),
    ).toEqual(['n1', 'n2', 'n3']);
    await cluster.store.seed({ node: [aNode('n4')] });
    await cluster.run(1000);
    expect(cluster.tasks('web')).toHaveLength(4);
    expect(completed()).toHaveLength(4);
  });
});

describe('the constraint enforcer', () => {
  it('moves tasks off a node whose labels do not match any more, or that has shrunk', async () => {
    const labelled = (id: string, labels: Record<string, string>) =>
      aNode(id, { spec: { annotations: { labels }, availability: 0 } });
    await cluster.store.seed({ node: [labelled('n1', { zone: 'a' }), labelled('n2', {}), labelled('n3', {})] });
    const task = {
      container: { image: 'one' },
      placement: { constraints: ['node.labels.zone == a'] },
      resources: { reservations: { memory_bytes: 2 ** 31 } },
      restart: { condition: 2 as const, delay: {} },
    };
    await start(aService('web', { spec: { annotations: { name: 'web' }, task, replicated: { replicas: 1 } } }));
    expect(nodes()).toEqual(['n1']);
    await cluster.store.seed({ node: [labelled('n1', {})] });
    await cluster.run(100);
    const misplaced = cluster.tasks('web').find((one) => one.desired_state === TaskState.SHUTDOWN);
    expect(misplaced?.stopped_for).toEqual({
      code: 'node-mismatch',
      text: 'assigned node no longer meets constraints',
    });
  });

  it('keeps the oldest tasks of a node that has shrunk', async () => {
    const node = aNode('big');
    await cluster.store.seed({ node: [node] });
    await cluster.store.update((tx) => {
      for (const id of ['n1', 'n2', 'n3']) tx.remove('node', id);
    });
    const task = {
      container: { image: 'one' },
      resources: { reservations: { memory_bytes: 2 ** 31 } },
      restart: { condition: 0 as const },
    };
    await start(aService('web', { spec: { annotations: { name: 'web' }, task, replicated: { replicas: 3 } } }));
    expect(cluster.running('web')).toHaveLength(3);
    const byAge = cluster.running('web').sort((a, b) => createdAtMs(a) - createdAtMs(b) || (a.id < b.id ? -1 : 1));
    const resources = { ...node.description!.resources!, memory_bytes: 5 * 2 ** 30 };
    await cluster.store.seed({ node: [{ ...node, description: { ...node.description!, resources } }] });
    await cluster.run(300);
    // The test's scheduler looks at no resources: replacements are called off in turn.
    const calledOff = cluster.tasks('web').filter((one) => one.stopped_for?.code === 'node-mismatch');
    expect(calledOff.map((one) => one.id)).toContain(byAge[2]?.id);
    expect(cluster.wanted('web').map((one) => one.id)).toEqual(
      expect.arrayContaining(byAge.slice(0, 2).map((one) => one.id)),
    );
  });
});
