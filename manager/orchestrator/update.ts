import {
  TaskState,
  UpdateConfig_FailureAction,
  UpdateStatus_UpdateState,
  type Task,
  type TaskReason,
} from '../../proto/index.ts';
import { canarySlots, planWait, type Canary } from './canary.ts';
import { earlier, type Op } from './driver.ts';
import { isLeaving } from './move.ts';
import { newTask } from './new-task.ts';
import { reason } from './reasons.ts';
import { isRestartable } from './restart-policy.ts';
import { isDirty, isUpdating } from './restart.ts';
import {
  calledOff,
  createdAtMs,
  endedByItself,
  nodeFate,
  observed,
  targetState,
  type ServiceState,
} from './service-view.ts';
import type { Slot } from './slot.ts';
import { broughtTasks, overdueSlots, remember, type UpdateMemory } from './update-progress.ts';
import { updateSettingsOf, type UpdateSettings } from './update-settings.ts';
import { completed, dated, failed, isRollback, rollbackDueAtMs, rolledBack, started } from './update-status.ts';

/**
 * How long the new task of a stop-first update may lack a node before the old one is stopped all the same, ms: it may be
 * the old one that holds the port or the memory that the new one needs.
 */
export const PLACEMENT_WAIT_MS = 2_000;

/** What the updater wants for one service. */
export interface UpdatePlan {
  steps: Op[][];
  wakeAtMs: number | undefined;
}

/** A slot, and its tasks that are out of date. */
interface Work {
  slot: Slot;
  stale: Task[];
}

const NONE: ReadonlySet<string> = new Set();
const NOTHING: UpdatePlan = { steps: [], wakeAtMs: undefined };

/** A slot whose new task failed for good while the old one still runs: nothing more to try there. */
function isStuck(state: ServiceState, slot: Slot): boolean {
  const newest = slot.tasks.at(-1);
  if (newest === undefined || !endedByItself(newest) || isDirty(state, newest)) return false;
  return !isRestartable(state.service, slot.tasks, newest);
}

/** Tasks of the slot that the update must replace: those meant to run, or the one that rests there. */
function staleTasks(state: ServiceState, slot: Slot): Task[] {
  if (isStuck(state, slot)) return [];
  const candidates = slot.wanted.length > 0 ? slot.wanted : slot.tasks.slice(-1);
  return candidates.filter((task) => isDirty(state, task));
}

/** Whether an old task does its work, so that it is worth keeping until its successor is ready. */
function isHealthy(state: ServiceState, task: Task): boolean {
  if (observed(task) !== TaskState.RUNNING) return false;
  return nodeFate(state.view, task.node_id) === 'ok' || isLeaving(state, task);
}

/** Why this update creates and stops tasks. */
function updateReason({ service }: ServiceState): TaskReason {
  const what = isRollback(service) ? 'rollback' : 'update';
  return reason(what, `${what} to version ${service.spec_version?.index ?? 0} of the service`);
}

function shutDown(state: ServiceState, tasks: readonly Task[]): Op[] {
  return tasks
    .filter((task) => task.desired_state < TaskState.SHUTDOWN)
    .map((task) => ({ op: 'update', task: calledOff(task, TaskState.SHUTDOWN, updateReason(state)) }));
}

/** Begins a slot: creates the new task, and stops the old one unless it is to serve meanwhile. */
function begin(state: ServiceState, slot: Slot, stale: readonly Task[], settings: UpdateSettings): Op[] {
  // Where another update was interrupted there may be two; one is enough to serve until the new task runs.
  const kept = stale.filter((task) => isHealthy(state, task)).slice(-1);
  const dropped = stale.filter((task) => !kept.includes(task));
  const alive = slot.tasks.filter(
    (task) => observed(task) >= TaskState.ASSIGNED && observed(task) <= TaskState.RUNNING,
  );
  // Stop-first prepares the new task (image, container) while the old one still serves; start-first lets two run, but not
  // beside a third that was called off before and has not stopped.
  const inTheWay = settings.startFirst ? alive.filter((task) => !kept.includes(task)) : alive;
  const desired = inTheWay.length > 0 ? TaskState.READY : targetState(state.service);
  return [{ op: 'create', task: newTask(state, slot, updateReason(state), desired) }, ...shutDown(state, dropped)];
}

/**
 * Ends pairs of old tasks that an update left which the present one interrupted: slots may wait long for their turn, and
 * one task is enough to serve until then. The newest that does its work stays.
 */
function thinOut(state: ServiceState, work: readonly Work[], held: ReadonlySet<string>): Work[] {
  const pairs: Work[] = [];
  for (const { slot, stale } of work) {
    const isPair = slot.wanted.length > 1 && slot.wanted.length === stale.length;
    if (!isPair || held.has(slot.key) || stale.some((task) => isLeaving(state, task))) continue;
    const kept = stale.findLast((task) => isHealthy(state, task)) ?? stale.at(-1);
    pairs.push({ slot, stale: stale.filter((task) => task !== kept) });
  }
  return pairs;
}

