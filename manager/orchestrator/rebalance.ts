import {
  durationToMs,
  TaskState,
  timestampToMs,
  UpdateStatus_UpdateState,
  type Node,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { Scheduler } from '../../scheduler/index.ts';
import { movesStopFirst, wantsRebalance } from '../settings/index.ts';
import type { ReadView } from '../store/types.ts';
import { satisfiesPlacement } from './constraints.ts';
import { earlier, type Decision, type Op } from './driver.ts';
import { isSuccessor } from './move.ts';
import { newTask } from './new-task.ts';
import { reason } from './reasons.ts';
import { isDirty } from './restart.ts';
import {
  createdAtMs,
  endedByItself,
  isReadyAndActive,
  modeOf,
  nodeFate,
  observed,
  observedAtMs,
  targetState,
  type ServiceState,
} from './service-view.ts';
import type { Slot } from './slot.ts';
import { findMove, spreadOf, type Move, type Place } from './spread-moves.ts';

/** How long a node must have been ready without a change before tasks move to it, ms; a requested rebalance does not wait. */
export const NODE_SETTLE_MS = 10_000;
/** Least time between the end of one move and the begin of the next, ms; longer where the update's delay is longer. */
export const MOVE_PAUSE_MS = 1_000;
/** How long a task that was moved stays where it is, ms. */
export const MOVED_REST_MS = 60_000;
/** How long a service is left alone after a move that came to nothing, ms. */
export const MOVE_FAILED_REST_MS = 300_000;
/** Moves of one service at once, where its update parallelism has no bound. */
export const MOVES_MAX = 10;

const NOTHING: Decision = { steps: [] };

/** Whether tasks of the service are to be levelled out now. */
export function isRebalanced(service: Service): boolean {
  if (modeOf(service) !== 'replicated') return false;
  return service.rebalance_requested !== null || wantsRebalance(service.spec?.annotations?.labels);
}

/** Services that a new, returned or changed node may concern though they have no task there. */
export function rebalancedServices(view: ReadView): string[] {
  return view
    .list('service')
    .filter(isRebalanced)
    .map((service) => service.id);
}

function isUpdateOver({ update_status: status, canary }: Service): boolean {
  if (canary !== null && canary.promoted_at === null) return false;
  const { UNKNOWN, COMPLETED, ROLLBACK_COMPLETED } = UpdateStatus_UpdateState;
  return status === null || [UNKNOWN, COMPLETED, ROLLBACK_COMPLETED].some((state) => state === status.state);
}

/** The slot's one task, when it serves as it should. */
function steadyTask(state: ServiceState, slot: Slot): Task | undefined {
  const [task, ...others] = slot.wanted;
  if (task === undefined || others.length > 0) return undefined;
  if (observed(task) !== TaskState.RUNNING || nodeFate(state.view, task.node_id) !== 'ok') return undefined;
  return isDirty(state, task) ? undefined : task;
}

function isMoving(slot: Slot): boolean {
  const newest = slot.wanted.at(-1);
  return slot.wanted.length > 1 && newest !== undefined && isSuccessor(newest);
}

/** When the service may be levelled out again after moves that failed, ms; 0 when none did. */
function failedUntilMs(slots: readonly Slot[]): number {
  let at = 0;
  for (const slot of slots) {
    for (const task of slot.tasks) {
      if (task.created_for?.code !== 'rebalance') continue;
      const failed = endedByItself(task) || task.stopped_for?.code === 'move-failed';
      if (failed) at = Math.max(at, createdAtMs(task) + MOVE_FAILED_REST_MS);
    }
  }
  return at;
}

/** How many moves may begin now, and when more may. */
function allowance(state: ServiceState, slots: readonly Slot[]): { free: number; wakeAtMs: number | undefined } {
  const config = state.service.spec?.update;
  const parallelism = Math.min(config ? config.parallelism || MOVES_MAX : 1, MOVES_MAX);
  const pauseMs = Math.max(MOVE_PAUSE_MS, durationToMs(config?.delay, 0));
  let busy = 0;
  let wakeAtMs: number | undefined;
  for (const slot of slots) {
    const task = slot.wanted.at(-1);
    const restsUntilMs = task?.created_for?.code === 'rebalance' ? observedAtMs(task) + pauseMs : 0;
    if (isMoving(slot)) {
      busy++;
    } else if (restsUntilMs > state.nowMs) {
      busy++;
      wakeAtMs = earlier(wakeAtMs, restsUntilMs);
    }
  }
  return { free: parallelism - busy, wakeAtMs };
}

/** Whether the node takes one more task of the service, by all filters of the scheduler. */
function takesOneMore(state: ServiceState, node: Node, example: Task): boolean {
  const scheduler = new Scheduler();
  scheduler.setNode(node);
  const at = (task: Task, seen: TaskState): Task => ({ ...task, status: { ...task.status!, state: seen } });
  for (const task of state.view.tasksByNode(node.id)) {
    // A task on its way here will hold what it reserves.
    scheduler.addTask(observed(task) < TaskState.ASSIGNED ? at(task, TaskState.ASSIGNED) : task);
  }
  const one = { ...at(example, TaskState.PENDING), id: 'candidate', node_id: node.id, assigned_generic_resources: [] };
  return !('explanation' in scheduler.confirm(one));
}

/**
 * The nodes that the service may use, with the slots that stand (or will stand) there.
 * @param rested whether tasks that moved a short while ago may move again.
 */
function places(state: ServiceState, slots: readonly Slot[], rested: boolean): Place[] {
  const found = new Map<string, Place>();
  for (const node of state.view.list('node')) {
    if (!isReadyAndActive(node) || !satisfiesPlacement(state.service, node)) continue;
    found.set(node.id, { node, count: 0, slots: [] });
  }
  for (const slot of slots) {
    const task = slot.wanted.at(-1);
    const place = found.get(task?.node_id ?? '');
    if (place === undefined || task === undefined) continue;
    place.count++;
    if ((rested || restEndMs(state, [slot]) === undefined) && steadyTask(state, slot) !== undefined)
      place.slots.push(slot);
  }
  return [...found.values()];
}

function moveStep(state: ServiceState, slot: Slot, from: Place, to: Place): Op[] {
  const name = ({ node }: Place): string => node.description?.hostname ?? node.id;
  const text = `the service has ${from.count} tasks on node ${name(from)} and ${to.count} on ${name(to)}`;
  const stopFirst = movesStopFirst(state.service.spec?.annotations?.labels);
  const desired = stopFirst ? TaskState.READY : targetState(state.service);
  const task = newTask(state, slot, reason('rebalance', text), desired);
  // Its node is given, as that of a global task: the scheduler only confirms that it fits.
  return [{ op: 'create', task: { ...task, node_id: to.node.id } }];
}

/** When a node counts as settled: its last change is at the earliest the one that made it ready. */
function settledAtMs(state: ServiceState, { node }: Place): number {
  if (state.service.rebalance_requested !== null) return 0;
  return timestampToMs(node.meta?.updated_at) + NODE_SETTLE_MS;
}

function bestMove(state: ServiceState, slots: readonly Slot[], rested: boolean): Move | undefined {
  const example = slots[0]?.wanted.at(-1);
  if (example === undefined) return undefined;
  const all = places(state, slots, rested);
  return findMove(spreadOf(all, state.service), ({ node }) => takesOneMore(state, node, example));
}

/** The next move; one at a time, so that each is judged with those before it in the books. */
function nextMove(state: ServiceState, slots: readonly Slot[]): Decision | undefined {
  const move = bestMove(state, slots, false);
  const slot = move?.from.slots.at(-1);
  if (move === undefined || slot === undefined) return undefined;
  // Not to a second-best node meanwhile: the task would move twice.
  const settledMs = settledAtMs(state, move.to);
  if (settledMs > state.nowMs) return { steps: [], wakeAtMs: settledMs };
  return { steps: [moveStep(state, slot, move.from, move.to)] };
}

/** The operator's request is done with: the tasks are level, or levelling them failed. */
function settleRequest(state: ServiceState): Decision {
  if (state.service.rebalance_requested === null) return NOTHING;
  return { steps: [[{ op: 'update-service', service: { ...state.service, rebalance_requested: null } }]] };
}

/**
 * Levels out the tasks of a service that asked for it: as long as a node (or a branch of the spread preferences) has at
 * least two more than another one that can take them, tasks move one after the other within the update's parallelism and
 * delay. Each move makes the difference smaller, so it ends. Only a service at rest is touched: every slot serves, no
 * update is under way or paused. Computed from stored tasks alone.
 * @param slots all slots of the service.
 */
export function planRebalance(state: ServiceState, slots: readonly Slot[]): Decision {
  if (!isRebalanced(state.service) || !isUpdateOver(state.service)) return NOTHING;
  const moving = slots.filter(isMoving);
  if (slots.some((slot) => !isMoving(slot) && steadyTask(state, slot) === undefined)) return NOTHING;
  const failedMs = failedUntilMs(slots);
  if (failedMs > state.nowMs) {
    const given = moving.length === 0 ? settleRequest(state) : NOTHING;
    return given.steps.length > 0 ? given : { steps: [], wakeAtMs: failedMs };
  }
  const { free, wakeAtMs } = allowance(state, slots);
  if (free <= 0) return { steps: [], wakeAtMs };
  const next = nextMove(state, slots);
  if (next !== undefined) return { ...next, wakeAtMs: earlier(wakeAtMs, next.wakeAtMs) };
  if (moving.length > 0) return NOTHING;
  const restsMs = restEndMs(state, slots);
  if (restsMs !== undefined && bestMove(state, slots, true) !== undefined) return { steps: [], wakeAtMs: restsMs };
  return settleRequest(state);
}

/** When the next of the tasks that were moved a short while ago may move again; undefined when none rests. */
function restEndMs(state: ServiceState, slots: readonly Slot[]): number | undefined {
  let wakeAtMs: number | undefined;
  for (const { wanted } of slots) {
    const task = wanted.at(-1);
    if (task?.created_for?.code !== 'rebalance') continue;
    const at = createdAtMs(task) + MOVED_REST_MS;
    if (at > state.nowMs) wakeAtMs = earlier(wakeAtMs, at);
  }
  return wakeAtMs;
}
