import { describe, expect, it } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import {
  InternalRaftRequest,
  Service,
  Snapshot,
  StoreAction,
  StoreActionKind,
  TaskState,
  TaskStatus,
  timestampToMs,
  type Task,
} from '../../proto/index.ts';
import { BATCH_BYTES_MAX, BATCH_CHANGES_MAX, BATCH_MS_MAX, createStore, NO_LEADER_MESSAGE } from './store.ts';
import { aNode, aService, aTask, createMemoryStore } from './testing.ts';
import { TRANSACTION_BYTES_MAX } from './transaction.ts';

function edit(service: Service | undefined, change: (copy: Service) => void): Service {
  const copy = Service.clone(service as Service);
  change(copy);
  return copy;
}

describe('updates', () => {
  it('commit all writes as one entry, with times of the proposer and the version of the entry', async () => {
    const clock = new VirtualClock(5000);
    const store = createMemoryStore({ clock });
    await store.update((tx) => {
      tx.create('service', aService('s1'));
      tx.create('task', aTask('t1', { service_id: 's1' }));
    });
    expect(store.entries).toHaveLength(1);
    const service = store.view().get('service', 's1');
    expect(service?.meta?.version?.index).toBe(1);
    expect(timestampToMs(service?.meta?.created_at)).toBe(5000);
    clock.advance(1000);
    await store.update((tx) =>
      tx.update(
        'service',
        edit(tx.get('service', 's1'), (s) => (s.pending_delete = true)),
      ),
    );
    const after = store.view().get('service', 's1');
    expect(after?.meta?.version?.index).toBe(2);
    expect(timestampToMs(after?.meta?.created_at)).toBe(5000);
    expect(timestampToMs(after?.meta?.updated_at)).toBe(6000);
  });

  it('let reads see own writes, through every index', async () => {
    const store = createMemoryStore();
    await store.seed({ task: [aTask('t1', { service_id: 's1', slot: 1, node_id: 'n1' })] });
    const seen = await store.update((tx) => {
      tx.create('task', aTask('t2', { service_id: 's1', slot: 2, node_id: 'n1' }));
      tx.remove('task', 't1');
      const ids = (tasks: Task[]): string[] => tasks.map((task) => task.id);
      return [
        ids(tx.tasksByService('s1')),
        ids(tx.tasksByNode('n1')),
        ids(tx.tasksBySlot('s1', 1)),
        ids(tx.list('task')),
      ];
    });
    expect(seen).toEqual([['t2'], ['t2'], [], ['t2']]);
  });

  it('refuse names and ids that are taken, stale versions and missing objects, and write nothing then', async () => {
    const store = createMemoryStore();
    await store.seed({ service: [aService('web')] });
    const stale = store.view().get('service', 'web') as Service;
    const twin = aService('other', { spec: { annotations: { name: 'web' } } });
    await expect(
      store.update((tx) => {
        tx.create('node', aNode('n1'));
        tx.create('service', twin);
      }),
    ).rejects.toMatchObject({
      code: 'AlreadyExists',
      message: 'name conflicts with an existing object: service web already exists',
    });
    expect(store.view().get('node', 'n1')).toBeUndefined();
    await store.update((tx) => tx.update('service', stale));
    await expect(store.update((tx) => tx.update('service', stale))).rejects.toMatchObject({
      code: 'Unknown',
      message: 'update out of sequence',
    });
    await expect(store.update((tx) => tx.remove('task', 'none'))).rejects.toMatchObject({ code: 'NotFound' });
    await expect(store.update((tx) => tx.create('service', aService('web')))).rejects.toMatchObject({
      code: 'AlreadyExists',
    });
  });

  it('allow a second write of the same object in one transaction', async () => {
    const store = createMemoryStore();
    await store.seed({ service: [aService('web')] });
    await store.update((tx) => {
      const copy = Service.clone(tx.get('service', 'web') as Service);
      tx.update('service', copy);
      tx.update('service', { ...copy, pending_delete: true });
    });
    expect(store.view().get('service', 'web')?.pending_delete).toBe(true);
  });

  it('are refused without a leader, in the words of Docker', async () => {
    const store = createMemoryStore();
    store.setLeader(false);
    await expect(store.update(() => 1)).rejects.toMatchObject({ code: 'Unavailable', message: NO_LEADER_MESSAGE });
  });

  it('refuse a transaction that is too large', async () => {
    const store = createMemoryStore();
    const image = 'x'.repeat(TRANSACTION_BYTES_MAX);
    const large = aService('s', { spec: { annotations: { name: 's' }, task: { container: { image } } } });
    await expect(store.update((tx) => tx.create('service', large))).rejects.toMatchObject({
      code: 'ResourceExhausted',
    });
    expect(store.currentIndex).toBe(0);
  });
});

