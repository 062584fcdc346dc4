import {
  abortReason,
  ShoalError,
  TurnPacer,
  unreachable,
  type Clock,
  type Logger,
  type Random,
} from '../../base/index.ts';
import {
  AssignmentsMessage_Type as MessageKind,
  Node,
  NodeStatus,
  NodeStatus_State,
  SessionMessage,
  durationFromNs,
  type AgentReport,
  type AssignmentChange,
  type AssignmentsMessage,
  type AssignmentsRequest,
  type Duration,
  type HeartbeatRequest,
  type HeartbeatResponse,
  type ReportAck,
  type SessionRequest,
  type TaskStatus,
  type TaskUsage,
  type UpdateTaskStatusRequest,
  type WeightedPeer,
} from '../../proto/index.ts';
import type { Change, Commit, Store } from '../store/types.ts';
import { AssignmentCodec } from './assignment-codec.ts';
import { AssignmentFeed, FeedLoad, isOwnReport, tablesTaken } from './assignment-feed.ts';
import { ignoreAbortOf, orAborted, type DuplexCall, type StreamCall, type UnaryCall } from './calls.ts';
import { NetworkIndex } from './network-index.ts';
import { Orphans } from './orphans.ts';
import { serveReports } from './report-stream.ts';
import { stableContent, type Session } from './session.ts';
import { Sessions } from './sessions.ts';
import { MESSAGES_PACE } from './settings.ts';
import { USAGE_SINCE_VERSION, type UsageReading } from './usage.ts';
import { copyMeta, WriteBatch, type Settled } from './write-batch.ts';

/** Changes in one INCREMENTAL message; more go into the next ones. */
const MESSAGE_ITEMS_MAX = 1000;
/** Nodes set to UNKNOWN in one transaction. */
const UNKNOWN_TRANSACTION_MAX = 400;
/** Wait before the first writes of a term are tried again, ms. */
const START_RETRY_MS = 200;

/** The store as the dispatcher needs it: the raft index gives tables versions that rise across leaders. */
export type IndexedStore = Store & { readonly currentIndex: number };

export interface DispatcherOptions {
  store: IndexedStore;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Node id of this manager: stamped on the statuses it stores. */
  nodeId: string;
  /** Every manager of the cluster (weight 10 each): agents forget those that are missing. */
  managers: () => WeightedPeer[];
  /** Root certificates (PEM) that agents must trust. */
  rootCa: () => Uint8Array;
  /** Whether this manager has been started again a moment ago: silent nodes then get more time to come back. */
  restarted?: (() => boolean) | undefined;
  /** Least time that silent nodes are given now, ms: a restored cluster waits for its workers. */
  awaitMs?: (() => number) | undefined;
  /** Not 0 while a node has network checks to fetch, see SessionMessage. */
  networkChecks?: ((nodeId: string) => number) | undefined;
}

/** One period of leadership: its sessions and indexes, from the first full reading of the store to the last commit. */
export class DispatcherTerm {
  readonly #options: DispatcherOptions;
  readonly #index = new NetworkIndex();
  readonly #batch: WriteBatch;
  readonly #sessions: Sessions;
  readonly #orphans: Orphans;
  readonly #feeds = new FeedLoad();
  /** Answers to agents that come, and what is told to all: neither holds up consensus, nor the second the first. */
  readonly #messages: TurnPacer;
  readonly #news: TurnPacer;
  readonly #codec = new AssignmentCodec();

  constructor(options: DispatcherOptions) {
    this.#options = options;
    const { store, clock, random, log, restarted, awaitMs } = options;
    this.#batch = new WriteBatch({ store, clock, log, appliedBy: options.nodeId });
    this.#sessions = new Sessions({ store, clock, random, log, batch: this.#batch, restarted, awaitMs });
    this.#orphans = new Orphans({ store, clock, log });
    this.#messages = new TurnPacer({ clock, ...MESSAGES_PACE });
    this.#news = new TurnPacer({ clock, ...MESSAGES_PACE });
  }

