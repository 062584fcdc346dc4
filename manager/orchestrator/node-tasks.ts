import { TaskState, timestampFromMs, type Task } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { createReconcileDuty, type Decision, type Op, type OrchestratorDeps, type Reconciler } from './driver.ts';
import { observed } from './service-view.ts';

function orphaned(task: Task, nowMs: number): Task {
  const former = task.status ?? { container: undefined, port_status: null, applied_by: '', applied_at: null };
  const timestamp = timestampFromMs(nowMs);
  const status = { ...former, state: TaskState.ORPHANED, timestamp, message: 'node was removed', err: '' };
  // A task of no service (a network attached to a plain container) has nobody else to call it off.
  return { ...task, status, desired_state: task.service_id === '' ? TaskState.REMOVE : task.desired_state };
}

class NodeTasksReconciler implements Reconciler {
  readonly name = 'node-tasks';

  keysOf(change: Change): string[] {
    return change.kind === 'node' && change.action === 'remove' ? [change.object.id] : [];
  }

  allKeys(view: ReadView): string[] {
    const ids = new Set(view.list('task').map((task) => task.node_id));
    return [...ids].filter((id) => id !== '' && view.get('node', id) === undefined);
  }

  decide(nodeId: string, view: ReadView, nowMs: number): Decision {
    if (view.get('node', nodeId) !== undefined) return { steps: [] };
    const lost = view.tasksByNode(nodeId).filter((task) => observed(task) <= TaskState.RUNNING);
    return { steps: lost.map((task): Op[] => [{ op: 'update', task: orphaned(task, nowMs) }]) };
  }
}

/** Marks the tasks of removed nodes as orphaned: nobody will ever report on them again. */
export function createNodeTasks(deps: OrchestratorDeps): LeaderDuty {
  return createReconcileDuty('node-tasks', deps, () => new NodeTasksReconciler());
}
