import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeSpec_Availability, NodeStatus_State, TaskState, type Task } from '../../proto/index.ts';
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

/** The task, though told to stop, reports that it has completed. */
async function finish(task: Task): Promise<void> {
  await cluster.store.update((tx) => {
    const stored = tx.get('task', task.id)!;
    tx.update('task', { ...stored, status: { ...stored.status!, state: TaskState.COMPLETE } });
  });
  await cluster.run(1000);
}

describe('a slot whose work was done after all', () => {
  /** The job's task has its node drained (or lost), and does not stop. */
  async function leave(mode: object, change: Parameters<TestCluster['setNode']>[1]): Promise<Task> {
    cluster.behaviour = (task) => (task.desired_state > TaskState.COMPLETE ? undefined : obedient(task));
    const spec = { annotations: { name: 'job' }, task: { container: { image: 'one' } }, ...mode };
    const job_status = { job_iteration: { index: 1 } };
    await cluster.store.update((tx) => tx.create('service', aService('job', { spec, job_status })));
    await cluster.run(500);
    const task = cluster.running('job').find((one) => one.node_id === 'n1' || cluster.running('job').length === 1)!;
    await cluster.setNode(task.node_id, change);
    await cluster.run(500);
    return task;
  }
  const once = { replicated_job: { total_completions: 1, max_concurrent: 1 } };

  it('has the task called off that waits in it: nothing would ever let it start', async () => {
    const task = await leave(once, { availability: NodeSpec_Availability.DRAIN });
    expect(cluster.wanted('job')).toMatchObject([{ desired_state: TaskState.READY }]);
    await finish(task);
    expect(cluster.wanted('job')).toEqual([]);
  });

  it('also on the node of a global job', async () => {
    const task = await leave({ global_job: {} }, { availability: NodeSpec_Availability.DRAIN });
    await cluster.setNode(task.node_id, { availability: NodeSpec_Availability.ACTIVE });
    await cluster.run(500);
    expect(cluster.wanted('job').some((one) => one.desired_state === TaskState.READY)).toBe(true);
    await finish(task);
    expect(cluster.wanted('job').map((one) => one.node_id)).not.toContain(task.node_id);
  });

  it('lets a task that runs already come to its end', async () => {
    const task = await leave(once, { state: NodeStatus_State.DOWN });
    const [second] = cluster.running('job');
    await finish(task);
    expect(cluster.running('job').map((one) => one.id)).toEqual([second?.id]);
  });
});