/** Goes on with a slot that has both old and new tasks: stops the old ones when the new one can take over. */
function advance(state: ServiceState, slot: Slot, stale: readonly Task[], settings: UpdateSettings): UpdatePlan {
  // Tasks of a drained node stop when their successors run, whatever the order of the update.
  if (stale.every((task) => isLeaving(state, task))) return NOTHING;
  const stop: UpdatePlan = { steps: [shutDown(state, stale)], wakeAtMs: undefined };
  const fresh = slot.wanted.filter((task) => !stale.includes(task));
  if (stale.every((task) => !isHealthy(state, task))) return stop;
  if (fresh.some((task) => observed(task) === TaskState.RUNNING)) return stop;
  if (settings.startFirst) return NOTHING;
  let wakeAtMs: number | undefined;
  for (const task of fresh) {
    const seen = observed(task);
    if (seen >= TaskState.READY && seen <= TaskState.RUNNING) return stop;
    if (seen >= TaskState.ASSIGNED) continue;
    const at = createdAtMs(task) + PLACEMENT_WAIT_MS;
    if (at <= state.nowMs) return stop;
    wakeAtMs = earlier(wakeAtMs, at);
  }
  return { steps: [], wakeAtMs };
}

/** Slots that a worker of the update is busy with now, and when the next one of them is free again (after the delay). */
function busySlots(state: ServiceState, settings: UpdateSettings, memory: UpdateMemory, work: readonly Work[]) {
  const unfinished = new Set(work.map(({ slot }) => slot.key));
  let count = 0;
  let wakeAtMs: number | undefined;
  for (const key of memory.begun) {
    const finishedAt = memory.finishedAtMs.get(key);
    // A slot whose failure is tolerated is tried again by the restart supervisor, but holds up no other.
    if (finishedAt === undefined || (unfinished.has(key) && !memory.failed.has(key))) {
      count++;
    } else if (finishedAt + settings.delayMs > state.nowMs) {
      count++;
      wakeAtMs = earlier(wakeAtMs, finishedAt + settings.delayMs);
    }
  }
  return { count, wakeAtMs };
}

/** Moves the slots that still have old tasks: goes on with those begun, begins others as far as there is room. */
function roll(
  state: ServiceState,
  settings: UpdateSettings,
  memory: UpdateMemory,
  work: readonly Work[],
  scope: UpdateScope,
): UpdatePlan {
  const steps: Op[][] = [];
  const busy = busySlots(state, settings, memory, work);
  let wakeAtMs = busy.wakeAtMs;
  let free = settings.parallelism - busy.count;
  for (const { slot, stale } of work) {
    if (scope.held.has(slot.key)) continue;
    if (slot.wanted.some((task) => !stale.includes(task))) {
      const next = advance(state, slot, stale, settings);
      steps.push(...next.steps);
      wakeAtMs = earlier(wakeAtMs, next.wakeAtMs);
    } else if (!scope.closed.has(slot.key) && (memory.begun.has(slot.key) || free > 0)) {
      if (!memory.begun.has(slot.key)) free--;
      memory.begun.add(slot.key);
      steps.push(begin(state, slot, stale, settings));
    }
  }
  return { steps, wakeAtMs };
}

/** When every new task was watched for the monitoring time, ms since the epoch; undefined while one is not up yet. */
function watchedAtMs(
  state: ServiceState,
  slots: readonly Slot[],
  settings: UpdateSettings,
  memory: UpdateMemory,
): number | undefined {
  let at = 0;
  for (const slot of slots) {
    const begun = memory.begun.has(slot.key);
    if (!begun && broughtTasks(state, slot).length === 0) continue;
    const finishedAt = memory.finishedAtMs.get(slot.key);
    if (finishedAt === undefined) return undefined;
    if (begun) at = Math.max(at, finishedAt + settings.monitorMs);
  }
  return at;
}

/**
 * Ends an update that has nothing left to begin, once every new task was watched for the monitoring time. Slots that came
 * with the same change of the spec (a scale-up) must have come up, too. Old tasks that still stand in for a failure that
 * was tolerated are stopped then: a completed update leaves none behind. A canary waits before all others.
 */
function conclude(
  state: ServiceState,
  scope: UpdateScope,
  settings: UpdateSettings,
  memory: UpdateMemory,
  work: readonly Work[],
): UpdatePlan {
  const doneAt = watchedAtMs(state, scope.slots, settings, memory);
  if (doneAt === undefined) return NOTHING;
  if (doneAt > state.nowMs) return { steps: [], wakeAtMs: doneAt };
  if (work.length > 0 && scope.canary !== undefined) return planWait(state, scope.canary, scope.slots);
  if (work.length > 0) return { steps: work.map(({ stale }) => shutDown(state, stale)), wakeAtMs: undefined };
  return scope.settled ? { steps: [[completed(state)]], wakeAtMs: undefined } : NOTHING;
}

