import { formatDuration } from '../../base/index.ts';
import {
  RestartPolicy_RestartCondition,
  TaskState,
  taskStateName,
  timestampToMs,
  type Task,
} from '../../proto/index.ts';
import { waitingSinceMs } from '../settings/index.ts';
import { isHeld } from './held.ts';
import { isDirty } from './restart.ts';
import { restartCondition } from './restart-policy.ts';
import { createdAtMs, endedByItself, nodeFate, observed, observedAtMs, type ServiceState } from './service-view.ts';
import type { Slot } from './slot.ts';
import type { UpdateSettings } from './update-settings.ts';
import { isRollback, startedAtMs } from './update-status.ts';

/** Start-up time a new leader grants, ms, when it judges a failure whose task it never saw running. */
const UNSEEN_START_ALLOWANCE_MS = 30_000;
/** Longest error of a task in the status of its service, characters. */
const ERROR_MAX = 200;

/**
 * What an update has seen so far. All of it can be told from stored tasks but for some times, so a new leader starts
 * with an empty one.
 */
export interface UpdateMemory {
  /** Which update this is about; another one starts anew. */
  key: string;
  /** Since when this memory sees every change, ms. */
  sinceMs: number;
  /** Slots that this update has begun to change. */
  begun: Set<string>;
  /** When each of those first had its new task running (or failed), ms. */
  finishedAtMs: Map<string, number>;
  /** When a new task was first seen running, ms. */
  runningAtMs: Map<string, number>;
  /** Slots whose new task failed, and the cause in words: "failure or early termination of task …". */
  failed: Map<string, string>;
}

export function newUpdateMemory(): UpdateMemory {
  return {
    key: '',
    sinceMs: 0,
    begun: new Set(),
    finishedAtMs: new Map(),
    runningAtMs: new Map(),
    failed: new Map(),
  };
}

/** The slot's tasks that this update brought: they follow the present spec and were created since it began. */
export function broughtTasks(state: ServiceState, slot: Slot): Task[] {
  const since = startedAtMs(state.service);
  return slot.tasks.filter((task) => createdAtMs(task) >= since && !isDirty(state, task));
}

/**
 * Whether a task came to its end (or will) for a reason that says nothing of the version it runs: its node went down, was
 * drained or removed, it was moved or pushed off, or the node no longer suits it. Its slot is tried anew.
 */
function isLost(state: ServiceState, task: Task): boolean {
  const why = task.stopped_for?.code ?? '';
  if (why !== '' && why !== 'task-ended') return true;
  return observed(task) === TaskState.ORPHANED || nodeFate(state.view, task.node_id) !== 'ok';
}

/** Brings the memory up to date with the stored tasks. */
export function remember(
  state: ServiceState,
  slots: readonly Slot[],
  settings: UpdateSettings,
  memory: UpdateMemory,
): void {
  const { service } = state;
  const key = `${service.spec_version?.index ?? 0}/${startedAtMs(service)}/${isRollback(service)}`;
  if (memory.key !== key) Object.assign(memory, newUpdateMemory(), { key, sinceMs: state.nowMs });
  const present = new Set(slots.map((slot) => slot.key));
  for (const slotKey of [...memory.begun, ...memory.finishedAtMs.keys(), ...memory.failed.keys()]) {
    if (present.has(slotKey)) continue;
    memory.begun.delete(slotKey);
    memory.finishedAtMs.delete(slotKey);
    memory.failed.delete(slotKey);
  }
  for (const slot of slots) rememberSlot(state, slot, settings, memory);
}

function rememberSlot(state: ServiceState, slot: Slot, settings: UpdateSettings, memory: UpdateMemory): void {
  const brought = broughtTasks(state, slot);
  const first = brought[0];
  if (first === undefined) {
    // Nothing came of it: what is decided is decided anew when it is written, and may be no more to be done by then.
    memory.begun.delete(slot.key);
    return;
  }
  // A new task after one that it replaces was begun by us, or by the leader before us; one after none fills a new slot.
  const replaced = slot.tasks.slice(0, slot.tasks.indexOf(first));
  if (replaced.some((task) => isDirty(state, task))) memory.begun.add(slot.key);
  let finishedAt: number | undefined;
  for (const task of brought) {
    if (isLost(state, task)) continue;
    if (observed(task) === TaskState.RUNNING && !memory.runningAtMs.has(task.id)) {
      memory.runningAtMs.set(task.id, observedAtMs(task));
    }
    if (observed(task) === TaskState.RUNNING || endedByItself(task)) finishedAt ??= observedAtMs(task);
    if (memory.begun.has(slot.key) && !memory.failed.has(slot.key) && hasFailed(state, task, settings, memory)) {
      memory.failed.set(slot.key, `failure or early termination of task ${task.id}`);
    }
  }
  if (finishedAt === undefined && !memory.failed.has(slot.key)) memory.finishedAtMs.delete(slot.key);
  else if (finishedAt !== undefined && !memory.finishedAtMs.has(slot.key))
    memory.finishedAtMs.set(slot.key, finishedAt);
}

