import {
  durationToMs,
  RestartPolicy_RestartCondition,
  TaskState,
  timestampFromMs,
  timestampToMs,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Service,
  type Task,
  type TaskReason,
} from '../../proto/index.ts';
import { earlier, type Op } from './driver.ts';
import { isLeaving } from './move.ts';
import { newTask } from './new-task.ts';
import { reason } from './reasons.ts';
import { isRestartable, restartCondition } from './restart-policy.ts';
import { isDirty, isUpdating, updateConfigOf } from './restart.ts';
import {
  calledOff,
  createdAtMs,
  endedByItself,
  nodeFate,
  observed,
  observedAtMs,
  targetState,
  type ServiceState,
} from './service-view.ts';
import type { Slot } from './slot.ts';

/** How long an update watches each new task, ms, unless the service says otherwise. */
export const MONITOR_DEFAULT_MS = 5_000;
/**
 * How long the new task of a stop-first update may lack a node before the old one is stopped all the same, ms: it may be
 * the old one that holds the port or the memory that the new one needs.
 */
export const PLACEMENT_WAIT_MS = 2_000;
/** Start-up time a new leader grants, ms, when it judges a failure whose task it never saw running. */
const UNSEEN_START_ALLOWANCE_MS = 30_000;

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
}

/** What the updater wants for one service. */
export interface UpdatePlan {
  steps: Op[][];
  wakeAtMs: number | undefined;
}

const NOTHING: UpdatePlan = { steps: [], wakeAtMs: undefined };

export function newUpdateMemory(): UpdateMemory {
  return { key: '', sinceMs: 0, begun: new Set(), finishedAtMs: new Map(), runningAtMs: new Map() };
}

interface Settings {
  parallelism: number;
  delayMs: number;
  monitorMs: number;
  startFirst: boolean;
  action: UpdateConfig_FailureAction;
  failureRatioMax: number;
}

/** Docker's defaults where the service is silent (swarmkit.md §3.6). */
function settingsOf(state: ServiceState): Settings {
  const config = updateConfigOf(state);
  const delayMs = durationToMs(config?.delay, 0);
  const monitorMs = durationToMs(config?.monitor, MONITOR_DEFAULT_MS);
  const parallelism = config === null || config === undefined ? 1 : config.parallelism;
  return {
    parallelism: parallelism === 0 ? Infinity : parallelism,
    delayMs,
    monitorMs: delayMs >= monitorMs ? delayMs + 1_000 : monitorMs,
    startFirst: config?.order === UpdateConfig_UpdateOrder.START_FIRST,
    action: config?.failure_action ?? UpdateConfig_FailureAction.PAUSE,
    failureRatioMax: config?.max_failure_ratio ?? 0,
  };
}

function isRollback(service: Service): boolean {
  return service.update_status?.state === UpdateStatus_UpdateState.ROLLBACK_STARTED;
}

function startedAtMs(state: ServiceState): number {
  return timestampToMs(state.service.update_status?.started_at);
}

/** The slot's tasks that this update brought: they follow the present spec and were created since it began. */
function broughtTasks(state: ServiceState, slot: Slot): Task[] {
  const since = startedAtMs(state);
  return slot.tasks.filter((task) => createdAtMs(task) >= since && !isDirty(state, task));
}

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

/** Brings the memory up to date with the stored tasks. */
function remember(state: ServiceState, slots: readonly Slot[], memory: UpdateMemory): void {
  const key = `${state.service.spec_version?.index ?? 0}/${startedAtMs(state)}/${isRollback(state.service)}`;
  if (memory.key !== key) Object.assign(memory, newUpdateMemory(), { key, sinceMs: state.nowMs });
  const present = new Set(slots.map((slot) => slot.key));
  for (const slotKey of [...memory.begun, ...memory.finishedAtMs.keys()]) {
    if (present.has(slotKey)) continue;
    memory.begun.delete(slotKey);
    memory.finishedAtMs.delete(slotKey);
  }
  for (const slot of slots) rememberSlot(state, slot, memory);
}

function rememberSlot(state: ServiceState, slot: Slot, memory: UpdateMemory): void {
  const brought = broughtTasks(state, slot);
  const first = brought[0];
  if (first === undefined) return;
  // A new task after one that it replaces was begun by us, or by the leader before us; one after none fills a new slot.
  const replaced = slot.tasks.slice(0, slot.tasks.indexOf(first));
  if (replaced.some((task) => isDirty(state, task))) memory.begun.add(slot.key);
  for (const task of brought) {
    const seen = observed(task);
    if (seen === TaskState.RUNNING && !memory.runningAtMs.has(task.id)) {
      memory.runningAtMs.set(task.id, observedAtMs(task));
    }
    const over = seen === TaskState.RUNNING || endedByItself(task);
    if (over && !memory.finishedAtMs.has(slot.key)) memory.finishedAtMs.set(slot.key, observedAtMs(task));
  }
}