describe('group commit', () => {
  it('puts updates that wait into one entry; each sees the former, and a failing one loses only its own', async () => {
    const store = createMemoryStore();
    store.hold();
    const first = store.update((tx) => tx.create('service', aService('a')));
    await Promise.resolve();
    const second = store.update((tx) => tx.create('service', aService('b')));
    const third = store.update((tx) => {
      tx.create('service', aService('c'));
      throw new Error('no');
    });
    const fourth = store.update((tx) => [tx.get('service', 'b') !== undefined, tx.get('service', 'c') !== undefined]);
    store.release();
    await first;
    await second;
    await expect(third).rejects.toThrow('no');
    expect(await fourth).toEqual([true, false]);
    expect(store.entries).toHaveLength(2);
    expect(store.view().get('service', 'c')).toBeUndefined();
  });

  it('lets what somebody waits for go first, but keeps nothing waiting for ever', async () => {
    const clock = new VirtualClock(5000);
    const store = createMemoryStore({ clock });
    const order: string[] = [];
    const add = (name: string, urgent: boolean): Promise<void> =>
      store.update((tx) => {
        clock.advance(BATCH_MS_MAX);
        order.push(name);
        tx.create('service', aService(name));
      }, urgent);
    const all = [add('a', false), add('b', false), add('c', false), add('u', true), add('v', true)];
    await Promise.all(all);
    expect(order).toEqual(['u', 'a', 'v', 'b', 'c']);
  });

  it('starts another entry when running its transactions took long', async () => {
    const clock = new VirtualClock(5000);
    const store = createMemoryStore({ clock });
    const slow = Array.from({ length: 6 }, (_, i) =>
      store.update((tx) => {
        clock.advance(BATCH_MS_MAX / 2);
        tx.create('service', aService(`s${i}`));
      }),
    );
    await Promise.all(slow);
    expect(store.entries).toHaveLength(3);
    await store.update(() => clock.advance(10 * BATCH_MS_MAX));
    expect(store.view().list('service')).toHaveLength(6);
  });

  it('starts another entry when one has its fill', async () => {
    const clock = new VirtualClock(5000);
    const store = createMemoryStore({ freeze: false, clock });
    const updates = Array.from({ length: BATCH_CHANGES_MAX + 10 }, (_, i) =>
      store.update((tx) => tx.create('task', aTask(`t${i}`))),
    );
    await Promise.all(updates);
    expect(store.entries).toHaveLength(2);
    const image = 'x'.repeat(BATCH_BYTES_MAX / 4);
    const large = Array.from({ length: 6 }, (_, i) =>
      store.update((tx) => tx.create('task', aTask(`large${i}`, { spec: { container: { image } } }))),
    );
    await Promise.all(large);
    expect(store.entries).toHaveLength(4);
  });

  it('passes the failure of a proposal to all of its updates, and writes nothing', async () => {
    const store = createMemoryStore();
    store.failNext('lost');
    const results = await Promise.allSettled(
      ['a', 'b'].map((id) => store.update((tx) => tx.create('service', aService(id)))),
    );
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    expect(store.view().list('service')).toEqual([]);
    await store.update((tx) => tx.create('service', aService('a')));
    expect(store.view().list('service')).toHaveLength(1);
    store.close();
    await expect(store.update(() => 1)).rejects.toMatchObject({ code: 'Unavailable' });
  });

  it('lets no request with a version read before pass over a waiting change', async () => {
    const store = createMemoryStore();
    await store.seed({ service: [aService('web')] });
    const read = store.view().get('service', 'web') as Service;
    const one = store.update((tx) =>
      tx.update(
        'service',
        edit(read, (s) => (s.pending_delete = true)),
      ),
    );
    const two = store.update((tx) =>
      tx.update(
        'service',
        edit(read, (s) => (s.pending_delete = false)),
      ),
    );
    await one;
    await expect(two).rejects.toMatchObject({ message: 'update out of sequence' });
    expect(store.view().get('service', 'web')?.pending_delete).toBe(true);
  });

  it('drops an entry whose proposer had not seen a change that came through after all', async () => {
    const store = createMemoryStore();
    await store.seed({ service: [aService('web')] });
    store.failNext('doubt');
    const set = (value: boolean): Promise<void> =>
      store.update((tx) =>
        tx.update(
          'service',
          edit(tx.get('service', 'web'), (s) => (s.pending_delete = value)),
        ),
      );
    await expect(set(true)).rejects.toMatchObject({ code: 'Unavailable' });
    expect(store.view().get('service', 'web')?.pending_delete).toBe(false);
    // Built on the state without the first change, which stands before it in the log.
    await expect(set(false)).rejects.toMatchObject({ code: 'Aborted' });
    expect(store.view().get('service', 'web')?.pending_delete).toBe(true);
    await set(false);
    expect(store.view().get('service', 'web')?.pending_delete).toBe(false);
  });
});