/** Whether a task of this update failed: it ended by itself before it ran, or within the monitoring time after. */
function hasFailed(state: ServiceState, task: Task, settings: UpdateSettings, memory: UpdateMemory): boolean {
  if (!endedByItself(task)) return false;
  const anyEnd = restartCondition(state.service, task) === RestartPolicy_RestartCondition.ANY;
  if (observed(task) === TaskState.COMPLETE && !anyEnd) return false;
  const endedAt = observedAtMs(task);
  const ranAt = memory.runningAtMs.get(task.id);
  // A canary is watched for as long as it waits.
  const waitingSince = waitingSinceMs(state.service);
  if (waitingSince !== 0 && endedAt >= waitingSince) return true;
  if (ranAt !== undefined) return endedAt - ranAt <= settings.monitorMs;
  if (endedAt >= memory.sinceMs) return true;
  return endedAt - createdAtMs(task) <= settings.monitorMs + UNSEEN_START_ALLOWANCE_MS;
}

/** The task that a slot waits for, in words: which, how far it is, and what it says. */
function waitsFor(state: ServiceState, slot: Slot, deadlineMs: number): string {
  const time = formatDuration(deadlineMs * 1e6);
  const task = broughtTasks(state, slot).at(-1);
  if (task === undefined) return `no progress for ${time}`;
  const name = state.service.spec?.annotations?.name ?? state.service.id;
  const what = `task ${task.id} (${name}.${slot.key}) is ${taskStateName(observed(task))}`;
  const err = task.status?.err ?? '';
  const cut = err.length <= ERROR_MAX ? err : `${err.slice(0, ERROR_MAX - 1)}…`;
  return `no progress for ${time}: ${what}${cut === '' ? '' : `: ${cut}`}`;
}

/**
 * The progress deadline: when no new task was begun and none came up for so long, the slots that are under way count as
 * failed. Waiting for the delay between two slots is no lack of progress.
 * @returns slots that failed just now, and when to look again
 */
export function overdueSlots(
  state: ServiceState,
  slots: readonly Slot[],
  settings: UpdateSettings,
  memory: UpdateMemory,
): { overdue: Slot[]; wakeAtMs: number | undefined } {
  // Until the services that this one waits for let it start, nothing can come up.
  if (isHeld(state.service)) return { overdue: [], wakeAtMs: undefined };
  const waiting: Slot[] = [];
  // A new leader may have been away for long, and the tasks with it: its time counts from its first look.
  let progressAt = Math.max(memory.sinceMs, startedAtMs(state.service));
  const { canary } = state.service;
  progressAt = Math.max(progressAt, timestampToMs(canary?.promoted_at), timestampToMs(canary?.waiting_since));
  progressAt = Math.max(progressAt, timestampToMs(state.service.dependencies_met));
  for (const slot of slots) {
    const first = broughtTasks(state, slot)[0];
    if (first === undefined) continue;
    progressAt = Math.max(progressAt, createdAtMs(first), memory.finishedAtMs.get(slot.key) ?? 0);
    if (!memory.finishedAtMs.has(slot.key)) waiting.push(slot);
  }
  const dueAt = progressAt + settings.deadlineMs;
  if (waiting.length === 0 || dueAt === Infinity) return { overdue: [], wakeAtMs: undefined };
  if (dueAt > state.nowMs) return { overdue: [], wakeAtMs: dueAt };
  for (const slot of waiting) {
    memory.failed.set(slot.key, waitsFor(state, slot, settings.deadlineMs));
    memory.finishedAtMs.set(slot.key, state.nowMs);
  }
  return { overdue: waiting, wakeAtMs: undefined };
}
