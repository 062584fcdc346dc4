import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger, VirtualClock } from '../base/index.ts';
import { Cluster, NodeStatus_State, Task, TaskState, type Partially } from '../proto/index.ts';
import { TELL_AGAIN_MS } from './placement-pass.ts';
import { createPlacement, PASS_LATEST_MS, RETRY_MS } from './placement.ts';
import { aNode, aTask, createMemoryStore, type MemoryStore } from './store/testing.ts';

let store: MemoryStore;
let clock: VirtualClock;
let controller: AbortController;
let running: Promise<void> | undefined;

beforeEach(() => {
  clock = new VirtualClock(1_700_000_000_000);
  store = createMemoryStore({ clock });
  controller = new AbortController();
});

afterEach(async () => {
  controller.abort(new Error('done'));
  await running;
  running = undefined;
});

function start(): Promise<void> {
  running = createPlacement({ store, clock, log: silentLogger }).run(controller.signal);
  return clock.advanceAsync(0);
}

function pending(id: string, fields: Partially<Task> = {}): Task {
  return aTask(id, { status: { state: TaskState.PENDING, message: 'pending' }, ...fields });
}

function now(id: string): Task {
  return store.view().get('task', id) as Task;
}

function change(id: string, fields: Partially<Task>): Promise<void> {
  return store.update((tx) => tx.update('task', Task.create({ ...tx.get('task', id), ...fields })));
}

const WANTS_6_CPUS = { container: { image: 'x' }, resources: { reservations: { nano_cpus: 6e9 } } };
const WANTS_3_CPUS = { container: { image: 'x' }, resources: { reservations: { nano_cpus: 3e9 } } };