describe('the watch', () => {
  it('tells the changes of each entry with the old object, and of a restore', async () => {
    const store = createMemoryStore();
    const watch = store.watch();
    await store.seed({ task: [aTask('t1')] });
    await store.update((tx) => {
      const task = tx.get('task', 't1') as Task;
      tx.update('task', { ...task, desired_state: TaskState.SHUTDOWN });
    });
    await store.update((tx) => tx.remove('task', 't1'));
    const copy = createMemoryStore();
    await copy.seed({ node: [aNode('n1')] });
    store.restore(copy.snapshot(), 9);
    const events = watch.drain();
    expect(events.map((commit) => commit.changes.map((change) => change.action))).toEqual([
      ['create'],
      ['update'],
      ['remove'],
      [],
    ]);
    expect(events[1]?.changes[0]?.old).toMatchObject({ desired_state: TaskState.RUNNING });
    expect(events[3]).toMatchObject({ reset: true, index: 9 });
    expect(store.currentIndex).toBe(9);
    expect(store.stateHash()).toBe(copy.stateHash());
  });

  it('hands out frozen objects when asked', async () => {
    const store = createMemoryStore();
    await store.seed({ service: [aService('web')] });
    const shared = store.view().get('service', 'web') as Service;
    expect(() => (shared.pending_delete = true)).toThrow(TypeError);
  });
});

describe('the raft side', () => {
  it('skips entries applied before, and entries without data', async () => {
    const leader = createMemoryStore();
    await leader.seed({ service: [aService('web')] });
    const replica = createStore({
      proposer: { isLeader: () => false, propose: () => Promise.reject(new Error('not the leader')) },
      clock: new VirtualClock(),
      log: silentLogger,
    });
    replica.apply([{ index: 1, data: new Uint8Array(0) }]);
    const data = leader.entries[0]?.data as Uint8Array;
    replica.apply([{ index: 2, data }]);
    replica.apply([{ index: 2, data }]);
    replica.apply([{ index: 3, data }]);
    expect(replica.currentIndex).toBe(3);
    expect(replica.view().get('service', 'web')?.meta?.version?.index).toBe(2);
  });
});

describe('entries of tasks', () => {
  const env = Array.from({ length: 200 }, (_, i) => `VARIABLE_${i}=${'x'.repeat(40)}`);
  const { spec } = aTask('x', { spec: { container: { image: 'busybox', env } } });

  it('say what tasks of one service share once, and of a start only what changes', async () => {
    const store = createMemoryStore();
    await store.update((tx) => {
      for (let i = 0; i < 100; i++) tx.create('task', { ...aTask(`t${i}`, { service_id: 'web' }), spec });
    });
    const specBytes = 200 * 50;
    expect(store.entries.at(-1)?.data.length).toBeLessThan(specBytes + 100 * 400);
    expect(store.entries.at(-1)?.data.length).toBeGreaterThan(specBytes);
    await store.update((tx) => {
      const task = tx.get('task', 't7') as Task;
      const started_at = { seconds: 1, nanos: 0 };
      const status = TaskStatus.create({ state: TaskState.RUNNING, message: 'started' });
      tx.update('task', { ...task, node_id: 'n1', desired_state: TaskState.RUNNING, status, started_at });
    });
    expect(store.entries.at(-1)?.data.length).toBeLessThan(200);
    const replica = createMemoryStore();
    replica.apply(store.entries);
    expect(replica.view().get('task', 't7')).toEqual(store.view().get('task', 't7'));
    expect(replica.view().get('task', 't8')?.spec).toBe(replica.view().get('task', 't7')?.spec);
    expect(replica.stateHash()).toBe(store.stateHash());
  });

  it('from before patches and templates are read as they are', () => {
    const old = aTask('t1', { service_id: 'web', spec: { container: { image: 'busybox' } } });
    const replica = createMemoryStore();
    const created = StoreAction.encode({ action: StoreActionKind.STORE_ACTION_CREATE, task: old });
    replica.apply([{ index: 5, data: InternalRaftRequest.encode({ id: 7, action: [StoreAction.decode(created)] }) }]);
    const moved = { ...old, node_id: 'n1', meta: { version: { index: 5 }, created_at: null, updated_at: null } };
    const action = StoreAction.create({ action: StoreActionKind.STORE_ACTION_UPDATE, task: moved });
    replica.apply([{ index: 6, data: InternalRaftRequest.encode({ id: 8, action: [action] }) }]);
    expect(replica.view().get('task', 't1')).toMatchObject({ node_id: 'n1', meta: { version: { index: 6 } } });
    const again = createMemoryStore();
    const snapshot = Snapshot.encode({ store: { tasks: [replica.view().get('task', 't1') as Task] } });
    again.restore(snapshot, 6);
    expect(again.stateHash()).toBe(replica.stateHash());
  });
});
