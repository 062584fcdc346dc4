import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  TaskState,
  type ServiceSpec,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster } from './testing.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2'), aNode('n3')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const replicas =
  (count: number) =>
  (spec: ServiceSpec): ServiceSpec => ({ ...spec, replicated: { replicas: count } });

async function start(count: number, task: object = {}, labels: Record<string, string> = {}): Promise<void> {
  const service = aService('web', {
    spec: {
      annotations: { name: 'web', labels },
      replicated: { replicas: count },
      task: { container: { image: 'one' }, ...task },
    },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

const STOP_FIRST = { 'shoal.move.order': 'stop-first' };

describe('the replicated orchestrator', () => {
  it('fills slots from 1, with tasks built from the service', async () => {
    await start(3);
    const tasks = cluster.running('web');
    expect(tasks.map((task) => task.slot)).toEqual([1, 2, 3]);
    expect(tasks[0]).toMatchObject({
      service_annotations: { name: 'web' },
      spec_version: { index: 0 },
      job_iteration: null,
    });
    expect(tasks[0]?.annotations?.name).toBe(`web.1.${tasks[0]?.id}`);
  });

  it('creates all tasks of a service in one entry', async () => {
    const before = cluster.store.entries.length;
    const service = aService('web', { spec: { replicated: { replicas: 100 }, task: { container: {} } } });
    await cluster.store.update((tx) => tx.create('service', service));
    for (let i = 0; i < 20; i++) await cluster.clock.advanceAsync(0);
    expect(cluster.wanted('web')).toHaveLength(100);
    expect(cluster.store.entries.length - before).toBe(2);
  });

  it('scales up into the lowest free slots, and down from the fullest nodes', async () => {
    await start(5);
    await cluster.updateService('web', replicas(3));
    await cluster.run(1000);
    expect(cluster.tasks('web')).toHaveLength(3);
    expect(new Set(cluster.running('web').map((task) => task.node_id)).size).toBe(3);
    await cluster.updateService('web', replicas(6));
    await cluster.run(1000);
    expect(cluster.running('web').map((task) => task.slot)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('gives up slots that do not run first', async () => {
    await start(3);
    await cluster.store.update((tx) => {
      const task = tx.tasksBySlot('web', 1)[0]!;
      tx.update('task', { ...task, status: { ...task.status!, state: TaskState.PENDING } });
    });
    await cluster.updateService('web', replicas(2));
    await cluster.run(100);
    expect(cluster.wanted('web').map((task) => task.slot)).toEqual([2, 3]);
  });

  it('removes the tasks of a removed service', async () => {
    await start(3);
    await cluster.store.update((tx) => tx.remove('service', 'web'));
    await cluster.run(100);
    expect(cluster.wanted('web')).toEqual([]);
    await cluster.run(1000);
    expect(cluster.tasks('web')).toEqual([]);
  });
});

describe('the restart supervisor', () => {
  async function fail(slot: number): Promise<void> {
    await cluster.store.update((tx) => {
      const task = tx.tasksBySlot('web', slot).find((t) => t.status?.state === TaskState.RUNNING)!;
      const timestamp = { seconds: Math.floor(cluster.clock.now() / 1000), nanos: (cluster.clock.now() % 1000) * 1e6 };
      tx.update('task', { ...task, status: { ...task.status!, state: TaskState.FAILED, err: 'exit 1', timestamp } });
    });
  }

  it('prepares a replacement at once and starts it after the delay', async () => {
    await start(1, { restart: { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 2 } } });
    await fail(1);
    await cluster.run(1000);
    expect(cluster.wanted('web')).toMatchObject([
      { slot: 1, desired_state: TaskState.READY, status: { state: TaskState.READY } },
    ]);
    await cluster.run(900);
    expect(cluster.running('web')).toHaveLength(0);
    await cluster.run(300);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('keeps the delay when a replacement is rejected before it may start', async () => {
    cluster.behaviour = (task) =>
      task.status!.state < TaskState.READY ? { state: TaskState.REJECTED, err: 'No such image' } : obedient(task);
    await start(1);
    await cluster.run(4000);
    expect(cluster.tasks('web')).toHaveLength(2);
    await cluster.run(5500);
    expect(cluster.tasks('web')).toHaveLength(3);
    await cluster.changeLeader();
    await cluster.run(4000);
    expect(cluster.tasks('web')).toHaveLength(4);
    cluster.behaviour = obedient;
    await cluster.run(10_500);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('goes on with a delay that began under another leader', async () => {
    await start(1);
    await fail(1);
    await cluster.run(3000);
    await cluster.changeLeader();
    await cluster.run(1800);
    expect(cluster.running('web')).toHaveLength(0);
    await cluster.run(400);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('stops after max_attempts, also across leaders, and keeps the slot', async () => {
    cluster.behaviour = (task) =>
      task.status?.state === TaskState.RUNNING ? { state: TaskState.FAILED } : obedient(task);
    await start(1, { restart: { condition: RestartPolicy_RestartCondition.ON_FAILURE, delay: {}, max_attempts: 3 } });
    await cluster.run(200);
    await cluster.changeLeader();
    await cluster.run(5000);
    expect(cluster.tasks('web')).toHaveLength(4);
    expect(cluster.wanted('web')).toHaveLength(0);
  });

  it('counts attempts inside the window only', async () => {
    let runs = 0;
    cluster.behaviour = (task) => {
      const since =
        cluster.clock.now() - (task.status!.timestamp!.seconds * 1000 + task.status!.timestamp!.nanos / 1e6);
      if (task.status?.state !== TaskState.RUNNING) return obedient(task);
      if (since < 1000) return undefined;
      runs++;
      return { state: TaskState.FAILED };
    };
    await start(1, { restart: { condition: 2, delay: {}, max_attempts: 1, window: { seconds: 0, nanos: 5e8 } } });
    await cluster.run(10_000);
    expect(runs).toBeGreaterThan(5);
  });

  it('leaves a completed task alone when the condition is on-failure, whatever the history limit', async () => {
    await cluster.setHistoryLimit(0);
    cluster.behaviour = (task) =>
      task.status?.state === TaskState.RUNNING ? { state: TaskState.COMPLETE } : obedient(task);
    await start(2, { restart: { condition: RestartPolicy_RestartCondition.ON_FAILURE } });
    await cluster.run(10_000);
    expect(cluster.tasks('web').map((task) => task.status?.state)).toEqual([TaskState.COMPLETE, TaskState.COMPLETE]);
  });

  it('replaces the tasks of a node that went down at once', async () => {
    await start(3);
    await cluster.setNode('n1', { state: NodeStatus_State.DOWN });
    await cluster.run(200);
    expect(cluster.running('web')).toHaveLength(3);
    expect(cluster.running('web').some((task) => task.node_id === 'n1')).toBe(false);
  });

  it('moves tasks from a drained node when the old ones have stopped, and from a removed node', async () => {
    await start(3, {}, STOP_FIRST);
    const stubborn = (id: string): void => {
      cluster.behaviour = (task) =>
        task.node_id === id && task.desired_state > TaskState.RUNNING ? undefined : obedient(task);
    };
    stubborn('n1');
    await cluster.setNode('n1', { availability: NodeSpec_Availability.DRAIN });
    await cluster.run(500);
    expect(cluster.running('web')).toHaveLength(2);
    cluster.behaviour = obedient;
    await cluster.run(300);
    expect(cluster.running('web')).toHaveLength(3);
    await cluster.store.update((tx) => tx.remove('node', 'n2'));
    await cluster.run(800);
    expect(cluster.running('web').map((task) => task.node_id)).toEqual(['n3', 'n3', 'n3']);
    expect(cluster.tasks('web').some((task) => task.node_id === 'n2')).toBe(false);
  });

  it('waits for a stubborn old task for a minute at the most', async () => {
    await start(1, {}, STOP_FIRST);
    cluster.behaviour = (task) => (task.desired_state > TaskState.RUNNING ? undefined : obedient(task));
    const node = cluster.running('web')[0]!.node_id;
    await cluster.setNode(node, { availability: NodeSpec_Availability.DRAIN });
    await cluster.run(59_000);
    expect(cluster.running('web')).toHaveLength(0);
    await cluster.run(2_000);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('waits longer for a task that may serve its connections for longer', async () => {
    await start(1, {}, { ...STOP_FIRST, 'shoal.drain': '2m' });
    cluster.behaviour = (task) => (task.desired_state > TaskState.RUNNING ? undefined : obedient(task));
    await cluster.setNode(cluster.running('web')[0]!.node_id, { availability: NodeSpec_Availability.DRAIN });
    await cluster.run(120_000);
    expect(cluster.running('web')).toHaveLength(0);
    await cluster.run(20_000);
    expect(cluster.running('web')).toHaveLength(1);
  });
});

describe('the task reaper', () => {
  it('keeps as much history per slot as the cluster says', async () => {
    await cluster.setHistoryLimit(3);
    cluster.behaviour = (task) =>
      task.status?.state === TaskState.RUNNING ? { state: TaskState.FAILED } : obedient(task);
    await start(2, { restart: { condition: RestartPolicy_RestartCondition.ANY, delay: { nanos: 1e8 } } });
    await cluster.run(6000);
    for (const slot of [1, 2]) expect(cluster.store.view().tasksBySlot('web', slot).length).toBeLessThanOrEqual(4);
    expect(cluster.wanted('web')).toHaveLength(2);
  });
});
