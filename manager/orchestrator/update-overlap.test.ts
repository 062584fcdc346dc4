import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  TaskState,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage, type Behaviour } from './testing.ts';

// Two tasks of one slot are wanted in the middle of an update only: whatever interrupts it, one of them goes.

const { START_FIRST, STOP_FIRST } = UpdateConfig_UpdateOrder;

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const imageOf = (task: Task): string => task.spec?.container?.image ?? '';
const state = (): UpdateStatus_UpdateState | undefined => cluster.service('web').update_status?.state;
const on = (nodeId: string): Task[] => cluster.wanted('web').filter((task) => task.node_id === nodeId);

/** Tasks with this image do nothing. */
const stuckAt =
  (image: string): Behaviour =>
  (task) =>
    imageOf(task) === image && task.desired_state <= TaskState.COMPLETE ? undefined : obedient(task);

async function start(mode: object, update: object): Promise<void> {
  const spec = { annotations: { name: 'web' }, task: { container: { image: 'one' } }, ...mode };
  const service = aService('web', {
    spec: { ...spec, update: { parallelism: 0, monitor: { seconds: 1 }, ...update } },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
  expect(cluster.running('web')).toHaveLength(2);
}

describe.each([
  ['start-first', START_FIRST],
  ['stop-first', STOP_FIRST],
])('a global service whose node is paused in the middle of an update (%s)', (_, order) => {
  const pausedInTheMiddle = async (): Promise<void> => {
    await start({ global: {} }, { order });
    cluster.behaviour = (task) =>
      imageOf(task) === 'two' && task.node_id === 'n1' && task.desired_state <= TaskState.COMPLETE
        ? undefined
        : obedient(task);
    await cluster.updateService('web', withImage('two'));
    await cluster.run(200);
    const placed = on('n1').find((task) => imageOf(task) === 'two')!;
    await cluster.store.update((tx) =>
      tx.update('task', { ...placed, status: { ...placed.status!, state: TaskState.ASSIGNED } }),
    );
    expect(on('n1')).toHaveLength(2);
    await cluster.setNode('n1', { availability: NodeSpec_Availability.PAUSE });
  };

  it('ends with the new task there', async () => {
    await pausedInTheMiddle();
    cluster.behaviour = obedient;
    await cluster.run(5_000);
    expect(on('n1').map(imageOf)).toEqual(['two']);
    expect(cluster.running('web')).toHaveLength(2);
    expect(state()).toBe(UpdateStatus_UpdateState.COMPLETED);
  });

  it('keeps one of the two when the next update comes, which begins nothing there', async () => {
    await pausedInTheMiddle();
    await cluster.updateService('web', withImage('three'));
    cluster.behaviour = obedient;
    await cluster.run(5_000);
    expect(on('n1')).toMatchObject([{ status: { state: TaskState.RUNNING } }]);
    expect(imageOf(on('n1')[0]!)).not.toBe('three');
    expect(on('n2').map(imageOf)).toEqual(['three']);
    expect(state()).toBe(UpdateStatus_UpdateState.COMPLETED);
    await cluster.setNode('n1', { availability: NodeSpec_Availability.ACTIVE });
    await cluster.run(5_000);
    expect(on('n1').map(imageOf)).toEqual(['three']);
  });
});

describe('a pair of an update that the next one interrupts', () => {
  const pairs = async (update: object): Promise<void> => {
    await start({ replicated: { replicas: 2 } }, { order: START_FIRST, ...update });
    cluster.behaviour = stuckAt('two');
    await cluster.updateService('web', withImage('two'));
    await cluster.run(200);
    expect(cluster.wanted('web')).toHaveLength(4);
  };

  it('does not stay while the slot waits for its turn', async () => {
    await pairs({ parallelism: 0 });
    await cluster.updateService('web', (spec) => ({
      ...withImage('three')(spec),
      update: { ...spec.update!, parallelism: 1, delay: { seconds: 3600, nanos: 0 } },
    }));
    cluster.behaviour = obedient;
    await cluster.run(5_000);
    expect(cluster.wanted('web')).toHaveLength(2);
    expect(cluster.running('web').map(imageOf).sort()).toEqual(['one', 'three']);
  });

  it('does not stay when that one is paused', async () => {
    await pairs({ parallelism: 0 });
    await cluster.updateService('web', (spec) => ({
      ...withImage('three')(spec),
      update: { ...spec.update!, parallelism: 1, failure_action: UpdateConfig_FailureAction.PAUSE },
    }));
    cluster.behaviour = (task) =>
      imageOf(task) === 'three' && task.desired_state <= TaskState.COMPLETE
        ? { state: TaskState.REJECTED, err: 'No such image: three' }
        : obedient(task);
    await cluster.run(5_000);
    expect(state()).toBe(UpdateStatus_UpdateState.PAUSED);
    expect(cluster.running('web').map(imageOf)).toEqual(['one', 'one']);
    expect(cluster.wanted('web')).toHaveLength(2);
  });
});

describe('a start-first update while a task of the update before it has not stopped yet', () => {
  const atWork = (): Task[] => cluster.tasks('web').filter((task) => task.status!.state === TaskState.RUNNING);

  /** Tasks of the first version do not stop; each of the second runs beside one of them. */
  const updatedOnce = async (): Promise<void> => {
    await start({ replicated: { replicas: 2 } }, { order: START_FIRST });
    cluster.behaviour = (task) =>
      imageOf(task) === 'one' && task.desired_state > TaskState.COMPLETE ? undefined : obedient(task);
    await cluster.updateService('web', withImage('two'));
    await cluster.run(3_000);
    expect(atWork().map(imageOf).sort()).toEqual(['one', 'one', 'two', 'two']);
  };

  it('prepares the new task, which starts when that one has stopped', async () => {
    await updatedOnce();
    await cluster.updateService('web', withImage('three'));
    await cluster.run(2_000);
    expect(atWork().map(imageOf).sort()).toEqual(['one', 'one', 'two', 'two']);
    const fresh = cluster.wanted('web').filter((task) => imageOf(task) === 'three');
    expect(fresh.map((task) => task.desired_state)).toEqual([TaskState.READY, TaskState.READY]);
    cluster.behaviour = obedient;
    await cluster.run(5_000);
    expect(cluster.running('web').map(imageOf)).toEqual(['three', 'three']);
    expect(state()).toBe(UpdateStatus_UpdateState.COMPLETED);
  });

  it('has the replacement of a new task that failed wait for it, too', async () => {
    await updatedOnce();
    let failing = true;
    const before = cluster.behaviour;
    cluster.behaviour = (task) =>
      failing && imageOf(task) === 'three' && task.desired_state <= TaskState.COMPLETE
        ? { state: TaskState.FAILED, err: 'no' }
        : before(task);
    await cluster.updateService('web', (spec) => ({
      ...withImage('three')(spec),
      task: {
        ...withImage('three')(spec).task!,
        restart: { condition: 2, delay: null, max_attempts: 0, window: null },
      },
      update: {
        ...spec.update!,
        failure_action: UpdateConfig_FailureAction.CONTINUE,
        monitor: { seconds: 60, nanos: 0 },
      },
    }));
    await cluster.run(200);
    failing = false;
    await cluster.run(20_000);
    expect(atWork().map(imageOf).sort()).toEqual(['one', 'one', 'two', 'two']);
  });
});
