import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger, systemClock, systemRandom, type Logger } from '../base/index.ts';
import type { Client } from '@grpc/grpc-js';
import {
  callServerStream,
  callUnary,
  IdentityStore,
  requestCertificate,
  type NodeIdentity,
} from '../identity/index.ts';
import {
  AssignmentsRequest,
  DispatcherService,
  HeartbeatRequest,
  SessionRequest,
  TaskState,
  UpdateTaskStatusRequest,
  type Task,
} from '../proto/index.ts';
import { createBootstrapIdentity, clusterOf, type ClusterInit } from './ca/index.ts';
import { Manager, type ManagerStart } from './manager.ts';

/** Time within which a condition of a test must come true, ms. */
const UNTIL_MS = 15_000;

/** Waits until `ready` holds. @throws Error that names `what`. */
export async function until(
  what: string,
  ready: () => boolean | Promise<boolean>,
  timeoutMs = UNTIL_MS,
): Promise<void> {
  const endMs = systemClock.monotonic() + timeoutMs;
  while (!(await ready())) {
    if (systemClock.monotonic() > endMs) throw new Error(`not in time: ${what}`);
    await systemClock.sleep(20);
  }
}

/** Managers of one cluster in this process, on loopback ports, with real certificates, logs and consensus. */
export class TestCluster {
  readonly managers: Manager[] = [];
  readonly removed: string[] = [];
  readonly fatal: unknown[] = [];
  readonly #dirs = new Map<string, string>();
  readonly #identities = new Map<string, IdentityStore>();
  readonly #log: Logger;

  constructor(log: Logger = silentLogger) {
    this.#log = log;
  }

  /** Starts a manager with an identity, in its own directory. */
  async start(
    identity: NodeIdentity,
    how: ManagerStart,
    init?: ClusterInit,
    listenAddr = '127.0.0.1:0',
  ): Promise<Manager> {
    const stateDir = this.dirOf(identity.nodeId);
    const identities = this.identitiesOf(identity.nodeId);
    if (identities.identity !== identity) identities.save(identity);
    const manager = await Manager.start(
      {
        identity,
        identities,
        stateDir,
        listenAddr,
        advertiseAddr: '127.0.0.1',
        clock: systemClock,
        random: systemRandom,
        log: this.#log.with({ node: identity.nodeId.slice(0, 4) }),
        clusterInit: init,
        onRemoved: () => this.removed.push(identity.nodeId),
        onFatal: (error) => this.fatal.push(error),
      },
      how,
    );
    this.managers.push(manager);
    return manager;
  }

  dirOf(nodeId: string): string {
    let dir = this.#dirs.get(nodeId);
    if (dir === undefined) {
      dir = mkdtempSync(join(tmpdir(), 'shoal-'));
      this.#dirs.set(nodeId, dir);
    }
    return dir;
  }

  /** The stored identity of a node, with its lock. */
  identitiesOf(nodeId: string): IdentityStore {
    let identities = this.#identities.get(nodeId);
    if (identities === undefined) {
      identities = new IdentityStore(this.dirOf(nodeId));
      this.#identities.set(nodeId, identities);
    }
    return identities;
  }

  async bootstrap(init: Partial<ClusterInit> = {}): Promise<{ manager: Manager; identity: NodeIdentity }> {
    const { identity, rootCa } = createBootstrapIdentity({ nowMs: Date.now(), random: systemRandom });
    return { manager: await this.start(identity, { kind: 'bootstrap' }, { rootCa, ...init }), identity };
  }

  /** The join token of a role, from any manager's store. */
  token(role: 'manager' | 'worker'): string {
    const view = (this.managers[0] as Manager).store.view();
    return clusterOf(view)?.root_ca?.join_tokens?.[role] ?? '';
  }

  /** A certificate by token from the manager at an address. */
  certificate(remoteAddr: string, token: string): Promise<NodeIdentity> {
    return requestCertificate({ remoteAddr, token, clock: systemClock, random: systemRandom, log: this.#log });
  }

  async join(remoteAddr: string): Promise<{ manager: Manager; identity: NodeIdentity }> {
    const identity = await this.certificate(remoteAddr, this.token('manager'));
    return { manager: await this.start(identity, { kind: 'join', remoteAddr }), identity };
  }

  leader(): Manager | undefined {
    return this.managers.find((manager) => manager.isLeader());
  }

  /** Stops one manager and takes it out of the list; its directory stays. */
  async stop(manager: Manager): Promise<void> {
    const at = this.managers.indexOf(manager);
    if (at >= 0) this.managers.splice(at, 1);
    await manager.stop();
  }

  async close(): Promise<void> {
    await Promise.all(this.managers.splice(0).map((manager) => manager.stop()));
    for (const dir of this.#dirs.values()) rmSync(dir, { recursive: true, force: true });
  }
}

/** The least of an agent: a session, heartbeats, and the set of tasks assigned. */
export class FakeAgent {
  readonly tasks = new Map<string, Task>();
  connected = false;
  readonly #client: Client;
  #sessionId = '';
  #controller = new AbortController();

  constructor(client: Client) {
    this.#client = client;
  }

  /** Opens a session and follows assignments until `disconnect`. @throws ShoalError */
  async connect(): Promise<void> {
    this.disconnect();
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    const resources = { nano_cpus: 4e9, memory_bytes: 8e9 };
    const platform = { architecture: 'x86_64', os: 'linux' };
    const plugins = ['overlay', 'host', 'bridge'].map((name) => ({ type: 'Network', name }));
    const description = { hostname: 'agent', resources, platform, engine: { engine_version: '28.2.2', plugins } };
    const request = SessionRequest.create({ description, shoal_version: 1 });
    const session = callServerStream(this.#client, DispatcherService.Session, request, { signal });
    const first = await session.next();
    if (first.done === true) throw new Error('the session ended at once');
    this.#sessionId = first.value.session_id;
    this.connected = true;
    const ended = (): void => {
      this.connected = false;
    };
    const drain = async (): Promise<void> => {
      while ((await session.next()).done !== true);
    };
    drain().then(ended, ended);
    this.#follow(signal).catch(ended);
    this.#beat(signal).catch(ended);
  }

  async #beat(signal: AbortSignal): Promise<void> {
    for (;;) {
      const request = HeartbeatRequest.create({ session_id: this.#sessionId });
      await callUnary(this.#client, DispatcherService.Heartbeat, request, { timeoutMs: 5_000, signal });
      await systemClock.sleep(500, signal);
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const request = AssignmentsRequest.create({ session_id: this.#sessionId });
    for await (const message of callServerStream(this.#client, DispatcherService.Assignments, request, { signal })) {
      if (message.type === 0) this.tasks.clear();
      for (const change of message.changes) {
        const task = change.assignment?.task;
        if (task === undefined) continue;
        if (change.action === 0) this.tasks.set(task.id, task);
        else this.tasks.delete(task.id);
      }
    }
  }

  /** Reports every task as running. */
  async reportRunning(): Promise<void> {
    const status = { state: TaskState.RUNNING, container: { container_id: 'c' } };
    const updates = [...this.tasks.keys()].map((task_id) => ({ task_id, status }));
    const request = UpdateTaskStatusRequest.create({ session_id: this.#sessionId, updates });
    await callUnary(this.#client, DispatcherService.UpdateTaskStatus, request, { timeoutMs: 5_000 });
  }

  disconnect(): void {
    this.connected = false;
    this.#controller.abort(new Error('disconnected'));
  }
}
