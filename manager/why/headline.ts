import { NodeStatus_State, TaskState, type Task } from '../../proto/index.ts';
import { dependencyWait } from '../orchestrator/dependencies.ts';
import { crashLoopWait } from '../orchestrator/restart.ts';
import { observed } from '../orchestrator/service-view.ts';
import type { ReadView } from '../store/types.ts';
import { clashText, portClashes, type NodeClash } from './port-clash.ts';
import { hostname } from './words.ts';

/** Longest error that lists show for a task, characters. */
export const ERROR_MAX = 400;

/** What is said of a task whose node cannot be asked; undefined when the node is there, or the task has ended. */
export function lostNode(view: ReadView, task: Task): string | undefined {
  const state = observed(task);
  if (task.node_id === '' || state < TaskState.ASSIGNED || state > TaskState.RUNNING) return undefined;
  const node = view.get('node', task.node_id);
  if (node !== undefined && node.status?.state !== NodeStatus_State.DOWN) return undefined;
  const name = hostname(view, task.node_id);
  const what = node === undefined ? `node ${name} was removed` : `node ${name} is down`;
  // Before it was let start there is nothing that could still run.
  if (state < TaskState.STARTING) return what;
  return `${what}: nobody can tell whether this task still runs there`;
}

/**
 * The error of a task as lists show it: what is stored with it, or, where the stored task cannot know it, what follows
 * from other objects. Cheap: no search over nodes.
 * @param waitsFor what the task waits for: other services, or the end of a crash loop's delay.
 */
export function taskError(view: ReadView, task: Task, waitsFor?: string): string {
  const stored = task.status?.err ?? '';
  const text = lostNode(view, task) ?? (stored === '' && mayWait(task) ? (waitsFor ?? '') : stored);
  return text.length <= ERROR_MAX ? text : `${text.slice(0, ERROR_MAX - 1)}…`;
}

/** Whether a task is one that other services can still hold back. */
function mayWait(task: Task): boolean {
  return observed(task) < TaskState.STARTING && task.desired_state <= TaskState.READY;
}

function isServing(task: Task): boolean {
  return observed(task) === TaskState.RUNNING && task.desired_state === TaskState.RUNNING;
}

/**
 * Tells of each task what lists show: the task itself, or a copy with an error that follows from other objects. What is
 * asked of a service is asked once for all its tasks.
 */
export function withErrors(view: ReadView, nowMs: number): (task: Task) => Task {
  const waits = new Map<string, string | undefined>();
  const waitOf = (serviceId: string): string | undefined => {
    const service = view.get('service', serviceId);
    if (service === undefined) return undefined;
    if (!waits.has(serviceId)) waits.set(serviceId, dependencyWait(view, service, nowMs));
    return waits.get(serviceId);
  };
  let clashes: readonly NodeClash[] | undefined;
  const texts = new Map<string, string | undefined>();
  const clashOf = (task: Task): string | undefined => {
    clashes ??= portClashes(view);
    const service = clashes.length === 0 || !isServing(task) ? undefined : view.get('service', task.service_id);
    if (service === undefined) return undefined;
    if (!texts.has(service.id)) texts.set(service.id, clashText(view, service, clashes));
    return texts.get(service.id);
  };
  return (task) => {
    if (task.status === null) return task;
    const wait = mayWait(task) ? (waitOf(task.service_id) ?? crashLoopWait(view, task, nowMs)) : undefined;
    const err = taskError(view, task, wait) || (clashOf(task) ?? '');
    return err === task.status.err ? task : { ...task, status: { ...task.status, err } };
  };
}
