import {
  errorMessage,
  newId,
  ShoalError,
  unavailable,
  type Clock,
  type Logger,
  type Random,
} from '../../base/index.ts';
import {
  TaskState,
  type ListenSubscriptionsRequest,
  type LogMessage,
  type PublishLogsMessage,
  type SubscribeLogsMessage,
  type SubscribeLogsRequest,
  type SubscriptionMessage,
  type Task,
  NodeStatus_State,
} from '../../proto/index.ts';
import { orAborted, type ClientStreamCall, type StreamCall } from '../dispatcher/calls.ts';
import type { Commit, Store } from '../store/types.ts';
import { Channel } from './channel.ts';
import { LogSubscription, selectedTasks, selects } from './subscription.ts';

/** Clients that may read logs at once. */
export const SUBSCRIPTIONS_MAX = 1024;
/** Subscription messages held for one agent: one for each subscription and its end. */
const LISTENER_MESSAGES_MAX = SUBSCRIPTIONS_MAX * 4;

export interface LogBrokerOptions {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
}

const notLeader = (): ShoalError => unavailable('this manager is not the leader; connect to another manager');

/** One period of leadership: agents that listen on one side, clients on the other. */
export class LogBrokerTerm {
  readonly #options: LogBrokerOptions;
  readonly #listeners = new Map<string, Channel<SubscriptionMessage>>();
  readonly #subscriptions = new Map<string, LogSubscription>();

  constructor(options: LogBrokerOptions) {
    this.#options = options;
  }

