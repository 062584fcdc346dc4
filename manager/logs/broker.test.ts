import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, VirtualClock, silentLogger } from '../../base/index.ts';
import {
  NodeStatus_State,
  LogStream,
  TaskState,
  timestampFromMs,
  type LogMessage,
  type PublishLogsMessage,
  type SubscriptionMessage,
} from '../../proto/index.ts';
import { aNode, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { Channel } from './channel.ts';
import { createLogBroker, type LogBroker } from './index.ts';
import { LISTEN_GRACE_MS, NODE_DEADLINE_MS } from './subscription.ts';

describe('log broker', () => {
  let store: MemoryStore;
  let clock: VirtualClock;
  let broker: LogBroker;
  let duty: AbortController;
  let running: Promise<void>;

  const placed = (id: string, node: string) => aTask(id, { node_id: node, status: { state: TaskState.RUNNING } });
  const listen = async (nodeId: string): Promise<{ told: SubscriptionMessage[]; controller: AbortController }> => {
    const told: SubscriptionMessage[] = [];
    const controller = new AbortController();
    const call = { nodeId, address: '', request: {}, signal: controller.signal };
    const send = async (message: SubscriptionMessage): Promise<void> => void told.push(message);
    broker.handlers.listenSubscriptions({ ...call, send }).catch(() => undefined);
    await clock.advanceAsync(0);
    return { told, controller };
  };
  const line = (nodeId: string, text: string): LogMessage => ({
    context: { service_id: 'service', node_id: nodeId, task_id: 't' },
    timestamp: timestampFromMs(clock.now()),
    stream: LogStream.LOG_STREAM_STDOUT,
    data: Buffer.from(text),
    attrs: [],
  });
  const publish = (nodeId: string, messages: PublishLogsMessage[], as = nodeId): Promise<unknown> => {
    async function* all(): AsyncGenerator<PublishLogsMessage> {
      yield* messages;
    }
    return broker.handlers.publishLogs({
      nodeId: as,
      address: '',
      signal: new AbortController().signal,
      messages: all(),
    });
  };
  const subscribe = (follow = false, tail = 0) => {
    const texts: string[] = [];
    const controller = new AbortController();
    let outcome: unknown;
    const selector = { service_ids: ['service'], node_ids: [], task_ids: [] };
    const request = { selector, options: { streams: [], follow, tail, since: null } };
    const read = async (): Promise<void> => {
      for await (const { messages } of broker.subscribe(request, controller.signal)) {
        for (const message of messages) texts.push(Buffer.from(message.data).toString());
      }
    };
    read().then(
      () => (outcome = 'ended'),
      (error: unknown) => (outcome = error),
    );
    return { texts, controller, end: () => outcome };
  };

  beforeEach(async () => {
    clock = new VirtualClock(1_000_000);
    store = createMemoryStore({ clock });
    broker = createLogBroker({ store, clock, random: new SeededRandom(2), log: silentLogger });
    duty = new AbortController();
    running = broker.duty.run(duty.signal);
    await store.seed({ task: [placed('t1', 'n1'), placed('t2', 'n2')] });
  });
  afterEach(async () => {
    duty.abort(new Error('end'));
    await running;
  });

  it('asks the nodes with matching tasks and ends when all have answered', async () => {
    const [one, two, other] = [await listen('n1'), await listen('n2'), await listen('n3')];
    const client = subscribe(false, -4);
    await clock.advanceAsync(0);
    const id = one.told[0]?.id ?? '';
    expect(one.told[0]).toMatchObject({ selector: { service_ids: ['service'] }, options: { tail: -4 }, close: false });
    expect(two.told[0]?.id).toBe(id);
    expect(other.told).toEqual([]);
    await publish('n1', [
      { subscription_id: id, messages: [line('n1', 'a'), line('n1', 'b')], close: false },
      { subscription_id: id, messages: [], close: true },
    ]);
    expect(client.end()).toBeUndefined();
    await publish('n2', [{ subscription_id: id, messages: [line('n2', 'c')], close: true }]);
    await clock.advanceAsync(0);
    expect(client.texts).toEqual(['a', 'b', 'c']);
    expect(client.end()).toBe('ended');
    expect(one.told.at(-1)).toMatchObject({ id, close: true });
  });

  it('names the nodes that could not be asked or did not answer', async () => {
    await listen('n1');
    const client = subscribe();
    await clock.advanceAsync(NODE_DEADLINE_MS);
    expect(client.end()).toMatchObject({
      code: 'Unavailable',
      message:
        'incomplete log stream: some logs could not be retrieved for the following reasons: ' +
        'node n2 is not available, node n1 is not available',
    });
  });

  it('waits a moment for an agent that is in session but does not listen yet', async () => {
    await store.seed({ node: [aNode('n1', { status: { state: NodeStatus_State.READY } })] });
    await store.update((tx) => tx.remove('task', 't2'));
    const client = subscribe();
    await clock.advanceAsync(LISTEN_GRACE_MS - 100);
    expect(client.end()).toBeUndefined();
    const one = await listen('n1');
    await publish('n1', [
      { subscription_id: one.told[0]?.id ?? '', messages: [line('n1', 'a')], close: false },
      { subscription_id: one.told[0]?.id ?? '', messages: [], close: true },
    ]);
    await clock.advanceAsync(0);
    expect([client.texts, client.end()]).toEqual([['a'], 'ended']);
    const late = subscribe();
    one.controller.abort();
    await clock.advanceAsync(LISTEN_GRACE_MS);
    expect(late.end()).toMatchObject({ code: 'Unavailable' });
  });

  it('says so when an agent is lost in between, but a follower goes on where it was', async () => {
    const [one] = [await listen('n1'), await listen('n2')];
    const finite = subscribe();
    const follower = subscribe(true, -11);
    await clock.advanceAsync(0);
    const [first, second] = [one.told[0]?.id ?? '', one.told[1]?.id ?? ''];
    await publish('n2', [{ subscription_id: first, messages: [], close: true }]);
    await publish('n1', [{ subscription_id: second, messages: [line('n1', 'a')], close: false }]);
    one.controller.abort();
    await clock.advanceAsync(0);
    expect(finite.end()).toMatchObject({ message: expect.stringContaining('node n1 disconnected unexpectedly') });
    expect(follower.end()).toBeUndefined();
    const again = await listen('n1');
    expect(again.told).toHaveLength(1);
    expect(again.told[0]).toMatchObject({ id: second, options: { tail: 0, follow: true } });
    expect(again.told[0]?.options?.since).not.toBeNull();
    follower.controller.abort();
    await clock.advanceAsync(0);
    expect(follower.end()).toBe('ended');
  });

  it('adds nodes that get a matching task while a client follows', async () => {
    const three = await listen('n3');
    const follower = subscribe(true, -1);
    await clock.advanceAsync(0);
    await store.seed({ task: [placed('t3', 'n3')] });
    await clock.advanceAsync(0);
    expect(three.told).toMatchObject([{ close: false, options: { follow: true } }]);
    follower.controller.abort();
    await clock.advanceAsync(0);
  });

  it('lets no node speak for another, nor for a request that has ended', async () => {
    const one = await listen('n1');
    subscribe(true);
    await clock.advanceAsync(0);
    const id = one.told[0]?.id ?? '';
    const foreign = publish('n2', [{ subscription_id: id, messages: [line('n1', 'x')], close: false }]);
    await expect(foreign).rejects.toMatchObject({ code: 'PermissionDenied' });
    const stale = publish('n1', [{ subscription_id: 'gone', messages: [], close: false }]);
    await expect(stale).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('ends at once when nothing matches', async () => {
    await store.update((tx) => {
      tx.remove('task', 't1');
      tx.remove('task', 't2');
    });
    const client = subscribe();
    await clock.advanceAsync(0);
    expect(client.end()).toBe('ended');
  });
});

describe('channel', () => {
  it('makes writers wait while it is full', async () => {
    const channel = new Channel<number>(2);
    expect(await channel.write(1)).toBe(true);
    expect(await channel.write(2)).toBe(true);
    let written = false;
    const third = channel.write(3).then((taken) => (written = taken));
    await Promise.resolve();
    expect(written).toBe(false);
    expect(await channel.read()).toBe(1);
    expect(await third).toBe(true);
    channel.close(new Error('why'));
    expect([await channel.read(), await channel.read()]).toEqual([2, 3]);
    await expect(channel.read()).rejects.toThrow('why');
    expect(await channel.write(4)).toBe(false);
  });
});
