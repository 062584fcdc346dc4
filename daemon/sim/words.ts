import { TaskState, type Task } from '../../proto/index.ts';

const NAMES = new Map<number, string>(Object.entries(TaskState).map(([name, state]) => [state, name]));

export function stateName(state: number): string {
  return NAMES.get(state) ?? String(state);
}

export function observed(task: Task): TaskState {
  return task.status?.state ?? TaskState.NEW;
}

/** A task for people: name, node, states. */
export function taskText(task: Task): string {
  const name = `${task.service_annotations?.name ?? task.service_id}.${task.slot} ${task.id}`;
  const node = task.node_id === '' ? 'no node' : task.node_id;
  const err = task.status?.err ?? '';
  const states = `${stateName(observed(task))}, wanted ${stateName(task.desired_state)}`;
  const created = `; created: ${task.created_for?.text ?? '?'}`;
  const stopped = task.stopped_for === null ? '' : `; stopped: ${task.stopped_for.text}`;
  return `task ${name} on ${node} (${states}${err === '' ? '' : `: ${err}`}${created}${stopped})`;
}
