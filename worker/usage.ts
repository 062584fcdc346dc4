import type { Clock, Logger } from '../base/index.ts';
import { TaskState, type Task, type TaskUsage } from '../proto/index.ts';
import type { TaskController } from './executor.ts';

/** Shortest time between two readings of one task, ms. */
export const USAGE_INTERVAL_MS = 5000;
/** Readings in one heartbeat, about 50 kB; what is left goes with the next one. */
export const USAGE_MAX = 1000;
/** Tasks read in one turn of the event loop: some 0.1 ms each. */
const SLICE = 20;
const NS_PER_MS = 1e6;
/** Numbers on the wire stay below 2^53: they begin again at 0 after 104 days of CPU time. */
const COUNTER_MODULUS = 2 ** 53;

interface Source {
  task: Task;
  state: TaskState;
  controller: TaskController;
}

export interface UsageMeterOptions {
  /** All tasks of this node. */
  sources: () => Iterable<Source>;
  clock: Clock;
  log: Logger;
}

/**
 * What the running tasks of this node use, for the heartbeats. Readings are made between two heartbeats, so that none
 * waits for them, and each goes out once.
 */
export class UsageMeter {
  readonly #options: UsageMeterOptions;
  /** Tasks of this round that are still to be read, and when it began. */
  #left: Source[] = [];
  #roundAtMs = -Infinity;
  #ready: TaskUsage[] = [];
  #reading = false;

  constructor(options: UsageMeterOptions) {
    this.#options = options;
  }

  /** Readings to send now, at most USAGE_MAX; begins those for the next time. Never waits, never throws. */
  take(signal: AbortSignal): TaskUsage[] {
    const ready = this.#ready;
    this.#ready = [];
    if (!this.#reading) void this.#read(signal);
    return ready;
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { clock, sources } = this.#options;
    this.#reading = true;
    try {
      if (this.#left.length === 0) {
        if (clock.monotonic() - this.#roundAtMs < USAGE_INTERVAL_MS) return;
        this.#roundAtMs = clock.monotonic();
        this.#left = [...sources()].filter(({ state }) => state === TaskState.RUNNING);
      }
      const batch = this.#left.splice(0, USAGE_MAX);
      const readings: TaskUsage[] = [];
      for (let i = 0; i < batch.length && !signal.aborted; i++) {
        if (i > 0 && i % SLICE === 0) await clock.sleep(0);
        readings.push(...this.#readOne(batch[i] as Source));
      }
      this.#ready = readings;
    } finally {
      this.#reading = false;
    }
  }

  #readOne({ task, controller }: Source): TaskUsage[] {
    try {
      const usage = controller.usage?.();
      if (usage === undefined) return [];
      const cpu_ns = Math.round(usage.cpuNs) % COUNTER_MODULUS;
      const at_ns = Math.round(usage.atMs * NS_PER_MS) % COUNTER_MODULUS;
      return [{ task_id: task.id, cpu_ns, memory_bytes: usage.memoryBytes ?? 0, at_ns }];
    } catch (error) {
      // It may have ended a moment ago; a reading is never worth a heartbeat.
      this.#options.log.debug('the use of a task cannot be read', { task: task.id, error });
      return [];
    }
  }
}
