import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, VirtualClock, silentLogger } from '../../base/index.ts';
import {
  AgentReport,
  Cluster,
  NodeDescription,
  NodeStatus_State,
  TaskState,
  TaskStatus,
  durationToMs,
  type Partially,
  type ReportAck,
} from '../../proto/index.ts';
import { aNode, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createDispatcher, type Dispatcher } from './index.ts';
import { FIRST_REPORT_MS, UNCOMMITTED_MAX } from './report-stream.ts';

/** One stream of reports as the handler sees it. */
class FakeStream {
  readonly answers: ReportAck[] = [];
  readonly controller = new AbortController();
  paused = false;
  /** Whether the transport takes no more answers. */
  full = false;
  /** What the handler ended with: undefined while it runs, `ended`, or the error. */
  end: unknown;
  #message: (report: AgentReport) => void = () => undefined;
  done: () => void = () => undefined;
  drain: () => void = () => undefined;
  #number = 0;

  constructor(dispatcher: Dispatcher, nodeId: string) {
    const handled = dispatcher.handlers.reports({
      nodeId,
      address: '10.5.0.1:4242',
      signal: this.controller.signal,
      receive: (message, done) => ([this.#message, this.done] = [message, done]),
      pause: () => (this.paused = true),
      resume: () => (this.paused = false),
      send: (answer) => {
        this.answers.push(answer);
        return !this.full;
      },
      onDrain: (listener) => (this.drain = listener),
    });
    handled.then(
      () => (this.end = 'ended'),
      (error: unknown) => (this.end = error),
    );
  }

  say(fields: Partially<AgentReport>): void {
    this.#message(AgentReport.create({ number: ++this.#number, ...fields }));
  }

  /** A message that says that tasks run. */
  running(...taskIds: string[]): void {
    const status = TaskStatus.create({ state: TaskState.RUNNING });
    this.say({ updates: taskIds.map((task_id) => ({ task_id, status })) });
  }

  takeAnswers(): [heartbeat: number, committed: number][] {
    return this.answers.splice(0).map((answer) => [answer.heartbeat, answer.committed]);
  }
}

describe('stream of reports', () => {
  let store: MemoryStore;
  let clock: VirtualClock;
  let dispatcher: Dispatcher;
  let duty: AbortController;
  let running: Promise<void>;
  let sessionId: string;

  const register = async (nodeId: string): Promise<string> => {
    const request = { description: NodeDescription.create({ hostname: nodeId }), session_id: '', shoal_version: 2 };
    const { signal } = new AbortController();
    let id = '';
    const send = async (message: { session_id: string }): Promise<void> => void (id = message.session_id);
    dispatcher.handlers.session({ nodeId, address: '10.5.0.1:1', request, send, signal }).catch(() => undefined);
    await clock.advanceAsync(60);
    return id;
  };
  /** A stream that has named its session with a heartbeat. */
  const open = async (): Promise<FakeStream> => {
    const stream = new FakeStream(dispatcher, 'n1');
    await clock.advanceAsync(0);
    stream.say({ session_id: sessionId, heartbeat: true });
    return stream;
  };
  const state = (taskId: string): TaskState | undefined => store.view().get('task', taskId)?.status?.state;
  const nodeState = (): NodeStatus_State | undefined => store.view().get('node', 'n1')?.status?.state;

  beforeEach(async () => {
    clock = new VirtualClock(1_000_000);
    store = createMemoryStore({ clock });
    const status = { state: TaskState.ASSIGNED };
    const own = Array.from({ length: 20 }, (_, i) => aTask(`t${i}`, { node_id: 'n1', status }));
    await store.seed({
      cluster: [Cluster.create({ id: 'c', spec: { annotations: { name: 'default' } } })],
      node: [aNode('n1'), aNode('n2')],
      task: [...own, aTask('other', { node_id: 'n2', status })],
    });
    dispatcher = createDispatcher({
      ...{ store, clock, random: new SeededRandom(1), log: silentLogger, nodeId: 'm1' },
      ...{ managers: () => [], rootCa: () => Buffer.from('pem') },
    });
    duty = new AbortController();
    running = dispatcher.duty.run(duty.signal);
    await clock.advanceAsync(1);
    sessionId = await register('n1');
  });
  afterEach(async () => {
    duty.abort(new Error('over'));
    await running;
  });

  it('takes heartbeats as the call does: the node stays, the period is told, use is kept', async () => {
    const stream = await open();
    for (let i = 1; i <= 10; i++) {
      await clock.advanceAsync(1000);
      const usage = [{ task_id: 't1', at_ns: i * 1e9, cpu_ns: i * 5e8, memory_bytes: 4096 }];
      stream.say({ heartbeat: true, usage });
    }
    expect(stream.answers.map((answer) => answer.heartbeat)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for (const { period } of stream.answers) {
      expect(durationToMs(period, 0)).toBeGreaterThanOrEqual(900);
      expect(durationToMs(period, 0)).toBeLessThanOrEqual(1100);
    }
    expect(nodeState()).toBe(NodeStatus_State.READY);
    expect(dispatcher.usage.of({ id: 't1', node_id: 'n1' })).toMatchObject({ cpuPercentOfOne: 50, memoryBytes: 4096 });
    await clock.advanceAsync(5_100);
    expect(nodeState()).toBe(NodeStatus_State.DOWN);
    expect(stream.end).toMatchObject({ code: 'Aborted' });
  });

  it('acknowledges statuses when they are committed, in order, several with one answer', async () => {
    const stream = await open();
    expect(stream.takeAnswers()).toEqual([[1, 0]]);
    stream.running('t1');
    stream.running('t2', 't3');
    // There is nothing to store in this one; it waits for those before it all the same.
    stream.running('gone');
    stream.say({ heartbeat: true });
    expect(stream.takeAnswers()).toEqual([[5, 0]]);
    expect(state('t1')).toBe(TaskState.ASSIGNED);
    await clock.advanceAsync(60);
    expect([state('t1'), state('t3')]).toEqual([TaskState.RUNNING, TaskState.RUNNING]);
    expect(stream.takeAnswers().at(-1)).toEqual([0, 4]);
    stream.running('gone');
    stream.say({ heartbeat: true });
    expect(stream.takeAnswers()).toEqual([[0, 6], [7, 6]]); // prettier-ignore
  });

  it('reads no more while too much waits to be committed', async () => {
    const stream = await open();
    for (let i = 0; i < UNCOMMITTED_MAX - 1; i++) stream.running(`t${i}`);
    expect(stream.paused).toBe(false);
    stream.running('t9');
    expect(stream.paused).toBe(true);
    await clock.advanceAsync(60);
    expect(stream.paused).toBe(false);
    expect(stream.answers.at(-1)?.committed).toBe(UNCOMMITTED_MAX + 1);
    expect(stream.end).toBeUndefined();
  });

  it('keeps one answer while the transport is full', async () => {
    const stream = await open();
    stream.full = true;
    stream.say({ heartbeat: true });
    stream.takeAnswers();
    stream.running('t1');
    for (let i = 0; i < 100; i++) stream.say({ heartbeat: true });
    await clock.advanceAsync(60);
    expect(stream.answers).toEqual([]);
    stream.full = false;
    stream.drain();
    expect(stream.takeAnswers()).toEqual([[103, 3]]);
  });

  it('ends as the calls fail', async () => {
    const failing = async (nodeId: string, say: (stream: FakeStream) => void, failure: object): Promise<void> => {
      const stream = new FakeStream(dispatcher, nodeId);
      await clock.advanceAsync(0);
      say(stream);
      await clock.advanceAsync(60);
      expect(stream.end).toMatchObject(failure);
      stream.say({ heartbeat: true });
      expect(stream.answers.filter((answer) => answer.heartbeat > 1)).toEqual([]);
    };
    const session_id = sessionId;
    const invalid = { code: 'InvalidArgument', message: 'session invalid' };
    await failing('n1', (stream) => stream.say({ session_id: 'unknown', heartbeat: true }), invalid);
    await failing('n1', (stream) => stream.say({ heartbeat: true }), invalid);
    await failing('n2', (stream) => stream.say({ session_id, heartbeat: true }), invalid);
    const unknown = { code: 'NotFound', message: 'node not registered' };
    await failing('nobody', (stream) => stream.say({ session_id, heartbeat: true }), unknown);
    const twice = (stream: FakeStream): void => {
      stream.say({ session_id, number: 1 });
      stream.say({ number: 1 });
    };
    await failing('n1', twice, { code: 'InvalidArgument', message: expect.stringContaining('must rise') });
    const changed = (stream: FakeStream): void => {
      stream.say({ session_id });
      stream.say({ session_id: 'another' });
    };
    await failing('n1', changed, invalid);
    const foreign = (stream: FakeStream): void => {
      stream.say({ session_id });
      stream.running('t1', 'other');
    };
    await failing('n1', foreign, { code: 'PermissionDenied' });
    expect(state('t1')).toBe(TaskState.ASSIGNED);
    store.failNext('lost');
    const unstored = (stream: FakeStream): void => {
      stream.say({ session_id });
      stream.running('t1');
    };
    await failing('n1', unstored, { code: 'Unavailable' });
    const closed = (stream: FakeStream): void => {
      stream.say({ session_id });
      stream.controller.abort(new Error('the connection broke'));
    };
    await failing('n1', closed, { message: 'the connection broke' });
  });

  it('ends with what ends its session, with a newer stream, and when it says nothing', async () => {
    const older = await open();
    const newer = await open();
    await clock.advanceAsync(0);
    expect(older.end).toMatchObject({ code: 'Aborted', message: 'the agent has opened a newer stream of reports' });
    newer.say({ heartbeat: true });
    expect(newer.answers.at(-1)?.heartbeat).toBe(2);
    newer.done();
    await clock.advanceAsync(0);
    expect(newer.end).toBe('ended');

    const replaced = await open();
    sessionId = await register('n1');
    expect(replaced.end).toMatchObject({ code: 'Aborted' });

    const silent = new FakeStream(dispatcher, 'n1');
    const removed = await open();
    await store.update((tx) => tx.remove('node', 'n1'));
    await clock.advanceAsync(1);
    expect(removed.end).toMatchObject({ code: 'NotFound' });
    await clock.advanceAsync(FIRST_REPORT_MS);
    expect(silent.end).toMatchObject({ code: 'DeadlineExceeded' });
  });

  it('ends when this manager ceases to lead', async () => {
    const stream = await open();
    stream.running('t1');
    duty.abort(new Error('lost leadership'));
    await running;
    await clock.advanceAsync(0);
    expect(stream.end).toMatchObject({ code: 'Unavailable' });
    const late = new FakeStream(dispatcher, 'n1');
    await clock.advanceAsync(0);
    expect(late.end).toMatchObject({ code: 'Unavailable' });
  });
});
