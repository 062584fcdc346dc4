import { ShoalError, type Clock, type Timer } from '../../base/index.ts';
import {
  LogSubscriptionOptions,
  TaskState,
  timestampFromMs,
  timestampToMs,
  type LogMessage,
  type LogSelector,
  type SubscribeLogsMessage,
  type SubscribeLogsRequest,
  type SubscriptionMessage,
  type Task,
} from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import { Channel } from './channel.ts';

/** Messages (each of many lines) held for a client that reads slowly; then the agents wait. */
const BUFFER_MESSAGES = 64;
/** Time in which a node must publish something before a finite request goes on without it, ms. */
export const NODE_DEADLINE_MS = 10_000;
/** Time for an agent that is in session, or about to be, to open its stream for requests, ms. */
export const LISTEN_GRACE_MS = 3_000;
/** `tail` of the wire: no lines from before. */
const TAIL_NONE = -1;

type NodeProgress = 'waiting' | 'publishing' | 'done';

interface NodeState {
  progress: NodeProgress;
  /** Newest line seen, ms since the epoch; a follower that reconnects continues after it. */
  lastMs: number;
  timer: Timer | undefined;
}

/** Whether a log request selects a task: by its id, its service or its node. */
export function selects(selector: LogSelector, task: Task): boolean {
  return (
    selector.task_ids.includes(task.id) ||
    (task.service_id !== '' && selector.service_ids.includes(task.service_id)) ||
    (task.node_id !== '' && selector.node_ids.includes(task.node_id))
  );
}

/** The tasks that a request selects now. */
export function selectedTasks(view: ReadView, selector: LogSelector): Task[] {
  const found = new Map<string, Task>();
  for (const id of selector.task_ids) {
    const task = view.get('task', id);
    if (task !== undefined) found.set(id, task);
  }
  for (const id of selector.service_ids) for (const task of view.tasksByService(id)) found.set(task.id, task);
  for (const id of selector.node_ids) for (const task of view.tasksByNode(id)) found.set(task.id, task);
  return [...found.values()];
}

/** One client's request for logs: which nodes were asked, how far they are, and what came in. */
export class LogSubscription {
  readonly id: string;
  readonly request: { selector: LogSelector; options: LogSubscriptionOptions };
  readonly #clock: Clock;
  readonly #channel = new Channel<SubscribeLogsMessage>(BUFFER_MESSAGES);
  readonly #nodes = new Map<string, NodeState>();
  /** Why lines may be missing, in words. */
  readonly #reasons: string[] = [];

  constructor(id: string, request: SubscribeLogsRequest, clock: Clock) {
    this.id = id;
    this.#clock = clock;
    this.request = {
      selector: request.selector ?? { service_ids: [], node_ids: [], task_ids: [] },
      options: request.options ?? LogSubscriptionOptions.create(),
    };
  }

  get follow(): boolean {
    return this.request.options.follow;
  }