  /**
   * Follows the store until `signal` aborts. `onReady` is called when agents can be served.
   */
  async run(signal: AbortSignal, onReady: () => void): Promise<void> {
    const { store } = this.#options;
    let ready = false;
    while (!signal.aborted) {
      const watch = store.watch();
      const close = (): void => watch.close();
      signal.addEventListener('abort', close, { once: true });
      try {
        if (!ready) await this.#expectNodes(signal);
        if (signal.aborted) return;
        this.#readAll();
        if (!ready) onReady();
        ready = true;
        for await (const commit of watch) this.#follow(commit);
      } finally {
        signal.removeEventListener('abort', close);
        watch.close();
      }
      if (!signal.aborted && !watch.overflowed) return;
    }
  }

  close(): void {
    void this.#sessions.close(() => this.#news.turn());
    this.#orphans.close();
    const words = 'this manager is no longer the leader; connect to another manager';
    this.#batch.close(new ShoalError('Unavailable', words));
  }

  /** What agents are told changed: of one node, or (the list of managers, the root certificate) of all. */
  refresh(nodeId?: string): void {
    const some = nodeId === undefined ? this.#sessions.all() : [this.#sessions.of(nodeId)];
    for (const session of some) session?.messages.wake();
  }

  async session(call: StreamCall<SessionRequest, SessionMessage>): Promise<void> {
    const session = await this.#sessions.register(call.nodeId, call.address, call.request);
    await this.#messages.turn();
    session.messageStream?.abort(new ShoalError('Aborted', 'the agent has opened the session on another stream'));
    session.messageStream = new AbortController();
    const ended = AbortSignal.any([session.signal, session.messageStream.signal, call.signal]);
    let sent: Uint8Array | undefined;
    while (!ended.aborted) {
      const message = this.#sessionMessage(session);
      const content = message === undefined ? undefined : stableContent(message);
      const isNews = content !== undefined && (sent === undefined || Buffer.compare(sent, content) !== 0);
      if (message !== undefined && isNews) {
        await orAborted(call.send(message), ended).catch(ignoreAbortOf(ended));
        sent = content;
      }
      await session.messages.wait(ended);
      await this.#news.turn();
    }
    if (!call.signal.aborted) throw abortReason(ended);
  }

