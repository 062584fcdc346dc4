import { unreachable } from '../../base/index.ts';

/**
 * A checker for linearizability of one key (Wing and Gong 1993, with Lowe's 2017 memory of visited configurations):
 * is there one order of the operations, each between its call and its answer, that explains every answer?
 */
export interface Operation {
  kind: 'put' | 'cas' | 'get';
  /** put, cas: the value written; unique over all operations, above 0. */
  value: number;
  /** cas: the value that must stand there. */
  expected: number;
  /** get, or a cas that failed: what was found. 0 for nothing. -1 when the outcome is not known. */
  found: number;
  outcome: 'ok' | 'unknown';
  start: number;
  /** Infinity while there is no answer. */
  end: number;
  /** Where the search tries it first: the order in which the system claims to have done it. Changes no verdict. */
  hint: number;
}

export interface Verdict {
  ok: boolean;
  /** The search was given up: too many configurations. */
  undecided: boolean;
  /** Most operations that could be put in order, and those that stood next when nothing fitted. */
  explained: number;
  stuck: Operation[];
}

/** Configurations visited at the most. */
export const SEARCH_MAX = 2_000_000;

/** State after `op`, or undefined when its answer does not fit `state`. */
function step(op: Operation, state: number): number | undefined {
  switch (op.kind) {
    case 'put':
      return op.value;
    case 'get':
      return op.found === state ? state : undefined;
    case 'cas':
      if (op.outcome === 'unknown') return state === op.expected ? op.value : state;
      if (op.found === op.expected) return state === op.expected ? op.value : undefined;
      return op.found === state ? state : undefined;
    default:
      return unreachable(op.kind);
  }
}

/**
 * Writes without an answer may have happened at any time, or never. One whose value nobody ever saw may as well never
 * have happened; one that was seen happened before the answer of who saw it first.
 */
export function settleUnknown(history: readonly Operation[]): Operation[] {
  const seenBy = new Map<number, number>();
  const see = (value: number, end: number): void => {
    seenBy.set(value, Math.min(end, seenBy.get(value) ?? Number.POSITIVE_INFINITY));
  };
  for (const op of history) if (op.outcome === 'ok' && op.kind !== 'put') see(op.found, op.end);
  const unknown = history.filter((op) => op.outcome === 'unknown' && op.kind !== 'get');
  const settled = new Map<number, Operation>();
  // A compare-and-set whose value was seen has succeeded and so has seen the value that it asked for.
  for (let changed = true; changed;) {
    changed = false;
    for (const op of unknown) {
      const end = seenBy.get(op.value);
      if (end === undefined || (settled.get(op.value)?.end ?? Number.POSITIVE_INFINITY) <= end) continue;
      settled.set(op.value, { ...op, outcome: 'ok', found: op.expected, end });
      if (op.kind === 'cas') see(op.expected, end);
      changed = true;
    }
  }
  return [...history.filter((op) => op.outcome === 'ok'), ...settled.values()];
}

interface Choice {
  op: number;
  state: number;
  /** Operations that could come instead, best first; those before `next` were tried. */
  candidates: number[];
  next: number;
}

class Search {
  readonly #ops: Operation[];
  readonly #done: Uint8Array;
  readonly #visited = new Set<string>();
  /** All operations before this one are in the order. */
  #low = 0;
  #state = 0;
  #steps = 0;
  #order: number[] = [];
  best = 0;
  stuck: Operation[] = [];

  constructor(ops: Operation[]) {
    this.#ops = ops;
    this.#done = new Uint8Array(ops.length);
  }

  run(): 'ok' | 'no' | 'undecided' {
    const stack: Choice[] = [];
    for (;;) {
      this.#takeReads();
      if (this.#order.length === this.#ops.length) return 'ok';
      if (++this.#steps > SEARCH_MAX) return 'undecided';
      const choice: Choice = { op: this.#order.length, state: this.#state, candidates: this.#candidates(), next: 0 };
      this.#noteBest(choice.candidates);
      if (!this.#seenBefore()) stack.push(choice);
      if (!this.#advance(stack)) return 'no';
    }
  }

  /** Takes the next untried way, going back as far as it must. */
  #advance(stack: Choice[]): boolean {
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      while (this.#order.length > top.op) this.#undo();
      this.#state = top.state;
      while (top.next < top.candidates.length) {
        const i = top.candidates[top.next++] as number;
        const state = step(this.#ops[i] as Operation, top.state);
        if (state === undefined) continue;
        this.#take(i, state);
        return true;
      }
      stack.pop();
    }
    return false;
  }

  #take(i: number, state: number): void {
    this.#done[i] = 1;
    this.#order.push(i);
    this.#state = state;
    while (this.#done[this.#low] === 1) this.#low++;
  }

  #undo(): void {
    const i = this.#order.pop() as number;
    this.#done[i] = 0;
    this.#low = Math.min(this.#low, i);
  }

  /** Operations that may come next: those that began before any other that is left has ended. */
  #candidates(): number[] {
    const ops = this.#ops;
    let firstEnd = Number.POSITIVE_INFINITY;
    const open: number[] = [];
    for (let i = this.#low; i < ops.length; i++) {
      const op = ops[i] as Operation;
      if (op.start > firstEnd) break;
      if (this.#done[i] === 1) continue;
      open.push(i);
      firstEnd = Math.min(firstEnd, op.end);
    }
    const out = open.filter((i) => (ops[i] as Operation).start <= firstEnd);
    return out.sort((a, b) => (ops[a] as Operation).hint - (ops[b] as Operation).hint);
  }

  /** What only reads, and fits now, changes nothing for the others: no need to try it later. */
  #takeReads(): void {
    for (let again = true; again;) {
      again = false;
      for (const i of this.#candidates()) {
        const op = this.#ops[i] as Operation;
        if (op.kind === 'put' || op.outcome === 'unknown' || step(op, this.#state) !== this.#state) continue;
        this.#take(i, this.#state);
        again = true;
      }
    }
  }

  #seenBefore(): boolean {
    let key = `${this.#low}:${this.#state}`;
    for (let i = this.#low, left = this.#order.length - this.#low; left > 0; i++) {
      if (this.#done[i] !== 1) continue;
      key += `,${i}`;
      left--;
    }
    if (this.#visited.has(key)) return true;
    this.#visited.add(key);
    return false;
  }

  #noteBest(candidates: readonly number[]): void {
    if (this.#order.length < this.best) return;
    this.best = this.#order.length;
    this.stuck = candidates.map((i) => this.#ops[i] as Operation);
  }
}

/** Checks the history of one key, which begins without a value (0). */
export function checkKey(history: readonly Operation[]): Verdict {
  const ops = settleUnknown(history).sort((a, b) => a.start - b.start);
  const search = new Search(ops);
  const result = search.run();
  return {
    ok: result === 'ok',
    undecided: result === 'undecided',
    explained: search.best,
    stuck: search.stuck,
  };
}
