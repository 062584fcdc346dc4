import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import { Network, TaskState } from '../../proto/index.ts';
import { aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { allocateNetwork } from './networks.ts';
import { allocateService } from './services.ts';
import { AllocatorState } from './state.ts';
import { allocateTask } from './tasks.ts';

const NETWORKS = ['ingress', 'a', 'b'];

interface Step {
  op: 'service' | 'unservice' | 'task' | 'end' | 'network' | 'unnetwork';
  n: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom('service', 'service', 'unservice', 'task', 'task', 'task', 'end', 'network', 'unnetwork'),
  n: fc.nat(30),
});

function apply(store: MemoryStore, live: AllocatorState, { op, n }: Step): Promise<void> {
  return store.update((tx) => {
    const id = `s${n % 5}`;
    const networkId = `n${n % 4}`;
    const service = tx.get('service', id);
    if (op === 'network' && tx.get('network', networkId) === undefined) {
      const network = Network.create({ id: networkId, spec: { annotations: { name: networkId } } });
      const outcome = allocateNetwork(live, tx, network);
      if ('object' in outcome) tx.create('network', outcome.object);
    } else if (op === 'unnetwork' && tx.get('network', networkId) !== undefined) {
      live.releaseNetwork(networkId);
      tx.remove('network', networkId);
    } else if (op === 'service') {
      const networks = NETWORKS.slice(1, 1 + (n % 3)).map((target) => ({ target }));
      const ports = n % 2 === 0 ? [{ target_port: n + 1 }, { target_port: 99, published_port: 1 + (n % 7) }] : [];
      const { spec } = aService(id, { spec: { annotations: { name: id }, task: { networks }, endpoint: { ports } } });
      const next = service === undefined ? aService(id, { spec }) : { ...service, spec };
      const outcome = allocateService(live, tx, next);
      if (!('object' in outcome)) return;
      if (service === undefined) tx.create('service', outcome.object);
      else tx.update('service', outcome.object);
    } else if (op === 'unservice' && service !== undefined) {
      live.releaseService(service);
      tx.remove('service', id);
    } else if (op === 'task' && service !== undefined && tx.get('task', `t${n}`) === undefined) {
      const outcome = allocateTask(live, tx, aTask(`t${n}`, { service_id: id, spec: service.spec!.task! }), service, 0);
      if ('object' in outcome) tx.create('task', outcome.object);
    } else if (op === 'end') {
      const task = tx.get('task', `t${n}`);
      if (task === undefined || task.status?.state === TaskState.FAILED) return;
      live.releaseOwner(task.id);
      tx.update('task', { ...task, status: { ...task.status!, state: TaskState.FAILED } });
    }
  });
}

describe('the state of the allocator', () => {
  it('is always the one that the stored objects tell', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
        const store = createMemoryStore({ clock: new VirtualClock(0) });
        const live = new AllocatorState(silentLogger);
        await store.update((tx) => {
          for (const id of NETWORKS) {
            const configs = id === 'b' ? [{ subnet: '10.200.0.0/28' }] : [];
            const ipv6_enabled = id !== 'a';
            const spec = { annotations: { name: id }, ingress: id === 'ingress', ipam: { configs }, ipv6_enabled };
            const outcome = allocateNetwork(live, tx, Network.create({ id, spec }));
            if ('object' in outcome) tx.create('network', outcome.object);
          }
        });
        for (const one of steps) {
          await apply(store, live, one);
          expect(live.dump()).toEqual(AllocatorState.rebuild(store.view(), silentLogger).dump());
        }
      }),
      { numRuns: 60 },
    );
  });
});
