import { beforeEach, describe, expect, it } from 'vitest';
import {
  AssignmentChange_AssignmentAction as Action,
  Network,
  Secret,
  Task,
  TaskState,
  type AssignmentChange,
  type Partially,
} from '../../proto/index.ts';
import { aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { AssignmentFeed } from './assignment-feed.ts';
import { NetworkIndex } from './network-index.ts';

const words = (changes: AssignmentChange[]): string[] =>
  changes.map(({ action, assignment }) => {
    const verb = action === Action.UPDATE ? '+' : '-';
    if (assignment?.task) return `${verb}task ${assignment.task.id}`;
    if (assignment?.secret) return `${verb}secret ${assignment.secret.id}`;
    if (assignment?.config) return `${verb}config ${assignment.config.id}`;
    return `${verb}table ${assignment?.network_table?.network_id}`;
  });

describe('assignment feed', () => {
  let store: MemoryStore;
  let index: NetworkIndex;
  let feed: AssignmentFeed;
  const net = Network.create({ id: 'net', driver_state: { name: 'overlay' } });
  const ofNode = (id: string, fields: Partially<Task> = {}): Task =>
    aTask(id, { node_id: 'n1', status: { state: TaskState.ASSIGNED }, ...fields });
  const withSecret = { container: { image: 'i', secrets: [{ secret_id: 's1' }] } };

  const put = async (...tasks: Task[]): Promise<void> => {
    await store.seed({ task: tasks });
    index.rebuild(store.view(), store.currentIndex);
    for (const task of tasks) feed.markTask(task.id);
    for (const id of index.takeDirty()) feed.markTable(id);
  };
  const changes = (nowMs: number): string[] => words(feed.changes(store.view(), nowMs));

  beforeEach(async () => {
    store = createMemoryStore();
    index = new NetworkIndex();
    feed = new AssignmentFeed('n1', index, 'whole');
    await store.seed({ network: [net], secret: [Secret.create({ id: 's1', spec: { annotations: { name: 's1' } } })] });
  });

  it('names tables and dependencies before the tasks that need them', async () => {
    const networks = [{ network: net, addresses: ['10.0.0.3/24'] }];
    await put(ofNode('t1', { spec: withSecret, networks }), ofNode('other', { node_id: 'n2' }));
    await put(aTask('new', { node_id: 'n1' }));
    expect(words(feed.complete(store.view(), 0))).toEqual(['+table net', '+secret s1', '+task t1']);
  });

  it('sends a task again only for what the agent did not say itself', async () => {
    await put(ofNode('t1', { status: { state: TaskState.PREPARING } }));
    expect(changes(0)).toEqual(['+task t1']);
    await put(ofNode('t1', { status: { state: TaskState.RUNNING } }));
    expect(changes(100)).toEqual([]);
    await put(ofNode('t1', { status: { state: TaskState.RUNNING }, desired_state: TaskState.SHUTDOWN }));
    expect(changes(200)).toEqual(['+task t1']);
  });

  it('leaves a secret that one task gives back and another asks for in the same message', async () => {
    await put(ofNode('t1', { spec: withSecret }));
    expect(changes(0)).toEqual(['+secret s1', '+task t1']);
    await put(ofNode('t1', { spec: withSecret, status: { state: TaskState.COMPLETE } }));
    await put(ofNode('t2', { spec: withSecret }));
    expect(changes(100)).toEqual(['+secret s1', '+task t2']);
  });

  it('takes dependencies back when their last task has ended or gone', async () => {
    await put(ofNode('t1', { spec: withSecret }), ofNode('t2', { spec: withSecret }));
    expect(changes(0)).toEqual(['+secret s1', '+task t1', '+task t2']);
    await put(ofNode('t1', { spec: withSecret, status: { state: TaskState.FAILED } }));
    expect(changes(100)).toEqual([]);
    await store.update((tx) => tx.remove('task', 't2'));
    feed.markTask('t2');
    expect(changes(200)).toEqual(['-task t2', '-secret s1']);
    expect(feed.markDependency({ kind: 'secret', id: 's1' })).toBe(false);
  });

  it('removes a table when the last task on its network has left', async () => {
    const networks = [{ network: net, addresses: ['10.0.0.3/24'] }];
    await put(ofNode('t1', { networks }));
    expect(changes(0)).toEqual(['+table net', '+task t1']);
    await put(ofNode('t1', { networks, status: { state: TaskState.COMPLETE } }));
    expect(changes(100)).toEqual(['-table net']);
  });

  it('removes the table of a network that was removed while its last tasks stop', async () => {
    const task = ofNode('t1', { networks: [{ network: net, addresses: ['10.0.0.3/24'] }] });
    await put(task);
    expect(changes(0)).toEqual(['+table net', '+task t1']);
    await store.update((tx) => tx.remove('network', net.id));
    index.apply(store.view(), { kind: 'network', action: 'remove', object: net, old: net }, store.currentIndex);
    for (const id of index.takeDirty()) feed.markTable(id);
    expect(changes(100)).toEqual(['-table net']);
  });

  it('sends a table at most every 50 ms, but at once when a new task needs it', async () => {
    const networks = [{ network: net, addresses: ['10.0.0.3/24'] }];
    await put(ofNode('t1', { networks }));
    expect(changes(1000)).toEqual(['+table net', '+task t1']);
    await put(ofNode('t2', { networks, node_id: 'n2' }));
    expect(changes(1010)).toEqual([]);
    expect(feed.delayMs(1010, 1000)).toBe(40);
    await put(ofNode('t3', { networks }));
    expect(changes(1020)).toEqual(['+table net', '+task t3']);
    expect(feed.delayMs(1020, 1000)).toBeUndefined();
  });

  it('does not send tables to stock agents, nor orphaned tasks to anyone', async () => {
    feed = new AssignmentFeed('n1', index, 'none');
    const networks = [{ network: net, addresses: ['10.0.0.3/24'] }];
    await put(ofNode('t1', { networks }), ofNode('t2', { status: { state: TaskState.ORPHANED } }));
    expect(words(feed.complete(store.view(), 0))).toEqual(['+task t1']);
  });

  it('waits between messages, but not when a hundred changes are there', async () => {
    expect(feed.delayMs(0, 0)).toBeUndefined();
    feed.markTask('a');
    expect(feed.delayMs(10, 0)).toBe(40);
    expect(feed.delayMs(1000, 0)).toBe(0);
    for (let i = 0; i < 100; i++) feed.markTask(`t${i}`);
    expect(feed.delayMs(0, 0)).toBe(0);
  });
});
