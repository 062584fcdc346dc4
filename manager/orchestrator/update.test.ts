import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  RestartPolicy_RestartCondition,
  TaskState,
  timestampToMs,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Partially,
  type Task,
  type UpdateConfig,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage, type Behaviour } from './testing.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const imageOf = (task: Task): string => task.spec?.container?.image ?? '';
const images = (): string[] => cluster.running('web').map(imageOf);
const state = (): UpdateStatus_UpdateState | undefined => cluster.service('web').update_status?.state;
const RESTART = { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 1 } };

async function start(count: number, update: Partially<UpdateConfig>, rollback: Partially<UpdateConfig> = {}) {
  const service = aService('web', {
    spec: {
      annotations: { name: 'web' },
      replicated: { replicas: count },
      task: { container: { image: 'one' }, restart: RESTART },
      update: { parallelism: 1, monitor: { seconds: 1 }, ...update },
      rollback: { parallelism: 0, monitor: { seconds: 1 }, ...rollback },
    },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

/** Tasks of an image fail as soon as they run. */
const failing =
  (image: string): Behaviour =>
  (task) =>
    imageOf(task) === image && task.status?.state === TaskState.RUNNING && task.desired_state <= TaskState.RUNNING
      ? { state: TaskState.FAILED, err: 'exit 1' }
      : obedient(task);

/** Runs until a condition holds, watching how many tasks run at the least and at the most. */
async function watchUntil(done: () => boolean, limitMs: number): Promise<{ least: number; most: number }> {
  let least = Infinity;
  let most = 0;
  for (let ms = 0; ms < limitMs && !done(); ms += 50) {
    await cluster.run(50);
    const alive = cluster.tasks('web').filter((task) => task.status?.state === TaskState.RUNNING).length;
    least = Math.min(least, alive);
    most = Math.max(most, alive);
  }
  expect(done()).toBe(true);
  return { least, most };
}

describe('a rolling update', () => {
  it('goes from UPDATING to COMPLETED and replaces one slot after the other', async () => {
    await start(3, {});
    await cluster.updateService('web', withImage('two'));
    await cluster.run(100);
    expect(cluster.service('web').update_status).toMatchObject({ state: 1, message: 'update in progress' });
    const { least, most } = await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 10_000);
    expect(images()).toEqual(['two', 'two', 'two']);
    expect({ least, most }).toEqual({ least: 2, most: 3 });
    expect(cluster.service('web').update_status).toMatchObject({ message: 'update completed' });
    expect(cluster.service('web').update_status?.completed_at).not.toBeNull();
  });

  it('prepares the new task before it stops the old one', async () => {
    await start(1, {});
    await cluster.updateService('web', withImage('two'));
    cluster.behaviour = (task) =>
      imageOf(task) === 'two' && task.status!.state < TaskState.PREPARING ? { state: TaskState.PREPARING } : undefined;
    await cluster.run(3000);
    expect(images()).toEqual(['one']);
    expect(cluster.wanted('web').map((task) => task.desired_state)).toContain(TaskState.READY);
    cluster.behaviour = obedient;
    await watchUntil(() => images().join() === 'two', 2000);
  });

  it('stops the old task when the new one finds no node beside it', async () => {
    await cluster.store.update((tx) => tx.remove('node', 'n2'));
    await start(1, {});
    cluster.behaviour = obedient;
    await cluster.setNode('n1', { availability: 1 });
    await cluster.updateService('web', withImage('two'));
    await cluster.run(1500);
    expect(images()).toEqual(['one']);
    await cluster.run(1500);
    expect(images()).toEqual([]);
    await cluster.setNode('n1', { availability: 0 });
    await watchUntil(() => images().join() === 'two', 2000);
  });

  it('keeps all replicas up with start-first', async () => {
    await start(3, { order: UpdateConfig_UpdateOrder.START_FIRST });
    await cluster.updateService('web', withImage('two'));
    const { least, most } = await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 10_000);
    expect({ least, most }).toEqual({ least: 3, most: 4 });
    expect(images()).toEqual(['two', 'two', 'two']);
  });

  it('updates all at once with parallelism 0, and waits between slots for the delay', async () => {
    await start(4, { parallelism: 0 });
    await cluster.updateService('web', withImage('two'));
    await cluster.run(500);
    expect(images()).toEqual(['two', 'two', 'two', 'two']);
    await cluster.updateService('web', (spec) => ({
      ...withImage('three')(spec),
      update: { ...spec.update!, parallelism: 1, delay: { seconds: 2, nanos: 0 } },
    }));
    await cluster.run(1500);
    expect(images().filter((image) => image === 'three')).toHaveLength(1);
    await cluster.run(2000);
    expect(images().filter((image) => image === 'three')).toHaveLength(2);
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 15_000);
  });

  it('touches only tasks that are out of date', async () => {
    await start(3, {});
    const before = cluster.running('web').map((task) => task.id);
    await cluster.updateService('web', (spec) => ({ ...spec, replicated: { replicas: 4 } }));
    await cluster.run(1000);
    expect(cluster.running('web').map((task) => task.id)).toEqual(expect.arrayContaining(before));
    expect(cluster.service('web').update_status).toBeNull();
  });

  it('gives way to a newer spec', async () => {
    await start(3, { monitor: { seconds: 3 } });
    await cluster.updateService('web', withImage('two'));
    await cluster.run(300);
    await cluster.updateService('web', withImage('three'));
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 10_000);
    expect(images()).toEqual(['three', 'three', 'three']);
  });

  it('goes on under a new leader', async () => {
    await start(4, { delay: { seconds: 1 } });
    await cluster.updateService('web', withImage('two'));
    for (let i = 0; i < 12 && state() !== UpdateStatus_UpdateState.COMPLETED; i++) {
      await cluster.run(450);
      const alive = cluster.tasks('web').filter((task) => task.status?.state === TaskState.RUNNING).length;
      expect(alive).toBeGreaterThanOrEqual(3);
      await cluster.changeLeader();
    }
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 10_000);
    expect(images()).toEqual(['two', 'two', 'two', 'two']);
  });

  it('completes a pure change of numbers that control marked as an update once all slots run', async () => {
    await start(1, {});
    await cluster.updateService('web', (spec) => ({ ...spec, replicated: { replicas: 3 } }));
    await cluster.store.update((tx) => {
      const service = tx.get('service', 'web')!;
      tx.update('service', {
        ...service,
        update_status: { state: 1, started_at: null, completed_at: null, message: '' },
      });
    });
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 3_000);
    expect(cluster.running('web')).toHaveLength(3);
  });
});

