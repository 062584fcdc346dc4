import { errorMessage, isShoalError, type Clock, type Logger } from '../base/index.ts';
import {
  LogStream as Stream,
  TaskState,
  timestampFromMs,
  timestampToMs,
  type LogMessage,
  type LogSelector,
  type LogSubscriptionOptions,
  type SubscriptionMessage,
  type Task,
} from '../proto/index.ts';
import type { AgentConnection, LogStream } from './connection.ts';
import type { TaskController, TaskLogOptions } from './executor.ts';

/** Lines and bytes sent in one message at the most. */
const BATCH_LINES = 256;
const BATCH_BYTES = 256 * 1024;
/** Longest time that a line waits for company, ms. */
const BATCH_WAIT_MS = 20;
/** Bytes per second that one subscription may take (swarmkit.md §1.11). */
const RATE_BYTES_PER_SECOND = 10_000_000;
/** Subscriptions answered at once; more are not answered (the broker reports the node as missing). */
export const SUBSCRIPTIONS_MAX = 256;

/** A task whose log may be asked for. */
export interface LogSource {
  task: Task;
  state: TaskState;
  controller: TaskController;
}

export function selects(selector: LogSelector, task: Task): boolean {
  return (
    selector.task_ids.includes(task.id) ||
    (task.service_id !== '' && selector.service_ids.includes(task.service_id)) ||
    (task.node_id !== '' && selector.node_ids.includes(task.node_id))
  );
}

/** The executor's options for those of the wire. `tail`: 0 all, −1 none, −(n+1) the last n (swarmkit.md §1.11). */
export function logOptions(options: LogSubscriptionOptions | null): TaskLogOptions {
  const streams = options?.streams ?? [];
  const both = streams.length === 0 || streams.includes(Stream.LOG_STREAM_UNKNOWN);
  const tail = options?.tail ?? 0;
  const sinceMs = timestampToMs(options?.since);
  return {
    stdout: both || streams.includes(Stream.LOG_STREAM_STDOUT),
    stderr: both || streams.includes(Stream.LOG_STREAM_STDERR),
    follow: options?.follow ?? false,
    ...(tail < 0 ? { tail: -tail - 1 } : {}),
    ...(sinceMs > 0 ? { sinceMs } : {}),
  };
}

/** Gathers lines into messages and sends them one at a time, no faster than the rate. */
class LineBatcher {
  readonly #stream: LogStream;
  readonly #id: string;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #lines: LogMessage[] = [];
  #bytes = 0;
  #sending: Promise<void> = Promise.resolve();
  #timer: { cancel(): void } | undefined;
  #failed: unknown;

  constructor(stream: LogStream, id: string, clock: Clock, signal: AbortSignal) {
    this.#stream = stream;
    this.#id = id;
    this.#clock = clock;
    this.#signal = signal;
  }

  /** @throws what sending threw. */
  async add(line: LogMessage): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    this.#lines.push(line);
    this.#bytes += line.data.length;
    if (this.#lines.length >= BATCH_LINES || this.#bytes >= BATCH_BYTES) return this.flush();
    this.#timer ??= this.#clock.after(BATCH_WAIT_MS, () => {
      this.flush().catch((error: unknown) => (this.#failed = error));
    });
  }

  flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const lines = this.#lines;
    const bytes = this.#bytes;
    this.#lines = [];
    this.#bytes = 0;
    if (lines.length === 0) return this.#sending;
    this.#sending = this.#sending.then(async () => {
      await this.#stream.write({ subscription_id: this.#id, messages: lines, close: false });
      const pauseMs = (bytes / RATE_BYTES_PER_SECOND) * 1000;
      if (pauseMs >= 1) await this.#clock.sleep(pauseMs, this.#signal);
    });
    return this.#sending;
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#sending.catch(() => undefined);
  }
}

interface Active {
  controller: AbortController;
  selector: LogSelector;
  follow: boolean;
  /** Starts reading a task's log unless it is read already. */
  add: (source: LogSource) => void;
}

