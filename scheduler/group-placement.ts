import type { Columns } from './columns.ts';
import { hasResources, presentFar, takenPorts, unmetNear, type Demand } from './demand.ts';
import type { NodeView } from './node-view.ts';
import type { Ranking } from './ranking.ts';
import type { Takers } from './spread.ts';

/**
 * Whether nodes can take tasks of one group. Conditions that no task changes are looked up (`fixed`); the numbers
 * are read from the columns; what few groups ask for goes the slow way, through the same functions as the filters.
 */
export class GroupFit implements Takers {
  readonly #ready: Uint8Array;
  readonly #freeCpus: Float64Array;
  readonly #freeMemory: Float64Array;
  readonly #promised: Uint8Array;
  readonly #views: readonly (NodeView | undefined)[];
  readonly #fixed: Uint8Array | undefined;
  readonly #ranking: Ranking;
  readonly #demand: Demand;
  readonly #cpus: number;
  readonly #memory: number;
  readonly #most: number;
  readonly #asksMore: boolean;
  readonly #assign: (view: NodeView) => void;

  /** @param views by row. @param assign enters the group's next task on a node. */
  constructor(demand: Demand, { columns, views, fixed, ranking }: GroupBooks, assign: (view: NodeView) => void) {
    // No node comes or goes while a group is placed: the columns stay the same arrays.
    this.#ready = columns.ready;
    this.#freeCpus = columns.freeCpus;
    this.#freeMemory = columns.freeMemory;
    this.#promised = columns.promised;
    this.#views = views;
    this.#fixed = fixed;
    this.#ranking = ranking;
    this.#demand = demand;
    this.#cpus = demand.wanted.nanoCpus;
    this.#memory = demand.wanted.memoryBytes;
    this.#most = demand.most;
    this.#asksMore = demand.wanted.generic.size + demand.ports.length + demand.near.length + demand.far.length > 0;
    this.#assign = assign;
  }

  canTake(row: number): boolean {
    if (this.#ready[row] === 0) return false;
    if (this.#fixed !== undefined && this.#fixed[row] === 0) return false;
    return this.#hasRoom(row);
  }

  give(row: number): boolean {
    this.#assign(this.#views[row] as NodeView);
    this.#ranking.addOfService(row, 1);
    return this.#hasRoom(row);
  }

  /** Whether what tasks take from a node is there once more. */
  #hasRoom(row: number): boolean {
    if (this.#cpus > 0 && this.#cpus > (this.#freeCpus[row] as number)) return false;
    if (this.#memory > 0 && this.#memory > (this.#freeMemory[row] as number)) return false;
    if (this.#most > 0 && this.#ranking.ofService(row) >= this.#most) return false;
    return (!this.#asksMore && this.#promised[row] === 0) || this.#meetsMore(this.#views[row] as NodeView);
  }

  #meetsMore(view: NodeView): boolean {
    const demand = this.#demand;
    return (
      hasResources(view, demand) &&
      takenPorts(view, demand).length === 0 &&
      unmetNear(view, demand).length === 0 &&
      presentFar(view, demand).length === 0
    );
  }
}

/** What of the scheduler's books a group reads. */
export interface GroupBooks {
  columns: Columns;
  views: readonly (NodeView | undefined)[];
  /** 1 for each row whose node passes the filters that no task changes; undefined when all do. */
  fixed: Uint8Array | undefined;
  ranking: Ranking;
}
