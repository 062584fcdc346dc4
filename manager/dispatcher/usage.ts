import type { TaskUsage } from '../../proto/index.ts';

/** Version of the agents' protocol that tells what tasks use (worker/session.ts). */
export const USAGE_SINCE_VERSION = 2;
/** Tasks of one node that are remembered; readings of more are not taken. */
export const NODE_TASKS_MAX = 10_000;
/** Shortest time between two readings whose difference makes a rate, ms. */
const RATE_SPAN_MIN_MS = 1000;
/** Readings that were not renewed for this long are forgotten: the task has ended, ms. */
const FORGET_AFTER_MS = 60_000;
const NS_PER_MS = 1e6;

/** What a task uses, from its agent's two last readings. */
export interface UsageReading {
  /** CPU, in per cent of one CPU, averaged since the reading before. */
  cpuPercentOfOne: number;
  /** Memory that cannot be given back at once, bytes; undefined when the node does not count it. */
  memoryBytes: number | undefined;
  /** When the last reading came in, on this manager's monotonic clock, ms. */
  atMs: number;
}

/** Where the leader looks up what tasks use. Empty at the beginning of a term: no reading says nothing of a task. */
export interface UsageSource {
  /** The newest reading; undefined before there were two, and for tasks whose node does not tell. */
  of(task: { readonly id: string; readonly node_id: string }): UsageReading | undefined;
}

/** Nothing is known of any task. */
export const NO_USAGE: UsageSource = { of: () => undefined };

interface Entry {
  cpuNs: number;
  atNs: number;
  memoryBytes: number;
  /** Negative while there is only one reading. */
  cpuPercent: number;
  receivedMs: number;
}

/** The readings of one node's tasks. It belongs to the session: a node that is gone, or starts anew, is forgotten. */
export class NodeUsage {
  readonly #entries = new Map<string, Entry>();
  #sweptMs = 0;

  /** Takes readings in. Costs no look into the store, and keeps one small object per task. */
  take(readings: readonly TaskUsage[], nowMs: number): void {
    for (const reading of readings) {
      const entry = this.#entries.get(reading.task_id);
      if (entry !== undefined) renew(entry, reading, nowMs);
      else if (this.#entries.size < NODE_TASKS_MAX) this.#entries.set(reading.task_id, begin(reading, nowMs));
    }
    if (nowMs - this.#sweptMs >= FORGET_AFTER_MS) this.#sweep(nowMs);
  }

  of(taskId: string): UsageReading | undefined {
    const entry = this.#entries.get(taskId);
    if (entry === undefined || entry.cpuPercent < 0) return undefined;
    const { cpuPercent, memoryBytes, receivedMs } = entry;
    return {
      cpuPercentOfOne: cpuPercent,
      memoryBytes: memoryBytes === 0 ? undefined : memoryBytes,
      atMs: receivedMs,
    };
  }

  /** The task has left the node. */
  forget(taskId: string): void {
    this.#entries.delete(taskId);
  }

  get size(): number {
    return this.#entries.size;
  }

  #sweep(nowMs: number): void {
    this.#sweptMs = nowMs;
    for (const [id, entry] of this.#entries) {
      if (nowMs - entry.receivedMs >= FORGET_AFTER_MS) this.#entries.delete(id);
    }
  }
}

function begin(reading: TaskUsage, receivedMs: number): Entry {
  const { cpu_ns: cpuNs, at_ns: atNs, memory_bytes: memoryBytes } = reading;
  return { cpuNs, atNs, memoryBytes, cpuPercent: -1, receivedMs };
}

/** Written in place: thousands of these come in every second. */
function renew(entry: Entry, reading: TaskUsage, nowMs: number): void {
  const spanNs = reading.at_ns - entry.atNs;
  const usedNs = reading.cpu_ns - entry.cpuNs;
  entry.memoryBytes = reading.memory_bytes;
  entry.receivedMs = nowMs;
  // Too close for a rate: the one before still says what was used lately.
  if (spanNs >= 0 && spanNs < RATE_SPAN_MIN_MS * NS_PER_MS && usedNs >= 0) return;
  // Counters that went back have begun anew: a rate needs another reading.
  entry.cpuPercent = spanNs > 0 && usedNs >= 0 ? (usedNs / spanNs) * 100 : -1;
  entry.cpuNs = reading.cpu_ns;
  entry.atNs = reading.at_ns;
}
