import { Task, TaskState, timestampFromMs } from '../proto/index.ts';
import type { Assignment, Preemption } from '../scheduler/index.ts';
import { calledOff, reason } from './orchestrator/index.ts';
import type { Transaction } from './store/types.ts';

/** A task to be told why it has no node. */
export interface Told {
  taskId: string;
  /** For `status.err`. */
  line: string;
}

/** A task to be told to stop, so that another one finds room. */
export interface Eviction extends Preemption {
  /** For people: who needs the room. */
  text: string;
}

/** One task's decision, to be written. */
export type Write =
  | { what: 'assign'; decision: Assignment; version: number }
  | { what: 'tell'; decision: Told; version: number }
  | { what: 'evict'; decision: Eviction };

/** Whether a task has what it needs but a node. */
export function isPending(task: Task): boolean {
  return task.status?.state === TaskState.PENDING && task.desired_state <= TaskState.COMPLETE;
}

function statusOf(task: Task): NonNullable<Task['status']> {
  return task.status ?? (Task.create({ status: {} }).status as NonNullable<Task['status']>);
}

/** The task as it was when it was decided upon; undefined when it has changed since. */
function unchanged(tx: Transaction, taskId: string, version: number): Task | undefined {
  const stored = tx.get('task', taskId);
  return stored?.meta?.version?.index === version && isPending(stored) ? stored : undefined;
}

function writeAssignment(tx: Transaction, decision: Assignment, version: number, nowMs: number): void {
  const stored = unchanged(tx, decision.taskId, version);
  if (stored === undefined || tx.get('node', decision.nodeId) === undefined) return;
  const message =
    stored.node_id === '' ? 'scheduler assigned task to node' : 'scheduler confirmed task can run on preassigned node';
  const timestamp = timestampFromMs(nowMs);
  tx.update('task', {
    ...stored,
    node_id: decision.nodeId,
    assigned_generic_resources: decision.assignedGenericResources,
    status: { ...statusOf(stored), timestamp, state: TaskState.ASSIGNED, message, err: '' },
  });
}

/** A victim that has gone by itself, or has been told to stop, is left alone. */
function writeEviction(tx: Transaction, { taskId, nodeId, text }: Eviction): void {
  const stored = tx.get('task', taskId);
  if (stored === undefined || stored.node_id !== nodeId || stored.desired_state > TaskState.COMPLETE) return;
  tx.update('task', calledOff(stored, TaskState.SHUTDOWN, reason('preempted', text)));
}

/** Writes one decision, unless the task has changed since, or its node is gone. */
export function writeOne(tx: Transaction, write: Write, nowMs: number): void {
  switch (write.what) {
    case 'assign':
      return writeAssignment(tx, write.decision, write.version, nowMs);
    case 'evict':
      return writeEviction(tx, write.decision);
    case 'tell': {
      const stored = unchanged(tx, write.decision.taskId, write.version);
      if (stored === undefined) return;
      const timestamp = timestampFromMs(nowMs);
      tx.update('task', { ...stored, status: { ...statusOf(stored), timestamp, err: write.decision.line } });
    }
  }
}
