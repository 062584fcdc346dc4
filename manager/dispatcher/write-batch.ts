import { errorMessage, ShoalError, type Clock, type Logger } from '../../base/index.ts';
import {
  NodeDescription,
  NodeStatus,
  TaskState,
  TaskStatus,
  timestampFromMs,
  type Meta,
  type Node,
  type NodeStatus_State,
  type Task,
} from '../../proto/index.ts';
import type { Store, Transaction } from '../store/types.ts';

/** Longest time between two batches, ms; a batch that meets an idle writer goes at once. */
export const WRITE_INTERVAL_MS = 50;
/** The same when there is little to write: a single start is not held up by its own first report, ms. */
const WRITE_INTERVAL_MIN_MS = 5;
/** Reports of the batch before that make the pause one ms longer. */
const REPORTS_PER_MS = 10;
/** Pending task statuses that make a batch go at once. */
export const WRITE_BATCH_MAX = 10_000;
/** Objects written in one transaction: well below the store's bound in bytes. The store joins transactions itself. */
const TRANSACTION_MAX = 400;
/** Statuses held at the most; more are refused until the batch is written. */
const PENDING_MAX = 200_000;

/** What is to become of a node; absent members stay. */
export interface NodeWrite {
  state: NodeStatus_State;
  message: string;
  addr?: string;
  description?: NodeDescription;
}

/** Told once when a report is committed, or why it is not. Must not throw. */
export type Settled = (error: ShoalError | undefined) => void;

/** Whatever kept a report from being stored, as an error for the agent. */
const refusal = (error: unknown): ShoalError =>
  error instanceof ShoalError ? error : new ShoalError('Unknown', errorMessage(error), { cause: error });

/** A copy of an object's meta, so that the store may stamp the new version without touching the shared old object. */
export function copyMeta(meta: Meta | null): Meta | null {
  return meta === null ? null : { ...meta, version: meta.version === null ? null : { ...meta.version } };
}

function sameStatus(a: TaskStatus | null, b: TaskStatus): boolean {
  if (a === null || a.state !== b.state) return false;
  const plain = (status: TaskStatus): TaskStatus => ({ ...status, applied_by: '', applied_at: null });
  return TaskStatus.equal(plain(a), plain(b));
}

/** Writes one observed status. States never go back; an equal status is not written again. */
function writeStatus(tx: Transaction, taskId: string, status: TaskStatus, stamp: Partial<TaskStatus>): void {
  const task = tx.get('task', taskId);
  if (task === undefined) return;
  const before = task.status?.state ?? TaskState.NEW;
  if (status.state < before || status.state < TaskState.ASSIGNED || sameStatus(task.status, status)) return;
  const started = status.state === TaskState.RUNNING && task.started_at === null;
  const started_at = started ? (status.timestamp ?? stamp.applied_at ?? null) : task.started_at;
  const updated: Task = { ...task, meta: copyMeta(task.meta), status: { ...status, ...stamp }, started_at };
  tx.update('task', updated);
}

function writeNode(tx: Transaction, nodeId: string, write: NodeWrite): void {
  const node = tx.get('node', nodeId);
  if (node === undefined) return;
  const status = NodeStatus.create({
    state: write.state,
    message: write.message,
    addr: write.addr ?? node.status?.addr ?? '',
  });
  const description = write.description ?? node.description;
  if (NodeStatus.equal(node.status, status) && NodeDescription.equal(node.description, description)) return;
  const updated: Node = { ...node, meta: copyMeta(node.meta), status, description };
  tx.update('node', updated);
}

/**
 * Gathers what agents report (task statuses, node states) into few transactions. Per object the newest report wins.
 * Callers wait until their report is committed, so that an acknowledged status survives a change of leader.
 */
export class WriteBatch {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #appliedBy: string;
  #statuses = new Map<string, TaskStatus>();
  #nodes = new Map<string, NodeWrite>();
  #waiters: Settled[] = [];
  #lastFlushMs = Number.NEGATIVE_INFINITY;
  /** Pause after the last batch, by its size, ms. */
  #intervalMs = WRITE_INTERVAL_MIN_MS;
  #scheduled: { cancel(): void } | undefined;
  #flushing = false;
  #closed: ShoalError | undefined;

