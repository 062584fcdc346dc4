import {
  AssignmentChange_AssignmentAction as Action,
  NetworkTable,
  Task,
  TaskState,
  type AssignmentChange,
} from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import type { NetworkIndex } from './network-index.ts';
import type { TableBase } from './table-journal.ts';

/** Time between two messages of one stream, ms; a change that meets an idle stream goes at once. */
export const FEED_INTERVAL_MS = 50;
/** The same when there is something for many streams: what comes meanwhile goes together, ms. */
export const FEED_INTERVAL_MAX_MS = 2000;
/** Messages of all streams together per second, beyond which the interval grows. */
const FEED_MESSAGES_PER_SECOND = 500;

/** How many feeds of a manager have something to send: what each of them may cost depends on it. */
export class FeedLoad {
  waiting = 0;

  /** Time between two messages of one stream now, ms. */
  get intervalMs(): number {
    const neededMs = (this.waiting * 1000) / FEED_MESSAGES_PER_SECOND;
    return Math.min(FEED_INTERVAL_MAX_MS, Math.max(FEED_INTERVAL_MS, neededMs));
  }
}

/** Waiting changes that make a message go at once. */
export const FEED_BATCH_ITEMS = 100;
/** Shortest and longest time between two versions of one network's table on one stream, ms. */
const TABLE_INTERVAL_MIN_MS = 50;
const TABLE_INTERVAL_MAX_MS = 1000;
/** Endpoints × nodes that stretch the interval by one ms: a large table to many nodes is sent less often. */
const TABLE_COST_PER_MS = 200;

/** How an agent takes network tables: stock agents not at all, those of earlier versions whole. */
export type TablesTaken = 'none' | 'whole' | 'deltas';

/** How an agent of a version of Shoal's extensions takes network tables. */
export function tablesTaken(shoalVersion: number): TablesTaken {
  if (shoalVersion === 0) return 'none';
  return shoalVersion >= DELTAS_SINCE_VERSION ? 'deltas' : 'whole';
}

/** Agents take deltas of tables since this version. */
const DELTAS_SINCE_VERSION = 3;

type Dependency = { kind: 'secret' | 'config'; id: string };

const keyOf = (dependency: Dependency): string => `${dependency.kind}/${dependency.id}`;

/** The secrets and configs that a task reads. */
export function dependenciesOf(task: Task): Dependency[] {
  const container = task.spec?.container;
  const found: Dependency[] = [];
  for (const reference of container?.secrets ?? []) found.push({ kind: 'secret', id: reference.secret_id });
  for (const reference of container?.configs ?? []) found.push({ kind: 'config', id: reference.config_id });
  for (const reference of task.spec?.resource_references ?? []) {
    if (reference.resource_type === 1) found.push({ kind: 'secret', id: reference.resource_id });
    if (reference.resource_type === 2) found.push({ kind: 'config', id: reference.resource_id });
  }
  return found;
}

/** Whether an agent must have a task: placed, and not given up as orphaned (it was replaced long ago). */
function isAssigned(task: Task | undefined, nodeId: string): task is Task {
  const state = task?.status?.state ?? TaskState.NEW;
  return task?.node_id === nodeId && state >= TaskState.ASSIGNED && state !== TaskState.ORPHANED;
}

const reference = (dependency: Dependency): AssignmentChange['assignment'] =>
  dependency.kind === 'secret'
    ? { secret: { id: dependency.id, meta: null, spec: null, internal: false } }
    : { config: { id: dependency.id, meta: null, spec: null } };

/**
 * What one agent has been told, and what it must be told next (swarmkit.md §1.9). Marks say what may have changed; the
 * store says what it is now. Dependencies come before the tasks that need them and go after them.
 */
export class AssignmentFeed {
  readonly #nodeId: string;
  readonly #index: NetworkIndex;
  /** Only Shoal's own agents take network tables. */
  readonly #takes: TablesTaken;
  readonly #tasks = new Map<string, Task>();
  /** Dependency key → tasks that hold it. */
  readonly #holders = new Map<string, Set<string>>();
  /** Network id → what was sent last of it, and when. */
  readonly #tables = new Map<string, TableBase & { sentMs: number }>();
  #dirtyTasks = new Set<string>();
  #dirtyDependencies = new Map<string, Dependency>();
  #dirtyTables = new Set<string>();
  readonly #load: FeedLoad;
  /** Whether this feed counts in the load. */
  #waiting = false;

  constructor(nodeId: string, index: NetworkIndex, takes: TablesTaken, load = new FeedLoad()) {
    this.#load = load;
    this.#nodeId = nodeId;
    this.#index = index;
    this.#takes = takes;
  }

  markTask(taskId: string): void {
    this.#dirtyTasks.add(taskId);
    this.#count(true);
  }

