import { TaskState, type Task } from '../../proto/index.ts';
import {
  endedByItself,
  isNodeBound,
  isWanted,
  createdAtMs,
  nodeFate,
  observed,
  type ServiceState,
} from './service-view.ts';
import type { TaskPlace } from './new-task.ts';
import { isRestartable } from './restart-policy.ts';

/** The tasks of one slot of a replicated service, or of one node of a global one. */
export interface Slot extends TaskPlace {
  /** Slot number or node id. */
  key: string;
  /** Oldest first, history included. */
  tasks: Task[];
  /** Those that are meant to run. */
  wanted: Task[];
  /** Of the same place, given up before, and perhaps still alive: they count for nothing, but are waited for. */
  outgoing: readonly Task[];
}

const NONE: readonly Task[] = [];

/** Oldest first. Of tasks born together the one that is meant to end came first. */
function byAge(a: Task, b: Task): number {
  const age = createdAtMs(a) - createdAtMs(b);
  if (age !== 0) return age;
  if (a.desired_state !== b.desired_state) return b.desired_state - a.desired_state;
  return a.id < b.id ? -1 : 1;
}

/** Tasks that are to be removed (of slots given up) and may still be alive, by the key of their slot. */
export function outgoing(state: ServiceState): Map<string, Task[]> {
  const nodeBound = isNodeBound(state.service);
  const tasks = new Map<string, Task[]>();
  for (const task of state.tasks) {
    if (task.desired_state < TaskState.REMOVE || !isStopping(state, task)) continue;
    const key = nodeBound ? task.node_id : String(task.slot);
    const others = tasks.get(key);
    if (others === undefined) tasks.set(key, [task]);
    else others.push(task);
  }
  return tasks;
}

/** Groups a service's tasks; tasks that are to be removed do not count. */
export function slotsOf(state: ServiceState): Slot[] {
  const nodeBound = isNodeBound(state.service);
  const slots = new Map<string, Slot>();
  const gone = outgoing(state);
  for (const task of state.tasks) {
    if (task.desired_state >= TaskState.REMOVE) continue;
    const key = nodeBound ? task.node_id : String(task.slot);
    let slot = slots.get(key);
    if (slot === undefined) {
      const place = { slot: nodeBound ? 0 : task.slot, nodeId: nodeBound ? task.node_id : '' };
      slot = { ...place, key, tasks: [], wanted: [], outgoing: gone.get(key) ?? NONE };
      slots.set(key, slot);
    }
    slot.tasks.push(task);
  }
  for (const slot of slots.values()) {
    slot.tasks.sort(byAge);
    slot.wanted = slot.tasks.filter(isWanted);
  }
  return [...slots.values()].sort((a, b) => a.slot - b.slot || (a.key < b.key ? -1 : 1));
}

/**
 * The task that stands for a slot in which none is meant to run any more: one that ended by itself and must not be
 * restarted. Undefined when the slot is free to be filled.
 */
export function restingTask(state: ServiceState, slot: Slot): Task | undefined {
  const newest = slot.tasks.at(-1);
  if (newest === undefined || slot.wanted.length > 0 || !endedByItself(newest)) return undefined;
  return isRestartable(state.service, slot.tasks, newest) ? undefined : newest;
}

/** Whether a slot counts as taken. */
export function isOccupied(state: ServiceState, slot: Slot): boolean {
  return slot.wanted.length > 0 || restingTask(state, slot) !== undefined;
}

function isRunning(slot: Slot): boolean {
  return slot.wanted.some((task) => observed(task) === TaskState.RUNNING);
}

/**
 * Which slots to give up when `count` must go (swarmkit.md §3.2): those that do not run first, then those on nodes that
 * hold most copies, high slot numbers first.
 */
export function slotsToGiveUp(slots: readonly Slot[], count: number): Slot[] {
  // How many copies the slot's node holds in lower slots: giving up the highest first leaves the nodes level.
  const copies = new Map<string, number>();
  const ranked = [...slots]
    .sort((a, b) => Number(isRunning(b)) - Number(isRunning(a)) || a.slot - b.slot)
    .map((slot) => {
      const nodeId = slot.wanted.at(-1)?.node_id ?? '';
      const copy = nodeId === '' ? 0 : (copies.get(nodeId) ?? 0);
      if (nodeId !== '') copies.set(nodeId, copy + 1);
      return { slot, running: isRunning(slot), copy };
    });
  ranked.sort((a, b) => Number(a.running) - Number(b.running) || b.copy - a.copy || b.slot.slot - a.slot.slot);
  return ranked.slice(0, count).map((entry) => entry.slot);
}

/** Whether a task's container may still be alive somewhere we can hope to stop it. */
export function isStopping(state: ServiceState, task: Task): boolean {
  const seen = observed(task);
  if (seen < TaskState.ASSIGNED || seen > TaskState.RUNNING) return false;
  const fate = nodeFate(state.view, task.node_id);
  return fate === 'ok' || fate === 'drained';
}

/** Whether a task that was called off may still be alive in a slot. */
export function hasStopping(state: ServiceState, slot: Slot, besides?: Task): boolean {
  if (slot.outgoing.some((task) => task !== besides)) return true;
  return slot.tasks.some((task) => task !== besides && !isWanted(task) && isStopping(state, task));
}