/** Whether a task of this update failed: it ended by itself before it ran, or within the monitoring time after. */
function hasFailed(state: ServiceState, task: Task, settings: Settings, memory: UpdateMemory): boolean {
  if (!endedByItself(task)) return false;
  const anyEnd = restartCondition(state.service, task) === RestartPolicy_RestartCondition.ANY;
  if (observed(task) === TaskState.COMPLETE && !anyEnd) return false;
  const endedAt = observedAtMs(task);
  const ranAt = memory.runningAtMs.get(task.id);
  if (ranAt !== undefined) return endedAt - ranAt <= settings.monitorMs;
  if (endedAt >= memory.sinceMs) return true;
  return endedAt - createdAtMs(task) <= settings.monitorMs + UNSEEN_START_ALLOWANCE_MS;
}

/** The failed new task of each slot that has one; a slot counts once. */
function failures(state: ServiceState, slots: readonly Slot[], settings: Settings, memory: UpdateMemory): Task[] {
  const failed: Task[] = [];
  for (const slot of slots) {
    if (!memory.begun.has(slot.key)) continue;
    const task = broughtTasks(state, slot).find((candidate) => hasFailed(state, candidate, settings, memory));
    if (task !== undefined) failed.push(task);
  }
  return failed;
}

function withStatus(
  service: Service,
  update: UpdateStatus_UpdateState,
  message: string,
  times: { startedAtMs?: number; completedAtMs?: number },
): Service {
  const former = service.update_status;
  const started = times.startedAtMs === undefined ? former?.started_at : timestampFromMs(times.startedAtMs);
  const completed = times.completedAtMs === undefined ? null : timestampFromMs(times.completedAtMs);
  const update_status = { state: update, started_at: started ?? null, completed_at: completed, message };
  return { ...service, update_status };
}

function started(state: ServiceState): Op {
  const times = { startedAtMs: state.nowMs };
  const { UPDATING } = UpdateStatus_UpdateState;
  return { op: 'update-service', service: withStatus(state.service, UPDATING, 'update in progress', times) };
}

function completed(state: ServiceState): Op {
  const rollback = isRollback(state.service);
  const to = rollback ? UpdateStatus_UpdateState.ROLLBACK_COMPLETED : UpdateStatus_UpdateState.COMPLETED;
  const message = rollback ? 'rollback completed' : 'update completed';
  return { op: 'update-service', service: withStatus(state.service, to, message, { completedAtMs: state.nowMs }) };
}

function paused(state: ServiceState, taskId: string): Op {
  const rollback = isRollback(state.service);
  const to = rollback ? UpdateStatus_UpdateState.ROLLBACK_PAUSED : UpdateStatus_UpdateState.PAUSED;
  const what = rollback ? 'rollback' : 'update';
  const message = `${what} paused due to failure or early termination of task ${taskId}`;
  return { op: 'update-service', service: withStatus(state.service, to, message, {}) };
}

/** Exchanges the spec with the previous one (swarmkit.md §3.6). */
function rolledBack(state: ServiceState, taskId: string): Op {
  const { service } = state;
  const message = `update rolled back due to failure or early termination of task ${taskId}`;
  const swapped: Service = {
    ...service,
    spec: service.previous_spec,
    spec_version: service.previous_spec_version,
    previous_spec: service.spec,
    previous_spec_version: service.spec_version,
  };
  const times = { startedAtMs: state.nowMs };
  const { ROLLBACK_STARTED } = UpdateStatus_UpdateState;
  return { op: 'update-service', service: withStatus(swapped, ROLLBACK_STARTED, message, times) };
}

