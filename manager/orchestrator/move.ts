import { TaskState, timestampToMs, type Task } from '../../proto/index.ts';
import { movesStopFirst } from '../settings/index.ts';
import { isTaskDirty } from '../store/dirty.ts';
import { earlier, type Op } from './driver.ts';
import { newTask } from './new-task.ts';
import { reason } from './reasons.ts';
import {
  calledOff,
  createdAtMs,
  fateReason,
  modeOf,
  nodeFate,
  observed,
  targetState,
  withDesired,
  type ServiceState,
} from './service-view.ts';
import { hasStopping, type Slot } from './slot.ts';

/**
 * The longest overlap of a task that moves with its successor, ms: counted from the drain of its node, or from the
 * creation of the successor where the service is levelled out. Then a drained task stops all the same; a task that was
 * only to be levelled out stays.
 */
export const MOVE_OVERLAP_MAX_MS = 60_000;
/** How long a successor may lack a node before the same happens, ms: the scheduler and the allocator answer within 2 s. */
export const MOVE_PLACEMENT_WAIT_MS = 5_000;

/** What the moves of one slot need now. */
export interface MovePlan {
  steps: Op[][];
  wakeAtMs: number | undefined;
  /** Running tasks of drained nodes that serve until their successors run; nobody else is to call them off. */
  leaving: ReadonlySet<Task>;
}

const NONE: ReadonlySet<Task> = new Set();
const NOTHING: MovePlan = { steps: [], wakeAtMs: undefined, leaving: NONE };

/** When a running task of a drained node stops even without a successor; undefined when it does not wait for one. */
function leavesAtMs(state: ServiceState, task: Task): number | undefined {
  if (observed(task) !== TaskState.RUNNING || nodeFate(state.view, task.node_id) !== 'drained') return undefined;
  // Two tasks of a job would do its work twice; a global task moves nowhere.
  if (modeOf(state.service) !== 'replicated' || movesStopFirst(state.service.spec?.annotations?.labels))
    return undefined;
  const node = state.view.get('node', task.node_id);
  return timestampToMs(node?.meta?.updated_at) + MOVE_OVERLAP_MAX_MS;
}

/**
 * Whether a task of a drained node still serves, because its successor does not run yet. Such a task is no rival: its
 * successor starts beside it.
 */
export function isLeaving(state: ServiceState, task: Task): boolean {
  return (leavesAtMs(state, task) ?? 0) > state.nowMs;
}

/** When a successor that does not run yet is given up: undefined when it runs. */
function successorLimitMs(successor: Task): number | undefined {
  const seen = observed(successor);
  if (seen === TaskState.RUNNING) return undefined;
  const waitMs = seen < TaskState.ASSIGNED ? MOVE_PLACEMENT_WAIT_MS : MOVE_OVERLAP_MAX_MS;
  return createdAtMs(successor) + waitMs;
}

/** Goes on with the tasks of drained nodes: successors first, then the end of the old ones. */
function planDrain(state: ServiceState, slot: Slot): MovePlan {
  const leaving = slot.wanted.filter((task) => isLeaving(state, task));
  const first = leaving[0];
  if (first === undefined) return NOTHING;
  const stop = leaving.map((task): Op => {
    const drained = fateReason(state.view, task.node_id, 'drained');
    return { op: 'update', task: calledOff(task, TaskState.SHUTDOWN, drained) };
  });
  const others = slot.wanted.filter((task) => !leaving.includes(task));
  const successors = others.filter(
    (task) => observed(task) <= TaskState.RUNNING && nodeFate(state.view, task.node_id) === 'ok',
  );
  const plan = { wakeAtMs: undefined, leaving: new Set(leaving) };
  if (others.length === 0) {
    const why = fateReason(state.view, first.node_id, 'drained');
    // The overlap is with the task that leaves, not with one that was called off before and has not stopped yet.
    const desired = hasStopping(state, slot) ? TaskState.READY : targetState(state.service);
    const successor = newTask(state, slot, why, desired);
    return { ...plan, steps: [[{ op: 'create', task: successor }]] };
  }
  let wakeAtMs = leavesAtMs(state, first);
  for (const successor of successors) {
    const limitMs = successorLimitMs(successor);
    if (limitMs === undefined || limitMs <= state.nowMs) return { ...plan, steps: [stop] };
    wakeAtMs = earlier(wakeAtMs, limitMs);
  }
  return { ...plan, steps: [], wakeAtMs };
}

/** Whether a task was created to take over from another one of its slot that could stay. */
export function isSuccessor(task: Task): boolean {
  const code = task.created_for?.code;
  return code === 'rebalance' || code === 'node-drained';
}

function tookOver(state: ServiceState, successor: Task) {
  const to = state.view.get('node', successor.node_id)?.description?.hostname ?? successor.node_id;
  return reason('rebalance', `the task moved to node ${to}`);
}

/**
 * Ends a pair of tasks of one slot on nodes that may both keep theirs: of a service that is levelled out, or of a node
 * that was drained and made active again. The successor takes over when it runs; when it does not come up, it goes.
 */
function planPair(state: ServiceState, slot: Slot): MovePlan {
  const stays = (task: Task): boolean => nodeFate(state.view, task.node_id) === 'ok';
  const alive = slot.wanted.filter((task) => observed(task) <= TaskState.RUNNING && stays(task));
  const successor = alive.at(-1);
  if (successor === undefined || alive.length < 2 || !isSuccessor(successor)) return NOTHING;
  const older = alive.slice(0, -1);
  // An update that began meanwhile decides on both; one that leaves tasks as they are knows nothing of them.
  const node = state.view.get('node', successor.node_id);
  if (isTaskDirty(state.service, successor, node)) return NOTHING;
  if (older.every((task) => observed(task) !== TaskState.RUNNING)) return stopAll(state, older, successor);
  const limitMs = successorLimitMs(successor);
  if (limitMs === undefined) return stopAll(state, older, successor);
  // Stop-first: the successor is prepared, and waits in READY for the end of the other.
  const prepared = observed(successor) === TaskState.READY && successor.desired_state === TaskState.READY;
  if (prepared) return stopAll(state, older, successor);
  if (limitMs > state.nowMs) return { ...NOTHING, wakeAtMs: limitMs };
  const why = reason('move-failed', 'the move was given up: the new task did not come up in time');
  return { ...NOTHING, steps: [[{ op: 'update', task: calledOff(successor, TaskState.SHUTDOWN, why) }]] };
}

function stopAll(state: ServiceState, tasks: readonly Task[], successor: Task): MovePlan {
  const why = tookOver(state, successor);
  const step = tasks.map((task): Op => ({ op: 'update', task: calledOff(task, TaskState.SHUTDOWN, why) }));
  // Without an older task to wait for, the successor need not be held back.
  const held = successor.desired_state < targetState(state.service);
  if (held && tasks.every((task) => observed(task) < TaskState.ASSIGNED)) {
    step.push({ op: 'update', task: withDesired(successor, targetState(state.service)) });
  }
  return { ...NOTHING, steps: [step] };
}

/**
 * Moves that a slot is in the middle of, computed from stored tasks alone: tasks of drained nodes, and tasks that are
 * levelled out (`rebalance.ts`). An overlap of two running tasks of one slot is declared here and in updates only.
 */
export function planMoves(state: ServiceState, slot: Slot): MovePlan {
  const drain = planDrain(state, slot);
  return drain.leaving.size > 0 ? drain : planPair(state, slot);
}
