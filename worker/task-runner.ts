import { errorMessage, isShoalError, unreachable, type Clock, type Logger } from '../base/index.ts';
import { TaskState, TaskStatus, isTerminal, timestampFromMs, type Task } from '../proto/index.ts';
import type { TaskController, TaskExit } from './executor.ts';
import type { Limiter } from './limiter.ts';
import { nextAction, type TaskAction } from './task-machine.ts';

/** Wait before a step that failed for a passing reason is tried again, ms (swarmkit.md §1.10). */
export const RETRY_MS = 1000;
/** Tries of removing a container before it is left to the next clean-up. */
const REMOVE_TRIES_MAX = 30;
/** Longest wait for a step that cannot be interrupted when the agent stops, ms. */
const STOP_PATIENCE_MS = 2000;

export interface TaskRunnerOptions {
  task: Task;
  /** State to go on from. */
  status: TaskStatus;
  controller: TaskController;
  clock: Clock;
  log: Logger;
  prepares: Limiter;
  /** Waits until what the task needs beside its container is there: networks' tables, secrets, configs. */
  ready: (task: Task, signal: AbortSignal) => Promise<void>;
  /** Keeps and reports a new status. */
  onStatus: (taskId: string, status: TaskStatus) => void;
}

/** Drives one task from assignment to removal: asks the machine for the next step and performs it. */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  #task: Task;
  #status: TaskStatus;
  #removed = false;
  #stopped = false;
  #changed = false;
  #wake: (() => void) | undefined;
  #step = new AbortController();
  #finished: Promise<void> | undefined;

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
    this.#task = options.task;
    this.#status = options.status;
  }

  get task(): Task {
    return this.#task;
  }

  get status(): TaskStatus {
    return this.#status;
  }

  get controller(): TaskController {
    return this.#options.controller;
  }

  /** No longer assigned; the container is being removed. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Stopped with the agent, whatever was left to do. */
  get halted(): boolean {
    return this.#stopped;
  }

  /** Resolves when the runner has been stopped, or the task has been removed. */
  get finished(): Promise<void> {
    return this.#finished ?? Promise.resolve();
  }

  start(): void {
    this.#finished ??= this.#run().catch((error: unknown) => {
      this.#options.log.error('a task is no longer driven', { task: this.#task.id, error });
    });
  }

  /** Takes a newer assignment. What would set the desired state back is ignored. */
  update(task: Task): void {
    if (this.#removed || task.desired_state < this.#task.desired_state) return;
    const stops = this.#task.desired_state < TaskState.SHUTDOWN && task.desired_state >= TaskState.SHUTDOWN;
    this.#task = task;
    // The manager gave the task up (its node no longer fits): what it says is final.
    const given = task.status;
    const ended = given !== null && isTerminal(given.state) && given.state > this.#status.state;
    if (ended) this.#status = given;
    this.#signal(stops || ended);
  }

  /** The task is no longer this node's: stops and removes its container. */
  remove(): void {
    this.#removed = true;
    this.#signal(true);
  }

  /** Ends the driving only; the container goes on. A stop of the container that is under way is not waited for long. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#signal(true);
    const done = new AbortController();
    const patience = this.#options.clock.sleep(STOP_PATIENCE_MS, done.signal).catch(() => undefined);
    await Promise.race([this.finished, patience]);
    done.abort(new Error('stopped'));
  }

  #signal(interrupt: boolean): void {
    this.#changed = true;
    this.#wake?.();
    if (interrupt) this.#step.abort(new Error('the assignment of the task has changed'));
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      this.#step = new AbortController();
      this.#changed = false;
      try {
        if (await this.#once(this.#step.signal)) return;
        failures = 0;
      } catch (error) {
        if (this.#step.signal.aborted) continue;
        failures++;
        this.#options.log.warn('a step of a task failed; it is tried again', { task: this.#task.id, error });
        if (this.#removed && failures >= REMOVE_TRIES_MAX) return;
        await this.#pause(RETRY_MS);
      }
    }
  }

  /** One step; true when there is nothing left to do for good. */
  async #once(signal: AbortSignal): Promise<boolean> {
    const observed = await this.controller.observe();
    const { desired_state: desired } = this.#task;
    const action = nextAction({ desired, state: this.#status.state, observed, removed: this.#removed });
    return this.#perform(action, signal);
  }

  async #perform(action: TaskAction, signal: AbortSignal): Promise<boolean> {
    const { controller } = this;
    switch (action.kind) {
      case 'become':
        await this.#become(action.state, action.message, action.err, action.exit);
        return false;
      case 'prepare':
        await this.#prepare(action.next, signal);
        return false;
      case 'start':
        await this.#start(signal);
        return false;
      case 'watch':
        return this.#watch(signal);
      case 'shutdown':
        await controller.shutdown();
        if ((await controller.observe()).state === 'running')
          throw new Error('the container still runs after its stop');
        return false;
      case 'remove':
        await controller.shutdown();
        await controller.remove();
        return true;
      case 'idle':
        await this.#pause(undefined);
        return false;
      default:
        return unreachable(action);
    }
  }

  /** What `wait` says of the end is more than what can be observed afterwards (health). */
  async #watch(signal: AbortSignal): Promise<boolean> {
    const exit = await this.controller.wait(signal);
    if (signal.aborted) return false;
    const { desired_state: desired } = this.#task;
    const observed = { state: 'exited', exit } as const;
    return this.#perform(nextAction({ desired, state: this.#status.state, observed, removed: this.#removed }), signal);
  }

  async #prepare(next: TaskState, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.ready(this.#task, signal);
      await this.#options.prepares.run(signal, () => this.controller.prepare(signal));
    } catch (error) {
      if (signal.aborted || isShoalError(error, 'Unavailable')) return this.#retryLater(error, signal);
      const state = this.#status.state < TaskState.STARTING ? TaskState.REJECTED : TaskState.FAILED;
      return this.#become(state, 'preparing', errorMessage(error));
    }
    if (this.#status.state < next) await this.#become(next, 'prepared', '');
  }

  async #start(signal: AbortSignal): Promise<void> {
    try {
      await this.controller.start(signal);
    } catch (error) {
      if (signal.aborted || isShoalError(error, 'Unavailable')) return this.#retryLater(error, signal);
      const { exit } = await this.controller.observe();
      return this.#become(TaskState.FAILED, 'starting', errorMessage(error), exit);
    }
    // It may have ended, or never become healthy; the machine decides anew.
    if (signal.aborted || (await this.controller.observe()).state !== 'running') return;
    await this.#become(TaskState.RUNNING, 'started', '');
  }

  /** A passing trouble: shows it in the status, so that users see what the task waits for, and pauses. */
  async #retryLater(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw error;
    const err = errorMessage(error);
    if (this.#status.err !== err) await this.#become(this.#status.state, this.#status.message, err);
    await this.#pause(RETRY_MS);
  }

  async #become(state: TaskState, message: string, err: string, exit?: TaskExit): Promise<void> {
    const timestamp = timestampFromMs(this.#options.clock.now());
    const status = TaskStatus.create({ timestamp, state, message, err });
    const runtime = state > TaskState.PREPARING ? await this.#runtimeStatus() : undefined;
    // The manager may have given the task up meanwhile.
    if (state < this.#status.state) return;
    const container = runtime?.container ?? this.#status.container;
    if (container !== undefined) {
      status.container = exit === undefined ? container : { ...container, pid: 0, exit_code: exit.exitCode };
    }
    status.port_status = isTerminal(state) ? null : (runtime?.port_status ?? this.#status.port_status);
    this.#status = status;
    this.#options.onStatus(this.#task.id, status);
  }

  /** The container's part of the status; a container that is gone has none. */
  async #runtimeStatus(): Promise<Pick<TaskStatus, 'container' | 'port_status'> | undefined> {
    try {
      return await this.controller.runtimeStatus();
    } catch (error) {
      this.#options.log.debug('no runtime status of a task', { task: this.#task.id, error });
      return undefined;
    }
  }

  /** Waits until the assignment changes, or for `ms`. */
  async #pause(ms: number | undefined): Promise<void> {
    if (this.#changed || this.#stopped) return;
    await new Promise<void>((resolve) => {
      const timer = ms === undefined ? undefined : this.#options.clock.after(ms, () => done());
      const done = (): void => {
        timer?.cancel();
        this.#wake = undefined;
        resolve();
      };
      this.#wake = done;
    });
  }
}
