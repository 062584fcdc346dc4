import { durationToMs, RestartPolicy_RestartCondition, TaskState, type Service, type Task } from '../../proto/index.ts';
import { endedByItself, isJob, observed, observedAtMs } from './service-view.ts';

/** Docker's default delay between the end of a task and the start of its replacement, ms. */
export const RESTART_DELAY_DEFAULT_MS = 5_000;

export function restartDelayMs(task: Task): number {
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