/** What a failure leads to; undefined when the update goes on. */
function onFailure(state: ServiceState, settings: Settings, failed: readonly Task[], total: number): Op | undefined {
  const first = failed[0];
  if (first === undefined || failed.length / Math.max(1, total) <= settings.failureRatioMax) return undefined;
  switch (settings.action) {
    case UpdateConfig_FailureAction.CONTINUE:
      return undefined;
    case UpdateConfig_FailureAction.ROLLBACK:
      if (isRollback(state.service) || state.service.previous_spec === null) return paused(state, first.id);
      return rolledBack(state, first.id);
    case UpdateConfig_FailureAction.PAUSE:
      return paused(state, first.id);
  }
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
function begin(state: ServiceState, slot: Slot, stale: readonly Task[], settings: Settings): Op[] {
  const kept = stale.filter((task) => isHealthy(state, task));
  const dropped = stale.filter((task) => !kept.includes(task));
  const stopping = slot.tasks.some(
    (task) => observed(task) >= TaskState.ASSIGNED && observed(task) <= TaskState.RUNNING,
  );
  // Stop-first prepares the new task (image, container) while the old one still serves.
  const waits = stopping && !(settings.startFirst && kept.length > 0);
  const desired = waits ? TaskState.READY : targetState(state.service);
  return [{ op: 'create', task: newTask(state, slot, updateReason(state), desired) }, ...shutDown(state, dropped)];
}

/** Goes on with a slot that has both old and new tasks: stops the old ones when the new one can take over. */
function advance(state: ServiceState, slot: Slot, stale: readonly Task[], settings: Settings): UpdatePlan {
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

interface Work {
  slot: Slot;
  stale: Task[];
}

/** Slots that a worker of the update is busy with now, and when the next one of them is free again (after the delay). */
function busySlots(state: ServiceState, settings: Settings, memory: UpdateMemory, work: readonly Work[]) {
  const unfinished = new Set(work.filter(({ slot }) => memory.begun.has(slot.key)).map(({ slot }) => slot.key));
  let count = 0;
  let wakeAtMs: number | undefined;
  for (const key of memory.begun) {
    const finishedAt = memory.finishedAtMs.get(key);
    if (finishedAt === undefined || unfinished.has(key)) {
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
  settings: Settings,
  memory: UpdateMemory,
  work: readonly Work[],
  held: ReadonlySet<string>,
): UpdatePlan {
  const steps: Op[][] = [];
  const busy = busySlots(state, settings, memory, work);
  let wakeAtMs = busy.wakeAtMs;
  let free = settings.parallelism - busy.count;
  for (const { slot, stale } of work) {
    if (held.has(slot.key)) continue;
    if (slot.wanted.some((task) => !stale.includes(task))) {
      const next = advance(state, slot, stale, settings);
      steps.push(...next.steps);
      wakeAtMs = earlier(wakeAtMs, next.wakeAtMs);
    } else if (memory.begun.has(slot.key) || free > 0) {
      if (!memory.begun.has(slot.key)) free--;
      memory.begun.add(slot.key);
      steps.push(begin(state, slot, stale, settings));
    }
  }
  return { steps, wakeAtMs };
}

/**
 * Ends an update that has no old task left, once every new one was watched for the monitoring time. Slots that came with
 * the same change of the spec (a scale-up) must have come up, too.
 */
function conclude(state: ServiceState, slots: readonly Slot[], settings: Settings, memory: UpdateMemory): UpdatePlan {
  let doneAt = 0;
  for (const slot of slots) {
    const begun = memory.begun.has(slot.key);
    if (!begun && broughtTasks(state, slot).length === 0) continue;
    const finishedAt = memory.finishedAtMs.get(slot.key);
    if (finishedAt === undefined) return NOTHING;
    if (begun) doneAt = Math.max(doneAt, finishedAt + settings.monitorMs);
  }
  if (doneAt > state.nowMs) return { steps: [], wakeAtMs: doneAt };
  return { steps: [[completed(state)]], wakeAtMs: undefined };
}

/** What the updater works on. */
export interface UpdateScope {
  /** Slots that may be updated. */
  slots: readonly Slot[];
  /** Slots that another decision of this pass has touched; their tasks are left alone until the next. */
  held: ReadonlySet<string>;
  /** Whether nothing else is being done to the service in this pass; else the update does not end in it. */
  settled: boolean;
}

/**
 * The rolling updater for one service (swarmkit.md §3.6, docker-api.md §6.3), computed anew each time from the stored
 * tasks: a newer spec simply changes which tasks are old, and a new leader goes on where the last one stopped.
 */
export function planUpdate(state: ServiceState, scope: UpdateScope, memory: UpdateMemory): UpdatePlan {
  const { slots } = scope;
  const status = state.service.update_status;
  if (status?.state === UpdateStatus_UpdateState.PAUSED || status?.state === UpdateStatus_UpdateState.ROLLBACK_PAUSED) {
    return NOTHING;
  }
  const work = slots.map((slot) => ({ slot, stale: staleTasks(state, slot) })).filter(({ stale }) => stale.length > 0);
  if (status === null || !isUpdating(state)) {
    return work.length === 0 ? NOTHING : { steps: [[started(state)]], wakeAtMs: undefined };
  }
  if (status.started_at === null) {
    const dated = withStatus(state.service, status.state, status.message, { startedAtMs: state.nowMs });
    return { steps: [[{ op: 'update-service', service: dated }]], wakeAtMs: undefined };
  }
  const settings = settingsOf(state);
  remember(state, slots, memory);
  const total = new Set([...memory.begun, ...work.map(({ slot }) => slot.key)]).size;
  const stop = onFailure(state, settings, failures(state, slots, settings, memory), total);
  if (stop !== undefined) return { steps: [[stop]], wakeAtMs: undefined };
  if (work.length > 0) return roll(state, settings, memory, work, scope.held);
  return scope.settled ? conclude(state, slots, settings, memory) : NOTHING;
}
