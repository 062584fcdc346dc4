import type { Clock } from '../../base/index.ts';
import { NodeStatus_State, TaskState, timestampFromMs, type Task } from '../../proto/index.ts';
import type { LeaderDuty, ReadView, Store, Transaction } from '../store/types.ts';

/** Time between an order and its report, ms. */
const REPORT_AFTER_MS = 20;
/** Reports in one transaction. */
const REPORTS_MAX = 400;

/** The state that an obedient worker brings a task to; undefined when there is nothing to do. */
function nextState(task: Task): TaskState | undefined {
  const state = task.status?.state ?? TaskState.NEW;
  if (task.node_id === '' || state < TaskState.ASSIGNED || state > TaskState.RUNNING) return undefined;
  if (task.desired_state > TaskState.COMPLETE) return TaskState.SHUTDOWN;
  // What runs, runs on: how a program ends nobody can foretell.
  if (task.desired_state >= TaskState.RUNNING) return state === TaskState.RUNNING ? undefined : TaskState.RUNNING;
  return state < TaskState.READY ? TaskState.READY : undefined;
}

function isReachable(view: ReadView, nodeId: string): boolean {
  const state = view.get('node', nodeId)?.status?.state;
  return state !== undefined && state !== NodeStatus_State.DOWN;
}

function report(tx: Transaction, ids: readonly string[], nowMs: number): void {
  for (const id of ids) {
    const task = tx.get('task', id);
    const state = task === undefined ? undefined : nextState(task);
    if (task === undefined || task.status === null || state === undefined || !isReachable(tx, task.node_id)) continue;
    const status = { ...task.status, state, err: '', timestamp: timestampFromMs(nowMs) };
    tx.update('task', { ...task, status });
  }
}

/**
 * Workers of all nodes that are not down: they do at once what they are told, and every container starts and goes on
 * running. A node that comes up is not foreseen.
 */
export function createPretendedWorkers(store: Store, clock: Clock): LeaderDuty {
  const run = async (signal: AbortSignal): Promise<void> => {
    const feed = store.watch();
    signal.addEventListener('abort', () => feed.close(), { once: true });
    const waiting = new Set<string>();
    let isDue = false;
    const send = async (): Promise<void> => {
      isDue = false;
      const ids = [...waiting];
      waiting.clear();
      for (let from = 0; from < ids.length && !signal.aborted; from += REPORTS_MAX) {
        await store.update((tx) => report(tx, ids.slice(from, from + REPORTS_MAX), clock.now()));
      }
    };
    const note = (task: Task): void => {
      if (nextState(task) === undefined) return;
      waiting.add(task.id);
      if (isDue) return;
      isDue = true;
      // The copy is thrown away with whatever could not be written to it.
      clock.after(REPORT_AFTER_MS, () => void send().catch(() => undefined));
    };
    const noteAll = (): void => store.view().list('task').forEach(note);
    noteAll();
    for await (const commit of feed) {
      for (const change of commit.changes)
        if (change.kind === 'task' && change.action !== 'remove') note(change.object);
    }
  };
  return { name: 'pretended-workers', run };
}
