import type { TaskReason } from '../../proto/index.ts';

/** Longest text of a reason, characters: reasons are stored with every task. */
const TEXT_MAX = 240;

/** Codes of reasons; programs may rely on them. */
export type ReasonCode =
  | 'service-created'
  | 'scale-up'
  | 'scale-down'
  | 'service-removed'
  | 'update'
  | 'rollback'
  | 'task-ended'
  | 'node-down'
  | 'node-removed'
  | 'node-drained'
  | 'node-joined'
  | 'node-mismatch'
  | 'new-run'
  | 'rebalance'
  | 'move-failed'
  | 'preempted'
  | 'maintenance';

/** Why a task is created or told to stop: stored with it, shown by `why` and by `service ps`. */
export function reason(code: ReasonCode, text: string): TaskReason {
  return { code, text: text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX - 1)}…` };
}