export interface LogPublisherOptions {
  nodeId: string;
  clock: Clock;
  log: Logger;
  sources: () => Iterable<LogSource>;
}

/** Whether there is a container whose log can be read. */
const hasLog = (state: TaskState): boolean => state >= TaskState.STARTING && state !== TaskState.REJECTED;

/** Answers the log subscriptions of one manager. */
export class LogPublisher {
  readonly #options: LogPublisherOptions;
  readonly #active = new Map<string, Active>();

  constructor(options: LogPublisherOptions) {
    this.#options = options;
  }

  /** Begins or ends a subscription. All end when `signal`, the session's, aborts. */
  handle(message: SubscriptionMessage, connection: AgentConnection, signal: AbortSignal): void {
    this.#active.get(message.id)?.controller.abort(new Error('the log subscription has ended'));
    this.#active.delete(message.id);
    if (message.close) return;
    const { log } = this.#options;
    if (this.#active.size >= SUBSCRIPTIONS_MAX) {
      log.warn('too many log subscriptions; one is not answered', { subscription: message.id });
      return;
    }
    const controller = new AbortController();
    const ended = AbortSignal.any([signal, controller.signal]);
    this.#answer(message, connection, controller, ended).catch((error: unknown) => {
      if (ended.aborted || isShoalError(error, 'NotFound', 'Unavailable')) return;
      log.warn('logs could not be published', { subscription: message.id, error: errorMessage(error) });
    });
  }

  /** A task has come or has changed its state: followers get its log too. */
  taskChanged(source: LogSource): void {
    if (!hasLog(source.state)) return;
    for (const active of this.#active.values()) {
      if (active.follow && selects(active.selector, source.task)) active.add(source);
    }
  }

  async #answer(
    message: SubscriptionMessage,
    connection: AgentConnection,
    controller: AbortController,
    ended: AbortSignal,
  ): Promise<void> {
    const selector = message.selector ?? { service_ids: [], node_ids: [], task_ids: [] };
    const options = logOptions(message.options);
    const stream = connection.publishLogs(ended);
    const batcher = new LineBatcher(stream, message.id, this.#options.clock, ended);
    const readers = new Map<string, Promise<void>>();
    const add = (source: LogSource): void => {
      if (!readers.has(source.task.id)) readers.set(source.task.id, this.#read(source, options, batcher, ended));
    };
    const active: Active = { controller, selector, follow: options.follow, add };
    this.#active.set(message.id, active);
    try {
      // The first message tells the broker that this node is at work.
      await stream.write({ subscription_id: message.id, messages: [], close: false });
      for (const source of this.#options.sources()) {
        if (selects(selector, source.task) && hasLog(source.state)) add(source);
      }
      await Promise.all(readers.values());
      if (options.follow) await untilAborted(ended);
      if (ended.aborted) return;
      await batcher.flush();
      await stream.write({ subscription_id: message.id, messages: [], close: true });
      await stream.end();
    } finally {
      controller.abort(new Error('the log subscription has ended'));
      batcher.cancel();
      if (this.#active.get(message.id) === active) this.#active.delete(message.id);
    }
  }

  async #read(source: LogSource, options: TaskLogOptions, batcher: LineBatcher, ended: AbortSignal): Promise<void> {
    const { task, controller } = source;
    const context = { service_id: task.service_id, node_id: this.#options.nodeId, task_id: task.id };
    try {
      for await (const line of controller.logs(options, ended)) {
        if (ended.aborted) return;
        await batcher.add({
          context,
          timestamp: timestampFromMs(line.timestampMs),
          stream: line.stream === 'stdout' ? Stream.LOG_STREAM_STDOUT : Stream.LOG_STREAM_STDERR,
          data: line.data,
          attrs: [],
        });
      }
    } catch (error) {
      if (ended.aborted) return;
      // One task's broken log must not take away those of the others.
      this.#options.log.warn('the log of a task could not be read', { task: task.id, error });
    }
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
