import type { ListTasksRequest_Filters, Task } from '../../proto/index.ts';
import { isTaskDirty } from '../store/dirty.ts';
import type { Kind, ReadView } from '../store/types.ts';
import { withErrors } from '../why/index.ts';
import { hasLabels, oneOf, passesCommon } from './filters.ts';
import { resolve, tryResolve } from './lookup.ts';
import { taskName } from './names.ts';
import { withNote } from './task-notes.ts';
import type { Control, ControlOptions } from './types.ts';

/** Ids of what the references stand for; those that stand for nothing stay as they are, and match nothing. */
function idsOf(view: ReadView, kind: Kind, references: readonly string[]): string[] {
  return references.map((reference) => tryResolve(view, kind, reference)?.id ?? reference);
}

function isUpToDate(view: ReadView, task: Task): boolean {
  const service = view.get('service', task.service_id);
  return service !== undefined && !isTaskDirty(service, task, view.get('node', task.node_id));
}

/** The smallest set of tasks that the filters leave to look at. */
function candidates(view: ReadView, serviceIds: readonly string[], nodeIds: readonly string[]): Task[] {
  if (serviceIds.length > 0) return [...new Set(serviceIds)].flatMap((id) => view.tasksByService(id));
  if (nodeIds.length > 0) return [...new Set(nodeIds)].flatMap((id) => view.tasksByNode(id));
  return view.list('task');
}

function select(view: ReadView, filters: ListTasksRequest_Filters): Task[] {
  const serviceIds = idsOf(view, 'service', filters.service_ids);
  const nodeIds = idsOf(view, 'node', filters.node_ids);
  return candidates(view, serviceIds, nodeIds).filter((task) => {
    // Docker's label filter on tasks means the labels of their service.
    const service = view.get('service', task.service_id);
    const labels = service?.spec?.annotations?.labels ?? task.service_annotations?.labels;
    return (
      passesCommon(filters, taskName(task), task.id) &&
      oneOf(serviceIds, task.service_id) &&
      oneOf(nodeIds, task.node_id) &&
      oneOf(filters.desired_states, task.desired_state) &&
      hasLabels(labels, filters.labels) &&
      (!filters.up_to_date || isUpToDate(view, task))
    );
  });
}

/** Tasks as they are shown: with the errors that follow from other objects. */
function shown(view: ReadView, nowMs: number): (task: Task) => Task {
  const withError = withErrors(view, nowMs);
  return (task) => withNote(view, withError(task));
}

/** Tasks: read, and removed by hand. */
export function taskMethods({ store, clock }: ControlOptions): Pick<Control, 'GetTask' | 'ListTasks' | 'RemoveTask'> {
  return {
    GetTask: async ({ reference }) => {
      const view = store.view();
      return { task: shown(view, clock.now())(resolve(view, 'task', reference)) };
    },

    ListTasks: async ({ filters }) => {
      const view = store.view();
      const tasks = filters === null ? view.list('task') : select(view, filters);
      return { tasks: tasks.map(shown(view, clock.now())) };
    },

    RemoveTask: async ({ task_id }) => {
      await store.update((tx) => tx.remove('task', resolve(tx, 'task', task_id).id));
      return {};
    },
  };
}
