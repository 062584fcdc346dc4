import { TaskState } from './gen/types.ts';

/** Lower-case names of the Docker API, in the order of the states. */
const NAMES: Readonly<Record<TaskState, string>> = {
  [TaskState.NEW]: 'new',
  [TaskState.PENDING]: 'pending',
  [TaskState.ASSIGNED]: 'assigned',
  [TaskState.ACCEPTED]: 'accepted',
  [TaskState.PREPARING]: 'preparing',
  [TaskState.READY]: 'ready',
  [TaskState.STARTING]: 'starting',
  [TaskState.RUNNING]: 'running',
  [TaskState.COMPLETE]: 'complete',
  [TaskState.SHUTDOWN]: 'shutdown',
  [TaskState.FAILED]: 'failed',
  [TaskState.REJECTED]: 'rejected',
  [TaskState.REMOVE]: 'remove',
  [TaskState.ORPHANED]: 'orphaned',
};

export function taskStateName(state: TaskState): string {
  return NAMES[state];
}

/** The state of a lower-case name, or undefined. */
export function taskStateFromName(name: string): TaskState | undefined {
  const found = Object.entries(NAMES).find(([, text]) => text === name);
  return found === undefined ? undefined : (Number(found[0]) as TaskState);
}

/** Whether a task in this observed state will never run again. */
export function isTerminal(state: TaskState): boolean {
  return state > TaskState.RUNNING;
}
