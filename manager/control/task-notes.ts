import { NodeStatus_State, TaskState, type Task } from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';

/** Why nobody knows whether a task has ended; undefined when its node would say so. */
function silence(view: ReadView, task: Task): string | undefined {
  const node = view.get('node', task.node_id);
  if (node === undefined) return `node ${task.node_id} was removed from the swarm while it had this task`;
  const name = `node ${node.description?.hostname ?? node.id}`;
  switch (node.status?.state) {
    case NodeStatus_State.DOWN:
      return `${name} is down`;
    case NodeStatus_State.DISCONNECTED:
      return `${name} is disconnected`;
    case NodeStatus_State.UNKNOWN:
      return `${name} has not come back since the leader changed`;
    case NodeStatus_State.READY:
    case undefined:
      return undefined;
  }
}

/** What the cluster cannot know: whether a task that it has given up is still running out there. */
function note(view: ReadView, task: Task): string | undefined {
  const state = task.status?.state ?? TaskState.NEW;
  if (task.node_id === '') return undefined;
  if (state === TaskState.ORPHANED) {
    const why = silence(view, task);
    return why === undefined ? undefined : `${why}; it may still run there`;
  }
  const isGivenUp = task.desired_state > TaskState.COMPLETE;
  if (!isGivenUp || state < TaskState.ASSIGNED || state > TaskState.RUNNING) return undefined;
  const why = silence(view, task);
  if (why === undefined) return undefined;
  const until = view.get('node', task.node_id) === undefined ? '' : ' until it returns';
  return `${why}; this task may still run there${until}`;
}

/**
 * The task as users see it: where its end cannot be known, its error says so. Computed for every reading, as it changes
 * with the node and not with the task.
 */
export function withNote(view: ReadView, task: Task): Task {
  if (task.status === null || task.status.err !== '') return task;
  const err = note(view, task);
  return err === undefined ? task : { ...task, status: { ...task.status, err } };
}
