import { describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, TaskGroup, VirtualClock } from '../../base/index.ts';
import { Network, NodeStatus_State, TaskState } from '../../proto/index.ts';
import { createAllocator } from '../allocator/index.ts';
import { createPlacement } from '../placement.ts';
import { aNode, aService, createMemoryStore } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';

describe('orchestrators, allocator and placement together', () => {
  it('bring a hundred tasks to nodes in a handful of entries, and replace a lost node at once', async () => {
    const clock = new VirtualClock(1_700_000_000_000);
    const store = createMemoryStore({ clock });
    const deps = { store, clock, random: new SeededRandom(3), log: silentLogger };
    const group = new TaskGroup(silentLogger);
    for (const duty of [...orchestratorDuties(deps), createAllocator(deps), createPlacement(deps)]) {
      group.start(duty.name, (signal) => duty.run(signal));
    }
    await store.seed({
      node: ['n1', 'n2', 'n3', 'n4'].map((id) => aNode(id)),
      network: [Network.create({ id: 'front', spec: { annotations: { name: 'front' } } })],
    });
    const task = { container: { image: 'x' }, networks: [{ target: 'front' }] };
    const before = store.entries.length;
    const spec = { annotations: { name: 'web' }, task, replicated: { replicas: 100 } };
    await store.update((tx) => tx.create('service', aService('web', { spec })));
    await clock.advanceAsync(2_000);
    const assigned = () =>
      store
        .view()
        .list('task')
        .filter((t) => t.desired_state <= TaskState.RUNNING && t.status?.state === TaskState.ASSIGNED);
    expect(assigned()).toHaveLength(100);
    expect(store.entries.length - before).toBeLessThanOrEqual(8);
    await store.update((tx) => {
      const node = tx.get('node', 'n1')!;
      tx.update('node', { ...node, status: { ...node.status!, state: NodeStatus_State.DOWN } });
    });
    await clock.advanceAsync(1_500);
    expect(assigned()).toHaveLength(100);
    expect(assigned().some((t) => t.node_id === 'n1')).toBe(false);
    const used = store
      .view()
      .list('task')
      .map((t) => t.networks[0]?.addresses[0]);
    expect(new Set(used).size).toBe(125);
    await group.stop();
  });
});
