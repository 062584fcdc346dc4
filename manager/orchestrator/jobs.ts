import { newId } from '../../base/index.ts';
import { TaskState, UpdateStatus_UpdateState, type Service, type TaskReason } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { failureText, planCron } from './cron.ts';
import { cronOf, dueAtMs, isUnreadable, jobStatus, withCron, type Cron } from './cron-runs.ts';
import {
  createReconcileDuty,
  earlier,
  type Decision,
  type Op,
  type OrchestratorDeps,
  type Reconciler,
} from './driver.ts';
import { leaveNode, nodeBoundServicesOf } from './global.ts';
import { creation } from './new-task.ts';
import { isCompleted, isEligible, isOver, iterationOf, presentIteration, progressOf, runOf } from './progress.ts';
import { reason } from './reasons.ts';
import { allServices, removeTasks } from './replicated.ts';
import { firstDesired, superviseSlot } from './restart.ts';
import { calledOff, modeOf, observed, readService, type ServiceState } from './service-view.ts';
import { isOccupied, slotsOf, type Slot } from './slot.ts';

/** Why this run's tasks are created, and those of former runs go. */
function runReason(state: ServiceState): TaskReason {
  return reason('new-run', `run ${presentIteration(state)} of the job`);
}

/**
 * Tasks that were to do again what was done after all: their slot's former task was told to stop (drained node, node that
 * was away), yet came to its end. One that has started may go on to its own.
 */
function callOffWaiting(slot: Slot): Op[][] {
  const why = reason('task-ended', 'the task before it completed after all');
  return slot.wanted
    .filter((task) => observed(task) < TaskState.STARTING)
    .map((task) => [{ op: 'update', task: calledOff(task, TaskState.SHUTDOWN, why) }]);
}

/** Restarts failed tasks of slots that have not completed. */
function superviseJob(state: ServiceState, slots: readonly Slot[]): Decision {
  const steps: Op[][] = [];
  let wakeAtMs: number | undefined;
  for (const slot of slots) {
    if (isCompleted(slot)) {
      steps.push(...callOffWaiting(slot));
      continue;
    }
    const supervision = superviseSlot(state, slot);
    steps.push(...supervision.steps);
    wakeAtMs = earlier(wakeAtMs, supervision.wakeAtMs);
  }
  return { steps, wakeAtMs };
}

/**
 * A replicated job (swarmkit.md §3.4): slots 0 to total−1, at most `max_concurrent` of them at work. A slot whose
 * attempts are used up stays failed.
 */
function decideReplicatedJob(state: ServiceState): Decision {
  const spec = state.service.spec?.replicated_job;
  const total = spec?.total_completions ?? 0;
  const concurrent = spec === undefined || spec.max_concurrent === 0 ? total : spec.max_concurrent;
  const all = new Map(slotsOf(state).map((slot) => [slot.slot, slot]));
  const slots = [...all.values()].filter((slot) => isCompleted(slot) || isOccupied(state, slot));
  const decision = superviseJob(state, slots);
  const taken = new Set(slots.map((slot) => slot.slot));
  const working = slots.filter((slot) => !isCompleted(slot) && slot.wanted.length > 0).length;
  let room = concurrent - working;
  for (let slot = 0; slot < total && room > 0; slot++) {
    if (taken.has(slot)) continue;
    room--;
    const desired = firstDesired(state, all.get(slot));
    decision.steps.push([creation(state, { slot, nodeId: '' }, runReason(state), desired)]);
  }
  return decision;
}

/** A global job: once on every node that is ready, active and satisfies the constraints. */
function decideGlobalJob(state: ServiceState): Decision {
  const slots = slotsOf(state);
  const bySlot = new Map(slots.map((slot) => [slot.nodeId, slot]));
  const taken = new Set<string>();
  const staying: Slot[] = [];
  const leaving: Op[][] = [];
  for (const slot of slots) {
    const steps = isCompleted(slot) ? callOffWaiting(slot) : leaveNode(state, slot);
    if (steps !== undefined) leaving.push(...steps);
    if (steps !== undefined) taken.add(slot.nodeId);
    else if (isOccupied(state, slot)) staying.push(slot);
  }
  for (const slot of staying) taken.add(slot.nodeId);
  const decision = superviseJob(state, staying);
  decision.steps.push(...leaving);
  for (const node of state.view.list('node')) {
    if (taken.has(node.id) || !isEligible(state, node)) continue;
    const desired = firstDesired(state, bySlot.get(node.id));
    decision.steps.push([creation(state, { slot: 0, nodeId: node.id }, runReason(state), desired)]);
  }
  return decision;
}

