import { formatDuration } from '../../base/index.ts';
import {
  durationToMs,
  RestartPolicy_RestartCondition,
  TaskState,
  timestampToMs,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { endedByItself, isJob, observed, observedAtMs } from './service-view.ts';

/** Docker's default delay between the end of a task and the start of its replacement, ms. */
export const RESTART_DELAY_DEFAULT_MS = 5_000;

/**
 * Restarts in a row that wait for the policy's delay and no longer, as in Docker. Each further one waits twice as long as
 * the one before it.
 */
export const PLAIN_RESTARTS = 5;
/** The longest wait of a crash loop, ms; a policy with a longer delay keeps its own. */
export const CRASH_WAIT_MAX_MS = 5 * 60_000;
/** What a crash loop's wait grows from when the policy's delay is shorter, ms. */
const CRASH_WAIT_BASE_MIN_MS = 1_000;
/** A task that ran for this long, ms, and for ten times its delay, ends a crash loop. */
const LONG_RUN_MIN_MS = 60_000;
const LONG_RUN_DELAYS = 10;

function restartDelayMs(task: Task): number {
  return durationToMs(task.spec?.restart?.delay, RESTART_DELAY_DEFAULT_MS);
}

/** Jobs take ANY as ON_FAILURE: a task that completed is done (swarmkit.md §3.4). */
export function restartCondition(service: Service, task: Task): RestartPolicy_RestartCondition {
  const condition = task.spec?.restart?.condition ?? RestartPolicy_RestartCondition.ANY;
  if (isJob(service) && condition === RestartPolicy_RestartCondition.ANY) {
    return RestartPolicy_RestartCondition.ON_FAILURE;
  }
  return condition;
}

/** Whether a task ran for so long that its end says nothing about its start. */
function ranLong(task: Task): boolean {
  if (task.started_at === null) return false;
  const ranMs = observedAtMs(task) - timestampToMs(task.started_at);
  return ranMs >= Math.max(LONG_RUN_MIN_MS, LONG_RUN_DELAYS * restartDelayMs(task));
}

/**
 * Failures in a row when `task` is over, each soon after its start; kept in the replacement (`Task.restarts`), so that the
 * count outlives leaders and history. A task that ended with 0, or ran for long, ends the row.
 */
export function failuresInRow(task: Task): number {
  if (!endedByItself(task)) return ranLong(task) ? 0 : task.restarts;
  if (observed(task) === TaskState.COMPLETE) return 0;
  return ranLong(task) ? 1 : task.restarts + 1;
}

/** Whether the replacement for a task waits longer than the policy's delay. Counted attempts bound a loop already. */
export function isCrashLoop(task: Task): boolean {
  return failuresInRow(task) > PLAIN_RESTARTS && (task.spec?.restart?.max_attempts ?? 0) === 0;
}

/** How long the replacement for a task that ended waits, ms: the policy's delay, in a crash loop longer each time. */
export function restartWaitMs(task: Task): number {
  const delayMs = restartDelayMs(task);
  if (!isCrashLoop(task)) return delayMs;
  const doublings = Math.min(failuresInRow(task) - PLAIN_RESTARTS, 32);
  const waitMs = Math.max(delayMs, CRASH_WAIT_BASE_MIN_MS) * 2 ** doublings;
  return Math.max(delayMs, Math.min(waitMs, CRASH_WAIT_MAX_MS));
}

/** "waits 40s before restart 8 (crash loop)". */
export function restartWaitText(task: Task): string {
  const wait = `waits ${formatDuration(restartWaitMs(task) * 1e6)} before`;
  const restart = failuresInRow(task);
  if (restart === 0) return `${wait} the next start`;
  return `${wait} restart ${restart}${isCrashLoop(task) ? ' (crash loop)' : ''}`;
}

/** Restarts of the slot that count against `max_attempts` at the end of `task`, inside the window when there is one. */
function attemptsUsed(slotTasks: readonly Task[], task: Task): number {
  const windowMs = durationToMs(task.spec?.restart?.window, 0);
  const endedAt = observedAtMs(task);
  let used = 0;
  // Backwards, only as far as the spec version is the same: an update (or a rollback) starts the count anew.
  for (let i = slotTasks.indexOf(task) - 1; i >= 0; i--) {
    const older = slotTasks[i] as Task;
    if (older.spec_version?.index !== task.spec_version?.index) break;
    if (!endedByItself(older)) continue;
    if (windowMs === 0 || endedAt - observedAtMs(older) <= windowMs) used++;
  }
  return used;
}

/**
 * Whether policy allows a replacement for `task`, whatever made it end (swarmkit.md §3.5). Depends on stored tasks
 * only, so a new leader answers alike.
 * @param slotTasks all tasks of its slot, oldest first.
 */
export function isRestartable(service: Service, slotTasks: readonly Task[], task: Task): boolean {
  const condition = restartCondition(service, task);
  if (condition === RestartPolicy_RestartCondition.NONE) return false;
  if (condition === RestartPolicy_RestartCondition.ON_FAILURE && observed(task) === TaskState.COMPLETE) return false;
  const attemptsMax = task.spec?.restart?.max_attempts ?? 0;
  if (attemptsMax === 0 || !endedByItself(task)) return true;
  return attemptsUsed(slotTasks, task) < attemptsMax;
}
