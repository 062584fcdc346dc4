import { newId } from '../../base/index.ts';
import { TaskState, type Task, type TaskReason } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { satisfiesPlacement } from './constraints.ts';
import {
  createReconcileDuty,
  earlier,
  type Decision,
  type Op,
  type OrchestratorDeps,
  type Reconciler,
} from './driver.ts';
import { leaveNode, nodeBoundServicesOf } from './global.ts';
import { newTask } from './new-task.ts';
import { reason } from './reasons.ts';
import { allServices, removeTasks } from './replicated.ts';
import { firstDesired, superviseSlot } from './restart.ts';
import { isReadyAndActive, modeOf, observed, readService, type ServiceState } from './service-view.ts';
import { isOccupied, slotsOf, type Slot } from './slot.ts';

function isCompleted(slot: Slot): boolean {
  return slot.tasks.some((task) => observed(task) === TaskState.COMPLETE);
}

/** The job's present run, and the tasks of former ones. */
function splitByIteration(state: ServiceState): { present: ServiceState; former: Task[] } {
  const iteration = state.service.job_status?.job_iteration?.index ?? 0;
  const isPresent = (task: Task): boolean => (task.job_iteration?.index ?? 0) === iteration;
  return {
    present: { ...state, tasks: state.tasks.filter(isPresent) },
    former: state.tasks.filter((task) => !isPresent(task)),
  };
}

/** Why this run's tasks are created, and those of former runs go. */
function runReason({ service }: ServiceState): TaskReason {
  return reason('new-run', `run ${service.job_status?.job_iteration?.index ?? 0} of the job`);
}

/** Restarts failed tasks of slots that have not completed. */
function superviseJob(state: ServiceState, slots: readonly Slot[]): Decision {
  const steps: Op[][] = [];
  let wakeAtMs: number | undefined;
  for (const slot of slots) {
    if (isCompleted(slot)) continue;
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
  const slots = slotsOf(state).filter((slot) => isCompleted(slot) || isOccupied(state, slot));
  const decision = superviseJob(state, slots);
  const taken = new Set(slots.map((slot) => slot.slot));
  const working = slots.filter((slot) => !isCompleted(slot) && slot.wanted.length > 0).length;
  let room = concurrent - working;
  for (let slot = 0; slot < total && room > 0; slot++) {
    if (taken.has(slot)) continue;
    room--;
    decision.steps.push([{ op: 'create', task: newTask(state, { slot, nodeId: '' }, runReason(state)) }]);
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
    const steps = isCompleted(slot) ? [] : leaveNode(state, slot);
    if (steps !== undefined) leaving.push(...steps);
    if (steps !== undefined) taken.add(slot.nodeId);
    else if (isOccupied(state, slot)) staying.push(slot);
  }
  for (const slot of staying) taken.add(slot.nodeId);
  const decision = superviseJob(state, staying);
  decision.steps.push(...leaving);
  for (const node of state.view.list('node')) {
    if (taken.has(node.id) || !isReadyAndActive(node) || !satisfiesPlacement(state.service, node)) continue;
    const desired = firstDesired(state, bySlot.get(node.id));
    const task = newTask(state, { slot: 0, nodeId: node.id }, runReason(state), desired);
    decision.steps.push([{ op: 'create', task }]);
  }
  return decision;
}

/** What a job needs now; tasks of former iterations are sent on their way out. Pure. */
export function decideJob(state: ServiceState): Decision {
  const { present, former } = splitByIteration(state);
  const decision = modeOf(state.service) === 'replicated-job' ? decideReplicatedJob(present) : decideGlobalJob(present);
  return { ...decision, steps: [...removeTasks(former, runReason(state)), ...decision.steps] };
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