  constructor(options: { store: Store; clock: Clock; log: Logger; appliedBy: string }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#appliedBy = options.appliedBy;
  }

  /**
   * Takes statuses in and calls `settled` when they are committed, at once when there are none: with a ShoalError
   * ResourceExhausted when too much is waiting, Unavailable when they could not be committed. Callbacks come in the
   * order of the calls, but for those that come at once.
   */
  statuses(updates: ReadonlyMap<string, TaskStatus>, settled: Settled): void {
    if (updates.size === 0) return settled(undefined);
    if (this.#statuses.size + updates.size > PENDING_MAX) {
      return settled(new ShoalError('ResourceExhausted', 'too many task statuses wait to be stored; try again'));
    }
    for (const [taskId, status] of updates) {
      const held = this.#statuses.get(taskId);
      if (held === undefined || held.state <= status.state) this.#statuses.set(taskId, status);
    }
    this.#enqueue(settled);
  }

  /** @throws ShoalError Unavailable when it could not be committed. */
  node(nodeId: string, write: NodeWrite): Promise<void> {
    const held = this.#nodes.get(nodeId);
    this.#nodes.set(nodeId, { ...held, ...write });
    return new Promise((resolve, reject) => {
      this.#enqueue((error) => (error === undefined ? resolve() : reject(error)));
    });
  }

  /** Refuses all that waits and all that comes. */
  close(reason: ShoalError): void {
    this.#closed = reason;
    this.#scheduled?.cancel();
    for (const settled of this.#waiters.splice(0)) settled(reason);
  }

  #enqueue(settled: Settled): void {
    if (this.#closed !== undefined) return settled(this.#closed);
    this.#waiters.push(settled);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#flushing) return;
    const full = this.#statuses.size >= WRITE_BATCH_MAX;
    if (this.#scheduled !== undefined && !full) return;
    this.#scheduled?.cancel();
    const dueMs = this.#lastFlushMs + this.#intervalMs - this.#clock.monotonic();
    const delayMs = full ? 0 : Math.max(0, dueMs);
    this.#scheduled = this.#clock.after(delayMs, () => {
      this.#scheduled = undefined;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    const statuses = [...this.#statuses];
    const nodes = [...this.#nodes];
    const waiters = this.#waiters.splice(0);
    const sizeMs = (statuses.length + nodes.length) / REPORTS_PER_MS;
    this.#intervalMs = Math.min(WRITE_INTERVAL_MS, Math.max(WRITE_INTERVAL_MIN_MS, sizeMs));
    this.#statuses = new Map();
    this.#nodes = new Map();
    this.#flushing = true;
    try {
      const writes: Promise<void>[] = [];
      while (nodes.length + statuses.length > 0) {
        writes.push(this.#write(nodes.splice(0, TRANSACTION_MAX), statuses.splice(0, TRANSACTION_MAX)));
      }
      await Promise.all(writes);
      for (const settled of waiters) settled(undefined);
    } catch (error) {
      this.#log.warn('reports of agents could not be stored', { error: errorMessage(error), reports: waiters.length });
      const reason = refusal(error);
      for (const settled of waiters) settled(reason);
    } finally {
      this.#flushing = false;
      this.#lastFlushMs = this.#clock.monotonic();
      if (this.#waiters.length > 0 && this.#closed === undefined) this.#schedule();
    }
  }

  async #write(nodes: [string, NodeWrite][], statuses: [string, TaskStatus][]): Promise<void> {
    const stamp = { applied_by: this.#appliedBy, applied_at: timestampFromMs(this.#clock.now()) };
    await this.#store.update((tx) => {
      for (const [nodeId, write] of nodes) writeNode(tx, nodeId, write);
      for (const [taskId, status] of statuses) writeStatus(tx, taskId, status, stamp);
    });
  }
}
