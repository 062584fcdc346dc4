import { NodeStatus_State, TaskState, type Task } from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';

/** Why nobody knows whether a task has ended, where its node is not known to be lost. */
function note(view: ReadView, task: Task): string | undefined {
  const state = task.status?.state ?? TaskState.NEW;
  if (task.node_id === '') return undefined;
  const node = view.get('node', task.node_id);
  const name = `node ${node?.description?.hostname ?? task.node_id}`;
  if (state === TaskState.ORPHANED) {
    if (node === undefined) return `${name} was removed while it had this task: it may still run there`;
    if (node.status?.state === NodeStatus_State.READY) return undefined;
    return `${name} has been down for a day: this task may still run there until it returns`;
  }
  const isGivenUp = task.desired_state > TaskState.COMPLETE;
  if (!isGivenUp || state < TaskState.ASSIGNED || state > TaskState.RUNNING) return undefined;
  switch (node?.status?.state) {
    case NodeStatus_State.DISCONNECTED:
      return `${name} is disconnected: this task may still run there until it returns`;
    case NodeStatus_State.UNKNOWN:
      return `${name} has not come back since the leader changed: this task may still run there until it does`;
    case NodeStatus_State.DOWN:
    case NodeStatus_State.READY:
    case undefined:
      return undefined;
  }
}

/**
 * The task as users see it: one that the cluster has given up, but whose end it cannot know, says so where it says nothing
 * else. Nodes that are down are `why`'s (`withErrors`). Computed for every reading, as it changes with the node and not
 * with the task.
 */
export function withNote(view: ReadView, task: Task): Task {
  if (task.status === null || task.status.err !== '') return task;
  const err = note(view, task);
  return err === undefined ? task : { ...task, status: { ...task.status, err } };
}
