import type { Columns } from './columns.ts';
import type { Demand } from './demand.ts';
import type { Reservation } from './resources.ts';

/** A failing node comes after all others, whatever it holds. */
const FAILING = 2 ** 44;
/** A task of the service weighs more than any number of tasks of others. */
const OF_SERVICE = 2 ** 22;

const CPU = 1;
const MEMORY = 2;

/** Which resources decide "load": those that the group asks for, or both when it asks for none. */
function kindsOf(wanted: Reservation): number {
  return (wanted.nanoCpus > 0 ? CPU : 0) | (wanted.memoryBytes > 0 ? MEMORY : 0) || CPU | MEMORY;
}

/**
 * The order of nodes for one group, by row; smaller is better, compared one after the other.
 * `spread`: not failing, fewer tasks of the service, fewer tasks; then the greater share of free resources; then the id.
 * `binpack`: not failing; then the smaller share of free resources; then more tasks; then the id.
 */
export class Ranking {
  #first = new Float64Array(0);
  #second = new Float64Array(0);
  #third = new Float64Array(0);
  /** Tasks of the group's service. Zero again after each group. */
  #ofService = new Int32Array(0);
  #failing = new Uint8Array(0);
  readonly #columns: Columns;
  /** Columns, as they are during one group: no node comes or goes then. */
  #active: Int32Array;
  #rank: Int32Array;
  #cpuShare: Float64Array;
  #memoryShare: Float64Array;
  #kinds = 0;
  #binpack = false;

  constructor(columns: Columns) {
    this.#columns = columns;
    this.#active = columns.active;
    this.#rank = columns.rank;
    this.#cpuShare = columns.cpuShare;
    this.#memoryShare = columns.memoryShare;
  }

  /** Starts a group: all nodes are without tasks of the service, and none fails, until told. */
  begin({ wanted, strategy }: Demand): void {
    this.#kinds = kindsOf(wanted);
    this.#binpack = strategy === 'binpack';
    const { capacity, active, rank, cpuShare, memoryShare } = this.#columns;
    this.#active = active;
    this.#rank = rank;
    this.#cpuShare = cpuShare;
    this.#memoryShare = memoryShare;
    if (this.#first.length === capacity) {
      this.#ofService.fill(0);
      this.#failing.fill(0);
      return;
    }
    this.#first = new Float64Array(capacity);
    this.#second = new Float64Array(capacity);
    this.#third = new Float64Array(capacity);
    this.#ofService = new Int32Array(capacity);
    this.#failing = new Uint8Array(capacity);
  }

  ofService(row: number): number {
    return this.#ofService[row] as number;
  }

  addOfService(row: number, count: number): void {
    this.#ofService[row] = (this.#ofService[row] as number) + count;
  }

  setFailing(row: number): void {
    this.#failing[row] = 1;
  }

  /** Works out a node's place from what its columns say now. */
  rank(row: number): void {
    this.#first[row] = this.#firstOf(row);
    this.#second[row] = this.#secondOf(row);
    this.#third[row] = this.#thirdOf(row);
  }

  /** Ranks a node only if it is better than another one, which is ranked. Whether it is. */
  rankIfBefore(row: number, than: number): boolean {
    const first = this.#firstOf(row) - (this.#first[than] as number);
    if (first > 0) return false;
    if (first === 0) {
      const second = this.#secondOf(row) - (this.#second[than] as number);
      if (second > 0 || (second === 0 && this.#thirdOf(row) > (this.#third[than] as number))) return false;
    }
    this.rank(row);
    return true;
  }

  #firstOf(row: number): number {
    const failing = this.#failing[row] === 1 ? FAILING : 0;
    if (this.#binpack) return failing;
    return failing + (this.#ofService[row] as number) * OF_SERVICE + (this.#active[row] as number);
  }

  #secondOf(row: number): number {
    const share = this.#freeShare(row);
    return this.#binpack ? share : -share;
  }

  #thirdOf(row: number): number {
    const rank = this.#rank[row] as number;
    return this.#binpack ? rank - (this.#active[row] as number) * OF_SERVICE : rank;
  }

  #freeShare(row: number): number {
    if (this.#kinds === CPU) return this.#cpuShare[row] as number;
    if (this.#kinds === MEMORY) return this.#memoryShare[row] as number;
    const ofCpu = this.#cpuShare[row] as number;
    const ofMemory = this.#memoryShare[row] as number;
    return ofCpu < ofMemory ? ofCpu : ofMemory;
  }

  /** Whether row `a` is better than row `b`. */
  before(a: number, b: number): boolean {
    const first = (this.#first[a] as number) - (this.#first[b] as number);
    if (first !== 0) return first < 0;
    const second = (this.#second[a] as number) - (this.#second[b] as number);
    if (second !== 0) return second < 0;
    return (this.#third[a] as number) < (this.#third[b] as number);
  }
}

/** Rows as a binary heap in typed memory: the best first, or the worst first. */
export class RowHeap {
  readonly #rows: Int32Array;
  #size = 0;
  readonly #ranking: Ranking;
  #worstFirst = false;

  /**
   * Keeps the best of the rows that are offered. A group of n tasks never needs more than the n best nodes: each of them
   * takes at least one.
   * @param most rows to keep.
   */
  constructor(most: number, ranking: Ranking) {
    this.#rows = new Int32Array(most);
    this.#ranking = ranking;
  }

  /** Ranks a row and takes it in, unless as many better ones are there. Ends with `seal`. */
  offer(row: number): void {
    const rows = this.#rows;
    if (this.#size < rows.length) {
      this.#ranking.rank(row);
      rows[this.#size++] = row;
      if (this.#size < rows.length) return;
      this.#worstFirst = true;
      this.#heapify();
    } else if (rows.length > 0 && this.#ranking.rankIfBefore(row, rows[0] as number)) {
      rows[0] = row;
      this.#down(0);
    }
  }

  /** Ends the choice: from now on the best row comes first. */
  seal(): void {
    this.#worstFirst = false;
    this.#heapify();
  }

  #heapify(): void {
    for (let i = (this.#size >> 1) - 1; i >= 0; i--) this.#down(i);
  }

  /** The best row, or -1 when none is left. */
  peek(): number {
    return this.#size === 0 ? -1 : (this.#rows[0] as number);
  }

  /** Removes the best row. */
  pop(): void {
    if (this.#size === 0) return;
    this.#size--;
    this.#rows[0] = this.#rows[this.#size] as number;
    this.#down(0);
  }

  /** Restores the order after the best row has changed its place. */
  settleFirst(): void {
    this.#down(0);
  }

  #down(start: number): void {
    const rows = this.#rows;
    const size = this.#size;
    const ranking = this.#ranking;
    const item = rows[start] as number;
    let at = start;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      const other = child + 1;
      if (other < size && this.#goesFirst(ranking, rows[other] as number, rows[child] as number)) child = other;
      if (!this.#goesFirst(ranking, rows[child] as number, item)) break;
      rows[at] = rows[child] as number;
      at = child;
    }
    rows[at] = item;
  }

  #goesFirst(ranking: Ranking, a: number, b: number): boolean {
    return this.#worstFirst ? ranking.before(b, a) : ranking.before(a, b);
  }
}
