import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  TaskState,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Task,
} from '../../proto/index.ts';
import { must } from '../../base/index.ts';
import { aNode, aService } from '../store/testing.ts';
import type { Decision } from './driver.ts';
import { orchestratorDuties } from './index.ts';
import { reason } from './reasons.ts';
import { decideReplicated } from './replicated.ts';
import { calledOff, readService } from './service-view.ts';
import { obedient, TestCluster, withImage } from './testing.ts';
import { newUpdateMemory, type UpdateMemory } from './update-progress.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: ['n1', 'n2', 'n3'].map((id) => aNode(id)) });
  // What was told to stop dies by its signal, as real containers do: the agent may well report a failure.
  cluster.behaviour = (task) =>
    task.desired_state > TaskState.COMPLETE && task.status?.state === TaskState.RUNNING
      ? { state: TaskState.FAILED, err: 'task: non-zero exit (137)' }
      : obedient(task);
  cluster.lead();
});

afterEach(() => cluster.stop());

const imageOf = (task: Task): string => task.spec?.container?.image ?? '';
const state = (): UpdateStatus_UpdateState | undefined => cluster.service('web').update_status?.state;
const fresh = (): Task[] => cluster.running('web').filter((task) => imageOf(task) === 'two');

async function start(order: UpdateConfig_UpdateOrder): Promise<void> {
  const service = aService('web', {
    spec: {
      annotations: { name: 'web' },
      replicated: { replicas: 3 },
      task: {
        container: { image: 'one' },
        restart: { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 1 } },
      },
      update: { parallelism: 1, monitor: { seconds: 3 }, delay: { seconds: 1 }, order },
    },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
  await cluster.updateService('web', withImage('two'));
  for (let i = 0; i < 40 && fresh().length === 0; i++) await cluster.run(50);
  expect(fresh()).toHaveLength(1);
}

async function completes(): Promise<void> {
  for (let i = 0; i < 60 && state() === UpdateStatus_UpdateState.UPDATING; i++) await cluster.run(500);
  expect(cluster.service('web').update_status).toMatchObject({ state: UpdateStatus_UpdateState.COMPLETED });
  expect(cluster.running('web').map(imageOf)).toEqual(['two', 'two', 'two']);
}

/** Writes an end of a task as other duties of the leader do it. */
async function write(task: Task, change: (task: Task) => Task): Promise<void> {
  await cluster.store.update((tx) => tx.update('task', change(tx.get('task', task.id)!)));
}

describe.each([
  ['stop-first', UpdateConfig_UpdateOrder.STOP_FIRST],
  ['start-first', UpdateConfig_UpdateOrder.START_FIRST],
])('an update (%s) goes on when its new task is lost because', (_order, order) => {
  beforeEach(() => start(order));

  it('the node went down, and comes back with a dead container', async () => {
    const victim = fresh()[0]!;
    await cluster.setNode(victim.node_id, { state: NodeStatus_State.DOWN });
    await cluster.run(200);
    await cluster.setNode(victim.node_id, { state: NodeStatus_State.READY });
    await cluster.run(200);
    expect(cluster.store.view().get('task', victim.id)?.status?.state).toBe(TaskState.FAILED);
    await completes();
  });

  it('the node was drained', async () => {
    await cluster.setNode(fresh()[0]!.node_id, { availability: NodeSpec_Availability.DRAIN });
    await completes();
  });

  it('the node was removed', async () => {
    const nodeId = fresh()[0]!.node_id;
    await cluster.store.update((tx) => tx.remove('node', nodeId));
    await completes();
  });

  it('the node no longer meets the constraints', async () => {
    const { node_id: nodeId } = fresh()[0]!;
    await cluster.store.update((tx) => {
      const node = tx.get('node', nodeId)!;
      tx.update('node', {
        ...node,
        description: { ...node.description!, resources: { nano_cpus: 1e9, memory_bytes: 1e9, generic: [] } },
      });
      const service = tx.get('service', 'web')!;
      const task = { ...service.spec!.task!, placement: { constraints: [`node.id!=${nodeId}`] } };
      tx.update('service', { ...service, spec: { ...service.spec!, task: task as never } });
    });
    await cluster.run(100);
    const calledOff = cluster.tasks('web').filter((task) => task.desired_state === TaskState.SHUTDOWN);
    expect(calledOff.map((task) => task.stopped_for?.code)).toContain('node-mismatch');
    await cluster.run(2_000);
    expect(state()).toBe(UpdateStatus_UpdateState.UPDATING);
  });

  it('a task of higher priority pushed it off', async () => {
    const why = reason('preempted', 'pushed off its node by task x');
    await write(fresh()[0]!, (task) => calledOff(task, TaskState.SHUTDOWN, why));
    await completes();
  });

  it('the leader is changed meanwhile', async () => {
    const victim = fresh()[0]!;
    await cluster.setNode(victim.node_id, { state: NodeStatus_State.DOWN });
    await cluster.changeLeader();
    await cluster.run(500);
    await cluster.setNode(victim.node_id, { state: NodeStatus_State.READY });
    await cluster.changeLeader();
    await completes();
  });
});

describe('a step of an update that was decided but never written', () => {
  it('does not keep the update from its end', async () => {
    // A leader decides twice, the second time in the transaction: by then the allocator may have given the task the new
    // endpoint, and it follows its service.
    const quiet = new TestCluster(orchestratorDuties);
    const newId = (): string => quiet.newId();
    const service = aService('web', { spec: { replicated: { replicas: 1 }, task: { container: { image: 'one' } } } });
    const decide = (memory: UpdateMemory) =>
      decideReplicated(must(readService(quiet.store.view(), 'web', quiet.clock.now(), newId), 'service'), memory);
    const write = ({ steps }: Decision) =>
      quiet.store.update((tx) => {
        for (const op of steps.flat()) {
          if (op.op === 'create') tx.create('task', op.task);
          if (op.op === 'update-service') tx.update('service', op.service);
        }
      });
    const memory = newUpdateMemory();
    await quiet.store.update((tx) => tx.create('service', service));
    await write(decide(memory));
    await quiet.clock.advanceAsync(1_000);
    await quiet.updateService('web', withImage('two'));
    await write(decide(memory));
    expect(decide(memory).steps.flat()).toMatchObject([{ op: 'create' }, { op: 'update' }]);
    const status = (task: Task) => ({ ...task.status!, state: TaskState.RUNNING });
    await quiet.store.update((tx) => {
      const spec_version = tx.get('service', 'web')!.spec_version;
      for (const task of tx.list('task')) tx.update('task', { ...task, spec_version, status: status(task) });
    });
    await write(decide(memory));
    expect(quiet.service('web').update_status?.state).toBe(UpdateStatus_UpdateState.COMPLETED);
  });
});
