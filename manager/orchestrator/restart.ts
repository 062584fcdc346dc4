import {
  durationToMs,
  TaskState,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Node,
  type Service,
  type Task,
  type TaskReason,
} from '../../proto/index.ts';
import { drainMsOf } from '../settings/index.ts';
import { isTaskDirty } from '../store/dirty.ts';
import type { ReadView } from '../store/types.ts';
import { earlier, type Op } from './driver.ts';
import { isHeld } from './held.ts';
import { isLeaving, isSuccessor, planMoves } from './move.ts';
import { newTask } from './new-task.ts';
import { reason } from './reasons.ts';
import {
  failuresInRow,
  isCrashLoop,
  isRestartable,
  PLAIN_RESTARTS,
  restartWaitMs,
  restartWaitText,
} from './restart-policy.ts';
import {
  calledOff,
  createdAtMs,
  endedByItself,
  fateReason,
  isNodeBound,
  nodeFate,
  observed,
  targetState,
  withDesired,
  type ServiceState,
} from './service-view.ts';
import { hasStopping, isStopping, type Slot } from './slot.ts';

/** How long a replacement waits for the old task to stop, ms; longer when the task's own grace period is longer. */
export const OLD_TASK_STOP_MAX_MS = 60_000;
const GRACE_MARGIN_MS = 10_000;

/** What the restart supervisor wants for one slot. */
export interface Supervision {
  steps: Op[][];
  wakeAtMs: number | undefined;
}

/**
 * The last answer for each task. Comparing specs is what costs most in a pass over a large service, and stored objects
 * never change: the answer holds for as long as the three objects are the same.
 */
const answers = new WeakMap<Task, { service: Service; node: Node | undefined; dirty: boolean }>();

/** Whether a task no longer follows its service, told with its node. */
export function isDirty(state: ServiceState, task: Task): boolean {
  const { service } = state;
  const node = state.view.get('node', task.node_id);
  const known = answers.get(task);
  if (known !== undefined && known.service === service && known.node === node) return known.dirty;
  const dirty = isTaskDirty(service, task, node);
  answers.set(task, { service, node, dirty });
  return dirty;
}

/** Whether a rolling update (or rollback) of the service is under way. */
export function isUpdating(state: ServiceState): boolean {
  const update = state.service.update_status?.state;
  return update === UpdateStatus_UpdateState.UPDATING || update === UpdateStatus_UpdateState.ROLLBACK_STARTED;
}

/** The update settings in force: the rollback's while rolling back. */
export function updateConfigOf(state: ServiceState) {
  const rollback = state.service.update_status?.state === UpdateStatus_UpdateState.ROLLBACK_STARTED;
  return rollback ? state.service.spec?.rollback : state.service.spec?.update;
}

function isStartFirst(state: ServiceState): boolean {
  return updateConfigOf(state)?.order === UpdateConfig_UpdateOrder.START_FIRST;
}

/**
 * Whether a lost task gets a replacement in its slot. While an update stands still, a slot that still has its other
 * task keeps that one alone; while it runs, the new task of the pair is tried again.
 */
function needsReplacement(state: ServiceState, slot: Slot, lost: Task, healthy: readonly Task[]): boolean {
  if (!isRestartable(state.service, slot.tasks, lost)) return false;
  if (healthy.length === 0) return true;
  return isUpdating(state) && !isDirty(state, lost) && healthy.every((task) => isDirty(state, task));
}

/**
 * What a new task in a slot is let do at first: what was called off there (its node was away for a while) may not have
 * stopped yet, and is waited for. @param slot what there is of it, if anything. @param isTaken by tasks of a slot given up
 */
export function firstDesired(state: ServiceState, slot: Slot | undefined, isTaken = false): TaskState {
  const waits = isTaken || (slot !== undefined && hasStopping(state, slot));
  return waits ? TaskState.READY : targetState(state.service);
}

