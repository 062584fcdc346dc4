import type { Clock, Logger, Timer } from '../../base/index.ts';
import {
  NodeStatus_State,
  TaskState,
  TaskStatus,
  timestampFromMs,
  timestampToMs,
  type Node,
} from '../../proto/index.ts';
import type { Store } from '../store/types.ts';
import { copyMeta } from './write-batch.ts';

/** Time after which the tasks of a node that is Down are given up, ms. */
export const ORPHAN_AFTER_MS = 24 * 3600 * 1000;
/** Wait before a failed write is tried again, ms. */
const RETRY_MS = 10_000;
/** Tasks changed in one transaction. */
const TRANSACTION_MAX = 400;

/** Gives up the tasks of nodes that are Down for a day: they become ORPHANED, which frees what they held. */
export class Orphans {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #timers = new Map<string, Timer>();

  constructor(options: { store: Store; clock: Clock; log: Logger }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Follows a node's state; `undefined` when it was removed. */
  observe(nodeId: string, node: Node | undefined): void {
    const down = node?.status?.state === NodeStatus_State.DOWN;
    const timer = this.#timers.get(nodeId);
    if (!down) {
      timer?.cancel();
      this.#timers.delete(nodeId);
      return;
    }
    if (timer !== undefined) return;
    // The node's last change is at the earliest the one that made it Down; a new leader starts from there.
    const sinceMs = timestampToMs(node.meta?.updated_at);
    const passedMs = sinceMs === 0 ? 0 : Math.max(0, this.#clock.now() - sinceMs);
    this.#arm(nodeId, Math.max(0, ORPHAN_AFTER_MS - passedMs));
  }

  close(): void {
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  #arm(nodeId: string, delayMs: number): void {
    this.#timers.set(
      nodeId,
      this.#clock.after(delayMs, () => {
        this.#giveUp(nodeId).catch((error: unknown) => {
          this.#log.warn('tasks of a lost node could not be given up yet', { node: nodeId, error });
          if (this.#timers.has(nodeId)) this.#arm(nodeId, RETRY_MS);
        });
      }),
    );
  }

  async #giveUp(nodeId: string): Promise<void> {
    for (let more = true; more;) {
      more = await this.#store.update((tx) => {
        if (tx.get('node', nodeId)?.status?.state !== NodeStatus_State.DOWN) return false;
        const live = tx.tasksByNode(nodeId).filter((task) => {
          const state = task.status?.state ?? TaskState.NEW;
          return state >= TaskState.ASSIGNED && state <= TaskState.RUNNING;
        });
        for (const task of live.slice(0, TRANSACTION_MAX)) {
          const status = TaskStatus.create({
            ...task.status,
            timestamp: timestampFromMs(this.#clock.now()),
            state: TaskState.ORPHANED,
            message: 'the node has been down for 24 hours',
          });
          tx.update('task', { ...task, meta: copyMeta(task.meta), status });
        }
        return live.length > TRANSACTION_MAX;
      });
    }
  }
}
