import { TaskState, type Service, type Task } from '../../proto/index.ts';
import { createdAtMs, endedByItself, isNodeBound, observed } from '../orchestrator/service-view.ts';
import type { ReadView } from '../store/types.ts';

/** Tasks of the place (slot, or node of a node-bound service) that a task has, oldest first; itself included. */
export function placeOf(view: ReadView, task: Task): Task[] {
  const service = view.get('service', task.service_id);
  const tasks =
    service !== undefined && isNodeBound(service)
      ? view.tasksByService(task.service_id).filter((other) => other.node_id === task.node_id)
      : view.tasksBySlot(task.service_id, task.slot);
  const all = tasks.some((other) => other.id === task.id) ? tasks : [...tasks, task];
  return all.toSorted((a, b) => createdAtMs(a) - createdAtMs(b) || (a.id < b.id ? -1 : 1));
}

/** The service of a task, while it exists. */
export function serviceOf(view: ReadView, task: Task): Service | undefined {
  return task.service_id === '' ? undefined : view.get('service', task.service_id);
}

/** Tasks of a place that ended badly by themselves, up to the given one, oldest first. */
export function failuresUpTo(place: readonly Task[], task: Task): Task[] {
  const end = place.findIndex((other) => other.id === task.id);
  return place
    .slice(0, end < 0 ? place.length : end + 1)
    .filter((other) => endedByItself(other) && observed(other) !== TaskState.COMPLETE);
}