  #count(waiting: boolean): void {
    if (this.#waiting === waiting) return;
    this.#waiting = waiting;
    this.#load.waiting += waiting ? 1 : -1;
  }

  /** The stream has ended. */
  close(): void {
    this.#dirtyTasks.clear();
    this.#count(false);
  }

  markTable(networkId: string): void {
    if (this.#takes !== 'none') this.#dirtyTables.add(networkId);
  }

  /** Whether the agent has a table of this network. */
  hasTable(networkId: string): boolean {
    return this.#tables.has(networkId);
  }

  /** A secret or config changed; true when this agent has it. */
  markDependency(dependency: Dependency): boolean {
    const held = this.#holders.has(keyOf(dependency));
    if (held) this.#dirtyDependencies.set(keyOf(dependency), dependency);
    return held;
  }

  /** Marks everything, after changes may have been missed. */
  markAll(view: ReadView): void {
    for (const task of view.tasksByNode(this.#nodeId)) this.markTask(task.id);
    for (const taskId of this.#tasks.keys()) this.markTask(taskId);
    for (const networkId of this.#index.networksOf(this.#nodeId)) this.markTable(networkId);
    for (const networkId of this.#tables.keys()) this.markTable(networkId);
  }

  /** ms until there is something to send, given when the last message went; undefined when nothing is marked. */
  delayMs(nowMs: number, lastSentMs: number): number | undefined {
    const items = this.#dirtyTasks.size + this.#dirtyDependencies.size;
    if (items >= FEED_BATCH_ITEMS) return 0;
    let dueMs = items > 0 ? lastSentMs + this.#load.intervalMs : Number.POSITIVE_INFINITY;
    for (const networkId of this.#dirtyTables) {
      dueMs = Math.min(dueMs, Math.max(this.#tableDueMs(networkId), lastSentMs + FEED_INTERVAL_MS));
    }
    return dueMs === Number.POSITIVE_INFINITY ? undefined : Math.max(0, dueMs - nowMs);
  }

  /** Everything this agent must have, for a message of type COMPLETE. */
  complete(view: ReadView, nowMs: number): AssignmentChange[] {
    this.markAll(view);
    return this.changes(view, nowMs);
  }

  /** The changes that are due, in the order in which they must be applied; clears their marks. */
  changes(view: ReadView, nowMs: number): AssignmentChange[] {
    const before: AssignmentChange[] = [];
    const tasks: AssignmentChange[] = [];
    const after: AssignmentChange[] = [];
    const forcedTables = new Set<string>();
    for (const [, dependency] of this.#dirtyDependencies) before.push(...this.#dependencyUpdate(view, dependency));
    this.#dirtyDependencies = new Map();
    for (const taskId of this.#dirtyTasks) this.#taskChange(view, taskId, { before, tasks, after, forcedTables });
    this.#dirtyTasks = new Set();
    this.#count(false);
    const tables = this.#tableChanges(view, nowMs, forcedTables);
    // What one task gave back, another of this message may have asked for after it.
    const unused = after.filter(({ assignment }) => !this.#isHeld(assignment));
    return [...tables.updates, ...before, ...tasks, ...unused, ...tables.removals];
  }

  #isHeld(given: AssignmentChange['assignment']): boolean {
    const secret = given?.secret === undefined ? undefined : keyOf({ kind: 'secret', id: given.secret.id });
    const config = given?.config === undefined ? undefined : keyOf({ kind: 'config', id: given.config.id });
    return this.#holders.has(secret ?? config ?? '');
  }

  #taskChange(
    view: ReadView,
    taskId: string,
    out: {
      before: AssignmentChange[];
      tasks: AssignmentChange[];
      after: AssignmentChange[];
      forcedTables: Set<string>;
    },
  ): void {
    const task = view.get('task', taskId);
    const known = this.#tasks.get(taskId);
    if (!isAssigned(task, this.#nodeId)) {
      if (known === undefined) return;
      this.#tasks.delete(taskId);
      out.tasks.push({ action: Action.REMOVE, assignment: { task: Task.create({ id: taskId }) } });
      out.after.push(...this.#release(known));
      return;
    }
    const state = task.status?.state ?? TaskState.NEW;
    this.#tasks.set(taskId, task);
    if (known === undefined && state <= TaskState.RUNNING) {
      out.before.push(...this.#hold(view, task));
      for (const attachment of task.networks) out.forcedTables.add(attachment.network?.id ?? '');
    }
    if (state > TaskState.RUNNING && known !== undefined) out.after.push(...this.#release(known));
    if (known !== undefined && state > TaskState.ASSIGNED && equalStable(known, task)) return;
    out.tasks.push({ action: Action.UPDATE, assignment: { task } });
  }

  #hold(view: ReadView, task: Task): AssignmentChange[] {
    const updates: AssignmentChange[] = [];
    for (const dependency of dependenciesOf(task)) {
      const holders = this.#holders.get(keyOf(dependency));
      if (holders !== undefined) {
        holders.add(task.id);
        continue;
      }
      this.#holders.set(keyOf(dependency), new Set([task.id]));
      updates.push(...this.#dependencyUpdate(view, dependency));
    }
    return updates;
  }

  #release(task: Task): AssignmentChange[] {
    const removals: AssignmentChange[] = [];
    for (const dependency of dependenciesOf(task)) {
      const holders = this.#holders.get(keyOf(dependency));
      if (holders === undefined || !holders.delete(task.id) || holders.size > 0) continue;
      this.#holders.delete(keyOf(dependency));
      removals.push({ action: Action.REMOVE, assignment: reference(dependency) });
    }
    return removals;
  }

  #dependencyUpdate(view: ReadView, dependency: Dependency): AssignmentChange[] {
    const { kind, id } = dependency;
    const secret = kind === 'secret' ? view.get('secret', id) : undefined;
    const config = kind === 'config' ? view.get('config', id) : undefined;
    // A task may outlive what it refers to; the agent says so when it prepares the task.
    if (secret !== undefined) return [{ action: Action.UPDATE, assignment: { secret } }];
    return config === undefined ? [] : [{ action: Action.UPDATE, assignment: { config } }];
  }

  #tableDueMs(networkId: string): number {
    const sent = this.#tables.get(networkId);
    if (sent === undefined) return Number.NEGATIVE_INFINITY;
    const stretchedMs =
      this.#takes === 'deltas'
        ? (this.#index.fanOut(networkId) * 1000) / FEED_MESSAGES_PER_SECOND
        : this.#index.fanOutCost(networkId) / TABLE_COST_PER_MS;
    return sent.sentMs + Math.min(TABLE_INTERVAL_MAX_MS, Math.max(TABLE_INTERVAL_MIN_MS, stretchedMs));
  }

  #tableChanges(
    view: ReadView,
    nowMs: number,
    forced: ReadonlySet<string>,
  ): { updates: AssignmentChange[]; removals: AssignmentChange[] } {
    const updates: AssignmentChange[] = [];
    const removals: AssignmentChange[] = [];
    if (this.#dirtyTables.size === 0) return { updates, removals };
    const wanted = this.#index.networksOf(this.#nodeId);
    for (const networkId of this.#dirtyTables) {
      if (!forced.has(networkId) && this.#tableDueMs(networkId) > nowMs) continue;
      this.#dirtyTables.delete(networkId);
      const sent = this.#tables.get(networkId);
      // A network that was removed while its last tasks still end has no version: its table is taken back.
      const version = this.#index.version(networkId);
      if (wanted.has(networkId) && sent !== undefined && version !== undefined && sent.version >= version) continue;
      const table = wanted.has(networkId) ? this.#tableFor(view, networkId, sent) : undefined;
      if (table !== undefined) {
        updates.push({ action: Action.UPDATE, assignment: { network_table: table } });
        const { network, peers } = this.#index.base(view, networkId);
        this.#tables.set(networkId, { version: table.version, network, peers, sentMs: nowMs });
      } else if (sent !== undefined) {
        this.#tables.delete(networkId);
        const assignment = { network_table: NetworkTable.create({ network_id: networkId, version: sent.version }) };
        removals.push({ action: Action.REMOVE, assignment });
      }
    }
    return { updates, removals };
  }

  /** What is new to the agent, or the whole table. */
  #tableFor(view: ReadView, networkId: string, sent: TableBase | undefined): NetworkTable | undefined {
    const delta = sent === undefined || this.#takes !== 'deltas' ? undefined : this.#index.delta(view, networkId, sent);
    return delta ?? this.#index.table(view, networkId);
  }
}

/** What changes as a task goes on; its agent knows it already. */
const PROGRESS: Partial<Task> = { meta: null, status: null, started_at: null };

/** Whether two states of a task are alike in all that is not progress. */
function equalStable(a: Task, b: Task): boolean {
  return sharesStable(a, b) || Task.equal({ ...a, ...PROGRESS }, { ...b, ...PROGRESS });
}

/** Whether two states of a task have the same objects in all that is not progress: most updates of one do. */
function sharesStable(a: Task, b: Task): boolean {
  for (const key in b) {
    const name = key as keyof Task;
    if (a[name] !== b[name] && !(name in PROGRESS)) return false;
  }
  return true;
}

/** Whether an update of a task is of no concern to its agent: its own report, on the way to RUNNING, has come back. */
export function isOwnReport(old: Task | undefined, task: Task): boolean {
  const before = old?.status?.state ?? TaskState.NEW;
  const state = task.status?.state ?? TaskState.NEW;
  if (old === undefined || before < TaskState.ASSIGNED) return false;
  return state > TaskState.ASSIGNED && state <= TaskState.RUNNING && sharesStable(old, task);
}
