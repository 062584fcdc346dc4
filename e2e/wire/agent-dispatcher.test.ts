import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { aNode, aTask, createMemoryStore, type MemoryStore } from '../../manager/store/testing.ts';
import {
  Cluster,
  Config,
  Network,
  NodeStatus_State,
  Secret,
  Task,
  TaskState,
  durationFromNs,
  type Partially,
  type WeightedPeer,
} from '../../proto/index.ts';
import { Agent, grpcConnection } from '../../worker/index.ts';
import { FakeExecutor } from '../../worker/testing.ts';
import { WireManager } from './manager.ts';

const NODE = 'node1';

const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 8000, interval: 10 });

describe('agent and dispatcher over gRPC', () => {
  let store: MemoryStore;
  let manager: WireManager;
  let executor: FakeExecutor;
  let agent: Agent;
  let directory: string;
  const agents: Agent[] = [];
  const managers: WireManager[] = [];

  const newManager = async (port = 0, stock = false): Promise<WireManager> => {
    const peers = (): WeightedPeer[] => [{ peer: { node_id: 'manager', addr: created.address }, weight: 10 }];
    const created: WireManager = new WireManager(store, NODE, peers, stock);
    await created.start(port);
    managers.push(created);
    return created;
  };
  const newAgent = async (...addresses: string[]): Promise<Agent> => {
    const created = new Agent({
      nodeId: NODE,
      executor,
      connect: (address) => grpcConnection(address, { credentials: credentials.createInsecure(), clock: systemClock }),
      managers: addresses,
      stateDir: directory,
      clock: systemClock,
      random: systemRandom,
      log: silentLogger,
    });
    await created.start();
    agents.push(created);
    return created;
  };
  const task = (id: string): Task => store.view().get('task', id) as Task;
  const state = (id: string): TaskState | undefined => store.view().get('task', id)?.status?.state;
  const nodeState = (): NodeStatus_State | undefined => store.view().get('node', NODE)?.status?.state;
  const assign = (id: string, fields: Partially<Task> = {}): Promise<void> =>
    store.seed({ task: [aTask(id, { node_id: NODE, status: { state: TaskState.ASSIGNED }, ...fields })] });
  const change = (id: string, fields: Partial<Task>): Promise<void> =>
    store.update((tx) => tx.update('task', { ...Task.clone(tx.get('task', id) as Task), ...fields }));

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'shoal-wire-'));
    store = createMemoryStore();
    executor = new FakeExecutor('host1');
    const period = durationFromNs(100e6);
    const dispatcher = { heartbeat_period: period, down_after: durationFromNs(600e6) };
    await store.seed({
      cluster: [Cluster.create({ id: 'cluster', spec: { annotations: { name: 'default' }, dispatcher } })],
      node: [aNode(NODE, { status: { state: NodeStatus_State.UNKNOWN }, description: null })],
    });
    manager = await newManager();
    agent = await newAgent(manager.address);
    await eventually(() => expect(agent.status().connected).toBe(true));
  });

  afterEach(async () => {
    await Promise.all(agents.splice(0).map((one) => one.stop().catch(() => undefined)));
    await Promise.all(managers.splice(0).map((one) => one.stop()));
    rmSync(directory, { recursive: true, force: true });
  });

  it('makes the node ready, with its description and address', () => {
    const node = store.view().get('node', NODE);
    expect(node?.status).toMatchObject({ state: NodeStatus_State.READY, addr: '10.9.0.1' });
    expect(node?.description?.hostname).toBe('host1');
    expect(agent.status()).toMatchObject({ connected: true, manager: manager.address });
  });

  it('runs a task with its secret, config and network, reports it, and stops and removes it', async () => {
    const network = Network.create({
      id: 'net',
      driver_state: { name: 'overlay' },
      spec: { annotations: { name: 'net' } },
    });
    await store.seed({
      network: [network],
      secret: [Secret.create({ id: 'sec', spec: { annotations: { name: 'sec' }, data: Buffer.from('s3cret') } })],
      config: [Config.create({ id: 'cfg', spec: { annotations: { name: 'cfg' }, data: Buffer.from('conf') } })],
    });
    const container = {
      image: 'nginx',
      secrets: [{ secret_id: 'sec', secret_name: 'sec' }],
      configs: [{ config_id: 'cfg', config_name: 'cfg' }],
    };
    await assign('t1', { spec: { container }, networks: [{ network, addresses: ['10.0.1.5/24'] }] });
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
    expect(executor.container('t1').calls.slice(0, 2)).toEqual(['prepare', 'start']);
    expect(Buffer.from(executor.dependencies.get('t1')?.secret('sec')?.spec?.data ?? '').toString()).toBe('s3cret');
    expect(executor.dependencies.get('t1')?.config('cfg')?.id).toBe('cfg');
    expect(task('t1').status?.container).toMatchObject({ container_id: 'container-t1', pid: 4242 });
    expect(task('t1').status?.applied_by).toBe('manager');
    await eventually(() =>
      expect(executor.tables.get('net')?.endpoints).toMatchObject([
        { task_id: 't1', address: '10.0.1.5/24', mac: '02:42:0a:00:01:05', vtep: '10.9.0.1', serving: true },
      ]),
    );

    await change('t1', { desired_state: TaskState.SHUTDOWN });
    await eventually(() => expect(state('t1')).toBe(TaskState.SHUTDOWN));
    await eventually(() => expect(executor.tables.has('net')).toBe(false));
    await store.update((tx) => tx.remove('task', 't1'));
    await eventually(() => expect(executor.container('t1').calls).toContain('remove'));
  });

  it('waits in READY until it may start, and reports the end of a container', async () => {
    await assign('t1', { desired_state: TaskState.READY });
    await eventually(() => expect(state('t1')).toBe(TaskState.READY));
    expect(executor.container('t1').observation.state).toBe('created');
    await change('t1', { desired_state: TaskState.RUNNING });
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
    executor.container('t1').exit({ exitCode: 3 });
    await eventually(() => expect(state('t1')).toBe(TaskState.FAILED));
    expect(task('t1').status?.err).toBe('task: non-zero exit (3)');
    expect(task('t1').status?.container?.exit_code).toBe(3);
  });

  it('carries many tasks in few messages', async () => {
    const ids = Array.from({ length: 500 }, (_, i) => `t${i}`);
    const assigned = { node_id: NODE, status: { state: TaskState.ASSIGNED } };
    await store.seed({ task: ids.map((id) => aTask(id, assigned)) });
    const entries = store.entries.length;
    await eventually(() => expect(ids.filter((id) => state(id) !== TaskState.RUNNING)).toEqual([]));
    expect(store.entries.length - entries).toBeLessThan(60);
  });

  it('keeps running tasks when the agent restarts, with and without a manager', async () => {
    await assign('t1');
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
    await agent.stop();
    const before = executor.container('t1').calls.length;
    executor.container('stray').become({ state: 'running' });

    const { address } = manager;
    await manager.stop();
    const restarted = await newAgent(address);
    await eventually(() => expect(executor.container('t1').calls.slice(before)).toEqual(['wait']));
    expect(executor.container('stray').observation.state).toBe('absent');
    expect(restarted.status().connected).toBe(false);

    await newManager(Number(address.split(':')[1]));
    await eventually(() => expect(restarted.status().connected).toBe(true));
    expect(state('t1')).toBe(TaskState.RUNNING);
    expect(executor.container('t1').calls.slice(before)).toEqual(['wait']);
    executor.container('t1').exit({ exitCode: 0 });
    await eventually(() => expect(state('t1')).toBe(TaskState.COMPLETE));
  });

  it('tells heartbeats and statuses on a stream, and by the calls where a manager has no stream', async () => {
    await assign('t1');
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
    expect(manager.calls).toContain('Reports');
    expect(manager.calls).not.toContain('Heartbeat');
    expect(manager.calls).not.toContain('UpdateTaskStatus');
    const port = Number(manager.address.split(':')[1]);
    await manager.stop();
    manager = await newManager(port, true);
    await eventually(() => expect(manager.calls.filter((name) => name === 'Heartbeat').length).toBeGreaterThan(5));
    executor.container('t1').exit({ exitCode: 0 });
    await eventually(() => expect(state('t1')).toBe(TaskState.COMPLETE));
    expect(manager.calls.filter((name) => name === 'Session')).toHaveLength(1);
    expect(nodeState()).toBe(NodeStatus_State.READY);
  });

  it('marks a silent node as down and takes it back', async () => {
    expect(nodeState()).toBe(NodeStatus_State.READY);
    manager.silent = true;
    await eventually(() => expect(nodeState()).toBe(NodeStatus_State.DOWN));
    expect(store.view().get('node', NODE)?.status?.message).toBe('heartbeat failure');
    manager.silent = false;
    await eventually(() => expect(nodeState()).toBe(NodeStatus_State.READY));
    await assign('t1');
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
  });

  it('changes over to a new manager soon, and tells it what happened meanwhile', async () => {
    await assign('t1');
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
    const port = Number(manager.address.split(':')[1]);
    await manager.stop();
    executor.container('t1').exit({ exitCode: 1 });
    const startedMs = performance.now();
    manager = await newManager(port);
    await eventually(() => expect(state('t1')).toBe(TaskState.FAILED));
    expect(nodeState()).toBe(NodeStatus_State.READY);
    expect(performance.now() - startedMs).toBeLessThan(3000);
    expect(executor.container('t1').calls.filter((call) => call === 'prepare')).toHaveLength(1);
  });

  it('ends the session of a removed node', async () => {
    await store.update((tx) => tx.remove('node', NODE));
    await eventually(() => expect(agent.status().connected).toBe(false));
  });

  it('brings logs to the client: tail, both streams, and what comes later', async () => {
    await assign('t1');
    await eventually(() => expect(state('t1')).toBe(TaskState.RUNNING));
    const line = (text: string, stream: 'stdout' | 'stderr' = 'stdout'): void =>
      executor.container('t1').write({ stream, timestampMs: Date.now(), data: Buffer.from(text) });
    line('one');
    line('two', 'stderr');
    line('three');
    const read = async (options: { tail: number; follow: boolean; lines: number }): Promise<string[]> => {
      const texts: string[] = [];
      const controller = new AbortController();
      const selector = { service_ids: ['service'], node_ids: [], task_ids: [] };
      const wanted = { streams: [], follow: options.follow, tail: options.tail, since: null };
      for await (const message of manager.broker.subscribe({ selector, options: wanted }, controller.signal)) {
        for (const one of message.messages) texts.push(Buffer.from(one.data).toString());
        if (options.follow && texts.length === 2) line('four');
        if (texts.length >= options.lines) controller.abort();
      }
      return texts;
    };
    expect(await read({ tail: 0, follow: false, lines: 99 })).toEqual(['one', 'two', 'three']);
    expect(await read({ tail: -3, follow: false, lines: 99 })).toEqual(['two', 'three']);
    expect(await read({ tail: -1, follow: false, lines: 99 })).toEqual([]);
    expect(await read({ tail: -3, follow: true, lines: 3 })).toEqual(['two', 'three', 'four']);
  });
});
