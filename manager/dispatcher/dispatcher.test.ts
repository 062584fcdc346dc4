import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, VirtualClock, silentLogger } from '../../base/index.ts';
import {
  AssignmentsMessage_Type as MessageKind,
  Cluster,
  NodeDescription,
  NodeStatus_State,
  Task,
  TaskState,
  TaskStatus,
  type AssignmentsMessage,
  type SessionMessage,
} from '../../proto/index.ts';
import { aNode, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createDispatcher, type Dispatcher } from './index.ts';
import { ORPHAN_AFTER_MS } from './orphans.ts';
import { REGISTRATIONS_MAX } from './sessions.ts';

interface Stream<Message> {
  messages: Message[];
  controller: AbortController;
  /** What the handler ended with: undefined while it runs, `ended`, or the error. */
  end: () => unknown;
}

describe('dispatcher', () => {
  let store: MemoryStore;
  let clock: VirtualClock;
  let dispatcher: Dispatcher;
  let justRestarted = false;
  let awaitMs = 0;
  let duty: AbortController;
  let running: Promise<void>;

  const lead = async (): Promise<void> => {
    duty = new AbortController();
    running = dispatcher.duty.run(duty.signal);
    await clock.advanceAsync(1);
  };
  const retire = async (): Promise<void> => {
    duty.abort(new Error('lost leadership'));
    await running;
  };
  const stream = <Message>(run: (send: (m: Message) => Promise<void>, signal: AbortSignal) => Promise<void>) => {
    const messages: Message[] = [];
    const controller = new AbortController();
    let outcome: unknown;
    const send = async (message: Message): Promise<void> => void messages.push(message);
    run(send, controller.signal).then(
      () => (outcome = 'ended'),
      (error: unknown) => (outcome = error),
    );
    return { messages, controller, end: () => outcome } satisfies Stream<Message>;
  };
  const open = async (nodeId: string, sessionId = '', shoal = 1): Promise<Stream<SessionMessage>> => {
    const description = NodeDescription.create({ hostname: nodeId });
    const request = { description, session_id: sessionId, shoal_version: shoal };
    const opened = stream<SessionMessage>((send, signal) =>
      dispatcher.handlers.session({ nodeId, address: '10.5.0.1:4242', request, send, signal }),
    );
    await clock.advanceAsync(60);
    return opened;
  };
  const follow = async (nodeId: string, sessionId: string): Promise<Stream<AssignmentsMessage>> => {
    const request = { session_id: sessionId };
    const opened = stream<AssignmentsMessage>((send, signal) =>
      dispatcher.handlers.assignments({ nodeId, address: '', request, send, signal }),
    );
    await clock.advanceAsync(1);
    return opened;
  };
  const call = <Request>(nodeId: string, request: Request) => ({
    nodeId,
    address: '10.5.0.1:4242',
    request,
    signal: new AbortController().signal,
  });
  const beat = (nodeId: string, id: string) =>
    dispatcher.handlers.heartbeat(call(nodeId, { session_id: id, usage: [] }));
  const nodeState = (id: string): NodeStatus_State | undefined => store.view().get('node', id)?.status?.state;
  const report = async (nodeId: string, id: string, taskId: string, status: Partial<TaskStatus>): Promise<void> => {
    const updates = [{ task_id: taskId, status: TaskStatus.create(status) }];
    const sent = dispatcher.handlers.updateTaskStatus(call(nodeId, { session_id: id, updates }));
    // Errors are looked at by the caller; time must pass for the batch.
    sent.catch(() => undefined);
    await clock.advanceAsync(60);
    await sent;
  };
  const sessionId = (opened: Stream<SessionMessage>): string => opened.messages[0]?.session_id ?? '';

  beforeEach(async () => {
    clock = new VirtualClock(1_000_000);
    store = createMemoryStore({ clock });
    const keys = [1, 2, 3, 4, 5, 6].map((time) => ({ subsystem: 'networking:gossip', lamport_time: time }));
    await store.seed({
      cluster: [Cluster.create({ id: 'c', spec: { annotations: { name: 'default' } }, network_bootstrap_keys: keys })],
      node: [aNode('n1', { status: { state: NodeStatus_State.DOWN } }), aNode('n2')],
    });
    dispatcher = createDispatcher({
      store,
      clock,
      random: new SeededRandom(1),
      log: silentLogger,
      nodeId: 'm1',
      managers: () => [{ peer: { node_id: 'm1', addr: '10.5.0.9:2377' }, weight: 10 }],
      rootCa: () => Buffer.from('pem'),
      restarted: () => justRestarted,
      awaitMs: () => awaitMs,
    });
    [justRestarted, awaitMs] = [false, 0];
    await lead();
  });
  afterEach(retire);

  it('answers a registration with everything an agent needs', async () => {
    const opened = await open('n1');
    expect(opened.messages).toHaveLength(1);
    const [message] = opened.messages;
    expect(message?.session_id).toMatch(/^[0-9a-z]{25}$/);
    expect(message?.managers[0]?.peer?.addr).toBe('10.5.0.9:2377');
    expect(message?.network_bootstrap_keys).toHaveLength(6);
    expect(Buffer.from(message?.RootCA ?? '').toString()).toBe('pem');
    expect(message?.node?.status).toMatchObject({ state: NodeStatus_State.READY, addr: '10.5.0.1' });
    expect(store.view().get('node', 'n1')?.description?.hostname).toBe('n1');
  });

  it('keeps what a task uses for as long as its node has the session, and only what its own node says', async () => {
    const tell = (nodeId: string, id: string, at: number) => {
      const usage = [{ task_id: 't1', at_ns: at * 1e9, cpu_ns: at * 5e8, memory_bytes: 4096 }];
      return dispatcher.handlers.heartbeat(call(nodeId, { session_id: id, usage }));
    };
    const task = { id: 't1', node_id: 'n1' };
    const first = sessionId(await open('n1', '', 2));
    const other = sessionId(await open('n2', '', 2));
    for (const at of [10, 15]) await tell('n2', other, at);
    expect(dispatcher.usage.of(task)).toBeUndefined();
    for (const at of [10, 15]) await tell('n1', first, at);
    expect(dispatcher.usage.of(task)).toMatchObject({ cpuPercentOfOne: 50, memoryBytes: 4096 });
    await store.update((tx) => tx.create('task', aTask('t1', { node_id: 'n1' })));
    await store.update((tx) => tx.remove('task', 't1'));
    await clock.advanceAsync(1);
    expect(dispatcher.usage.of(task)).toBeUndefined();
    for (const at of [10, 15]) await tell('n1', first, at);
    const old = sessionId(await open('n1', '', 1));
    expect(dispatcher.usage.of(task)).toBeUndefined();
    for (const at of [10, 15]) await tell('n1', old, at);
    expect(dispatcher.usage.of(task)).toBeUndefined();
    await retire();
    expect(dispatcher.usage.of({ id: 't1', node_id: 'n2' })).toBeUndefined();
    await lead();
  });

  it('sends a new message when the node or the cluster changes, not for its own status', async () => {
    const opened = await open('n1');
    await store.update((tx) => {
      const node = tx.get('node', 'n1');
      if (node !== undefined) tx.update('node', { ...node, status: { ...node.status!, message: 'x' } });
    });
    await clock.advanceAsync(1);
    expect(opened.messages).toHaveLength(1);
    await store.update((tx) => {
      const node = tx.get('node', 'n1');
      if (node !== undefined) tx.update('node', { ...node, spec: { ...node.spec!, desired_role: 1 } });
    });
    await clock.advanceAsync(1);
    expect(opened.messages[1]?.node?.spec?.desired_role).toBe(1);
  });

  it('keeps a session that is named and still valid, replaces others', async () => {
    const first = await open('n1');
    const again = await open('n1', sessionId(first));
    expect(sessionId(again)).toBe(sessionId(first));
    expect(first.end()).toMatchObject({ code: 'Aborted' });
    const other = await open('n1', 'unknown');
    expect(sessionId(other)).not.toBe(sessionId(first));
    expect(again.end()).toMatchObject({ code: 'Aborted' });
    await expect(beat('n1', sessionId(first))).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'session invalid',
    });
    await expect(beat('nobody', 'x')).rejects.toMatchObject({ code: 'NotFound', message: 'node not registered' });
  });

  it('refuses a node that registers all the time', async () => {
    for (let i = 0; i < REGISTRATIONS_MAX; i++) await open('n1');
    expect((await open('n1')).end()).toMatchObject({ code: 'Unavailable' });
    await clock.advanceAsync(8000);
    expect((await open('n1')).messages).toHaveLength(1);
  });

  it('asks Shoal agents for a heartbeat each second, stock ones each 5 s, and finds the silent ones', async () => {
    const shoal = sessionId(await open('n1'));
    const stock = sessionId(await open('n2', '', 0));
    const period = async (node: string, id: string): Promise<number> => {
      const answer = (await beat(node, id)).period;
      return (answer?.seconds ?? 0) + (answer?.nanos ?? 0) / 1e9;
    };
    for (let i = 0; i < 20; i++) {
      const [quick, slow] = [await period('n1', shoal), await period('n2', stock)];
      expect(quick).toBeGreaterThanOrEqual(0.9);
      expect(quick).toBeLessThanOrEqual(1.1);
      expect(slow).toBeGreaterThanOrEqual(4.5);
      expect(slow).toBeLessThanOrEqual(5.5);
    }
    await clock.advanceAsync(4900);
    expect(nodeState('n1')).toBe(NodeStatus_State.READY);
    await clock.advanceAsync(200);
    expect(store.view().get('node', 'n1')?.status).toMatchObject({
      state: NodeStatus_State.DOWN,
      message: 'heartbeat failure',
    });
    expect(nodeState('n2')).toBe(NodeStatus_State.READY);
    await clock.advanceAsync(10_000);
    expect(nodeState('n2')).toBe(NodeStatus_State.DOWN);
  });

  it('takes new settings of heartbeats with the next heartbeat of each node', async () => {
    const id = sessionId(await open('n1'));
    const dispatcher = { heartbeat_period: { seconds: 2, nanos: 0 }, down_after: { seconds: 8, nanos: 0 } };
    await store.seed({ cluster: [Cluster.create({ id: 'c', spec: { dispatcher } })] });
    const { period } = await beat('n1', id);
    expect(period?.seconds).toBeGreaterThanOrEqual(1);
    expect((period?.seconds ?? 0) + (period?.nanos ?? 0) / 1e9).toBeGreaterThan(1.7);
    await clock.advanceAsync(7_900);
    expect(nodeState('n1')).toBe(NodeStatus_State.READY);
    await clock.advanceAsync(200);
    expect(nodeState('n1')).toBe(NodeStatus_State.DOWN);
  });

  it('as a new leader expects the nodes back, and takes those that do not come as down', async () => {
    await open('n1');
    const shoalNode = aNode('n3', { description: { data_path_addr: '10.0.0.3' } });
    await store.update((tx) => tx.create('node', shoalNode));
    await retire();
    await expect(beat('n1', 'x')).rejects.toMatchObject({ code: 'Unavailable' });
    await lead();
    expect(nodeState('n1')).toBe(NodeStatus_State.UNKNOWN);
    expect(nodeState('n2')).toBe(NodeStatus_State.UNKNOWN);
    await open('n1');
    expect(nodeState('n1')).toBe(NodeStatus_State.READY);
    await clock.advanceAsync(9_900);
    expect(nodeState('n3')).toBe(NodeStatus_State.UNKNOWN);
    // Shoal's agents are quick to find a leader; stock ones may take SwarmKit's six periods of 5 s.
    await clock.advanceAsync(200);
    expect(nodeState('n3')).toBe(NodeStatus_State.DOWN);
    expect(nodeState('n2')).toBe(NodeStatus_State.UNKNOWN);
    await clock.advanceAsync(20_000);
    expect(nodeState('n2')).toBe(NodeStatus_State.DOWN);
  });

  it('gives silent nodes more time when it has itself just been started again', async () => {
    const shoalNode = aNode('n3', { description: { data_path_addr: '10.0.0.3' } });
    await store.update((tx) => tx.create('node', shoalNode));
    await retire();
    justRestarted = true;
    await lead();
    await clock.advanceAsync(29_900);
    expect(nodeState('n3')).toBe(NodeStatus_State.UNKNOWN);
    await clock.advanceAsync(200);
    expect(nodeState('n3')).toBe(NodeStatus_State.DOWN);
  });

  it('waits for nodes for as long as a restored cluster is told to', async () => {
    await retire();
    awaitMs = 600_000;
    await lead();
    await clock.advanceAsync(599_000);
    expect(nodeState('n2')).toBe(NodeStatus_State.UNKNOWN);
    await clock.advanceAsync(2_000);
    expect(nodeState('n2')).toBe(NodeStatus_State.DOWN);
  });

  it('begins its term also when the first write fails', async () => {
    await open('n1');
    await retire();
    store.failNext('lost');
    await lead();
    expect((await open('n1')).end()).toMatchObject({ code: 'Unavailable' });
    await clock.advanceAsync(300);
    expect((await open('n1')).messages).toHaveLength(1);
  });

  it('sends everything first, then changes without a gap', async () => {
    await store.seed({ task: [aTask('t1', { node_id: 'n1', status: { state: TaskState.ASSIGNED } })] });
    const assignments = await follow('n1', sessionId(await open('n1')));
    await store.seed({ task: [aTask('t2', { node_id: 'n1', status: { state: TaskState.ASSIGNED } })] });
    await clock.advanceAsync(60);
    await store.update((tx) => tx.remove('task', 't1'));
    await clock.advanceAsync(60);
    expect(assignments.messages.map((m) => [m.type, m.applies_to, m.results_in])).toEqual([
      [MessageKind.COMPLETE, '', '1'],
      [MessageKind.INCREMENTAL, '1', '2'],
      [MessageKind.INCREMENTAL, '2', '3'],
    ]);
    expect(assignments.messages.map((m) => m.changes[0]?.assignment?.task?.id)).toEqual(['t1', 't2', 't1']);
    await store.update((tx) => tx.remove('node', 'n1'));
    await clock.advanceAsync(1);
    expect(assignments.end()).toMatchObject({ code: 'NotFound' });
  });

  it('takes statuses forward only, and of the node’s own tasks only', async () => {
    const assigned = { state: TaskState.ASSIGNED };
    await store.seed({
      task: [aTask('t1', { node_id: 'n1', status: assigned }), aTask('t2', { node_id: 'n2', status: assigned })],
    });
    const id = sessionId(await open('n1'));
    const status = (): Task['status'] => store.view().get('task', 't1')?.status ?? null;
    await report('n1', id, 't1', { state: TaskState.RUNNING, message: 'started' });
    expect(status()).toMatchObject({ state: TaskState.RUNNING, applied_by: 'm1' });
    await report('n1', id, 't1', { state: TaskState.PREPARING });
    expect(status()?.state).toBe(TaskState.RUNNING);
    await report('n1', id, 'gone', { state: TaskState.RUNNING });
    await expect(report('n1', id, 't2', { state: TaskState.RUNNING })).rejects.toMatchObject({
      code: 'PermissionDenied',
    });
    const entries = store.entries.length;
    await report('n1', id, 't1', { state: TaskState.RUNNING, message: 'started' });
    expect(store.entries.length).toBe(entries);
  });

  it('joins what many agents report at the same time into one entry', async () => {
    const nodes = Array.from({ length: 20 }, (_, i) => aNode(`w${i}`));
    const status = { state: TaskState.ASSIGNED };
    await store.seed({ node: nodes, task: nodes.map((node) => aTask(`t-${node.id}`, { node_id: node.id, status })) });
    const ids = new Map<string, string>();
    for (const node of nodes) ids.set(node.id, sessionId(await open(node.id)));
    const entries = store.entries.length;
    await Promise.all(
      nodes.map((node) => report(node.id, ids.get(node.id) ?? '', `t-${node.id}`, { state: TaskState.RUNNING })),
    );
    expect(store.entries.length - entries).toBe(1);
  });

  it('tells the agent when a status could not be stored', async () => {
    await store.seed({ task: [aTask('t1', { node_id: 'n1', status: { state: TaskState.ASSIGNED } })] });
    const id = sessionId(await open('n1'));
    store.failNext('lost');
    await expect(report('n1', id, 't1', { state: TaskState.RUNNING })).rejects.toMatchObject({ code: 'Unavailable' });
    await report('n1', id, 't1', { state: TaskState.RUNNING });
    expect(store.view().get('task', 't1')?.status?.state).toBe(TaskState.RUNNING);
  });

  it('gives up the tasks of a node that is down for a day', async () => {
    await store.seed({
      task: [
        aTask('t1', { node_id: 'n1', status: { state: TaskState.RUNNING } }),
        aTask('t2', { node_id: 'n1', status: { state: TaskState.COMPLETE } }),
      ],
    });
    const state = (id: string): TaskState | undefined => store.view().get('task', id)?.status?.state;
    await clock.advanceAsync(ORPHAN_AFTER_MS - 10_000);
    expect(state('t1')).toBe(TaskState.RUNNING);
    await clock.advanceAsync(10_000);
    expect(state('t1')).toBe(TaskState.ORPHANED);
    expect(state('t2')).toBe(TaskState.COMPLETE);
  });
});