  /** Nodes that were asked. */
  get nodeIds(): string[] {
    return [...this.#nodes.keys()];
  }

  has(nodeId: string): boolean {
    return this.#nodes.has(nodeId);
  }

  /** Notes that a task has no log because it never ran anywhere. */
  unplaced(task: Task): void {
    const ended = (task.status?.state ?? TaskState.NEW) > TaskState.RUNNING;
    if (!ended) this.#reasons.push(`task ${task.id} has not been scheduled`);
  }

  /** Adds a node to ask. An agent that is `expected` to listen in a moment is waited for; one that is not is left out. */
  add(nodeId: string, agent: 'listens' | 'expected' | 'gone'): void {
    if (this.#nodes.has(nodeId)) return;
    const state: NodeState = { progress: 'waiting', lastMs: 0, timer: undefined };
    this.#nodes.set(nodeId, state);
    if (this.follow) return;
    if (agent === 'gone') this.#fail(nodeId, state, 'is not available');
    else this.#arm(nodeId, state, agent === 'listens' ? NODE_DEADLINE_MS : LISTEN_GRACE_MS);
  }

  /** What to tell an agent that listens. A follower's second request continues after the newest line it has seen. */
  messageFor(nodeId: string): SubscriptionMessage {
    const options = this.request.options;
    const lastMs = this.#nodes.get(nodeId)?.lastMs ?? 0;
    const again = lastMs > 0 ? { ...options, tail: 0, since: timestampFromMs(lastMs + 0.001) } : options;
    return { id: this.id, selector: this.request.selector, options: again, close: false };
  }

  /** A task placed on a new node after the request began has only new lines, however many were asked for. */
  messageForNewTasks(nodeId: string): SubscriptionMessage {
    const message = this.messageFor(nodeId);
    const options = message.options;
    const all = options !== null && options.tail !== TAIL_NONE ? { ...options, tail: 0 } : options;
    return { ...message, options: all };
  }

  /** The agent has begun to publish; false when the subscription knows nothing of it. */
  begin(nodeId: string): boolean {
    const state = this.#nodes.get(nodeId);
    if (state === undefined || this.#channel.closed) return false;
    state.progress = 'publishing';
    this.#arm(nodeId, state);
    return true;
  }

  /** Takes lines in, waiting while the client is slow; false when the client has gone. */
  async publish(nodeId: string, messages: LogMessage[]): Promise<boolean> {
    const state = this.#nodes.get(nodeId);
    if (state === undefined) return false;
    // A slow client is not the agent's fault: its time starts anew once the lines are taken.
    state.timer?.cancel();
    for (const message of messages) state.lastMs = Math.max(state.lastMs, timestampToMs(message.timestamp));
    const taken = messages.length === 0 ? !this.#channel.closed : await this.#channel.write({ messages });
    if (taken && state.progress === 'publishing') this.#arm(nodeId, state);
    return taken;
  }

  /** The agent has sent all it has. */
  done(nodeId: string): void {
    const state = this.#nodes.get(nodeId);
    if (state === undefined || state.progress === 'done') return;
    state.timer?.cancel();
    state.progress = 'done';
    this.settle();
  }

  /** The agent's connection broke. A follower waits for it to come back. */
  lost(nodeId: string): void {
    const state = this.#nodes.get(nodeId);
    if (state === undefined || state.progress === 'done') return;
    if (this.follow) {
      state.progress = 'waiting';
      return;
    }
    this.#fail(nodeId, state, 'disconnected unexpectedly');
  }

  /** Ends a finite subscription when every node has had its say. */
  settle(): void {
    if (this.follow) return;
    for (const state of this.#nodes.values()) if (state.progress !== 'done') return;
    this.#channel.close(this.#incomplete());
  }

  close(error?: ShoalError): void {
    for (const state of this.#nodes.values()) state.timer?.cancel();
    this.#channel.close(error);
  }

  /** The next lines, or undefined at the end. @throws ShoalError Unavailable when some logs are missing. */
  read(): Promise<SubscribeLogsMessage | undefined> {
    return this.#channel.read();
  }

  #arm(nodeId: string, state: NodeState, deadlineMs = NODE_DEADLINE_MS): void {
    state.timer?.cancel();
    state.timer = undefined;
    if (this.follow || this.#channel.closed) return;
    state.timer = this.#clock.after(deadlineMs, () => this.#fail(nodeId, state, 'is not available'));
  }

  #fail(nodeId: string, state: NodeState, words: string): void {
    if (state.progress === 'done') return;
    state.timer?.cancel();
    state.progress = 'done';
    this.#reasons.push(`node ${nodeId} ${words}`);
    this.settle();
  }

  #incomplete(): ShoalError | undefined {
    if (this.#reasons.length === 0) return undefined;
    return new ShoalError(
      'Unavailable',
      'incomplete log stream: some logs could not be retrieved for the following reasons: ' + this.#reasons.join(', '),
    );
  }
}