/** Calls off the new tasks of slots whose old one serves: while an update stands still, that one goes on alone. */
function callOffNew(state: ServiceState, work: readonly Work[]): Op[][] {
  const serves = (task: Task): boolean =>
    observed(task) === TaskState.RUNNING && nodeFate(state.view, task.node_id) === 'ok';
  return work
    .filter(({ stale }) => stale.some(serves))
    .map(({ slot, stale }) =>
      shutDown(
        state,
        slot.wanted.filter((task) => !stale.includes(task)),
      ),
    )
    .filter((step) => step.length > 0);
}

/** What more failures than the service tolerates lead to; undefined when the update goes on. */
function onFailure(
  state: ServiceState,
  settings: UpdateSettings,
  memory: UpdateMemory,
  work: readonly Work[],
): UpdatePlan | undefined {
  const [cause] = memory.failed.values();
  const total = new Set([...memory.begun, ...work.map(({ slot }) => slot.key)]).size;
  const isTolerated = settings.action === UpdateConfig_FailureAction.CONTINUE;
  if (cause === undefined || isTolerated) return undefined;
  if (memory.failed.size / Math.max(1, total) <= settings.failureRatioMax) return undefined;
  return { steps: [...callOffNew(state, work), [failed(state, cause)]], wakeAtMs: undefined };
}

/** What the updater works on. */
export interface UpdateScope {
  /** Slots that may be updated. */
  slots: readonly Slot[];
  /** Slots that another decision of this pass has touched; their tasks are left alone until the next. */
  held: ReadonlySet<string>;
  /** Slots in which nothing may be begun, only finished: their nodes take no new tasks. */
  closed: ReadonlySet<string>;
  /** Whether nothing else is being done to the service in this pass; else the update does not end in it. */
  settled: boolean;
  /** The canary of the update, until it is promoted. */
  canary: Canary | undefined;
}

/** An update that stands still; one that is to be rolled back stays so for a moment only. */
function planPaused(state: ServiceState, work: readonly Work[]): UpdatePlan {
  const dueAt = rollbackDueAtMs(state);
  const steps = [...callOffNew(state, work), ...thinOut(state, work, NONE).map((old) => shutDown(state, old.stale))];
  if (dueAt === undefined || dueAt > state.nowMs) return { steps, wakeAtMs: dueAt };
  return { steps: [...steps, [rolledBack(state)]], wakeAtMs: undefined };
}

function isPaused(state: UpdateStatus_UpdateState | undefined): boolean {
  return state === UpdateStatus_UpdateState.PAUSED || state === UpdateStatus_UpdateState.ROLLBACK_PAUSED;
}

/**
 * The rolling updater for one service (swarmkit.md §3.6, docker-api.md §6.3), computed anew each time from the stored
 * tasks: a newer spec simply changes which tasks are old, and a new leader goes on where the last one stopped.
 */
export function planUpdate(state: ServiceState, scope: UpdateScope, memory: UpdateMemory): UpdatePlan {
  const { slots, canary } = scope;
  const status = state.service.update_status;
  const work = slots.map((slot) => ({ slot, stale: staleTasks(state, slot) })).filter(({ stale }) => stale.length > 0);
  if (isPaused(status?.state)) {
    return planPaused(
      state,
      work.filter(({ slot }) => !scope.held.has(slot.key)),
    );
  }
  if (status === null || !isUpdating(state)) {
    return work.length === 0 ? NOTHING : { steps: [[started(state)]], wakeAtMs: undefined };
  }
  if (status.started_at === null) return { steps: [[dated(state)]], wakeAtMs: undefined };
  const settings = updateSettingsOf(state);
  remember(state, slots, settings, memory);
  const late = overdueSlots(state, slots, settings, memory);
  const open = canary === undefined ? work : canarySlots(canary, slots, work);
  const stop = onFailure(state, settings, memory, open);
  if (stop !== undefined) return stop;
  const pairs = thinOut(state, work, scope.held);
  const held = new Set([...scope.held, ...pairs.map(({ slot }) => slot.key)]);
  const plan = roll(state, settings, memory, open, { ...scope, held });
  plan.steps.push(...pairs.map(({ stale }) => shutDown(state, stale)));
  const isOpen = ({ slot }: Work): boolean => !memory.failed.has(slot.key);
  const isBusy = plan.steps.length > 0 || open.some(isOpen);
  const end = isBusy ? NOTHING : conclude(state, scope, settings, memory, work);
  const wakeAtMs = earlier(earlier(plan.wakeAtMs, end.wakeAtMs), late.wakeAtMs);
  return { steps: [...plan.steps, ...end.steps], wakeAtMs };
}
