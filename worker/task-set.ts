import { ShoalError, type Clock, type Logger } from '../base/index.ts';
import {
  TaskState,
  TaskStatus,
  isTerminal,
  type AssignmentsMessage,
  type Config,
  type NetworkTable,
  type Secret,
  type Task,
} from '../proto/index.ts';
import { diffAssignments, type AssignmentDiff } from './assignments.ts';
import type { Executor, TaskDependencies } from './executor.ts';
import { Limiter } from './limiter.ts';
import type { LogSource } from './log-publisher.ts';
import { NetworkTables } from './network-tables.ts';
import type { Reporter } from './reporter.ts';
import type { StateChanges, StateRecord } from './state-db.ts';
import { TaskRunner } from './task-runner.ts';

/** Tasks prepared (images pulled, containers made) at the same time. */
export const PREPARES_MAX = 8;

export interface TaskSetOptions {
  executor: Executor;
  db: StateRecord;
  reporter: Reporter;
  clock: Clock;
  log: Logger;
  onTaskChanged: (source: LogSource) => void;
}

function dependencyIds(task: Task): { secrets: string[]; configs: string[] } {
  const container = task.spec?.container;
  return {
    secrets: (container?.secrets ?? []).map((reference) => reference.secret_id),
    configs: (container?.configs ?? []).map((reference) => reference.config_id),
  };
}

/** Everything that is assigned to this node: runners of tasks, their dependencies, network tables, and their record. */
export class TaskSet {
  readonly #options: TaskSetOptions;
  readonly #runners = new Map<string, TaskRunner>();
  /** Tasks that were assigned again while their old container is being removed. */
  readonly #comebacks = new Map<string, Task>();
  readonly #secrets = new Map<string, Secret>();
  readonly #configs = new Map<string, Config>();
  readonly #tables: NetworkTables;
  readonly #prepares = new Limiter(PREPARES_MAX);
  readonly #dependencies: TaskDependencies;
  #reference: string | undefined;
  #unsaved = new Map<string, TaskStatus | undefined>();
  #saving: Promise<void> | undefined;
  #synced = false;
  #onSynced: (() => void)[] = [];

