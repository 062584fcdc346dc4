import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TaskState, UpdateStatus_UpdateState, type Task } from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster } from './testing.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const failing = (task: Task) =>
  task.status?.state === TaskState.RUNNING
    ? { state: TaskState.FAILED, err: 'task: non-zero exit (1)' }
    : obedient(task);

async function start(restart: object, mode: object = { replicated: { replicas: 1 } }): Promise<void> {
  const isJob = !('replicated' in mode);
  const spec = { annotations: { name: 'web' }, task: { container: { image: 'one' }, restart }, ...mode };
  const job_status = isJob ? { job_iteration: { index: 0 } } : null;
  await cluster.store.update((tx) => tx.create('service', aService('web', { spec, job_status })));
  await cluster.run(300);
}

describe('history of a slot', () => {
  it.each([
    ['five tasks unless the cluster says otherwise', undefined, {}, 5],
    ['what the cluster says', 2, {}, 2],
    ['what the policy counts, when that is more', 2, { max_attempts: 4 }, 5],
    ['everything, with a negative limit', -1, { max_attempts: 9 }, 10],
  ])('keeps %s', async (_what, limit, restart, kept) => {
    if (limit !== undefined) await cluster.setHistoryLimit(limit);
    cluster.behaviour = failing;
    await start({ condition: 2, delay: { nanos: 1e7 }, ...restart });
    await cluster.run(6000);
    expect(cluster.store.view().tasksBySlot('web', 1)).toHaveLength(kept);
  });

  it('is trimmed when the limit falls', async () => {
    cluster.behaviour = failing;
    await start({ condition: 2, delay: { seconds: 1 } });
    await cluster.run(8000);
    expect(cluster.tasks('web')).toHaveLength(5);
    cluster.behaviour = obedient;
    await cluster.run(5000);
    await cluster.setHistoryLimit(1);
    await cluster.run(500);
    expect(cluster.tasks('web')).toMatchObject([{ status: { state: TaskState.RUNNING } }]);
  });

  it('is not trimmed in jobs of what did the work, and of failures only above the limit of its run', async () => {
    let failures = 6;
    cluster.behaviour = (task) => {
      if (task.status?.state !== TaskState.RUNNING) return obedient(task);
      return { state: failures-- > 0 ? TaskState.FAILED : TaskState.COMPLETE };
    };
    const job = { replicated_job: { total_completions: 7, max_concurrent: 1 } };
    await start({ condition: 1, delay: { nanos: 1e7 } }, job);
    await cluster.run(10_000);
    const states = cluster.tasks('web').map((task) => task.status?.state);
    expect(states.filter((state) => state === TaskState.COMPLETE)).toHaveLength(7);
    expect(states.filter((state) => state === TaskState.FAILED)).toHaveLength(4);
  });
});

describe('tasks that are to be removed', () => {
  it('go once they have stopped, and those without a node at once', async () => {
    await start({}, { replicated: { replicas: 2 } });
    cluster.behaviour = (task) => (task.desired_state > TaskState.RUNNING ? undefined : obedient(task));
    await cluster.store.update((tx) => {
      const [task] = tx.tasksBySlot('web', 2);
      tx.update('task', { ...task!, node_id: '', status: { ...task!.status!, state: TaskState.PENDING } });
      tx.remove('service', 'web');
    });
    await cluster.run(2000);
    expect(cluster.tasks('web')).toMatchObject([{ slot: 1, desired_state: TaskState.REMOVE }]);
    cluster.behaviour = obedient;
    await cluster.run(500);
    expect(cluster.tasks('web')).toEqual([]);
  });

  it('go with their node, and so do the orphaned ones', async () => {
    await start({}, { replicated: { replicas: 2 } });
    await cluster.store.update((tx) => tx.remove('node', 'n1'));
    await cluster.run(1000);
    expect(cluster.running('web')).toHaveLength(2);
    expect(cluster.tasks('web').every((task) => task.node_id === 'n2')).toBe(true);
  });
});

describe('a job whose retries are used up', () => {
  it('says so where clients look, until it runs again', async () => {
    cluster.behaviour = failing;
    await start({ condition: 1, max_attempts: 1, delay: {} }, { replicated_job: { total_completions: 2 } });
    await cluster.run(3000);
    expect(cluster.service('web').update_status).toMatchObject({
      state: UpdateStatus_UpdateState.PAUSED,
      message: '2 of 2 tasks failed for good: task: non-zero exit (1)',
    });
    cluster.behaviour = (task) =>
      task.status?.state === TaskState.RUNNING ? { state: TaskState.COMPLETE } : obedient(task);
    await cluster.store.update((tx) => {
      const service = tx.get('service', 'web')!;
      const job_status = { job_iteration: { index: 7 }, last_execution: null };
      tx.update('service', { ...service, job_status, update_status: null });
    });
    await cluster.run(3000);
    expect(cluster.service('web').update_status).toBeNull();
    expect(cluster.tasks('web')).toHaveLength(2);
  });
});
