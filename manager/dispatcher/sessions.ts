import { newId, ShoalError, unavailable, type Clock, type Logger, type Random } from '../../base/index.ts';
import { NodeStatus_State, type Cluster, type Node, type SessionRequest } from '../../proto/index.ts';
import type { Store } from '../store/types.ts';
import { hostOf } from './calls.ts';
import { Deadline, nodeNotRegistered, Session, sessionInvalid } from './session.ts';
import { graceMs, heartbeatTimes, jittered, type HeartbeatTimes } from './settings.ts';
import type { NodeWrite, WriteBatch } from './write-batch.ts';

/** New sessions that one node may open within the window; more are refused for a while. */
export const REGISTRATIONS_MAX = 16;
/** Window of the limit above, ms. */
export const REGISTRATION_WINDOW_MS = 8000;
/** Wait before a Down that could not be stored is tried again, ms. */
const DOWN_RETRY_MS = 1000;

export const HEARTBEAT_FAILURE = 'heartbeat failure';

/** Peers that say nothing of where a node is: calls of the manager's own agent. */
function isLoopback(host: string): boolean {
  return host === '' || host === '::1' || host === 'localhost' || host.startsWith('127.') || host === '0.0.0.0';
}

const notLeading = (): ShoalError => unavailable('this manager is no longer the leader; connect to another manager');

interface Registrations {
  windowStartMs: number;
  count: number;
}

export interface SessionsOptions {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  batch: WriteBatch;
  /** Whether this manager has been started again a moment ago. */
  restarted?: (() => boolean) | undefined;
  /** Least time that nodes are waited for now, ms. */
  awaitMs?: (() => number) | undefined;
}

/** The sessions of all nodes, and what their silence means. */
export class Sessions {
  readonly #options: SessionsOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #deadlines = new Map<string, Deadline>();
  readonly #registrations = new Map<string, Registrations>();
  #closed = false;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  all(): Iterable<Session> {
    return this.#sessions.values();
  }

  of(nodeId: string): Session | undefined {
    return this.#sessions.get(nodeId);
  }

  /**
   * The session that a call names.
   * @throws ShoalError NotFound "node not registered", InvalidArgument "session invalid".
   */
  check(nodeId: string, sessionId: string): Session {
    if (this.#options.store.view().get('node', nodeId) === undefined) throw nodeNotRegistered();
    const session = this.#sessions.get(nodeId);
    if (session === undefined || session.id !== sessionId) throw sessionInvalid();
    return session;
  }

  /**
   * Takes an agent in: resumes the session it names when that is still valid, opens a new one otherwise. Resolves when
   * the node's state and description are committed.
   * @throws ShoalError NotFound, or Unavailable when the node registers too often or nothing can be committed.
   */
  async register(nodeId: string, address: string, request: SessionRequest): Promise<Session> {
    if (this.#closed) throw notLeading();
    if (this.#options.store.view().get('node', nodeId) === undefined) throw nodeNotRegistered();
    let session = this.#sessions.get(nodeId);
    if (session === undefined || session.id !== request.session_id) {
      this.#limit(nodeId);
      session?.close(new ShoalError('Aborted', 'the agent must disconnect: it has opened a newer session'));
      session = new Session(newId(this.#options.random), nodeId, request.shoal_version);
      this.#sessions.set(nodeId, session);
    }
    this.#extend(nodeId, this.#times(session).downAfterMs);
    const host = hostOf(address);
    const write: NodeWrite = { state: NodeStatus_State.READY, message: '' };
    const addr = isLoopback(host) ? request.description?.data_path_addr || '' : host;
    if (addr !== '') write.addr = addr;
    if (request.description !== null) write.description = request.description;
    await this.#options.batch.node(nodeId, write);
    if (session.signal.aborted) throw session.signal.reason as ShoalError;
    return session;
  }

  /** A sign of life; returns the time until the next one is due, ms. */
  beat(session: Session): number {
    const times = this.#times(session);
    this.#extend(session.nodeId, times.downAfterMs);
    return jittered(times.periodMs, this.#options.random);
  }

  /** Expects a node that had a session with an earlier leader: it is Down unless it comes back in time. */
  expect(nodeId: string): void {
    const node = this.#options.store.view().get('node', nodeId);
    // Only Shoal's agents tell the address of their tunnels.
    const shoal = (node?.description?.data_path_addr ?? '') !== '';
    const { restarted, awaitMs } = this.#options;
    const usualMs = graceMs(this.#cluster(), shoal, restarted?.() ?? false);
    this.#extend(nodeId, Math.max(usualMs, awaitMs?.() ?? 0));
  }

  /** The node was removed from the cluster. */
  remove(nodeId: string): void {
    this.#end(nodeId, nodeNotRegistered());
    this.#registrations.delete(nodeId);
  }

  /** Ends all sessions, each in its `turn`; the agents look for another manager. None is known from now on. */
  async close(turn: () => Promise<void>): Promise<void> {
    this.#closed = true;
    for (const deadline of this.#deadlines.values()) deadline.cancel();
    this.#deadlines.clear();
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of sessions) {
      await turn();
      session.close(notLeading());
    }
  }

  #cluster(): Cluster | undefined {
    return this.#options.store.view().list('cluster')[0];
  }

  #times(session: Session): HeartbeatTimes {
    return heartbeatTimes(this.#cluster(), session.shoalVersion >= 1, this.#sessions.size);
  }

  #limit(nodeId: string): void {
    const nowMs = this.#options.clock.monotonic();
    const held = this.#registrations.get(nodeId);
    if (held === undefined || nowMs - held.windowStartMs >= REGISTRATION_WINDOW_MS) {
      this.#registrations.set(nodeId, { windowStartMs: nowMs, count: 1 });
      return;
    }
    if (held.count >= REGISTRATIONS_MAX) throw unavailable(`node ${nodeId} opens sessions too often; try again later`);
    held.count++;
  }

  #extend(nodeId: string, delayMs: number): void {
    // Heartbeats come until the stream has its turn to end.
    if (this.#closed) return;
    const deadline = this.#deadlines.get(nodeId);
    if (deadline !== undefined) return deadline.extend(delayMs);
    this.#deadlines.set(nodeId, new Deadline(this.#options.clock, delayMs, () => this.#expire(nodeId)));
  }

  #end(nodeId: string, reason: ShoalError): void {
    this.#deadlines.get(nodeId)?.cancel();
    this.#deadlines.delete(nodeId);
    this.#sessions.get(nodeId)?.close(reason);
    this.#sessions.delete(nodeId);
  }

  #expire(nodeId: string): void {
    this.#end(nodeId, new ShoalError('Aborted', 'the agent must disconnect: its heartbeats did not arrive'));
    const node: Node | undefined = this.#options.store.view().get('node', nodeId);
    if (node === undefined) return;
    this.#options.log.info('node is down', { node: nodeId, reason: HEARTBEAT_FAILURE });
    const write = { state: NodeStatus_State.DOWN, message: HEARTBEAT_FAILURE };
    this.#options.batch.node(nodeId, write).catch((error: unknown) => {
      this.#options.log.warn('cannot mark a node as down yet', { node: nodeId, error });
      // A node that came back meanwhile has a deadline of its own.
      if (!this.#deadlines.has(nodeId)) this.#extend(nodeId, DOWN_RETRY_MS);
    });
  }
}
