import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  TaskState,
  UpdateConfig_FailureAction,
  type Node,
  type Service,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

// Found by the simulation of the control plane (daemon/sim): two tasks of one slot were let run at the same time.

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const service = (mode: object): Service =>
  aService('web', {
    spec: {
      annotations: { name: 'web' },
      task: { container: { image: 'one' }, restart: { condition: 2, delay: {} } },
      update: { parallelism: 1, monitor: { seconds: 1 }, failure_action: UpdateConfig_FailureAction.CONTINUE },
      ...mode,
    },
    job_status: { job_iteration: { index: 1 } },
  });

async function start(mode: object): Promise<void> {
  await cluster.store.update((tx) => tx.create('service', service(mode)));
  await cluster.run(300);
}

const letRun = () => cluster.wanted('web').filter((task) => task.desired_state >= TaskState.RUNNING);

describe('a node that comes back while its old task still runs', () => {
  it.each([
    ['global service', { global: {} }],
    ['global job', { global_job: {} }],
  ])('gets the new task of a %s at once, but it starts only when the old one has stopped', async (_, mode) => {
    await start(mode);
    const old = cluster.running('web').find((task) => task.node_id === 'n1');
    expect(old).toBeDefined();
    await cluster.setNode('n1', { state: NodeStatus_State.DOWN });
    await cluster.run(300);
    const stubborn = (id: string): boolean => id === old?.id;
    cluster.behaviour = (task) => (stubborn(task.id) ? undefined : obedient(task));
    await cluster.setNode('n1', { state: NodeStatus_State.READY });
    await cluster.run(3000);
    const fresh = cluster.wanted('web').find((task) => task.node_id === 'n1');
    expect(fresh).toMatchObject({ desired_state: TaskState.READY, status: { state: TaskState.READY } });
    cluster.behaviour = obedient;
    await cluster.run(500);
    expect(cluster.running('web').map((task) => task.node_id)).toContain('n1');
  });
});

describe('a node that no longer meets the constraints', () => {
  it('has its task replaced elsewhere, but only when its container has stopped', async () => {
    const on = (zone: string): Node =>
      aNode('n1', { spec: { annotations: { labels: { zone } }, availability: NodeSpec_Availability.ACTIVE } });
    await cluster.store.seed({ node: [on('a')] });
    const web = service({ replicated: { replicas: 1 } });
    const placement = { constraints: ['node.labels.zone == a'], preferences: [], platforms: [], max_replicas: 0 };
    const task = { ...web.spec!.task!, placement };
    await cluster.store.update((tx) => tx.create('service', { ...web, spec: { ...web.spec!, task } }));
    await cluster.run(300);
    const old = cluster.running('web')[0];
    cluster.behaviour = (one) => (one.id === old?.id ? undefined : obedient(one));
    await cluster.store.seed({ node: [on('b')] });
    await cluster.run(3000);
    const inContainers = cluster.tasks('web').filter((one) => one.status?.state === TaskState.RUNNING);
    expect(inContainers.map((one) => one.id)).toEqual([old?.id]);
    expect(cluster.tasks('web').find((one) => one.id === old?.id)).toMatchObject({
      desired_state: TaskState.SHUTDOWN,
      stopped_for: { code: 'node-mismatch' },
    });
    cluster.behaviour = obedient;
    await cluster.run(500);
    expect(cluster.running('web').filter((one) => one.id !== old?.id)).toHaveLength(1);
  });
});

describe('a stop-first update whose new task fails before it may start', () => {
  it('tries again beside the old task, but lets only one of them run', async () => {
    await start({ replicated: { replicas: 1 } });
    cluster.behaviour = (task) =>
      task.spec?.container?.image === 'two' && task.desired_state <= TaskState.RUNNING
        ? { state: TaskState.REJECTED, err: 'No such image: two' }
        : obedient(task);
    await cluster.updateService('web', withImage('two'));
    for (let ms = 0; ms < 3000; ms += 50) {
      await cluster.run(50);
      const running = letRun().filter((task) => task.status!.state <= TaskState.RUNNING);
      expect(running.length).toBeLessThanOrEqual(1);
    }
  });
});

