import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeSpec_Availability, TaskState, UpdateConfig_UpdateOrder, type Task } from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

let cluster: TestCluster;
const { ACTIVE, DRAIN } = NodeSpec_Availability;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

async function start(count: number, spec: object = {}, task: object = {}): Promise<void> {
  const service = aService('web', {
    spec: {
      annotations: { name: 'web' },
      replicated: { replicas: count },
      task: { container: { image: 'one' }, ...task },
      ...spec,
    },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

const on = (node: string): Task[] => cluster.running('web').filter((task) => task.node_id === node);

/** Lets a state of new tasks wait on a node. */
function stuckAt(node: string, state: TaskState): void {
  cluster.behaviour = (task) =>
    task.node_id === node && task.status!.state >= state && task.desired_state <= TaskState.COMPLETE
      ? undefined
      : obedient(task);
}

/** Fewest and most running tasks that are meant to run, over a time. */
async function watch(ms: number): Promise<{ least: number; most: number }> {
  let least = Infinity;
  let most = 0;
  for (let passed = 0; passed < ms; passed += 50) {
    await cluster.run(50);
    const count = cluster.running('web').length;
    least = Math.min(least, count);
    most = Math.max(most, count);
  }
  return { least, most };
}

describe('a drained node', () => {
  it('keeps its tasks until their successors run', async () => {
    await start(4);
    await cluster.setNode('n1', { availability: DRAIN });
    expect(await watch(1000)).toEqual({ least: 4, most: 4 });
    expect(on('n2')).toHaveLength(4);
    const gone = cluster.tasks('web').filter((task) => task.node_id === 'n1');
    expect(gone.map((task) => task.stopped_for?.text)).toEqual(Array(2).fill('node n1 was drained'));
    expect(cluster.running('web').filter((task) => task.created_for?.code === 'node-drained')).toHaveLength(2);
  });

  it('has a successor wait for a task of its slot that was called off before and has not stopped', async () => {
    await start(1, { update: { order: UpdateConfig_UpdateOrder.START_FIRST } });
    let stubborn = true;
    cluster.behaviour = (task) => (stubborn && task.desired_state > TaskState.RUNNING ? undefined : obedient(task));
    await cluster.updateService('web', withImage('two'));
    await cluster.run(8_000);
    const [serving] = cluster.wanted('web');
    await cluster.setNode(serving!.node_id, { availability: DRAIN });
    await cluster.run(2_000);
    const successor = cluster.wanted('web').find((task) => task.id !== serving!.id)!;
    expect([successor.desired_state, successor.created_for?.code]).toEqual([TaskState.READY, 'node-drained']);
    expect(cluster.tasks('web').filter((task) => task.status?.state === TaskState.RUNNING)).toHaveLength(2);
    stubborn = false;
    await cluster.run(1_000);
    expect(cluster.running('web').map((task) => task.id)).toEqual([successor.id]);
  });

  it('gives its tasks up after the overlap, also under another leader', async () => {
    await start(2);
    stuckAt('n2', TaskState.READY);
    await cluster.setNode('n1', { availability: DRAIN });
    await cluster.run(30_000);
    await cluster.changeLeader();
    await cluster.run(29_000);
    expect(on('n1')).toHaveLength(1);
    await cluster.run(2_000);
    expect(on('n1')).toHaveLength(0);
    expect(cluster.wanted('web')).toHaveLength(2);
  });

  it('gives them up soon when nothing else can take them', async () => {
    await cluster.setNode('n2', { availability: DRAIN });
    await start(1);
    await cluster.setNode('n1', { availability: DRAIN });
    await cluster.run(4_500);
    expect(on('n1')).toHaveLength(1);
    await cluster.run(1_000);
    expect(cluster.running('web')).toHaveLength(0);
    expect(cluster.wanted('web')).toHaveLength(1);
  });

  it('keeps an old task while its successor has to be tried again', async () => {
    await start(2);
    cluster.behaviour = (task) =>
      task.node_id === 'n2' && task.status!.state === TaskState.READY
        ? { state: TaskState.FAILED, err: 'no' }
        : obedient(task);
    await cluster.setNode('n1', { availability: DRAIN });
    await cluster.run(3_000);
    expect(on('n1')).toHaveLength(1);
    cluster.behaviour = obedient;
    expect((await watch(12_000)).least).toBe(2);
    expect(on('n2')).toHaveLength(2);
    expect(cluster.wanted('web')).toHaveLength(2);
  });

  it('stops first what must not overlap', async () => {
    await start(1, { annotations: { name: 'web', labels: { 'shoal.move.order': 'stop-first' } } });
    const node = cluster.running('web')[0]!.node_id;
    await cluster.setNode(node, { availability: DRAIN });
    expect((await watch(1000)).most).toBe(1);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('settles on one task when it is made active again meanwhile', async () => {
    await start(2);
    stuckAt('n2', TaskState.READY);
    await cluster.setNode('n1', { availability: DRAIN });
    await cluster.run(1_000);
    expect(cluster.wanted('web')).toHaveLength(3);
    await cluster.setNode('n1', { availability: ACTIVE });
    expect((await watch(65_000)).least).toBe(2);
    expect(cluster.wanted('web')).toHaveLength(2);
    expect(on('n1')).toHaveLength(1);
  });

  it('settles on one task also when the service gets another version meanwhile that suits both', async () => {
    await start(1);
    const [serving] = cluster.running('web');
    stuckAt(serving!.node_id === 'n1' ? 'n2' : 'n1', TaskState.READY);
    await cluster.setNode(serving!.node_id, { availability: DRAIN });
    await cluster.run(1_000);
    await cluster.updateService('web', (spec) => ({ ...spec, endpoint: null }));
    await cluster.setNode(serving!.node_id, { availability: ACTIVE });
    cluster.behaviour = obedient;
    await cluster.run(5_000);
    expect(cluster.wanted('web')).toHaveLength(1);
  });

  it.each([UpdateConfig_UpdateOrder.STOP_FIRST, UpdateConfig_UpdateOrder.START_FIRST])(
    'ends an update of order %s that is under way',
    async (order) => {
      await start(4, { update: { parallelism: 1, order, monitor: { nanos: 1e8 } } });
      await cluster.updateService('web', withImage('two'));
      await cluster.run(200);
      await cluster.setNode('n1', { availability: DRAIN });
      expect((await watch(10_000)).least).toBeGreaterThanOrEqual(3);
      expect(on('n2')).toHaveLength(4);
      expect(cluster.wanted('web')).toHaveLength(4);
      expect(cluster.wanted('web').every((task) => task.spec?.container?.image === 'two')).toBe(true);
    },
  );
});
