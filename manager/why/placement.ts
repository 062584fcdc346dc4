import type { Task } from '../../proto/index.ts';
import { explanationLine, reservationOf, Scheduler, type Explanation } from '../../scheduler/index.ts';
import type { ReadView } from '../store/types.ts';
import type { PlacementAnswer } from './types.ts';
import { bytes, count, cpus, hostname, some } from './words.ts';

/** Hosts named for one value of a label, and values named. */
const NAMES_MAX = 3;
const VALUES_MAX = 5;

/** The scheduler's books as the stored objects tell them. */
function booksOf(view: ReadView): Scheduler {
  const scheduler = new Scheduler();
  for (const node of view.list('node')) scheduler.setNode(node);
  for (const task of view.list('task')) scheduler.addTask(task);
  return scheduler;
}

/** What a task reserves, where nodes were left out for lack of it. */
function reserved(task: Task): string[] {
  const { nanoCpus, memoryBytes, generic } = reservationOf(task);
  const parts = [
    ...(nanoCpus > 0 ? [cpus(nanoCpus)] : []),
    ...(memoryBytes > 0 ? [`${bytes(memoryBytes)} of memory`] : []),
    ...[...generic].map(([kind, units]) => `${units} ${kind}`),
  ];
  return parts.length === 0 ? [] : [`it reserves ${parts.join(', ')}`];
}

/** What the nodes have where a constraint asks for a label: `label disk: hdd on w1, not set on 3 nodes`. */
function labelValues(view: ReadView, text: string): string[] {
  const label = /^node\.labels\.([^\s=!]+)\s*==/i.exec(text.trim())?.[1];
  if (label === undefined) return [];
  const byValue = new Map<string, string[]>();
  for (const node of view.list('node')) {
    const value = node.spec?.annotations?.labels[label];
    byValue.set(value ?? '', [...(byValue.get(value ?? '') ?? []), hostname(view, node.id)]);
  }
  const unset = byValue.get('')?.length ?? 0;
  byValue.delete('');
  const values = [...byValue]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([value, names]) => `${value} on ${some(names.toSorted(), NAMES_MAX)}`);
  const rest = unset === 0 ? [] : [`not set on ${count(unset, 'node')}`];
  return [`it wants ${text}; label ${label}: ${[...values.slice(0, VALUES_MAX), ...rest].join(', ')}`];
}

function detailsOf(view: ReadView, task: Task, { excluded }: Explanation): string[] {
  const by = new Set<string>(excluded.map(({ filter }) => filter));
  const constraints = task.spec?.placement?.constraints ?? [];
  return [
    ...(by.has('resource') ? reserved(task) : []),
    ...(by.has('constraint') ? constraints.flatMap((text) => labelValues(view, text)) : []),
  ];
}

function answerOf(view: ReadView, task: Task, explanation: Explanation): PlacementAnswer {
  const { excluded, nearest, fix } = explanation;
  return {
    headline: explanationLine(explanation),
    excluded: excluded.map(({ filter, detail, nodes }) => ({ filter, what: detail, count: nodes })),
    nearest: nearest === undefined ? undefined : `${nearest.name} ${nearest.lacks}`,
    details: detailsOf(view, task, explanation),
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
      answers.set(key, (answer = answerOf(view, task, books.explain(task, nowMs))));
    }
    return answer;
  };
}