  /** Follows the store, so that followers get the logs of tasks that are placed later. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const watch = this.#options.store.watch();
      const close = (): void => watch.close();
      signal.addEventListener('abort', close, { once: true });
      try {
        for (const subscription of this.#subscriptions.values()) this.#addNodes(subscription);
        for await (const commit of watch) this.#follow(commit);
      } finally {
        signal.removeEventListener('abort', close);
        watch.close();
      }
      if (!watch.overflowed) return;
    }
  }

  close(): void {
    for (const subscription of this.#subscriptions.values()) subscription.close(notLeader());
    for (const listener of this.#listeners.values()) listener.close(notLeader());
    this.#subscriptions.clear();
    this.#listeners.clear();
  }

  /** An agent asks what it is to publish. */
  async listen(call: StreamCall<ListenSubscriptionsRequest, SubscriptionMessage>): Promise<void> {
    const channel = new Channel<SubscriptionMessage>(LISTENER_MESSAGES_MAX);
    this.#listeners.get(call.nodeId)?.close(new ShoalError('Aborted', 'the agent listens on a newer stream'));
    this.#listeners.set(call.nodeId, channel);
    const close = (): void => channel.close();
    call.signal.addEventListener('abort', close, { once: true });
    if (call.signal.aborted) close();
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.has(call.nodeId)) this.#tell(call.nodeId, subscription.messageFor(call.nodeId));
    }
    try {
      for (let next = await channel.read(); next !== undefined; next = await channel.read()) {
        await orAborted(call.send(next), call.signal);
      }
    } catch (error) {
      if (!call.signal.aborted) throw error;
    } finally {
      call.signal.removeEventListener('abort', close);
      channel.close();
      if (this.#listeners.get(call.nodeId) === channel) {
        this.#listeners.delete(call.nodeId);
        for (const subscription of this.#subscriptions.values()) subscription.lost(call.nodeId);
      }
    }
  }

  /** An agent publishes the lines of one subscription. */
  async publish(call: ClientStreamCall<PublishLogsMessage>): Promise<void> {
    let subscription: LogSubscription | undefined;
    let complete = false;
    try {
      for await (const message of call.messages) {
        subscription ??= this.#begin(call.nodeId, message.subscription_id);
        if (message.subscription_id !== subscription.id) {
          throw new ShoalError('InvalidArgument', 'a stream of logs carries one subscription only');
        }
        checkContexts(message.messages, call.nodeId);
        if (!(await subscription.publish(call.nodeId, message.messages))) {
          throw new ShoalError('NotFound', `log subscription ${subscription.id} has ended`);
        }
        if (message.close) {
          complete = true;
          break;
        }
      }
    } finally {
      if (complete) subscription?.done(call.nodeId);
      else subscription?.lost(call.nodeId);
    }
  }

  /** Lines of all tasks that a request selects, as they come in. */
  async *subscribe(request: SubscribeLogsRequest, signal: AbortSignal): AsyncGenerator<SubscribeLogsMessage, void> {
    if (this.#subscriptions.size >= SUBSCRIPTIONS_MAX) {
      throw new ShoalError('ResourceExhausted', `${SUBSCRIPTIONS_MAX} clients already read logs; end one of them`);
    }
    const subscription = new LogSubscription(newId(this.#options.random), request, this.#options.clock);
    const close = (): void => subscription.close();
    signal.addEventListener('abort', close, { once: true });
    this.#subscriptions.set(subscription.id, subscription);
    try {
      if (signal.aborted) return;
      this.#start(subscription);
      for (let next = await subscription.read(); next !== undefined; next = await subscription.read()) yield next;
    } finally {
      signal.removeEventListener('abort', close);
      this.#subscriptions.delete(subscription.id);
      subscription.close();
      for (const nodeId of subscription.nodeIds) {
        this.#tell(nodeId, { id: subscription.id, selector: null, options: null, close: true });
      }
    }
  }

  #start(subscription: LogSubscription): void {
    const { selector } = subscription.request;
    for (const task of selectedTasks(this.#options.store.view(), selector)) {
      if (!isPlaced(task)) subscription.unplaced(task);
    }
    this.#addNodes(subscription);
    // A request that selects nothing ends at once.
    subscription.settle();
  }

  #addNodes(subscription: LogSubscription): void {
    const nodes = new Set<string>();
    for (const task of selectedTasks(this.#options.store.view(), subscription.request.selector)) {
      if (isPlaced(task)) nodes.add(task.node_id);
    }
    const fresh = [...nodes].filter((nodeId) => !subscription.has(nodeId));
    // All are added before any is told, so that a quick answer of one does not end the request for the others.
    for (const nodeId of fresh) this.#tell(nodeId, subscription.messageFor(nodeId));
    for (const nodeId of fresh) subscription.add(nodeId, this.#agent(nodeId));
  }

  /** Right after a restart an agent may be in session, or on its way to one, and not listen yet. */
  #agent(nodeId: string): 'listens' | 'expected' | 'gone' {
    if (this.#listeners.has(nodeId)) return 'listens';
    const state = this.#options.store.view().get('node', nodeId)?.status?.state;
    return state === NodeStatus_State.READY || state === NodeStatus_State.UNKNOWN ? 'expected' : 'gone';
  }

  #follow(commit: Commit): void {
    if (this.#subscriptions.size === 0) return;
    if (commit.reset) {
      for (const subscription of this.#subscriptions.values()) this.#addNodes(subscription);
      return;
    }
    for (const change of commit.changes) {
      if (change.kind !== 'task' || change.action === 'remove' || !isPlaced(change.object)) continue;
      for (const subscription of this.#subscriptions.values()) this.#extend(subscription, change.object);
    }
  }

  #extend(subscription: LogSubscription, task: Task): void {
    if (!subscription.follow || subscription.has(task.node_id)) return;
    if (!selects(subscription.request.selector, task)) return;
    subscription.add(task.node_id, this.#agent(task.node_id));
    this.#tell(task.node_id, subscription.messageForNewTasks(task.node_id));
  }

  #begin(nodeId: string, id: string): LogSubscription {
    const subscription = this.#subscriptions.get(id);
    if (subscription === undefined || !subscription.begin(nodeId)) {
      throw new ShoalError('NotFound', `log subscription ${id} has ended`);
    }
    return subscription;
  }

  #tell(nodeId: string, message: SubscriptionMessage): void {
    const listener = this.#listeners.get(nodeId);
    listener?.write(message).catch((error: unknown) => {
      this.#options.log.warn('an agent could not be told of a log request', {
        node: nodeId,
        error: errorMessage(error),
      });
    });
  }
}

/** Whether some agent may hold a log of the task. */
function isPlaced(task: Task): boolean {
  return task.node_id !== '' && (task.status?.state ?? TaskState.NEW) >= TaskState.ASSIGNED;
}

/** @throws ShoalError PermissionDenied when an agent speaks for another node. */
function checkContexts(messages: LogMessage[], nodeId: string): void {
  for (const message of messages) {
    if (message.context?.node_id !== nodeId) {
      throw new ShoalError('PermissionDenied', `node ${nodeId} may publish logs of its own tasks only`);
    }
  }
}
