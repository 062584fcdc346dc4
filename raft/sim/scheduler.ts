import { assert } from '../../base/index.ts';

/** One thing that will happen; `run` is null once it happened or was called off. */
export interface SimEvent {
  readonly at: number;
  readonly order: number;
  run: (() => void) | null;
}

/** Microtask turns after an event: enough for what a promise of the driver sets off in the clients of the simulation. */
const SETTLE_TURNS = 4;
const SETTLED = Promise.resolve();
/** No delay but none at all is shorter, ms: what a sum of doubles would lose lets no time pass. */
const DELAY_MIN_MS = 1e-6;
/** More events than this at one instant mean that somebody waits for a time that does not come. */
const INSTANT_EVENTS_MAX = 1_000_000;
/** Events within one second of virtual time; busy clusters have some thousands. */
export const SECOND_EVENTS_MAX = 1_000_000;

async function aFewTurns(): Promise<void> {
  for (let i = 0; i < SETTLE_TURNS; i++) await SETTLED;
}

/** Every microtask there is: for programs with long chains of promises. Nothing else must be on the event loop. */
export function allTurns(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Virtual time: a heap of events, run in the order of their instant, then of their making. No wall clock and no real
 * input or output, so that the same seed gives the same run; `hash` covers every event and proves it.
 */
export class Scheduler {
  #now = 0;
  #order = 0;
  #heap: SimEvent[] = [];
  #hash = 0x811c9dc5;
  #events = 0;
  /** Events at the present instant. */
  #atOnce = 0;
  /** Set when an event may have settled a promise: what waits for it runs before time goes on. */
  settle = false;
  /** The present second, and the events in it. */
  #second = 0;
  #inSecond = 0;
  readonly #settleAll: () => Promise<void>;

  /** @param settleAll runs what promises have set off. */
  constructor(settleAll: () => Promise<void> = aFewTurns) {
    this.#settleAll = settleAll;
  }

  get now(): number {
    return this.#now;
  }

  /** Events run so far. */
  get events(): number {
    return this.#events;
  }

  /** Hash of everything that happened. */
  get hash(): number {
    return this.#hash >>> 0;
  }

  /** Mixes a fact into the hash. */
  note(fact: number): void {
    this.#hash = Math.imul(this.#hash ^ fact, 0x01000193);
  }

  after(delayMs: number, run: () => void): SimEvent {
    assert(delayMs >= 0, 'nothing happens in the past');
    const at = delayMs === 0 ? this.#now : this.#now + Math.max(delayMs, DELAY_MIN_MS);
    const event: SimEvent = { at, order: this.#order++, run };
    this.#push(event);
    return event;
  }

  /** Runs events until `endMs`, or until `done` says so (asked after every event). @throws AssertionFailure when time stands still. */
  async run(endMs: number, done: () => boolean): Promise<void> {
    for (let next = this.#heap[0]; next !== undefined && next.at <= endMs; next = this.#heap[0]) {
      this.#pop();
      const { run } = next;
      if (run === null) continue;
      next.run = null;
      this.#atOnce = next.at === this.#now ? this.#atOnce + 1 : 0;
      assert(this.#atOnce <= INSTANT_EVENTS_MAX, 'time goes on');
      this.#now = next.at;
      this.#events++;
      this.#count();
      this.note((next.at * 1000) ^ next.order);
      run();
      if (this.settle) {
        this.settle = false;
        await this.#settleAll();
      }
      if (done()) return;
    }
    this.#now = Math.max(this.#now, endMs);
  }

  /** A group whose members answer each other without end would fill the memory in place of failing. */
  #count(): void {
    const second = Math.floor(this.#now / 1000);
    this.#inSecond = second === this.#second ? this.#inSecond + 1 : 1;
    this.#second = second;
    assert(this.#inSecond <= SECOND_EVENTS_MAX, 'messages come to an end: no storm of answers to answers');
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as SimEvent;
      if (above.at < event.at || (above.at === event.at && above.order < event.order)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    const size = heap.length;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      let below = heap[child] as SimEvent;
      const right = heap[child + 1];
      if (right !== undefined && (right.at < below.at || (right.at === below.at && right.order < below.order))) {
        below = right;
        child++;
      }
      if (last.at < below.at || (last.at === below.at && last.order < below.order)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
  }
}