  constructor(options: TaskSetOptions) {
    this.#options = options;
    const { executor, clock, log } = options;
    this.#dependencies = { secret: (id) => this.#secrets.get(id), config: (id) => this.#configs.get(id) };
    this.#tables = new NetworkTables({
      clock,
      log,
      announce: (table) => executor.announceNetworkTable(table),
      set: (table) => executor.setNetworkTable(table),
      remove: (networkId) => executor.removeNetworkTable(networkId),
      inUse: (networkId) => this.#networkInUse(networkId),
    });
  }

  /** Takes up what an earlier life of the daemon left; works without any manager. */
  async load(): Promise<void> {
    const { db, executor, log } = this.#options;
    const state = await db.load();
    for (const table of state.tables.values()) this.#tables.set(table);
    for (const [id, task] of state.tasks) this.#add(task, state.statuses.get(id));
    // Before any manager is heard: the container of a task that is assigned anew must not be taken for an orphan.
    try {
      await executor.removeOrphans(new Set(state.tasks.keys()));
    } catch (error) {
      log.warn('containers of former tasks could not be removed', { error });
    }
  }

  /** Ends the driving of all tasks; containers go on. */
  async stop(): Promise<void> {
    await Promise.all([...this.#runners.values()].map((runner) => runner.stop()));
    await this.#tables.stop();
    await this.#saving;
  }

  *sources(): Iterable<LogSource> {
    for (const runner of this.#runners.values()) {
      yield { task: runner.task, state: runner.status.state, controller: runner.controller };
    }
  }

  /** Marks all statuses as unreported: a new session begins with all of them. */
  reportAll(): void {
    for (const [id, runner] of this.#runners) {
      if (!runner.removed && runner.status.state > TaskState.ASSIGNED) this.#options.reporter.report(id, runner.status);
    }
  }

  /** A new stream of assignments begins. */
  beginStream(): void {
    this.#reference = undefined;
  }

  /** @throws ShoalError DataLoss when a message was lost in between: only a new session helps. */
  async apply(message: AssignmentsMessage): Promise<void> {
    const live = [...this.#runners].filter(([, runner]) => !runner.removed).map(([id]) => id);
    const diff = diffAssignments(
      {
        reference: this.#reference,
        tasks: new Set(live),
        tables: this.#tables.ids(),
        secrets: new Set(this.#secrets.keys()),
        configs: new Set(this.#configs.keys()),
      },
      message,
    );
    if (diff === 'gap') {
      const expected = this.#reference ?? 'a complete set';
      throw new ShoalError('DataLoss', `assignments apply to ${message.applies_to}, but ${expected} was expected`);
    }
    const deltas = this.#resolveTables(diff);
    await this.#save(diff, deltas);
    this.#take(diff);
    this.#reference = diff.reference;
    if (diff.complete && !this.#synced) {
      this.#synced = true;
      for (const waiter of this.#onSynced.splice(0)) waiter();
    }
  }

  /**
   * Makes whole tables of deltas; returns the deltas by network.
   * @throws ShoalError DataLoss when one starts from a version that is not at hand
   */
  #resolveTables(diff: AssignmentDiff): Map<string, NetworkTable> {
    const deltas = new Map<string, NetworkTable>();
    diff.tables = diff.tables.map((table) => {
      const whole = this.#tables.resolve(table);
      if (whole === undefined) {
        const { network_id: id, base_version: base } = table;
        throw new ShoalError('DataLoss', `a change of the table of network ${id} starts from version ${base}`);
      }
      if (whole !== table) deltas.set(table.network_id, table);
      return whole;
    });
    return deltas;
  }

  /** The record comes first: after a crash nothing runs that is not known. */
  async #save(diff: AssignmentDiff, deltas: ReadonlyMap<string, NetworkTable>): Promise<void> {
    const tasks = new Map(diff.tasks.map((task) => [task.id, task]));
    const tables = new Map<string, NetworkTable | undefined>();
    for (const table of diff.tables) tables.set(table.network_id, table);
    for (const id of diff.removedTables) tables.set(id, undefined);
    await this.#options.db.write({ tasks, tables, deltas });
  }

  #take(diff: AssignmentDiff): void {
    for (const table of diff.tables) this.#tables.set(table);
    for (const secret of diff.secrets) this.#secrets.set(secret.id, secret);
    for (const config of diff.configs) this.#configs.set(config.id, config);
    for (const task of diff.tasks) this.#update(task);
    for (const id of diff.removedTasks) this.#remove(id);
    for (const id of diff.removedSecrets) this.#secrets.delete(id);
    for (const id of diff.removedConfigs) this.#configs.delete(id);
    for (const id of diff.removedTables) this.#tables.remove(id);
  }

  #update(task: Task): void {
    const runner = this.#runners.get(task.id);
    if (runner === undefined) this.#add(task, undefined);
    else if (runner.removed) this.#comebacks.set(task.id, task);
    else runner.update(task);
  }

  #add(task: Task, stored: TaskStatus | undefined): void {
    const { executor, clock, log } = this.#options;
    const runner = new TaskRunner({
      task,
      status: stored ?? task.status ?? TaskStatus.create({ state: TaskState.ASSIGNED }),
      controller: executor.controller(task, this.#dependencies),
      clock,
      log,
      prepares: this.#prepares,
      ready: (wanted, signal) => this.#ready(wanted, signal),
      onStatus: (id, status) => this.#onStatus(id, status),
    });
    this.#runners.set(task.id, runner);
    runner.start();
    this.#options.onTaskChanged({ task, state: runner.status.state, controller: runner.controller });
  }

  #remove(taskId: string): void {
    const runner = this.#runners.get(taskId);
    this.#comebacks.delete(taskId);
    if (runner === undefined || runner.removed) return;
    runner.remove();
    this.#options.reporter.forget(taskId);
    const { db, log } = this.#options;
    runner.finished
      .then(async () => {
        if (runner.halted) return;
        this.#runners.delete(taskId);
        this.#unsaved.delete(taskId);
        await db.write({ tasks: new Map([[taskId, undefined]]), statuses: new Map([[taskId, undefined]]) });
        this.#tables.sweep();
        const comeback = this.#comebacks.get(taskId);
        this.#comebacks.delete(taskId);
        if (comeback === undefined) return;
        await db.write({ tasks: new Map([[taskId, comeback]]) });
        this.#add(comeback, undefined);
      })
      .catch((error: unknown) => log.error('the record of a task could not be removed', { task: taskId, error }));
  }

  #onStatus(taskId: string, status: TaskStatus): void {
    const runner = this.#runners.get(taskId);
    if (runner === undefined || runner.removed) return;
    this.#unsaved.set(taskId, status);
    this.#saving ??= this.#saveStatuses();
    this.#options.reporter.report(taskId, status);
    this.#options.onTaskChanged({ task: runner.task, state: status.state, controller: runner.controller });
    if (isTerminal(status.state)) this.#tables.sweep();
  }

  /** Writes statuses in batches: those that come during a write go together in the next. */
  async #saveStatuses(): Promise<void> {
    try {
      // What other runners report in this turn of the event loop joins the batch.
      await Promise.resolve();
      while (this.#unsaved.size > 0) {
        const statuses: StateChanges['statuses'] = this.#unsaved;
        this.#unsaved = new Map();
        await this.#options.db.write({ statuses });
      }
    } catch (error) {
      this.#options.log.error('statuses of tasks could not be saved', { error });
    } finally {
      this.#saving = undefined;
    }
  }

  /** Waits for what a task needs before its container can be made. */
  async #ready(task: Task, signal: AbortSignal): Promise<void> {
    const { secrets, configs } = dependencyIds(task);
    const complete = (): boolean =>
      secrets.every((id) => this.#secrets.has(id)) && configs.every((id) => this.#configs.has(id));
    // After a restart of the daemon secrets come with the first session only. Later, what is missing does not exist.
    if (!complete() && !this.#synced) await this.#untilSynced(signal);
    await this.#tables.ready(networkIds(task), signal);
  }

  #untilSynced(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason as Error);
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      this.#onSynced.push(() => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
    });
  }

  #networkInUse(networkId: string): boolean {
    for (const runner of this.#runners.values()) {
      const live = !isTerminal(runner.status.state);
      if (live && networkIds(runner.task).includes(networkId)) return true;
    }
    return false;
  }
}

function networkIds(task: Task): string[] {
  return task.networks.map((attachment) => attachment.network?.id ?? '').filter((id) => id !== '');
}
