import { TaskState, UpdateStatus_UpdateState, type Service, type Task } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { createReconcileDuty, type Decision, type Op, type OrchestratorDeps, type Reconciler } from './driver.ts';
import { iterationOf, runOf } from './progress.ts';
import { isFinished, isJob, observed, readService, type ServiceState } from './service-view.ts';
import { restingTask, slotsOf, type Slot } from './slot.ts';

/** How long the reaper gathers changes, ms (swarmkit.md §3.7). */
export const REAP_DEBOUNCE_MS = 250;
/** Tasks kept per slot, those that run included, unless the cluster says otherwise. */
export const HISTORY_LIMIT_DEFAULT = 5;

/** The key of all tasks that belong to no service (networks attached to plain containers). */
const NO_SERVICE = '';

/** Whether nothing of the task can be running any more, as far as the cluster can ever know. */
function isGone(task: Task, view: ReadView): boolean {
  if (isFinished(task)) return true;
  return task.node_id !== '' && view.get('node', task.node_id) === undefined;
}

/** Tasks to delete whatever the history limit: those on their way out, and those lost with their node. */
function isDeletable(task: Task, view: ReadView): boolean {
  if (task.desired_state >= TaskState.REMOVE) return isGone(task, view);
  return observed(task) === TaskState.ORPHANED && task.desired_state > TaskState.COMPLETE;
}

function isUpdating(service: Service): boolean {
  const state = service.update_status?.state;
  return state === UpdateStatus_UpdateState.UPDATING || state === UpdateStatus_UpdateState.ROLLBACK_STARTED;
}

/** Tasks of the slot to keep: never fewer than the restart policy counts, nor than a running update looks back at. */
function slotLimit(service: Service, slot: Slot, limit: number): number {
  const attempts = slot.tasks.at(-1)?.spec?.restart?.max_attempts ?? 0;
  const counted = attempts === 0 ? 0 : attempts + 1;
  return Math.max(limit, counted, isUpdating(service) ? 3 : 0);
}

/** Tasks that replacements follow which are not let start yet: how long these wait is told from them. */
function predecessors(slot: Slot): Set<Task | undefined> {
  const waiting = slot.tasks.filter((task) => task.desired_state === TaskState.READY);
  return new Set(waiting.map((task) => slot.tasks[slot.tasks.indexOf(task) - 1]));
}

/** History of a slot above the limit, oldest first. What completed a job is the job's result and stays. */
function excess(state: ServiceState, slot: Slot, limit: number): Task[] {
  const { service } = state;
  const surplus = slot.tasks.length - slotLimit(service, slot, limit);
  if (surplus <= 0) return [];
  // The last task of a slot that must not be restarted holds the slot: without it, the slot would be filled again.
  const resting = restingTask(state, slot);
  const needed = predecessors(slot);
  const expendable = slot.tasks.filter(
    (task) =>
      task !== resting &&
      !needed.has(task) &&
      isFinished(task) &&
      task.desired_state > TaskState.COMPLETE &&
      !(isJob(service) && observed(task) === TaskState.COMPLETE),
  );
  return expendable.slice(0, surplus);
}

/** Whether a task's change can make it, or another of its slot, one to delete: most changes are steps of a start. */
function mayReap(action: Change['action'], task: Task, view: ReadView): boolean {
  if (action === 'remove' || isFinished(task) || task.desired_state > TaskState.COMPLETE) return true;
  // A task that begins or goes on can make another one history, unless it is alone in its slot.
  return task.slot === 0 || view.tasksBySlot(task.service_id, task.slot).length > 1;
}

/** A job's runs, each with its own history; any other service as a whole. */
function runsOf(state: ServiceState): ServiceState[] {
  if (!isJob(state.service)) return [state];
  return [...new Set(state.tasks.map(iterationOf))].map((iteration) => runOf(state, iteration));
}

class ReaperReconciler implements Reconciler {
  readonly name = 'task-reaper';
  readonly debounceMs = REAP_DEBOUNCE_MS;

  keysOf(change: Change, view: ReadView): string[] {
    if (change.kind === 'task') return mayReap(change.action, change.object, view) ? [change.object.service_id] : [];
    if (change.kind === 'service') return [change.object.id];
    if (change.kind === 'cluster') return this.allKeys(view);
    if (change.kind !== 'node' || change.action !== 'remove') return [];
    return [...new Set(view.tasksByNode(change.object.id).map((task) => task.service_id))];
  }

  allKeys(view: ReadView): string[] {
    return [...new Set(view.list('task').map((task) => task.service_id))];
  }

  decide(serviceId: string, view: ReadView, nowMs: number): Decision {
    const tasks = serviceId === NO_SERVICE ? view.list('task').filter((t) => t.service_id === '') : undefined;
    const doomed = (tasks ?? view.tasksByService(serviceId)).filter((task) => isDeletable(task, view));
    const orchestration = view.list('cluster')[0]?.spec?.orchestration;
    const limit = orchestration?.task_history_retention_limit ?? HISTORY_LIMIT_DEFAULT;
    const state = readService(view, serviceId, nowMs, () => '');
    if (state !== undefined && limit >= 0) {
      const seen = new Set(doomed.map((task) => task.id));
      const rest = { ...state, tasks: state.tasks.filter((task) => !seen.has(task.id)) };
      for (const run of runsOf(rest)) {
        for (const slot of slotsOf(run)) doomed.push(...excess(run, slot, limit));
      }
    }
    return { steps: doomed.map((task): Op[] => [{ op: 'remove', taskId: task.id }]) };
  }
}

/** Deletes tasks that are done with: removed ones, those of vanished nodes, and history above the cluster's limit. */
export function createTaskReaper(deps: OrchestratorDeps): LeaderDuty {
  return createReconcileDuty('task-reaper', deps, () => new ReaperReconciler());
}
