const INITIAL_ROWS = 64;

/** Numbers of all nodes, a row each, in typed arrays: what placement reads of every node for every group. */
export class Columns {
  /** 1 when the node is ready and takes new tasks. */
  ready = new Uint8Array(INITIAL_ROWS);
  /** What is left, nano-CPUs and bytes. Below zero when a node has shrunk under its tasks. */
  freeCpus = new Float64Array(INITIAL_ROWS);
  freeMemory = new Float64Array(INITIAL_ROWS);
  /** All there is. */
  cpus = new Float64Array(INITIAL_ROWS);
  memory = new Float64Array(INITIAL_ROWS);
  /** What is left as a share of all there is; 0 where there is nothing. */
  cpuShare = new Float64Array(INITIAL_ROWS);
  memoryShare = new Float64Array(INITIAL_ROWS);
  /** Tasks that are there and shall stay. */
  active = new Int32Array(INITIAL_ROWS);
  /** 1 when room is kept for a task that waits for others to leave (preemption). */
  promised = new Uint8Array(INITIAL_ROWS);
  /** Raised with every change of the node itself; never 0 for a row in use. */
  version = new Uint32Array(INITIAL_ROWS);
  /** Place of the node in the order of ids. */
  rank = new Int32Array(INITIAL_ROWS);

  /** Number of changes of nodes themselves so far. */
  changes = 0;
  #rows = 0;
  readonly #unused: number[] = [];

  /** Rows there may be at present: every row in use is below. */
  get capacity(): number {
    return this.ready.length;
  }

  /** A row with zeros everywhere but in `version`, which goes on from where the row's former node left it. */
  take(): number {
    const row = this.#unused.pop() ?? this.#rows++;
    if (row >= this.capacity) this.#grow();
    return row;
  }

  /** Takes away (or, below zero, gives back) what a task reserves. */
  reserve(row: number, nanoCpus: number, memoryBytes: number): void {
    const freeCpus = (this.freeCpus[row] as number) - nanoCpus;
    const freeMemory = (this.freeMemory[row] as number) - memoryBytes;
    const cpus = this.cpus[row] as number;
    const memory = this.memory[row] as number;
    this.freeCpus[row] = freeCpus;
    this.freeMemory[row] = freeMemory;
    this.cpuShare[row] = cpus > 0 ? freeCpus / cpus : 0;
    this.memoryShare[row] = memory > 0 ? freeMemory / memory : 0;
  }

  /** Sets what there is; nothing of it is reserved then. */
  setTotals(row: number, nanoCpus: number, memoryBytes: number): void {
    this.cpus[row] = nanoCpus;
    this.memory[row] = memoryBytes;
    this.freeCpus[row] = nanoCpus;
    this.freeMemory[row] = memoryBytes;
    this.reserve(row, 0, 0);
  }

  /** The node of a row has changed. */
  changed(row: number): void {
    this.version[row] = (this.version[row] as number) + 1;
    this.changes++;
  }

  giveBack(row: number): void {
    this.setTotals(row, 0, 0);
    for (const column of [this.ready, this.active, this.promised, this.rank]) column[row] = 0;
    this.changed(row);
    this.#unused.push(row);
  }

  #grow(): void {
    this.ready = grown(this.ready, Uint8Array);
    this.freeCpus = grown(this.freeCpus, Float64Array);
    this.freeMemory = grown(this.freeMemory, Float64Array);
    this.cpus = grown(this.cpus, Float64Array);
    this.memory = grown(this.memory, Float64Array);
    this.cpuShare = grown(this.cpuShare, Float64Array);
    this.memoryShare = grown(this.memoryShare, Float64Array);
    this.active = grown(this.active, Int32Array);
    this.promised = grown(this.promised, Uint8Array);
    this.version = grown(this.version, Uint32Array);
    this.rank = grown(this.rank, Int32Array);
  }
}

type Numbers = Uint8Array | Uint32Array | Int32Array | Float64Array;

/** A copy of twice the length. */
function grown<T extends Numbers>(column: T, Type: new (length: number) => T): T {
  const larger = new Type(2 * column.length);
  larger.set(column);
  return larger;
}
