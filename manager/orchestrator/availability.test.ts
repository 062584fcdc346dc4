import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  TaskState,
  type GenericResource,
  type Node,
  type ServiceSpec,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { TestCluster, withImage } from './testing.ts';

/** The rows of swarmkit.md §3.3 and §3.8 that no other file holds. */
let cluster: TestCluster;
const { ACTIVE, PAUSE, DRAIN } = NodeSpec_Availability;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

async function start(mode: object, task: object = {}): Promise<void> {
  const spec = { annotations: { name: 'web' }, task: { container: { image: 'one' }, ...task }, ...mode };
  await cluster.store.update((tx) => tx.create('service', aService('web', { spec })));
  await cluster.run(300);
}

const on = (node: string): Task[] => cluster.running('web').filter((task) => task.node_id === node);
const imageOn = (node: string): string | undefined => on(node)[0]?.spec?.container?.image;
const EVERYWHERE = { replicated: undefined, global: {}, update: { monitor: { nanos: 1e8 } } };

describe('availability and global services', () => {
  it('a paused node gets no new task and no update, and both when it is active again', async () => {
    await start(EVERYWHERE);
    await cluster.setNode('n1', { availability: PAUSE });
    await cluster.store.seed({ node: [aNode('n3', { spec: { availability: PAUSE } })] });
    await cluster.updateService('web', withImage('two'));
    await cluster.run(3_000);
    expect([imageOn('n1'), imageOn('n2'), imageOn('n3')]).toEqual(['one', 'two', undefined]);
    await cluster.setNode('n1', { availability: ACTIVE });
    await cluster.setNode('n3', { availability: ACTIVE });
    await cluster.run(3_000);
    expect([imageOn('n1'), imageOn('n2'), imageOn('n3')]).toEqual(['two', 'two', 'two']);
  });

  it.each([{ availability: DRAIN }, { state: NodeStatus_State.DOWN }])(
    'a node that is %o loses its task, and gets one when it is back',
    async (change) => {
      await start(EVERYWHERE);
      await cluster.setNode('n1', change);
      await cluster.run(500);
      expect(cluster.wanted('web').map((task) => task.node_id)).toEqual(['n2']);
      await cluster.setNode('n1', { availability: ACTIVE, state: NodeStatus_State.READY });
      await cluster.run(500);
      expect(on('n1')).toHaveLength(1);
    },
  );
});

describe('availability and replicated services', () => {
  it.each([NodeStatus_State.UNKNOWN, NodeStatus_State.DISCONNECTED])(
    'a node in state %s keeps its tasks',
    async (state) => {
      await start({ replicated: { replicas: 4 } });
      const before = cluster.running('web').map((task) => task.id);
      await cluster.setNode('n1', { state });
      await cluster.run(10_000);
      expect(cluster.running('web').map((task) => task.id)).toEqual(before);
    },
  );

  it('nothing moves when a node pauses, joins or comes back', async () => {
    await start({ replicated: { replicas: 4 } });
    await cluster.setNode('n1', { availability: PAUSE });
    await cluster.run(1_000);
    expect(on('n1')).toHaveLength(2);
    await cluster.setNode('n1', { state: NodeStatus_State.DOWN });
    await cluster.run(1_000);
    await cluster.store.seed({ node: [aNode('n3')] });
    await cluster.setNode('n1', { state: NodeStatus_State.READY, availability: ACTIVE });
    await cluster.run(60_000);
    expect(on('n2')).toHaveLength(4);
  });
});

describe('the constraint enforcer', () => {
  const labelled = (id: string, availability: NodeSpec_Availability, labels: Record<string, string> = {}): Node =>
    aNode(id, { spec: { annotations: { labels }, availability } });
  const constrained =
    (zone: string) =>
    (spec: ServiceSpec): ServiceSpec => ({
      ...spec,
      task: { ...spec.task!, placement: { ...spec.task!.placement!, constraints: [`node.labels.zone == ${zone}`] } },
    });
  const rejected = (): Task[] =>
    cluster
      .tasks('web')
      .filter((task) => task.desired_state === TaskState.SHUTDOWN && task.stopped_for?.code === 'node-mismatch');

  it('looks at active nodes only, with the constraints of the service as it is now', async () => {
    await cluster.store.seed({ node: [labelled('n1', ACTIVE, { zone: 'a' }), labelled('n2', DRAIN)] });
    await start(
      { replicated: { replicas: 1 } },
      { placement: { constraints: ['node.labels.zone == a'] }, restart: { condition: 0 as const } },
    );
    expect(on('n1')).toHaveLength(1);
    await cluster.store.seed({ node: [labelled('n1', PAUSE, { zone: 'b' })] });
    await cluster.run(500);
    expect(rejected()).toHaveLength(0);
    await cluster.updateService('web', constrained('b'));
    await cluster.store.seed({ node: [labelled('n1', ACTIVE, { zone: 'b' })] });
    await cluster.run(500);
    expect(rejected()).toHaveLength(0);
    await cluster.store.seed({ node: [labelled('n1', ACTIVE, { zone: 'a' })] });
    await cluster.run(100);
    expect(rejected()).toHaveLength(1);
  });

  it('takes every task whose generic resource the node has lost, not the first alone', async () => {
    const gpu = (value: string): GenericResource => ({ named_resource_spec: { kind: 'gpu', value } });
    const node = aNode('n1');
    const holding = (values: string[]): Node => ({
      ...node,
      description: { ...node.description!, resources: { ...node.description!.resources!, generic: values.map(gpu) } },
    });
    await cluster.store.update((tx) => tx.remove('node', 'n2'));
    await cluster.store.seed({ node: [holding(['g1', 'g2', 'g3'])] });
    await start({ replicated: { replicas: 3 } }, { restart: { condition: 0 as const } });
    const claim = ['g1', 'g2', 'g3'];
    await cluster.store.update((tx) => {
      for (const task of tx.tasksByService('web')) {
        tx.update('task', { ...task, assigned_generic_resources: [gpu(claim.shift() ?? '')] });
      }
    });
    await cluster.store.seed({ node: [holding(['g2'])] });
    await cluster.run(50);
    expect(
      rejected()
        .map((task) => task.assigned_generic_resources[0]?.named_resource_spec?.value ?? '')
        .sort(),
    ).toEqual(['g1', 'g3']);
  });
});