describe('placement', () => {
  it('assigns what waits already, at once, and tells the time and the reason', async () => {
    await store.seed({ node: [aNode('n1')], task: [pending('t1')] });
    await start();
    expect(now('t1').node_id).toBe('n1');
    expect(now('t1').status).toMatchObject({
      state: TaskState.ASSIGNED,
      message: 'scheduler assigned task to node',
      err: '',
      timestamp: { seconds: 1_700_000_000 },
    });
  });

  it('assigns what comes later within the latest time, a whole group in one entry', async () => {
    await store.seed({ node: [aNode('n1'), aNode('n2')] });
    await start();
    await store.seed({ task: Array.from({ length: 10 }, (_, i) => pending(`t${i}`, { slot: i + 1 })) });
    const before = store.entries.length;
    await clock.advanceAsync(PASS_LATEST_MS);
    expect(store.entries.length).toBe(before + 1);
    expect(store.view().tasksByNode('n1')).toHaveLength(5);
    expect(store.view().tasksByNode('n2')).toHaveLength(5);
  });

  it('explains once why a task has no node, and tries again when something gives', async () => {
    await store.seed({ node: [aNode('n1')], task: [pending('t1', { spec: WANTS_6_CPUS })] });
    await start();
    expect(now('t1').status?.err).toBe(
      'no suitable node (insufficient resources on 1 node); nearest fit: n1 is too small, even when empty, by 2 CPUs; ' +
        'to fix: add a larger node, or lower --reserve-cpu',
    );
    expect(now('t1').status?.state).toBe(TaskState.PENDING);
    const entries = store.entries.length;
    await store.seed({ node: [aNode('n1', { status: { state: NodeStatus_State.READY, message: 'x' } })] });
    await clock.advanceAsync(1000);
    expect(store.entries.length).toBe(entries + 1);
    const large = aNode('n2', { description: { hostname: 'n2', resources: { nano_cpus: 8e9 } } });
    await store.seed({ node: [large] });
    await clock.advanceAsync(1000);
    expect(now('t1')).toMatchObject({ node_id: 'n2', status: { err: '' } });
  });

  it('uses what a task has given back when it ended', async () => {
    await store.seed({ node: [aNode('n1')], task: [pending('t1', { spec: WANTS_3_CPUS })] });
    await start();
    await store.seed({ task: [pending('t2', { spec: WANTS_3_CPUS })] });
    await clock.advanceAsync(1000);
    expect(now('t2').node_id).toBe('');
    await change('t1', { desired_state: TaskState.SHUTDOWN });
    await clock.advanceAsync(1000);
    expect(now('t2').node_id).toBe('');
    await change('t1', { status: { state: TaskState.SHUTDOWN } });
    await clock.advanceAsync(1000);
    expect(now('t2').node_id).toBe('n1');
  });

  it('only checks tasks whose node is given', async () => {
    const full = { node_id: 'n1', spec: WANTS_6_CPUS };
    await store.seed({ node: [aNode('n1')], task: [pending('g', { node_id: 'n1' }), pending('h', full)] });
    await start();
    expect(now('g').status).toMatchObject({
      state: TaskState.ASSIGNED,
      message: 'scheduler confirmed task can run on preassigned node',
    });
    expect(now('h')).toMatchObject({ node_id: 'n1', status: { state: TaskState.PENDING } });
    expect(now('h').status?.err).toContain('insufficient resources');
  });

  it('leaves tasks alone that shall go, or are not ready for a node', async () => {
    await store.seed({
      node: [aNode('n1')],
      task: [pending('gone', { desired_state: TaskState.REMOVE }), aTask('new')],
    });
    await start();
    await clock.advanceAsync(1000);
    expect([now('gone').node_id, now('new').node_id]).toEqual(['', '']);
  });

  it('does not believe its own books when a write failed', async () => {
    await store.seed({ node: [aNode('n1')], task: [pending('t1', { spec: WANTS_3_CPUS })] });
    store.failNext('lost');
    await start();
    expect(now('t1').node_id).toBe('');
    await clock.advanceAsync(RETRY_MS);
    expect(now('t1').node_id).toBe('n1');
  });

  it('does not touch a task that changed while it was deciding', async () => {
    await store.seed({ node: [aNode('n1')], task: [pending('t1')] });
    const race = change('t1', { desired_state: TaskState.REMOVE });
    await start();
    await race;
    await clock.advanceAsync(1000);
    expect(now('t1').node_id).toBe('');
  });

  it('begins anew after a snapshot', async () => {
    await store.seed({ node: [aNode('n1')] });
    await start();
    const other = createMemoryStore({ clock });
    await other.seed({ node: [aNode('n9')], task: [pending('t9')] });
    store.restore(other.snapshot(), 0);
    await clock.advanceAsync(1000);
    expect(now('t9').node_id).toBe('n9');
  });

  it('avoids a node where the service keeps failing', async () => {
    const failed = Array.from({ length: 5 }, (_, i) =>
      aTask(`f${i}`, {
        node_id: 'n1',
        status: { state: TaskState.FAILED, timestamp: { seconds: 1_700_000_000 - 10 } },
        desired_state: TaskState.SHUTDOWN,
      }),
    );
    await store.seed({ node: [aNode('n1'), aNode('n2')], task: [...failed, pending('a'), pending('b')] });
    await start();
    expect(store.view().tasksByNode('n2')).toHaveLength(2);
  });

  it('explains anew only after a while, and then only once', async () => {
    await store.seed({ node: [aNode('n1')], task: [pending('t1', { spec: WANTS_6_CPUS })] });
    await start();
    const first = now('t1').status?.err;
    await store.seed({ node: [aNode('n2'), aNode('n3')] });
    await clock.advanceAsync(1000);
    expect(now('t1').status?.err).toBe(first);
    await clock.advanceAsync(TELL_AGAIN_MS);
    expect(now('t1').status?.err).toContain('no suitable node (insufficient resources on 3 nodes)');
    const entries = store.entries.length;
    await clock.advanceAsync(10 * TELL_AGAIN_MS);
    expect(store.entries.length).toBe(entries);
  });

  it('follows the strategy of the cluster', async () => {
    const cluster = Cluster.create({
      id: 'c',
      spec: { annotations: { name: 'default', labels: { 'shoal.scheduler.strategy': 'binpack' } } },
    });
    const task = [1, 2, 3].map((slot) => pending(`t${slot}`, { slot }));
    await store.seed({ cluster: [cluster], node: [aNode('n1'), aNode('n2')], task });
    await start();
    expect(store.view().tasksByNode('n1')).toHaveLength(3);
  });

  it('places many tasks in bounded transactions', async () => {
    await store.seed({ node: [aNode('n1'), aNode('n2')] });
    const task = Array.from({ length: 4500 }, (_, i) => pending(`t${i}`, { slot: i + 1, service_id: `s${i % 2}` }));
    await store.seed({ task });
    const before = store.entries.length;
    await start();
    await clock.advanceAsync(PASS_LATEST_MS);
    expect(store.view().tasksByNode('n1')).toHaveLength(2250);
    expect(store.view().tasksByNode('n2')).toHaveLength(2250);
    expect(store.entries.length - before).toBeLessThanOrEqual(5);
  });
});

