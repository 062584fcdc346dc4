import { TaskState, type Node, type Task } from '../../proto/index.ts';
import { satisfiesPlacement } from './constraints.ts';
import { isJob, isNodeBound, isReadyAndActive, observed, type ServiceState } from './service-view.ts';
import { restingTask, slotsOf, type Slot } from './slot.ts';

/** How far the tasks of a service (of a job: of one run) have come, in slots. */
export interface Progress {
  /** Slots there are to be; of node-bound services the nodes that are to have a task. */
  total: number;
  /** Slots with a task that runs. One with a health check runs only when it is healthy. */
  running: number;
  /** Slots with a task that ended by itself with 0. */
  completed: number;
  /** Slots without success that policy does not try again. */
  failed: number;
  /** Slots with a task that is meant to run, and has not ended. */
  working: number;
  /** The error of one of the failed slots. */
  err: string;
}

/** Whether a task of the slot has done a job's work. */
export function isCompleted(slot: Slot): boolean {
  return slot.tasks.some((task) => observed(task) === TaskState.COMPLETE);
}

/** Whether a node-bound service is to have a task on the node. */
export function isEligible(state: ServiceState, node: Node): boolean {
  return isReadyAndActive(node) && satisfiesPlacement(state.service, node);
}

/** A job's tasks of one run; a service that is no job has all of its tasks in one. */
export function runOf(state: ServiceState, iteration: number): ServiceState {
  if (!isJob(state.service)) return state;
  return { ...state, tasks: state.tasks.filter((task) => iterationOf(task) === iteration) };
}

/** Whether every slot has ended, well or for good. */
export function isOver({ total, completed, failed, working }: Progress): boolean {
  return total > 0 && working === 0 && completed + failed >= total;
}

/** The run of a job that a task belongs to. */
export function iterationOf(task: Task): number {
  return task.job_iteration?.index ?? 0;
}

/** The run that began last; 0 before there was one. */
export function presentIteration({ service }: ServiceState): number {
  return service.job_status?.job_iteration?.index ?? 0;
}

/** Nodes that are to have a task of a node-bound service. */
function nodesOf(state: ServiceState, slots: readonly Slot[]): Set<string> {
  const nodes = state.view.list('node').filter((node) => isEligible(state, node));
  const ids = new Set(nodes.map((node) => node.id));
  // A node that did its part and left still counts; one that left in the middle does not.
  if (isJob(state.service)) for (const slot of slots) if (isCompleted(slot)) ids.add(slot.nodeId);
  return ids;
}

/** Counts a service's slots; `state` holds the tasks of one run (`runOf`) when it is a job. */
export function progressOf(state: ServiceState): Progress {
  const slots = slotsOf(state);
  const { spec } = state.service;
  const nodes = isNodeBound(state.service) ? nodesOf(state, slots) : undefined;
  const replicas = spec?.replicated?.replicas ?? spec?.replicated_job?.total_completions ?? 0;
  const progress: Progress = {
    total: nodes?.size ?? replicas,
    running: 0,
    completed: 0,
    failed: 0,
    working: 0,
    err: '',
  };
  for (const slot of slots) {
    const working = slot.wanted.filter((task) => observed(task) <= TaskState.RUNNING);
    if (working.length > 0) progress.working++;
    if (working.some((task) => observed(task) === TaskState.RUNNING)) progress.running++;
    if (isCompleted(slot)) progress.completed++;
    else if (nodes?.has(slot.nodeId) !== false && restingTask(state, slot) !== undefined) {
      progress.failed++;
      progress.err = slot.tasks.at(-1)?.status?.err ?? '';
    }
  }
  return progress;
}