  async heartbeat(call: UnaryCall<HeartbeatRequest>): Promise<HeartbeatResponse> {
    const session = this.#sessions.check(call.nodeId, call.request.session_id);
    return { period: this.#beat(session, call.request.usage) };
  }

  #beat(session: Session, usage: TaskUsage[]): Duration {
    if (usage.length > 0 && session.shoalVersion >= USAGE_SINCE_VERSION) {
      session.usage.take(usage, this.#options.clock.monotonic());
    }
    return durationFromNs(Math.round(this.#sessions.beat(session) * 1e6));
  }

  /** See UsageSource. Only what a task's own node says of it counts. */
  usageOf(task: { readonly id: string; readonly node_id: string }): UsageReading | undefined {
    return this.#sessions.of(task.node_id)?.usage.of(task.id);
  }

  async updateTaskStatus(call: UnaryCall<UpdateTaskStatusRequest>): Promise<void> {
    const session = this.#sessions.check(call.nodeId, call.request.session_id);
    await new Promise<void>((resolve, reject) => {
      this.#store(session, call.request.updates, (error) => (error === undefined ? resolve() : reject(error)));
    });
  }

  /** @throws ShoalError PermissionDenied when a task is another node's; then nothing is taken. */
  #store(session: Session, updates: UpdateTaskStatusRequest['updates'], settled: Settled): void {
    const { nodeId } = session;
    const view = this.#options.store.view();
    const taken = new Map<string, TaskStatus>();
    for (const { task_id: taskId, status } of updates) {
      const task = view.get('task', taskId);
      // Agents report on tasks that were removed meanwhile; that is no mistake of theirs.
      if (task === undefined || status === null) continue;
      if (task.node_id !== nodeId) {
        throw new ShoalError('PermissionDenied', `task ${taskId} is not assigned to node ${nodeId}`);
      }
      taken.set(taskId, status);
    }
    this.#batch.statuses(taken, settled);
  }

  /** Heartbeats and statuses of one session as a stream; ends as `heartbeat` and `updateTaskStatus` fail. */
  reports(call: DuplexCall<AgentReport, ReportAck>): Promise<void> {
    return serveReports(call, this.#options.clock, {
      session: (sessionId) => this.#sessions.check(call.nodeId, sessionId),
      beat: (session, usage) => this.#beat(session, usage),
      store: (session, updates, settled) => this.#store(session, updates, settled),
    });
  }

  /** @throws as `heartbeat`. */
  checkSession(nodeId: string, sessionId: string): void {
    this.#sessions.check(nodeId, sessionId);
  }

  async assignments(call: StreamCall<AssignmentsRequest, AssignmentsMessage>): Promise<void> {
    const session = this.#sessions.check(call.nodeId, call.request.session_id);
    session.assignmentStream?.abort(new ShoalError('Aborted', 'the agent has opened a newer stream of assignments'));
    session.assignmentStream = new AbortController();
    const ended = AbortSignal.any([session.signal, session.assignmentStream.signal, call.signal]);
    const feed = new AssignmentFeed(call.nodeId, this.#index, tablesTaken(session.shoalVersion), this.#feeds);
    session.feed = feed;
    try {
      await orAborted(this.#feed(session, feed, call, ended), ended).catch(ignoreAbortOf(ended));
    } finally {
      feed.close();
      if (session.feed === feed) session.feed = undefined;
    }
    if (!call.signal.aborted) throw abortReason(ended);
  }

  async #feed(
    session: Session,
    feed: AssignmentFeed,
    call: StreamCall<AssignmentsRequest, AssignmentsMessage>,
    ended: AbortSignal,
  ): Promise<void> {
    const { clock, store } = this.#options;
    let sequence = 0;
    const send = async (type: MessageKind, changes: AssignmentChange[]): Promise<void> => {
      const appliesTo = type === MessageKind.COMPLETE ? '' : String(sequence);
      const message = { type, applies_to: appliesTo, results_in: String(++sequence), changes };
      await call.send(message, this.#codec.encode(message));
    };
    await this.#messages.turn();
    let lastSentMs = clock.monotonic();
    await send(MessageKind.COMPLETE, feed.complete(store.view(), lastSentMs));
    while (!ended.aborted) {
      const delayMs = feed.delayMs(clock.monotonic(), lastSentMs);
      if (delayMs === undefined || delayMs > 0) {
        await session.assignments.wait(ended, delayMs === undefined ? undefined : { clock, ms: delayMs });
        continue;
      }
      await this.#messages.turn();
      const changes = feed.changes(store.view(), clock.monotonic());
      while (changes.length > 0 && !ended.aborted) {
        await send(MessageKind.INCREMENTAL, changes.splice(0, MESSAGE_ITEMS_MAX));
        lastSentMs = clock.monotonic();
      }
    }
  }

  #sessionMessage(session: Session): SessionMessage | undefined {
    const view = this.#options.store.view();
    const node = view.get('node', session.nodeId);
    if (node === undefined) return undefined;
    return {
      session_id: session.id,
      node,
      managers: this.#options.managers(),
      network_bootstrap_keys: view.list('cluster')[0]?.network_bootstrap_keys ?? [],
      RootCA: this.#options.rootCa(),
      network_checks: this.#options.networkChecks?.(session.nodeId) ?? 0,
    };
  }

  /** A new leader has no sessions: nodes that had one with the former leader are expected to come back. */
  async #expectNodes(signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.#options;
    for (let done = false; !done && !signal.aborted;) {
      done = await this.#markNodesUnknown().then(
        () => true,
        async (error: unknown) => {
          log.warn('the states of nodes cannot be stored yet; trying again', { error });
          await clock.sleep(START_RETRY_MS, signal).catch(() => undefined);
          return false;
        },
      );
    }
    if (signal.aborted) return;
    for (const node of store.view().list('node')) {
      const state = node.status?.state ?? NodeStatus_State.UNKNOWN;
      // A node without description has never been here.
      if (state !== NodeStatus_State.DOWN && node.description !== null) this.#sessions.expect(node.id);
    }
  }

