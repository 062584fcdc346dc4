import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import { Service, Task, TaskState, TaskStatus, type Node } from '../../proto/index.ts';
import { createStore, type ReplicatedStore } from './store.ts';
import { aNode, aService, aTask, createMemoryStore } from './testing.ts';
import type { ReadView, Transaction } from './types.ts';

/** One step of a random transaction, on few ids so that steps meet. */
type Step =
  | { do: 'task'; id: number; service: number; slot: number; node: number }
  | { do: 'replicas'; service: number; node: number }
  | { do: 'move'; id: number; node: number }
  | { do: 'dropTask'; id: number }
  | { do: 'service'; id: number; name: number; network: number }
  | { do: 'dropService'; id: number }
  | { do: 'node'; id: number; hostname: number }
  | { do: 'throw' };

/** Slots of the tasks that are made together. */
const REPLICA_SLOTS = [1, 2, 3];

const small = fc.integer({ min: 0, max: 4 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('task' as const), id: small, service: small, slot: small, node: small }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('replicas' as const), service: small, node: small }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('move' as const), id: small, node: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('dropTask' as const), id: small }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('service' as const), id: small, name: small, network: small }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('dropService' as const), id: small }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('node' as const), id: small, hostname: small }) },
  { weight: 1, arbitrary: fc.constant({ do: 'throw' as const }) },
);

/** The store as plain maps: what a transaction must amount to. */
interface Model {
  tasks: Map<string, { service: string; slot: number; node: string }>;
  services: Map<string, { name: string; network: string }>;
  nodes: Map<string, string>;
}

function copyOf(model: Model): Model {
  return { tasks: new Map(model.tasks), services: new Map(model.services), nodes: new Map(model.nodes) };
}

/** Applies a step to the model; throws where the store must throw. */
function onModel(model: Model, one: Step): void {
  switch (one.do) {
    case 'task':
      model.tasks.set(`t${one.id}`, { service: `s${one.service}`, slot: one.slot, node: `n${one.node}` });
      return;
    case 'replicas':
      for (const slot of REPLICA_SLOTS) {
        if (model.tasks.has(`t${slot}`)) throw new Error('exists');
        model.tasks.set(`t${slot}`, { service: `s${one.service}`, slot, node: `n${one.node}` });
      }
      return;
    case 'move': {
      const task = model.tasks.get(`t${one.id}`);
      if (task === undefined) throw new Error('missing');
      model.tasks.set(`t${one.id}`, { ...task, node: `n${one.node}` });
      return;
    }
    case 'dropTask':
      if (!model.tasks.delete(`t${one.id}`)) throw new Error('missing');
      return;
    case 'service':
      for (const [id, other] of model.services) {
        if (id !== `s${one.id}` && other.name === `name${one.name}`) throw new Error('taken');
      }
      model.services.set(`s${one.id}`, { name: `name${one.name}`, network: `net${one.network}` });
      return;
    case 'dropService':
      if (!model.services.delete(`s${one.id}`)) throw new Error('missing');
      return;
    case 'node':
      model.nodes.set(`n${one.id}`, `host${one.hostname}`);
      return;
    case 'throw':
      throw new Error('user');
  }
}

function onStore(tx: Transaction, one: Step): void {
  switch (one.do) {
    case 'task': {
      const fields = { service_id: `s${one.service}`, slot: one.slot, node_id: `n${one.node}` };
      const old = tx.get('task', `t${one.id}`);
      if (old === undefined) tx.create('task', aTask(`t${one.id}`, fields));
      else tx.update('task', { ...Task.clone(old), ...fields });
      return;
    }
    case 'replicas': {
      // Tasks of one service as the orchestrator makes them: with the same objects in them.
      const { spec, service_annotations, endpoint } = aTask('t0', {
        spec: { container: { image: `image-${one.service}`, env: ['A=1', 'B=2'] } },
        service_annotations: { name: `name${one.service}` },
        endpoint: { spec: { mode: 1 } },
      });
      for (const slot of REPLICA_SLOTS) {
        const own = aTask(`t${slot}`, { service_id: `s${one.service}`, slot, node_id: `n${one.node}` });
        tx.create('task', { ...own, spec, service_annotations, endpoint });
      }
      return;
    }
    case 'move': {
      const old = tx.get('task', `t${one.id}`);
      if (old === undefined) throw new Error('missing');
      const status = TaskStatus.create({ state: TaskState.ASSIGNED, message: `to n${one.node}` });
      return tx.update('task', { ...old, node_id: `n${one.node}`, status });
    }
    case 'dropTask':
      return tx.remove('task', `t${one.id}`);
    case 'service': {
      const spec = {
        annotations: { name: `name${one.name}` },
        task: { container: { image: 'x' }, networks: [{ target: `net${one.network}` }] },
      };
      const old = tx.get('service', `s${one.id}`);
      const service = aService(`s${one.id}`, { spec });
      if (old === undefined) tx.create('service', service);
      else tx.update('service', { ...Service.clone(old), spec: service.spec });
      return;
    }
    case 'dropService':
      return tx.remove('service', `s${one.id}`);
    case 'node': {
      const fresh: Node = aNode(`n${one.id}`, { description: { hostname: `host${one.hostname}` } });
      const old = tx.get('node', fresh.id);
      if (old === undefined) tx.create('node', fresh);
      else tx.update('node', { ...fresh, meta: old.meta });
      return;
    }
    case 'throw':
      throw new Error('user');
  }
}

