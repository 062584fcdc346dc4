import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BoundedQueue, ShoalError, silentLogger, systemClock, systemRandom, unavailable } from '../base/index.ts';
import {
  AssignmentsMessage,
  NetworkTable,
  SessionMessage,
  Task,
  TaskState,
  durationFromNs,
  type SessionRequest,
  type SubscriptionMessage,
  type UpdateTaskStatusRequest,
} from '../proto/index.ts';
import { Agent, type AgentOptions } from './agent.ts';
import type { AgentConnection } from './connection.ts';
import { FakeExecutor } from './testing.ts';

const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 5000, interval: 5 });

/** A manager in memory: what it was asked, and streams that tests write to. */
class FakeManager {
  alive = true;
  hasLogs = true;
  readonly sessions: SessionRequest[] = [];
  readonly reports: UpdateTaskStatusRequest[] = [];
  readonly peers: string[];
  keys: Uint8Array[] = [];
  assignments = new BoundedQueue<AssignmentsMessage>(100);
  #broken: (() => void)[] = [];

  constructor(...peers: string[]) {
    this.peers = peers;
  }

  /** Breaks all connections. */
  die(): void {
    this.alive = false;
    for (const broken of this.#broken.splice(0)) broken();
  }

  connection(): AgentConnection {
    const check = (): void => {
      if (!this.alive) throw unavailable('connection refused');
    };
    const hold = (signal: AbortSignal): Promise<void> =>
      new Promise((resolve) => {
        if (signal.aborted || !this.alive) return resolve();
        signal.addEventListener('abort', () => resolve(), { once: true });
        this.#broken.push(resolve);
      });
    const { peers, sessions, reports, keys } = this;
    const stream = (): BoundedQueue<AssignmentsMessage> => this.assignments;
    const hasLogs = (): boolean => this.hasLogs;
    return {
      async *session(request, signal) {
        check();
        sessions.push(request);
        const managers = peers.map((addr) => ({ peer: { node_id: addr, addr }, weight: 10 }));
        const network_bootstrap_keys = keys.map((key) => ({ subsystem: 'networking:ipsec', key, lamport_time: 7 }));
        const session_id = request.session_id || `s${sessions.length}`;
        yield SessionMessage.create({ session_id, managers, network_bootstrap_keys });
        await hold(signal);
        if (!signal.aborted) check();
      },
      async *assignments(_, signal) {
        check();
        const queue = stream();
        signal.addEventListener('abort', () => queue.close(), { once: true });
        for await (const message of queue) yield message;
      },
      async *listenSubscriptions(signal): AsyncGenerator<SubscriptionMessage> {
        if (!hasLogs()) throw new ShoalError('Unimplemented', 'no logs here');
        await hold(signal);
        yield* [];
      },
      async heartbeat() {
        check();
        return { period: durationFromNs(50e6) };
      },
      async updateTaskStatus(request) {
        check();
        reports.push(request);
      },
      publishLogs: () => ({ write: () => Promise.resolve(), end: () => Promise.resolve() }),
      close: () => undefined,
    };
  }
}

describe('agent', () => {
  let directory: string;
  let executor: FakeExecutor;
  let agent: Agent | undefined;
  const managers = new Map<string, FakeManager>();

  const begin = async (options: Partial<AgentOptions> = {}): Promise<Agent> => {
    agent = new Agent({
      nodeId: 'n1',
      executor,
      connect: (address) => (managers.get(address) as FakeManager).connection(),
      managers: ['a'],
      stateDir: directory,
      clock: systemClock,
      random: systemRandom,
      log: silentLogger,
      ...options,
    });
    await agent.start();
    return agent;
  };
  const complete = (tasks: Task[], tables: NetworkTable[] = []): AssignmentsMessage =>
    AssignmentsMessage.create({
      type: 0,
      results_in: '1',
      changes: [
        ...tables.map((table) => ({ action: 0 as const, assignment: { network_table: table } })),
        ...tasks.map((task) => ({ action: 0 as const, assignment: { task } })),
      ],
    });
  const aTask = (id: string, secret?: string): Task =>
    Task.create({
      id,
      node_id: 'n1',
      status: { state: TaskState.ASSIGNED },
      desired_state: TaskState.RUNNING,
      networks: [{ network: { id: 'net' }, addresses: ['10.0.0.2/24'] }],
      spec: { container: { image: 'i', secrets: secret === undefined ? [] : [{ secret_id: secret }] } },
    });

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'shoal-agent-'));
    executor = new FakeExecutor('h');
    managers.clear();
    for (const address of ['a', 'b', 'c']) managers.set(address, new FakeManager('a', 'b', 'c'));
  });
  afterEach(async () => {
    await agent?.stop();
    agent = undefined;
    rmSync(directory, { recursive: true, force: true });
  });

  it('finds another manager soon, names its session there, and reports everything again', async () => {
    const { assignments } = managers.get('a') as FakeManager;
    assignments.push(complete([aTask('t1')]));
    const running = await begin();
    await eventually(() => expect(executor.container('t1').observation.state).toBe('running'));
    const startedMs = performance.now();
    managers.get('a')?.die();
    await eventually(() => expect(['b', 'c']).toContain(running.status().manager));
    expect(performance.now() - startedMs).toBeLessThan(4000);
    const next = managers.get(running.status().manager ?? '') as FakeManager;
    expect(next.sessions[0]).toMatchObject({ session_id: 's1', shoal_version: 3 });
    await eventually(() =>
      expect(next.reports.flatMap((one) => one.updates).at(-1)?.status?.state).toBe(TaskState.RUNNING),
    );
    expect(executor.container('t1').calls).toEqual(['prepare', 'start', 'wait']);
  });

  it('is back at once when its silent managers answer again, and tries no session meanwhile', async () => {
    const manager = managers.get('a') as FakeManager;
    manager.peers.splice(0, 3, 'a');
    let tries = 0;
    const connect = (): AgentConnection => {
      tries++;
      return { ...manager.connection(), isConnected: () => manager.alive };
    };
    const running = await begin({ connect, reaches: () => Promise.resolve(manager.alive) });
    await eventually(() => expect(running.status().connected).toBe(true));
    manager.die();
    await systemClock.sleep(1_500);
    const before = tries;
    await systemClock.sleep(1_000);
    expect(tries).toBe(before);
    manager.assignments = new BoundedQueue(10);
    manager.alive = true;
    const startedMs = performance.now();
    await eventually(() => expect(running.status().connected).toBe(true));
    expect(performance.now() - startedMs).toBeLessThan(3000);
  });

  it('ends a session whose assignments have a gap', async () => {
    const manager = managers.get('a') as FakeManager;
    manager.peers.splice(0, 3, 'a');
    manager.assignments.push(complete([]));
    manager.assignments.push(AssignmentsMessage.create({ type: 1, applies_to: '7', results_in: '8' }));
    await begin();
    await eventually(() => expect(manager.sessions.length).toBeGreaterThan(1));
    expect(manager.sessions[1]?.session_id).toBe('');
  });

  it('ends a session that tells what is new in a table which the agent has in another version', async () => {
    const manager = managers.get('a') as FakeManager;
    manager.peers.splice(0, 3, 'a');
    const delta = (base: number, version: number, reference: number): AssignmentsMessage => {
      const table = { network_id: 'net', version, base_version: base, endpoints: [{ task_id: `t${version}` }] };
      const changes = [{ action: 0 as const, assignment: { network_table: table } }];
      const numbers = { applies_to: `${reference - 1}`, results_in: `${reference}` };
      return AssignmentsMessage.create({ type: 1, ...numbers, changes });
    };
    manager.assignments.push(complete([], [NetworkTable.create({ network_id: 'net', version: 5 })]));
    manager.assignments.push(delta(5, 6, 2));
    manager.assignments.push(delta(5, 7, 3));
    await begin();
    await eventually(() => expect(manager.sessions.length).toBeGreaterThan(1));
    expect(manager.sessions[1]?.session_id).toBe('');
  });

  it('works with a manager that collects no logs', async () => {
    const manager = managers.get('a') as FakeManager;
    manager.hasLogs = false;
    manager.assignments.push(complete([aTask('t1')]));
    const running = await begin();
    await eventually(() => expect(executor.container('t1').observation.state).toBe('running'));
    expect(running.status().connected).toBe(true);
  });

  it('after a restart without managers brings up networks and tasks, but waits for secrets', async () => {
    const manager = managers.get('a') as FakeManager;
    const table = NetworkTable.create({ network_id: 'net', version: 5 });
    manager.assignments.push(complete([aTask('t1')], [table]));
    const first = await begin();
    await eventually(() => expect(executor.container('t1').observation.state).toBe('running'));
    manager.assignments.push(
      AssignmentsMessage.create({
        type: 1,
        applies_to: '1',
        results_in: '2',
        changes: [{ action: 0, assignment: { task: { ...aTask('t2', 'sec'), desired_state: TaskState.READY } } }],
      }),
    );
    await eventually(() => expect(executor.container('t2').calls).toContain('prepare'));
    await first.stop();
    executor.calls.length = 0;
    executor.container('t2').become({ state: 'absent' });
    executor.container('t2').calls.length = 0;
    for (const each of managers.values()) each.alive = false;
    await begin();
    await eventually(() => expect(executor.container('t1').calls.filter((call) => call === 'wait')).toHaveLength(2));
    expect(executor.calls).toEqual(['table net 5', 'orphans']);
    expect(executor.container('t2').calls).toEqual([]);
    manager.alive = true;
    manager.assignments = new BoundedQueue(10);
    manager.assignments.push(complete([aTask('t2', 'sec')], [table]));
    await eventually(() => expect(executor.container('t2').calls).toContain('prepare'));
    await eventually(() => expect(executor.container('t1').calls).toContain('remove'));
  });

  it('passes on the keys of networks that a manager sends', async () => {
    const onNetworkKeys = vi.fn();
    for (const manager of managers.values()) manager.keys = [Buffer.from('key')];
    await begin({ onNetworkKeys });
    await eventually(() => expect(onNetworkKeys).toHaveBeenCalledTimes(1));
    expect(onNetworkKeys.mock.calls[0]?.[0]).toMatchObject([{ subsystem: 'networking:ipsec', lamport_time: 7 }]);
  });

  it('tells the daemon of managers and of the root certificate', async () => {
    const onManagers = vi.fn();
    await begin({ onManagers });
    await eventually(() => expect(onManagers).toHaveBeenCalledTimes(1));
    expect(onManagers.mock.calls[0]?.[0]).toHaveLength(3);
  });
});
