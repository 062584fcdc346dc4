import { labelValue } from './constraint.ts';
import { Heap } from './heap.ts';
import type { NodeView } from './node-view.ts';

/** Ranks nodes for one task group. */
export interface Ranking {
  serviceId: string;
  /** Service and spec version, for failures. */
  failureKey: string;
  nowMs: number;
}

/** A leaf's node with its rank; the counts are read anew each time the node is put back. */
interface Ranked {
  view: NodeView;
  failing: boolean;
}

function better(ranking: Ranking, a: Ranked, b: Ranked): boolean {
  if (a.failing !== b.failing) return !a.failing;
  const ofService = a.view.activeTasks(ranking.serviceId) - b.view.activeTasks(ranking.serviceId);
  if (ofService !== 0) return ofService < 0;
  const total = a.view.totalActiveTasks - b.view.totalActiveTasks;
  if (total !== 0) return total < 0;
  return a.view.node.id < b.view.node.id;
}

/** Where the next task of a group goes. */
interface Branch {
  readonly label: string;
  /** Tasks of the service below this branch. */
  count: number;
  /**
   * Finds the best node below and gives it a task through `place`, which answers false when the node cannot take one
   * (then it is not asked again). False when no node is left.
   */
  next(place: (view: NodeView) => boolean): boolean;
}

class Leaf implements Branch {
  readonly label: string;
  count: number;
  readonly #heap: Heap<Ranked>;

  constructor(label: string, count: number, candidates: readonly NodeView[], ranking: Ranking) {
    this.label = label;
    this.count = count;
    const ranked = candidates.map((view) => ({ view, failing: view.isFailing(ranking.failureKey, ranking.nowMs) }));
    this.#heap = new Heap(ranked, (a, b) => better(ranking, a, b));
  }

  next(place: (view: NodeView) => boolean): boolean {
    for (let best = this.#heap.peek(); best !== undefined; best = this.#heap.peek()) {
      if (place(best.view)) {
        this.#heap.settleFirst();
        this.count++;
        return true;
      }
      this.#heap.pop();
    }
    return false;
  }
}

class Fork implements Branch {
  readonly label: string;
  count: number;
  readonly #heap: Heap<Branch>;

  constructor(label: string, count: number, children: readonly Branch[]) {
    this.label = label;
    this.count = count;
    this.#heap = new Heap(children, (a, b) => (a.count === b.count ? a.label < b.label : a.count < b.count));
  }

  next(place: (view: NodeView) => boolean): boolean {
    for (let best = this.#heap.peek(); best !== undefined; best = this.#heap.peek()) {
      if (best.next(place)) {
        this.#heap.settleFirst();
        this.count++;
        return true;
      }
      this.#heap.pop();
    }
    return false;
  }
}

/** A node and whether the group's tasks may go there. */
export interface Candidate {
  view: NodeView;
  suitable: boolean;
}

/**
 * The tree of the spread preferences: each descriptor is a level, its values are branches (a missing label is the
 * branch ''). Tasks go to the branch with the fewest of the service, level by level; nodes that take no task count
 * with those they have.
 */
export function spreadTree(
  descriptors: readonly string[],
  candidates: readonly Candidate[],
  ranking: Ranking,
  label = '',
): Branch {
  const count = candidates.reduce((sum, { view }) => sum + view.activeTasks(ranking.serviceId), 0);
  const [descriptor, ...rest] = descriptors;
  if (descriptor === undefined) {
    const suitable = candidates.filter((one) => one.suitable).map((one) => one.view);
    return new Leaf(label, count, suitable, ranking);
  }
  const groups = new Map<string, Candidate[]>();
  for (const candidate of candidates) {
    const value = labelValue(candidate.view.node, descriptor) ?? '';
    const group = groups.get(value);
    if (group === undefined) groups.set(value, [candidate]);
    else group.push(candidate);
  }
  const children = [...groups].map(([value, group]) => spreadTree(rest, group, ranking, value));
  return new Fork(label, count, children);
}
