import type { Task } from '../../proto/index.ts';
import { explanationLine, Scheduler, type Explanation } from '../../scheduler/index.ts';
import type { ReadView } from '../store/types.ts';
import type { PlacementAnswer } from './types.ts';

/** The scheduler's books as the stored objects tell them. */
function booksOf(view: ReadView): Scheduler {
  const scheduler = new Scheduler();
  for (const node of view.list('node')) scheduler.setNode(node);
  for (const task of view.list('task')) scheduler.addTask(task);
  return scheduler;
}

function answerOf(explanation: Explanation): PlacementAnswer {
  const { excluded, nearest, fix } = explanation;
  return {
    headline: explanationLine(explanation),
    excluded: excluded.map(({ filter, detail, nodes }) => ({ filter, what: detail, count: nodes })),
    nearest: nearest === undefined ? undefined : `${nearest.name} ${nearest.lacks}`,
    fix: fix === '' ? [] : [fix],
  };
}

/**
 * Asks the scheduler why tasks have no node. The books are made once, when first needed, and alike tasks (one service
 * and spec version) get one answer.
 */
export function placementExplainer(view: ReadView, nowMs: number): (task: Task) => PlacementAnswer {
  let books: Scheduler | undefined;
  const answers = new Map<string, PlacementAnswer>();
  return (task) => {
    const key = `${task.service_id}/${task.spec_version?.index ?? task.id}/${task.node_id}`;
    let answer = answers.get(key);
    if (answer === undefined) {
      books ??= booksOf(view);
      answers.set(key, (answer = answerOf(books.explain(task, nowMs))));
    }
    return answer;
  };
}