describe('a failing update', () => {
  it('pauses, naming the task, and leaves the other slots alone', async () => {
    await start(3, {});
    cluster.behaviour = failing('two');
    await cluster.updateService('web', withImage('two'));
    await watchUntil(() => state() === UpdateStatus_UpdateState.PAUSED, 5_000);
    const { message } = cluster.service('web').update_status!;
    expect(message).toMatch(/^update paused due to failure or early termination of task [0-9a-z]{25}$/);
    await cluster.run(5_000);
    expect(images().filter((image) => image === 'one')).toHaveLength(2);
    expect(state()).toBe(UpdateStatus_UpdateState.PAUSED);
    cluster.behaviour = obedient;
    await cluster.updateService('web', withImage('three'));
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 10_000);
    expect(images()).toEqual(['three', 'three', 'three']);
  });

  it('leaves the old task running when the new one cannot even be prepared', async () => {
    await start(2, {});
    cluster.behaviour = (task) =>
      imageOf(task) === 'two' && task.desired_state <= TaskState.RUNNING
        ? { state: TaskState.REJECTED, err: 'No such image: two' }
        : obedient(task);
    await cluster.updateService('web', withImage('two'));
    await watchUntil(() => state() === UpdateStatus_UpdateState.PAUSED, 5_000);
    await cluster.run(8_000);
    expect(images()).toEqual(['one', 'one']);
    expect(cluster.wanted('web')).toHaveLength(2);
  });

  it('goes on with the action continue, and tolerates the given ratio', async () => {
    await start(3, { failure_action: UpdateConfig_FailureAction.CONTINUE });
    cluster.behaviour = failing('two');
    await cluster.updateService('web', withImage('two'));
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 20_000);
    expect(cluster.wanted('web').map(imageOf)).toEqual(['two', 'two', 'two']);
    cluster.behaviour = (task) => (task.slot === 1 ? failing('three')(task) : obedient(task));
    await cluster.updateService('web', (spec) => ({
      ...withImage('three')(spec),
      update: { ...spec.update!, failure_action: UpdateConfig_FailureAction.PAUSE, max_failure_ratio: 0.5 },
    }));
    await watchUntil(() => state() === UpdateStatus_UpdateState.COMPLETED, 20_000);
  });

  it('rolls back to the former spec', async () => {
    await start(3, { failure_action: UpdateConfig_FailureAction.ROLLBACK });
    const untouched = cluster.running('web').map((task) => task.id);
    cluster.behaviour = failing('two');
    await cluster.updateService('web', withImage('two'));
    // First shown as paused: the stock client ends with an error only when it sees that.
    await watchUntil(() => state() === UpdateStatus_UpdateState.PAUSED, 5_000);
    const shownAt = cluster.clock.now();
    expect(cluster.service('web').update_status?.message).toMatch(/^update rolled back due to failure or early/);
    await watchUntil(() => state() === UpdateStatus_UpdateState.ROLLBACK_STARTED, 5_000);
    expect(cluster.clock.now() - shownAt).toBeGreaterThanOrEqual(1_400);
    expect(cluster.service('web').update_status?.message).toMatch(/^update rolled back due to failure or early/);
    await watchUntil(() => state() === UpdateStatus_UpdateState.ROLLBACK_COMPLETED, 10_000);
    expect(images()).toEqual(['one', 'one', 'one']);
    expect(cluster.service('web')).toMatchObject({
      spec_version: { index: 0 },
    });
    expect(cluster.service('web').update_status?.message).toMatch(/^update rolled back due to failure or early/);
    expect(cluster.running('web').filter((task) => untouched.includes(task.id))).toHaveLength(2);
  });

  it('rolls back in the middle of start-first without a gap', async () => {
    await start(2, { failure_action: UpdateConfig_FailureAction.ROLLBACK, order: 1 });
    cluster.behaviour = (task) =>
      imageOf(task) === 'two' && task.status!.state === TaskState.READY ? { state: TaskState.FAILED } : obedient(task);
    await cluster.updateService('web', withImage('two'));
    const { least } = await watchUntil(() => state() === UpdateStatus_UpdateState.ROLLBACK_COMPLETED, 10_000);
    expect(least).toBe(2);
    expect(images()).toEqual(['one', 'one']);
  });

  it('pauses a rollback that fails, too', async () => {
    await start(2, { failure_action: UpdateConfig_FailureAction.ROLLBACK });
    cluster.behaviour = (task) =>
      task.slot === 1 && task.status?.state === TaskState.RUNNING && fresh(task)
        ? { state: TaskState.FAILED }
        : obedient(task);
    const since = cluster.clock.now();
    const fresh = (task: Task): boolean => timestampToMs(task.meta?.created_at) > since;
    await cluster.run(50);
    await cluster.updateService('web', withImage('two'));
    await watchUntil(() => state() === UpdateStatus_UpdateState.ROLLBACK_PAUSED, 10_000);
    expect(cluster.service('web').update_status?.message).toMatch(/^rollback paused due to failure/);
  });
});