/** Why a task is given up and (where policy says so) replaced: it ended, or its node is lost to it. */
function lossReason(state: ServiceState, lost: Task): TaskReason {
  const fate = nodeFate(state.view, lost.node_id);
  if (fate !== 'ok') return fateReason(state.view, lost.node_id, fate);
  const err = lost.status?.err ?? '';
  const wait = isCrashLoop(lost) ? `${restartWaitText(lost)}: ` : '';
  return reason('task-ended', `${wait}task ${lost.id} ended${err === '' ? '' : `: ${err}`}`);
}

/**
 * The replacement for `lost`: READY at first when it must wait, so that its image is pulled meanwhile.
 * @param healthy the slot's other tasks that are meant to run: the old one that an update still keeps.
 */
function replacement(state: ServiceState, slot: Slot, lost: Task, healthy: readonly Task[]): Op {
  const fate = nodeFate(state.view, lost.node_id);
  const ended = observed(lost) > TaskState.RUNNING;
  // The delay is against crash loops; the loss of a node is none.
  const waitsForLost =
    fate === 'ok' ? restartWaitMs(lost) > 0 : fate === 'drained' && !ended && isStopping(state, lost);
  const others = Number(healthy.length > 0) + Number(hasStopping(state, slot, lost));
  // Start-first lets two run, no more.
  const waitsForOthers = others > Number(isStartFirst(state));
  const waits = waitsForLost || waitsForOthers;
  const desired = waits ? TaskState.READY : targetState(state.service);
  const restarts = isDirty(state, lost) ? 0 : failuresInRow(lost);
  return { op: 'create', task: { ...newTask(state, slot, lossReason(state, lost), desired), restarts } };
}

/**
 * When a replacement that ended before it was let start may be replaced itself: at the end of its own delay, else an
 * image that is not there would cost a task for each look at it (swarmkit.md §3.5). 0 for every other task.
 */
function heldUntilMs(state: ServiceState, slot: Slot, task: Task): number {
  if (task.desired_state !== TaskState.READY || !endedByItself(task)) return 0;
  if (nodeFate(state.view, task.node_id) !== 'ok') return 0;
  return delayOverAtMs(state, task, slot.tasks[slot.tasks.indexOf(task) - 1]);
}

/** Calls off tasks that ended or lost their node, and replaces them where policy says so. */
function replaceLost(state: ServiceState, slot: Slot, leaving: ReadonlySet<Task>): Supervision {
  const lost: Task[] = [];
  const healthy: Task[] = [];
  let wakeAtMs: number | undefined;
  for (const task of slot.wanted) {
    if (leaving.has(task)) continue;
    const done = observed(task) === TaskState.COMPLETE && task.desired_state === TaskState.COMPLETE;
    const gone = observed(task) > TaskState.RUNNING || nodeFate(state.view, task.node_id) !== 'ok';
    const heldMs = heldUntilMs(state, slot, task);
    if (heldMs > state.nowMs) wakeAtMs = earlier(wakeAtMs, heldMs);
    if (gone && !done && heldMs <= state.nowMs) lost.push(task);
    else healthy.push(task);
  }
  const steps: Op[][] = [];
  for (const task of lost) {
    const step: Op[] = [{ op: 'update', task: calledOff(task, TaskState.SHUTDOWN, lossReason(state, task)) }];
    // A node-bound task moves nowhere: when its node comes back, the slot is filled anew.
    const elsewhere = !isNodeBound(state.service) || nodeFate(state.view, task.node_id) === 'ok';
    if (elsewhere && steps.length === 0 && needsReplacement(state, slot, task, healthy)) {
      step.push(replacement(state, slot, task, healthy));
    }
    steps.push(step);
  }
  return { steps, wakeAtMs };
}

