import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { NodeStatus_State, TaskState, UpdateStatus_UpdateState, type Partially, type Task } from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';
import type { Control } from './types.ts';

let store: MemoryStore;
let control: Control;
const clock = new VirtualClock(1_700_000_000_000);

beforeEach(() => {
  store = createMemoryStore({ clock });
  control = createControl({ store, clock, random: new SeededRandom(1), log: silentLogger });
});

describe('a task that was given up', () => {
  const { SHUTDOWN, RUNNING, ORPHANED } = TaskState;

  async function errorOf(task: Partially<Task>): Promise<string | undefined> {
    const one = aTask('t', { node_id: 'w2', desired_state: SHUTDOWN, status: { state: RUNNING }, ...task });
    await store.seed({ task: [one] });
    const { tasks } = await control.ListTasks({ filters: null });
    expect(tasks[0]).toEqual((await control.GetTask({ reference: 't' })).task);
    return tasks[0]?.status?.err;
  }

  const node = (state: NodeStatus_State): Promise<void> =>
    store.seed({ node: [aNode('w2', { status: { state }, description: { hostname: 'w2' } })] });

  it('may still run on a node that says nothing; nothing of it is stored', async () => {
    await node(NodeStatus_State.DOWN);
    const entries = store.entries.length;
    expect(await errorOf({})).toBe('node w2 is down: nobody can tell whether this task still runs there');
    expect(store.view().get('task', 't')?.status?.err).toBe('');
    expect(store.entries.length).toBe(entries + 1);
    await node(NodeStatus_State.UNKNOWN);
    expect(await errorOf({})).toMatch(/^node w2 has not come back since the leader changed: this task may still run/);
    expect(await errorOf({ status: { state: ORPHANED } })).toMatch(/^node w2 has been down for a day: /);
    await store.update((tx) => tx.remove('node', 'w2'));
    expect(await errorOf({})).toBe('node w2 was removed: nobody can tell whether this task still runs there');
    expect(await errorOf({ status: { state: ORPHANED } })).toBe(
      'node w2 was removed while it had this task: it may still run there',
    );
  });

  it('says nothing where its end will be reported, or was, or where it shall run', async () => {
    await node(NodeStatus_State.READY);
    expect(await errorOf({})).toBe('');
    await node(NodeStatus_State.DOWN);
    expect(await errorOf({ status: { state: TaskState.FAILED } })).toBe('');
    expect(await errorOf({ node_id: '' })).toBe('');
  });
});

describe('rebalancing by hand', () => {
  it('is asked for once, and refused where nothing can move', async () => {
    await store.seed({
      service: [aService('web'), aService('everywhere', { spec: { replicated: undefined, global: {} } })],
    });
    await control.RebalanceService({ service_id: 'web' });
    const first = store.view().get('service', 'web');
    expect(first?.rebalance_requested).not.toBeNull();
    await control.RebalanceService({ service_id: 'web' });
    expect(store.view().get('service', 'web')).toBe(first);
    await expect(control.RebalanceService({ service_id: 'everywhere' })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'service everywhere is not replicated: only replicas can move from node to node',
    });
    const update_status = { state: UpdateStatus_UpdateState.PAUSED };
    await store.seed({ service: [aService('stuck', { update_status })] });
    await expect(control.RebalanceService({ service_id: 'stuck' })).rejects.toMatchObject({
      code: 'FailedPrecondition',
    });
  });
});
