import { TaskState, taskStateName, type Task } from '../../proto/index.ts';
import { observedAtMs } from '../orchestrator/service-view.ts';
import type { ReadView } from '../store/types.ts';
import { taskError } from './headline.ts';
import { ago, hostname, shortId, shortIds, taskLabel } from './words.ts';

/** What a task is and was, on one line: `web.1 (1f2e…) on w1: failed 12 seconds ago: …`. */
export function taskLine(view: ReadView, task: Task, nowMs: number): string {
  const state = task.status?.state ?? TaskState.NEW;
  const where = task.node_id === '' ? '' : ` on ${hostname(view, task.node_id)}`;
  const err = taskError(view, task);
  const why = err !== '' ? `: ${err}` : state > TaskState.RUNNING ? stopText(task) : '';
  return `${taskLabel(view, task)} (${shortId(task.id)})${where}: ${taskStateName(state)} ${ago(observedAtMs(task), nowMs)}${why}`;
}

function stopText(task: Task): string {
  const text = task.stopped_for?.text ?? '';
  return text === '' ? '' : `: ${shortIds(text)}`;
}
