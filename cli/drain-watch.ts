import type { Task } from './objects.ts';

const OVER: ReadonlySet<string> = new Set(['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']);
const WANTED: ReadonlySet<string> = new Set(['ready', 'running', 'complete']);

const isAlive = (task: Task): boolean => !OVER.has(task.Status.State);
const isWanted = (task: Task): boolean => WANTED.has(task.DesiredState);
const slotKey = (task: Task): string => `${task.ServiceID}/${task.Slot ?? 0}`;

/** A task that keeps a drain from being over. */
export interface DrainHold {
  task: Task;
  /** `here`: it still runs on the node. `elsewhere`: it replaces one of the node, and does not run yet. */
  where: 'here' | 'elsewhere';
  /** Why it is not further, as the task says; empty when it is simply on its way. */
  why: string;
}

/**
 * What a drain still waits for, look by look: tasks that are on the node, and replacements of those that were there.
 * Tasks without a slot (global ones) are not replaced.
 */
export class DrainWatch {
  readonly #nodeId: string;
  readonly #moved = new Map<string, Task>();

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** Services whose tasks were on the node. */
  get services(): string[] {
    return [...new Set([...this.#moved.values()].map((task) => task.ServiceID))];
  }

  /** Takes note of the tasks of the node. */
  see(onNode: readonly Task[]): void {
    for (const task of onNode) {
      if (isAlive(task) && (task.Slot ?? 0) > 0 && task.ServiceID !== '') this.#moved.set(slotKey(task), task);
    }
  }

  /** @param tasks those of the node and all of `services`. */
  holds(tasks: readonly Task[]): DrainHold[] {
    const all = [...new Map(tasks.map((task) => [task.ID, task])).values()];
    const wanted = new Map<string, Task[]>();
    for (const task of all.filter(isWanted)) {
      const key = slotKey(task);
      if (this.#moved.has(key)) wanted.set(key, [...(wanted.get(key) ?? []), task]);
    }
    const holds: DrainHold[] = [];
    for (const task of all.filter((one) => one.NodeID === this.#nodeId && isAlive(one))) {
      const successor = (wanted.get(slotKey(task)) ?? []).find((one) => one.NodeID !== this.#nodeId);
      holds.push({ task, where: 'here', why: successor?.Status.Err ?? '' });
    }
    for (const tasksOfSlot of wanted.values()) {
      const others = tasksOfSlot.filter((task) => task.NodeID !== this.#nodeId);
      const runs = others.some((task) => task.Status.State === 'running' || task.Status.State === 'complete');
      const newest = others.at(-1);
      if (!runs && newest !== undefined) {
        holds.push({ task: newest, where: 'elsewhere', why: newest.Status.Err ?? '' });
      }
    }
    return holds;
  }
}