  async #markNodesUnknown(): Promise<void> {
    const { store } = this.#options;
    const isUp = (node: Node): boolean => node.status?.state === NodeStatus_State.READY;
    const nodes = store.view().list('node').filter(isUp);
    const ids = nodes.map((node) => node.id);
    const writes: Promise<void>[] = [];
    while (ids.length > 0) writes.push(this.#markUnknown(ids.splice(0, UNKNOWN_TRANSACTION_MAX)));
    await Promise.all(writes);
  }

  #markUnknown(nodeIds: string[]): Promise<void> {
    return this.#options.store.update((tx) => {
      for (const nodeId of nodeIds) {
        const node = tx.get('node', nodeId);
        if (node?.status?.state !== NodeStatus_State.READY) continue;
        const message = 'the leader has changed; the node is expected to reconnect';
        const status = NodeStatus.create({ ...node.status, state: NodeStatus_State.UNKNOWN, message });
        tx.update('node', { ...node, meta: copyMeta(node.meta), status });
      }
    });
  }

  #readAll(): void {
    const { store } = this.#options;
    const view = store.view();
    this.#index.rebuild(view, store.currentIndex);
    this.#index.takeDirty();
    for (const node of view.list('node')) this.#orphans.observe(node.id, node);
    for (const session of [...this.#sessions.all()]) {
      if (view.get('node', session.nodeId) === undefined) this.#sessions.remove(session.nodeId);
      session.feed?.markAll(view);
      session.assignments.wake();
      session.messages.wake();
    }
  }

  #follow(commit: Commit): void {
    if (commit.reset) return this.#readAll();
    const view = this.#options.store.view();
    let everyone = false;
    for (const change of commit.changes) {
      this.#index.apply(view, change, commit.index);
      everyone ||= this.#route(change);
    }
    if (everyone) this.refresh();
    for (const networkId of this.#index.takeDirty()) this.#routeTable(networkId);
  }

  /** Tells the sessions that a change concerns; true when it may concern all. */
  #route(change: Change): boolean {
    switch (change.kind) {
      case 'task':
        if (change.action === 'update' && isOwnReport(change.old, change.object)) return false;
        this.#markTask(change.object.node_id, change.object.id);
        if (change.action === 'remove') this.#sessions.of(change.object.node_id)?.usage.forget(change.object.id);
        if (change.old !== undefined && change.old.node_id !== change.object.node_id) {
          this.#markTask(change.old.node_id, change.object.id);
        }
        return false;
      case 'secret':
      case 'config':
        for (const session of this.#sessions.all()) {
          if (session.feed?.markDependency({ kind: change.kind, id: change.object.id })) session.assignments.wake();
        }
        return false;
      case 'node':
        return this.#routeNode(change.object, change.action === 'remove', change.old);
      case 'cluster':
        return true;
      case 'network':
      case 'service':
      case 'revision':
        // What agents need of these is in the tables, see `#routeTable`.
        return false;
      default:
        return unreachable(change);
    }
  }

  #routeNode(node: Node, removed: boolean, old: Node | undefined): boolean {
    this.#orphans.observe(node.id, removed ? undefined : node);
    if (removed) this.#sessions.remove(node.id);
    else this.#sessions.of(node.id)?.messages.wake();
    return node.manager_status !== null || (old?.manager_status ?? null) !== null;
  }

  #markTask(nodeId: string, taskId: string): void {
    const session = this.#sessions.of(nodeId);
    if (session?.feed === undefined) return;
    session.feed.markTask(taskId);
    session.assignments.wake();
  }

  #routeTable(networkId: string): void {
    const nodes = this.#index.nodesOn(networkId);
    // A node whose last task has left must hear of it as well, so everyone who has the table is asked.
    for (const session of nodes === 'all' ? this.#sessions.all() : this.#holders(networkId, nodes)) {
      session.feed?.markTable(networkId);
      session.assignments.wake();
    }
  }

  *#holders(networkId: string, nodes: string[]): Iterable<Session> {
    const on = new Set(nodes);
    for (const session of this.#sessions.all()) {
      if (on.has(session.nodeId) || session.feed?.hasTable(networkId) === true) yield session;
    }
  }
}
