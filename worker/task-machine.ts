import { unreachable } from '../base/index.ts';
import { TaskState, isTerminal } from '../proto/index.ts';
import type { TaskExit, TaskObservation } from './executor.ts';

/** What a task's runner does next. `become` only changes the status. */
export type TaskAction =
  | { kind: 'become'; state: TaskState; message: string; err: string; exit?: TaskExit }
  /** Make the container; on success the state becomes `next`. */
  | { kind: 'prepare'; next: TaskState }
  | { kind: 'start' }
  /** Wait for the container to end. */
  | { kind: 'watch' }
  | { kind: 'shutdown' }
  /** Stop and remove the container; the task is no longer this node's. */
  | { kind: 'remove' }
  /** Nothing until the assignment changes. */
  | { kind: 'idle' };

export interface TaskInput {
  desired: TaskState;
  /** State this agent has reported last. */
  state: TaskState;
  observed: TaskObservation;
  /** No longer assigned to this node. */
  removed: boolean;
}

/** Words of a status for a container's end, as Docker writes them. */
function ended(exit: TaskExit | undefined): TaskAction {
  if (exit === undefined) {
    const err = 'task: the container ended and its exit code is not known';
    return { kind: 'become', state: TaskState.FAILED, message: 'started', err };
  }
  if (exit.exitCode === 0 && (exit.error ?? '') === '') {
    return { kind: 'become', state: TaskState.COMPLETE, message: 'finished', err: '', exit };
  }
  const why = exit.error ?? '';
  const code = `task: non-zero exit (${exit.exitCode})`;
  // Some executors word the whole of it.
  const err = why.startsWith('task: ') ? why : why === '' ? code : `${code}: ${why}`;
  return { kind: 'become', state: TaskState.FAILED, message: 'started', err, exit };
}

function stop(observed: TaskObservation): TaskAction {
  // A container that was made but never started needs no stopping; it goes when the task is removed.
  if (observed.state === 'running') return { kind: 'shutdown' };
  const action = { kind: 'become', state: TaskState.SHUTDOWN, message: 'shutdown', err: '' } as const;
  return observed.exit === undefined ? action : { ...action, exit: observed.exit };
}

function whileStarting(observed: TaskObservation): TaskAction {
  switch (observed.state) {
    case 'absent':
      return { kind: 'prepare', next: TaskState.STARTING };
    case 'created':
    case 'running':
      // Also for a running container: it may still have to become healthy.
      return { kind: 'start' };
    case 'exited':
      return ended(observed.exit);
    default:
      return unreachable(observed.state);
  }
}

function whileRunning(observed: TaskObservation): TaskAction {
  switch (observed.state) {
    case 'running':
      return { kind: 'watch' };
    case 'exited':
      return ended(observed.exit);
    case 'created':
    case 'absent': {
      const err = 'task: the container is gone; it may have been removed, or the host was restarted';
      return { kind: 'become', state: TaskState.FAILED, message: 'started', err };
    }
    default:
      return unreachable(observed.state);
  }
}

/**
 * The next step of a task (swarmkit.md §1.10), from what is wanted, what was reported and what is there. It is computed
 * anew after every step, so that a crash at any point is survived by asking again. The state never goes back.
 */
export function nextAction(input: TaskInput): TaskAction {
  const { desired, state, observed, removed } = input;
  if (removed) return { kind: 'remove' };
  // The manager may end a task too (a node that no longer fits): the container must not outlive it.
  if (isTerminal(state)) return observed.state === 'running' ? { kind: 'shutdown' } : { kind: 'idle' };
  if (desired >= TaskState.SHUTDOWN) return stop(observed);
  if (state <= TaskState.ASSIGNED) {
    return { kind: 'become', state: TaskState.ACCEPTED, message: 'accepted', err: '' };
  }
  if (state === TaskState.ACCEPTED) {
    return { kind: 'become', state: TaskState.PREPARING, message: 'preparing', err: '' };
  }
  if (state === TaskState.PREPARING) return { kind: 'prepare', next: TaskState.READY };
  if (state === TaskState.READY) {
    // A host restart may have taken the container away while the task waited.
    if (observed.state === 'absent') return { kind: 'prepare', next: TaskState.READY };
    if (desired < TaskState.RUNNING) return { kind: 'idle' };
    return { kind: 'become', state: TaskState.STARTING, message: 'starting', err: '' };
  }
  return state === TaskState.STARTING ? whileStarting(observed) : whileRunning(observed);
}