/** Everything the view answers about the few ids there are. */
function answers(view: ReadView): unknown {
  const ids = (objects: { id: string }[]): string[] => objects.map((object) => object.id).toSorted();
  const numbers = [0, 1, 2, 3, 4];
  return {
    tasks: ids(view.list('task')),
    services: ids(view.list('service')),
    byService: numbers.map((i) => ids(view.tasksByService(`s${i}`))),
    byNode: numbers.map((i) => ids(view.tasksByNode(`n${i}`))),
    bySlot: numbers.map((i) => ids(view.tasksBySlot('s0', i))),
    byNetwork: numbers.map((i) => ids(view.servicesByNetwork(`net${i}`))),
    byName: numbers.map((i) => view.byName('service', `name${i}`)?.id),
    byHost: numbers.map((i) => view.byName('node', `host${i}`) !== undefined),
    prefixes: ['', 't', 't1', 's'].map((prefix) => ids(view.byIdPrefix('task', prefix))),
  };
}

function expected(model: Model): unknown {
  const numbers = [0, 1, 2, 3, 4];
  const tasks = (keep: (task: { service: string; slot: number; node: string }) => boolean): string[] =>
    [...model.tasks]
      .filter(([, task]) => keep(task))
      .map(([id]) => id)
      .toSorted();
  const all = tasks(() => true);
  return {
    tasks: all,
    services: [...model.services.keys()].toSorted(),
    byService: numbers.map((i) => tasks((task) => task.service === `s${i}`)),
    byNode: numbers.map((i) => tasks((task) => task.node === `n${i}`)),
    bySlot: numbers.map((i) => tasks((task) => task.service === 's0' && task.slot === i)),
    byNetwork: numbers.map((i) =>
      [...model.services]
        .filter(([, one]) => one.network === `net${i}`)
        .map(([id]) => id)
        .toSorted(),
    ),
    byName: numbers.map((i) => [...model.services].find(([, one]) => one.name === `name${i}`)?.[0]),
    byHost: numbers.map((i) => [...model.nodes.values()].includes(`host${i}`)),
    prefixes: ['', 't', 't1', 's'].map((prefix) => all.filter((id) => id.startsWith(prefix))),
  };
}

function follower(): ReplicatedStore {
  return createStore({
    proposer: { isLeader: () => false, propose: () => Promise.reject(new Error('not the leader')) },
    clock: new VirtualClock(),
    log: silentLogger,
  });
}

describe('random transactions', () => {
  it('amount to what plain maps say, within a transaction and after it; replicas and snapshots are equal', async () => {
    const transactions = fc.array(fc.record({ steps: fc.array(step, { maxLength: 5 }), together: fc.boolean() }), {
      maxLength: 15,
    });
    await fc.assert(
      fc.asyncProperty(transactions, async (list) => {
        const store = createMemoryStore({ clock: new VirtualClock() });
        let model: Model = { tasks: new Map(), services: new Map(), nodes: new Map() };
        let waiting: Promise<unknown>[] = [];
        for (const { steps, together } of list) {
          const update = store.update((tx) => {
            const next = copyOf(model);
            for (const one of steps) {
              const mine = outcome(() => onModel(next, one));
              const theirs = outcome(() => onStore(tx, one));
              expect(theirs).toBe(mine);
              if (mine) throw new Error('rolled back');
            }
            expect(answers(tx)).toEqual(expected(next));
            model = next;
          });
          waiting.push(update.catch((error: unknown) => expect((error as Error).message).toBe('rolled back')));
          if (together) continue;
          await Promise.all(waiting);
          waiting = [];
        }
        await Promise.all(waiting);
        expect(answers(store.view())).toEqual(expected(model));

        const replica = follower();
        replica.apply(store.entries);
        expect(replica.stateHash()).toBe(store.stateHash());
        const byId = (view: ReadView): unknown => new Map(view.list('task').map((task) => [task.id, task]));
        expect(byId(replica.view())).toEqual(byId(store.view()));
        const restored = follower();
        restored.restore(store.snapshot(), store.currentIndex);
        expect(restored.stateHash()).toBe(store.stateHash());
        expect(restored.currentIndex).toBe(store.currentIndex);
        expect(answers(restored.view())).toEqual(expected(model));
      }),
      { numRuns: 150 },
    );
  });
});

/** Whether `run` throws. */
function outcome(run: () => void): boolean {
  try {
    run();
    return false;
  } catch {
    return true;
  }
}
