import { Heap } from './heap.ts';
import { RowHeap, type Ranking } from './ranking.ts';
import type { Division, Topology } from './topology.ts';

/** What the tree asks about nodes, by row. */
export interface Takers {
  /** Whether the node can take a task of the group now. */
  canTake(row: number): boolean;
  /** Gives the node a task; false when it cannot take another one afterwards. */
  give(row: number): boolean;
}

/** Tasks beyond its share for which a leaf looks for nodes. */
const LEAF_SPARE = 4;

/** Where the next task of a group goes. */
interface Branch {
  readonly label: string;
  /** Tasks of the service below this branch. */
  count: number;
  /** Gives the best node below a task. False when no node is left. */
  next(): boolean;
}

class Leaf implements Branch {
  readonly label: string;
  count: number;
  readonly #group: GroupSpread;
  readonly #rows: Int32Array;
  /** Built when the first task comes this way, and anew when as many have come as it was built for. */
  #heap: RowHeap | undefined;
  /** Tasks for which the heap still holds the best nodes. */
  #covers = 0;
  #taken = 0;

  constructor(group: GroupSpread, division: Division) {
    this.label = division.label;
    this.count = group.countOf(division.leaf);
    this.#group = group;
    this.#rows = division.rows;
  }

  next(): boolean {
    if (this.#heap === undefined || this.#covers === 0) {
      this.#covers = this.#group.expectedIn(this.#taken);
      this.#heap = this.#group.best(this.#rows, this.#covers);
    }
    const heap = this.#heap;
    const row = heap.peek();
    if (row < 0) return false;
    this.#covers--;
    this.#taken++;
    if (this.#group.give(row)) heap.settleFirst();
    else heap.pop();
    this.count++;
    return true;
  }
}

class Fork implements Branch {
  readonly label: string;
  count = 0;
  readonly #heap: Heap<Branch>;

  constructor(label: string, children: readonly Branch[]) {
    this.label = label;
    for (const child of children) this.count += child.count;
    this.#heap = new Heap(children, (a, b) => (a.count === b.count ? a.label < b.label : a.count < b.count));
  }

  next(): boolean {
    for (let best = this.#heap.peek(); best !== undefined; best = this.#heap.peek()) {
      if (best.next()) {
        this.#heap.settleFirst();
        this.count++;
        return true;
      }
      this.#heap.pop();
    }
    return false;
  }
}

/**
 * One group's way through the tree of its spread preferences: each descriptor is a level, its values are branches (a
 * missing label is the branch ''). Tasks go to the branch with the fewest of the service, level by level; nodes that
 * take no task count with those they have. Leaves rank nodes.
 */
export class GroupSpread {
  readonly #ranking: Ranking;
  readonly #takers: Takers;
  readonly #counts: Int32Array;
  readonly #root: Branch;
  readonly #leaves: number;
  /** Tasks of the group that have no node yet. */
  #left: number;

  /**
   * @param counts tasks of the service in each leaf. @param tasks how many tasks there are to place.
   */
  constructor(
    topology: Topology,
    counts: Int32Array,
    { ranking, takers, tasks }: { ranking: Ranking; takers: Takers; tasks: number },
  ) {
    this.#ranking = ranking;
    this.#takers = takers;
    this.#counts = counts;
    this.#left = tasks;
    this.#leaves = topology.leaves;
    this.#root = this.#branch(topology.root);
  }

  #branch(division: Division): Branch {
    if (division.leaf >= 0) return new Leaf(this, division);
    return new Fork(
      division.label,
      division.children.map((child) => this.#branch(child)),
    );
  }

  countOf(leaf: number): number {
    return this.#counts[leaf] as number;
  }

  /**
   * For how many tasks a leaf should look for nodes: all that are left when it is the only leaf, else its share with some
   * to spare, and more and more when they keep coming.
   * @param taken tasks that the leaf has had so far.
   */
  expectedIn(taken: number): number {
    const share = Math.ceil((2 * this.#left) / this.#leaves) + LEAF_SPARE + 2 * taken;
    return this.#leaves === 1 ? this.#left : Math.min(this.#left, share);
  }

  /** The nodes of a leaf that can take a task now, as many as there are tasks to cover, the best first. */
  best(rows: Int32Array, tasks: number): RowHeap {
    const heap = new RowHeap(Math.min(rows.length, tasks), this.#ranking);
    const takers = this.#takers;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i] as number;
      if (takers.canTake(row)) heap.offer(row);
    }
    heap.seal();
    return heap;
  }

  /** Gives a node a task. Whether it stays in the order. */
  give(row: number): boolean {
    this.#left--;
    const stays = this.#takers.give(row);
    if (stays) this.#ranking.rank(row);
    return stays;
  }

  /** Gives the best node of all a task; false when none can take one. */
  next(): boolean {
    return this.#root.next();
  }
}