/** When the tasks that this one follows are surely out of the way: now (0), or a later time. */
function oldTasksGoneAtMs(state: ServiceState, task: Task, older: readonly Task[]): number {
  let at = 0;
  for (const old of older) {
    if (old.desired_state <= TaskState.COMPLETE || !isStopping(state, old)) continue;
    // It first serves what connections it has, then gets its grace period.
    const drainMs = drainMsOf(old.service_annotations?.labels);
    const graceMs = durationToMs(old.spec?.container?.stop_grace_period, 0) + drainMs;
    at = Math.max(at, createdAtMs(task) + Math.max(OLD_TASK_STOP_MAX_MS, graceMs + GRACE_MARGIN_MS));
  }
  return at;
}

/** When the restart delay of a replacement is over. There is none after an update, or when the node was lost. */
function delayOverAtMs(state: ServiceState, task: Task, predecessor: Task | undefined): number {
  if (predecessor === undefined || !endedByItself(predecessor)) return 0;
  if (nodeFate(state.view, predecessor.node_id) !== 'ok' || isDirty(state, predecessor)) return 0;
  return createdAtMs(task) + restartWaitMs(predecessor);
}

/**
 * What a replacement that is prepared, but kept back because its slot crashes again and again, waits for: a sentence for
 * people. Undefined for every other task.
 */
export function crashLoopWait(view: ReadView, task: Task, nowMs: number): string | undefined {
  if (task.desired_state !== TaskState.READY || observed(task) > TaskState.RUNNING) return undefined;
  if (task.restarts <= PLAIN_RESTARTS) return undefined;
  const service = view.get('service', task.service_id);
  if (service === undefined || isHeld(service)) return undefined;
  const tasks = isNodeBound(service) ? view.tasksByNode(task.node_id) : view.tasksBySlot(service.id, task.slot);
  const before = tasks
    .filter((one) => one.service_id === service.id && one.id !== task.id && createdAtMs(one) <= createdAtMs(task))
    .sort((a, b) => createdAtMs(a) - createdAtMs(b))
    .at(-1);
  if (before === undefined || !endedByItself(before) || !isCrashLoop(before)) return undefined;
  return createdAtMs(task) + restartWaitMs(before) > nowMs ? restartWaitText(before) : undefined;
}

/**
 * Lets a task that waits in READY start once its delay is over and the task before it has stopped (swarmkit.md §3.5).
 * In a stop-first update it also waits until the updater has called off the old task.
 */
function promote(state: ServiceState, slot: Slot): Supervision {
  const steps: Op[][] = [];
  let wakeAtMs: number | undefined;
  if (isHeld(state.service)) return { steps, wakeAtMs };
  for (const task of slot.wanted) {
    if (task.desired_state !== TaskState.READY || observed(task) > TaskState.RUNNING) continue;
    const older = slot.tasks.slice(0, slot.tasks.indexOf(task));
    const rival = older.some((old) => old.desired_state <= TaskState.COMPLETE && !isLeaving(state, old));
    if (rival && (!isStartFirst(state) || isSuccessor(task))) continue;
    const goneAtMs = oldTasksGoneAtMs(state, task, [...slot.outgoing, ...older]);
    const at = Math.max(goneAtMs, delayOverAtMs(state, task, older.at(-1)));
    if (at > state.nowMs) wakeAtMs = earlier(wakeAtMs, at);
    else steps.push([{ op: 'update', task: withDesired(task, targetState(state.service)) }]);
  }
  return { steps, wakeAtMs };
}

/**
 * The restart supervisor for one slot, computed from stored tasks alone: a leader that takes over goes on where the
 * last one stopped.
 */
export function superviseSlot(state: ServiceState, slot: Slot): Supervision {
  const moves = planMoves(state, slot);
  if (moves.steps.length > 0) return { steps: moves.steps, wakeAtMs: undefined };
  const replaced = replaceLost(state, slot, moves.leaving);
  if (replaced.steps.length > 0) return { steps: replaced.steps, wakeAtMs: undefined };
  const promoted = promote(state, slot);
  const wakeAtMs = earlier(moves.wakeAtMs, replaced.wakeAtMs);
  return wakeAtMs === undefined ? promoted : { ...promoted, wakeAtMs: earlier(promoted.wakeAtMs, wakeAtMs) };
}