function decideRun(state: ServiceState, iteration: number): Decision {
  const { service } = state;
  const job_status = { last_execution: null, ...service.job_status, job_iteration: { index: iteration } };
  // New tasks belong to the run they are for, which is not the newest when runs overlap.
  const present = iteration === presentIteration(state) ? state : { ...state, service: { ...service, job_status } };
  const run = runOf(present, iteration);
  return modeOf(service) === 'replicated-job' ? decideReplicatedJob(run) : decideGlobalJob(run);
}

/** Says of a job whose attempts are used up that it failed, and takes it back when it goes on. */
function decideStatus(state: ServiceState): Op[][] {
  const { service, nowMs } = state;
  const progress = progressOf(runOf(state, presentIteration(state)));
  const hasFailed = progress.failed > 0 && isOver(progress);
  const isSaid = service.update_status?.state === UpdateStatus_UpdateState.PAUSED;
  if (hasFailed === isSaid) return [];
  const update_status = hasFailed ? jobStatus(false, failureText(progress), nowMs) : null;
  return [[{ op: 'update-service', service: { ...service, update_status } }]];
}

/** A job that runs once, and again whenever its iteration rises; tasks of former iterations go. */
function decidePlainJob(state: ServiceState): Decision {
  const { service } = state;
  if (service.cron !== null) {
    return { steps: [[{ op: 'update-service', service: { ...service, cron: null } }]] };
  }
  const former = state.tasks.filter((task) => iterationOf(task) !== presentIteration(state));
  const decision = decideRun(state, presentIteration(state));
  const steps = [...removeTasks(former, runReason(state)), ...decision.steps];
  return { ...decision, steps: steps.length > 0 ? steps : decideStatus(state) };
}

/** A job whose schedule cannot be read begins nothing, and says so. */
function unreadable(service: Service): Service {
  const message = 'nothing runs: this manager cannot read the schedule or its time zone';
  return service.cron?.message === message
    ? service
    : withCron(service, { message, next_scheduled: null, schedule: '' });
}

/** A job that runs by the clock: the runs at work go on, the tasks of those that are no longer remembered go. */
function decideCronJob(state: ServiceState, cron: Cron | undefined): Decision {
  const planned = cron === undefined ? unreadable(state.service) : planCron(state, cron);
  if (planned !== state.service) return { steps: [[{ op: 'update-service', service: planned }]] };
  const steps: Op[][] = [];
  let wakeAtMs = dueAtMs(planned);
  const kept = new Set<number>();
  for (const run of planned.cron?.runs ?? []) {
    if (run.outcome === 'complete' || run.outcome === 'failed') kept.add(run.job_iteration);
    if (run.outcome !== 'running') continue;
    kept.add(run.job_iteration);
    const decision = decideRun(state, run.job_iteration);
    steps.push(...decision.steps);
    wakeAtMs = earlier(wakeAtMs, decision.wakeAtMs);
  }
  const former = state.tasks.filter((task) => !kept.has(iterationOf(task)));
  const why = reason('new-run', 'its run was replaced, or is older than the history that the job keeps');
  return { steps: [...removeTasks(former, why), ...steps], wakeAtMs };
}

/** What a job needs now. Pure. */
export function decideJob(state: ServiceState): Decision {
  const cron = cronOf(state.service);
  return cron === undefined && !isUnreadable(state.service) ? decidePlainJob(state) : decideCronJob(state, cron);
}

class JobsReconciler implements Reconciler {
  readonly name = 'jobs-orchestrator';
  readonly #newId: () => string;

  constructor(newTaskId: () => string) {
    this.#newId = newTaskId;
  }

  keysOf(change: Change, view: ReadView): string[] {
    const jobs = nodeBoundServicesOf(change, view, 'global-job');
    if (change.kind !== 'node') return jobs;
    return [...new Set([...jobs, ...view.tasksByNode(change.object.id).map((task) => task.service_id)])];
  }

  allKeys(view: ReadView): string[] {
    return allServices(view);
  }

  decide(serviceId: string, view: ReadView, nowMs: number): Decision {
    const state = readService(view, serviceId, nowMs, this.#newId);
    const mode = state === undefined ? undefined : modeOf(state.service);
    if (state === undefined || (mode !== 'replicated-job' && mode !== 'global-job')) return { steps: [] };
    return decideJob(state);
  }
}

/** Runs replicated and global jobs to completion. */
export function createJobsOrchestrator(deps: OrchestratorDeps): LeaderDuty {
  return createReconcileDuty('jobs-orchestrator', deps, () => new JobsReconciler(() => newId(deps.random)));
}