describe('preemption', () => {
  const important = {
    service_id: 'db',
    service_annotations: { name: 'db', labels: { 'shoal.priority': '10', 'shoal.preempt': 'true' } },
    spec: WANTS_3_CPUS,
  };

  it('tells the victim to stop and why, and waits until it has', async () => {
    const victim = { node_id: 'n1', spec: WANTS_3_CPUS, status: { state: TaskState.RUNNING } };
    await store.seed({ node: [aNode('n1')], task: [aTask('victim', victim), pending('t1', important)] });
    await start();
    expect(now('victim')).toMatchObject({
      desired_state: TaskState.SHUTDOWN,
      status: { state: TaskState.RUNNING },
      stopped_for: { code: 'preempted', text: 'service db (priority 10) needs its room on n1' },
    });
    expect(now('t1').node_id).toBe('');
    expect(now('t1').status?.err).toContain('n1 makes room');
    // Its replacement comes before it has stopped, and must not take the room.
    await store.seed({ task: [pending('victim2', { spec: WANTS_3_CPUS })] });
    await clock.advanceAsync(1000);
    await change('victim', { status: { state: TaskState.SHUTDOWN } });
    await clock.advanceAsync(1000);
    expect(now('t1').node_id).toBe('n1');
    expect(now('victim2').node_id).toBe('');
    expect(now('victim2').desired_state).toBe(TaskState.RUNNING);
  });

  it('is decided again when the victim could not be told', async () => {
    const victim = { node_id: 'n1', spec: WANTS_3_CPUS, status: { state: TaskState.RUNNING } };
    await store.seed({ node: [aNode('n1')], task: [aTask('victim', victim), pending('t1', important)] });
    store.failNext('lost');
    await start();
    expect(now('victim').desired_state).toBe(TaskState.RUNNING);
    await clock.advanceAsync(RETRY_MS);
    expect(now('victim').desired_state).toBe(TaskState.SHUTDOWN);
  });

  it('gives the room to others when the task that waited is gone', async () => {
    const victim = { node_id: 'n1', spec: WANTS_3_CPUS, status: { state: TaskState.RUNNING } };
    await store.seed({ node: [aNode('n1')], task: [aTask('victim', victim), pending('t1', important)] });
    await start();
    await store.seed({
      task: [pending('t2', { spec: { container: { image: 'x' } } }), pending('t3', { spec: WANTS_3_CPUS })],
    });
    await clock.advanceAsync(1000);
    await change('t1', { desired_state: TaskState.REMOVE });
    await change('victim', { status: { state: TaskState.SHUTDOWN } });
    await clock.advanceAsync(1000);
    expect(now('t3').node_id).toBe('n1');
  });
});
