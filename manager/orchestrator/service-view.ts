import { must, unreachable } from '../../base/index.ts';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  TaskState,
  timestampToMs,
  type Cluster,
  type Node,
  type Service,
  type Task,
  type TaskReason,
} from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import { reason } from './reasons.ts';

export type ServiceMode = 'replicated' | 'global' | 'replicated-job' | 'global-job';

/** How a service wants its tasks to be spread; undefined for a spec without mode. */
export function modeOf(service: Service): ServiceMode | undefined {
  const spec = service.spec;
  if (spec === null) return undefined;
  if (spec.replicated !== undefined) return 'replicated';
  if (spec.global !== undefined) return 'global';
  if (spec.replicated_job !== undefined) return 'replicated-job';
  return spec.global_job === undefined ? undefined : 'global-job';
}

export function isJob(service: Service): boolean {
  const mode = modeOf(service);
  return mode === 'replicated-job' || mode === 'global-job';
}

/** Whether slots of this service are nodes. */
export function isNodeBound(service: Service): boolean {
  const mode = modeOf(service);
  return mode === 'global' || mode === 'global-job';
}

/** Everything that decisions about one service read. */
export interface ServiceState {
  readonly service: Service;
  readonly tasks: readonly Task[];
  readonly view: ReadView;
  readonly cluster: Cluster | undefined;
  readonly nowMs: number;
  readonly newId: () => string;
}

export function observed(task: Task): TaskState {
  return task.status?.state ?? TaskState.NEW;
}

/** When a task's present observed state began, ms since the epoch. */
export function observedAtMs(task: Task): number {
  return timestampToMs(task.status?.timestamp);
}

export function createdAtMs(task: Task): number {
  return timestampToMs(task.meta?.created_at ?? task.status?.timestamp);
}

/** Whether the task will never run (again): it ended, or it was called off before it had a node. */
export function isFinished(task: Task): boolean {
  const state = observed(task);
  return state > TaskState.RUNNING || (state < TaskState.ASSIGNED && task.desired_state > TaskState.COMPLETE);
}

/** Whether the task ended by itself, not because it was told to. */
export function endedByItself(task: Task): boolean {
  const state = observed(task);
  return state === TaskState.COMPLETE || state === TaskState.FAILED || state === TaskState.REJECTED;
}

/** Whether the task is meant to run (a job's: to complete). */
export function isWanted(task: Task): boolean {
  return task.desired_state <= TaskState.COMPLETE;
}

/** What became of a task's node: only on an `ok` node do tasks stay. No node yet is `ok`. */
export type NodeFate = 'ok' | 'drained' | 'down' | 'removed';

/** UNKNOWN and DISCONNECTED nodes keep their tasks (swarmkit.md §3.2). */
export function nodeFate(view: ReadView, nodeId: string): NodeFate {
  if (nodeId === '') return 'ok';
  const node = view.get('node', nodeId);
  if (node === undefined) return 'removed';
  if (node.status?.state === NodeStatus_State.DOWN) return 'down';
  return node.spec?.availability === NodeSpec_Availability.DRAIN ? 'drained' : 'ok';
}

/** Why tasks do not stay on a node of that fate. */
export function fateReason(view: ReadView, nodeId: string, fate: Exclude<NodeFate, 'ok'>): TaskReason {
  const name = view.get('node', nodeId)?.description?.hostname ?? nodeId;
  switch (fate) {
    case 'down':
      return reason('node-down', `node ${name} is down: it was silent for too long`);
    case 'removed':
      return reason('node-removed', `node ${name} was removed from the swarm`);
    case 'drained':
      return reason('node-drained', `node ${name} was drained`);
    default:
      return unreachable(fate);
  }
}

export function isReadyAndActive(node: Node): boolean {
  return (
    node.status?.state === NodeStatus_State.READY &&
    (node.spec?.availability ?? NodeSpec_Availability.ACTIVE) === NodeSpec_Availability.ACTIVE
  );
}

/** The state that a task of this service is meant to reach. */
export function targetState(service: Service): TaskState {
  return isJob(service) ? TaskState.COMPLETE : TaskState.RUNNING;
}

/** A copy of a task with a higher desired state, to be written back. Desired states only rise. */
export function withDesired(task: Task, desired: TaskState): Task {
  return { ...task, desired_state: desired > task.desired_state ? desired : task.desired_state };
}

/** A copy of a task that is told to stop (SHUTDOWN) or to go (REMOVE), and why. The first reason stays. */
export function calledOff(
  task: Task,
  desired: typeof TaskState.SHUTDOWN | typeof TaskState.REMOVE,
  why: TaskReason,
): Task {
  return { ...withDesired(task, desired), stopped_for: task.stopped_for ?? why };
}

/** Reads what concerns a service; undefined when it is gone. */
export function readService(
  view: ReadView,
  serviceId: string,
  nowMs: number,
  newId: () => string,
): ServiceState | undefined {
  const service = view.get('service', serviceId);
  if (service === undefined || service.spec === null) return undefined;
  let tasks: Task[] | undefined;
  return {
    ...{ service, view, nowMs, newId },
    // Read only when asked for: most looks at a service end with its mode.
    get tasks() {
      return (tasks ??= view.tasksByService(serviceId));
    },
    get cluster() {
      return view.list('cluster')[0];
    },
  };
}

export function taskSpecOf(service: Service) {
  return must(service.spec?.task, `task template of service ${service.id}`);
}