describe('a slot with a task that does not stop', () => {
  /** Tasks on n1 do not stop. */
  const stubborn = (): void => {
    cluster.behaviour = (task) =>
      task.node_id === 'n1' && task.desired_state > TaskState.COMPLETE ? undefined : obedient(task);
  };

  it('lets a task that replaces yet another one wait for it', async () => {
    await cluster.store.seed({ node: [aNode('n3')] });
    await cluster.setNode('n2', { availability: NodeSpec_Availability.DRAIN });
    await cluster.setNode('n3', { availability: NodeSpec_Availability.DRAIN });
    await start({ replicated: { replicas: 1 } });
    expect(cluster.running('web').map((task) => task.node_id)).toEqual(['n1']);
    stubborn();
    await cluster.setNode('n2', { availability: NodeSpec_Availability.ACTIVE });
    await cluster.setNode('n1', { availability: NodeSpec_Availability.DRAIN });
    await cluster.run(1000);
    expect(cluster.running('web').map((task) => task.node_id)).toEqual(['n2']);
    await cluster.setNode('n3', { availability: NodeSpec_Availability.ACTIVE });
    await cluster.setNode('n2', { state: NodeStatus_State.DOWN });
    await cluster.run(1000);
    expect(cluster.wanted('web')).toMatchObject([{ node_id: 'n3', desired_state: TaskState.READY }]);
    cluster.behaviour = obedient;
    await cluster.run(1000);
    expect(cluster.running('web').map((task) => task.node_id)).toEqual(['n3']);
  });

  it('lets the next try of a job wait for it, where policy knows of no restart', async () => {
    await cluster.setNode('n2', { availability: NodeSpec_Availability.PAUSE });
    const task = { container: { image: 'one' }, restart: { condition: 0 } };
    await start({ task, replicated_job: { max_concurrent: 1, total_completions: 1 } });
    expect(cluster.running('web').map((one) => one.node_id)).toEqual(['n1']);
    stubborn();
    await cluster.setNode('n2', { availability: NodeSpec_Availability.ACTIVE });
    await cluster.setNode('n1', { availability: NodeSpec_Availability.DRAIN });
    await cluster.run(1000);
    expect(cluster.wanted('web')).toMatchObject([{ node_id: 'n2', desired_state: TaskState.READY }]);
    cluster.behaviour = obedient;
    await cluster.run(1000);
    expect(cluster.running('web').map((one) => one.node_id)).toEqual(['n2']);
  });
});

describe('a slot that was given up, and is filled again', () => {
  const scaleTo = (replicas: number) => cluster.updateService('web', (spec) => ({ ...spec, replicated: { replicas } }));

  it('lets its new task wait for the old one', async () => {
    await start({ replicated: { replicas: 2 } });
    const old = cluster.running('web').map((task) => task.id);
    cluster.behaviour = (task) => (old.includes(task.id) ? undefined : obedient(task));
    await scaleTo(0);
    await cluster.run(500);
    await scaleTo(3);
    await cluster.run(2000);
    const desired = cluster.wanted('web').map((task) => [task.slot, task.desired_state]);
    expect(desired).toEqual([
      [1, TaskState.READY],
      [2, TaskState.READY],
      [3, TaskState.RUNNING],
    ]);
    await cluster.changeLeader();
    await cluster.run(1000);
    expect(cluster.running('web')).toHaveLength(1);
    cluster.behaviour = obedient;
    await cluster.run(1000);
    expect(cluster.running('web')).toHaveLength(3);
  });

  it('waits no longer than for any old task', async () => {
    await start({ replicated: { replicas: 1 } });
    const old = cluster.running('web').map((task) => task.id);
    cluster.behaviour = (task) => (old.includes(task.id) ? undefined : obedient(task));
    await scaleTo(0);
    await cluster.run(500);
    await scaleTo(1);
    await cluster.run(59_000);
    expect(cluster.running('web')).toHaveLength(0);
    await cluster.run(2000);
    expect(cluster.running('web')).toHaveLength(1);
  });
});

describe('a task that was called off to make room', () => {
  it('is waited for by the one that fills its slot again', async () => {
    await start({ replicated: { replicas: 1 } });
    const old = cluster.running('web')[0]!;
    cluster.behaviour = (task) => (task.id === old.id ? undefined : obedient(task));
    await cluster.store.update((tx) => tx.update('task', { ...old, desired_state: TaskState.SHUTDOWN }));
    await cluster.run(1000);
    expect(cluster.wanted('web')).toMatchObject([{ desired_state: TaskState.READY }]);
    cluster.behaviour = obedient;
    await cluster.run(500);
    expect(cluster.running('web')).toHaveLength(1);
  });
});

describe('start-first updates, one interrupted by the next', () => {
  it('never lets more than two tasks of a slot run', async () => {
    const update = { parallelism: 1, order: 1, monitor: { seconds: 1 }, delay: {} };
    await start({ replicated: { replicas: 1 }, update });
    cluster.behaviour = (task) => (task.spec?.container?.image === 'two' ? undefined : obedient(task));
    await cluster.updateService('web', withImage('two'));
    await cluster.run(200);
    // The new task runs, and the next update comes, before a leader has seen either.
    await cluster.stop();
    await cluster.store.update((tx) => {
      for (const task of tx.list('task').filter((one) => one.spec?.container?.image === 'two')) {
        tx.update('task', { ...task, status: { ...task.status!, state: TaskState.RUNNING } });
      }
    });
    await cluster.updateService('web', withImage('three'));
    expect(cluster.running('web')).toHaveLength(2);
    cluster.lead();
    for (let ms = 0; ms < 2000; ms += 50) {
      await cluster.run(50);
      const atWork = letRun().filter((task) => task.status!.state <= TaskState.RUNNING);
      expect(atWork.length).toBeLessThanOrEqual(2);
    }
  });
});
