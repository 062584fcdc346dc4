import { abortReason, type Clock, type Random, type Timer } from '../../base/index.ts';
import type { Scheduler } from './scheduler.ts';

/** Messages that wait for a paused process at the most (what the buffers of its sockets hold). */
const BACKLOG_MAX = 20_000;

/** Where work comes from: a peer's id, or one of these. */
export type Source = number;
export const KERNEL: Source = 0;
export const TIMER: Source = -1;
export const CLIENT: Source = -2;
const DEFERRED: Source = -3;
/** One turn of a busy event loop, ms. */
const TURN_MS = 0.01;

interface Waiting {
  work: () => void;
  source: Source;
}

export interface ProcessOptions {
  scheduler: Scheduler;
  random: Random;
  /** Time that deferred work waits at the most, ms: the cost of a turn of the event loop. */
  turnMs: number;
  /** Wall-clock time at the beginning of virtual time, ms since the epoch; drawn when it does not matter. */
  wallMs?: number;
  /** After everything that ran in the process. */
  after(): void;
  fail(error: unknown): void;
}

/**
 * One run of one member's program: everything that happens in it comes through `run`. Paused, nothing happens, and
 * timers and messages queue up (SIGSTOP); dead, nothing happens ever again. Its clock may drift.
 */
export class SimProcess implements Clock {
  readonly #options: ProcessOptions;
  readonly #scheduler: Scheduler;
  /** Local time that passes in one ms. */
  #rate: number;
  #localBase: number;
  #base: number;
  readonly #wallOffset: number;
  #alive = true;
  #paused = false;
  /** What came from the paused process has not all run yet. */
  #draining = false;
  #backlog: Waiting[] = [];
  /** Deferred work runs in the order in which it was deferred. */
  #deferredUntil = 0;

  constructor(options: ProcessOptions, rate: number) {
    this.#options = options;
    this.#scheduler = options.scheduler;
    this.#rate = rate;
    this.#base = this.#scheduler.now;
    this.#localBase = 1000 + options.random.int(1_000_000);
    this.#wallOffset = options.random.int(1_000_000_000);
  }

  get alive(): boolean {
    return this.#alive;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Nothing runs in it any more. */
  kill(): void {
    this.#alive = false;
    this.#backlog = [];
  }

  /**
   * Runs `work` in the process: now, when it is resumed, or never. False when it was lost.
   * @param source where it comes from: what one source brings stays in its order.
   */
  run(work: () => void, source: Source = KERNEL): boolean {
    if (!this.#alive) return false;
    if (this.#paused || this.#draining) {
      if (this.#backlog.length >= BACKLOG_MAX) return false;
      this.#backlog.push({ work, source });
      return true;
    }
    this.#guarded(work);
    return true;
  }

  #guarded(work: () => void): void {
    this.#scheduler.settle = true;
    try {
      work();
      this.#options.after();
    } catch (error) {
      this.#options.fail(error);
    }
  }

  pause(): void {
    this.#paused = true;
  }

  /** What queued up runs: in the order in which it came, or source by source, with turns of the event loop between. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#backlog = this.#inSomeOrder(this.#backlog);
    if (this.#draining) return;
    this.#draining = true;
    this.#drain();
  }

  #inSomeOrder(backlog: Waiting[]): Waiting[] {
    const { random } = this.#options;
    if (random.int(2) === 0) return backlog;
    const ranks = new Map<Source, number>();
    for (const { source } of backlog) {
      if (!ranks.has(source)) ranks.set(source, source === DEFERRED ? -1 : random.float());
    }
    return backlog.toSorted((a, b) => (ranks.get(a.source) ?? 0) - (ranks.get(b.source) ?? 0));
  }

  /** One turn: what one source brought. */
  #drain(): void {
    if (this.#paused || !this.#alive || this.#backlog.length === 0) {
      this.#draining = false;
      return;
    }
    const { source } = this.#backlog[0] as Waiting;
    let count = 0;
    while (this.#backlog[count]?.source === source) count++;
    for (const { work } of this.#backlog.splice(0, count)) if (this.#alive) this.#guarded(work);
    this.#scheduler.after(TURN_MS, () => this.#drain());
  }

  /** Work for the end of this turn. */
  defer(run: () => void): void {
    const { now } = this.#scheduler;
    const delayMs = this.#options.turnMs === 0 ? 0 : this.#options.random.float() * this.#options.turnMs;
    this.#deferredUntil = Math.max(this.#deferredUntil, now + delayMs);
    this.#scheduler.after(this.#deferredUntil - now, () => this.#turn(run));
  }

  /** Deferred work comes before what queues up from outside. */
  #turn(run: () => void): void {
    if (this.#paused) {
      const after = this.#backlog.findIndex(({ source }) => source !== DEFERRED);
      this.#backlog.splice(after < 0 ? this.#backlog.length : after, 0, { work: run, source: DEFERRED });
    } else if (this.#alive) this.#guarded(run);
  }

  /** Changes how fast the local clock goes. */
  setRate(rate: number): void {
    this.#localBase = this.monotonic();
    this.#base = this.#scheduler.now;
    this.#rate = rate;
  }

  now(): number {
    const { wallMs } = this.#options;
    if (wallMs !== undefined) return wallMs + this.#scheduler.now;
    return this.monotonic() + this.#wallOffset;
  }

  monotonic(): number {
    return this.#localBase + (this.#scheduler.now - this.#base) * this.#rate;
  }

  after(delayMs: number, run: () => void): Timer {
    // A timer that is called off while it waits in a paused process does not run either.
    let pending = true;
    const work = (): void => {
      if (pending) run();
    };
    const event = this.#scheduler.after(delayMs / this.#rate, () => this.run(work, TIMER));
    return {
      cancel: () => {
        pending = false;
        event.run = null;
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortReason(signal));
        return;
      }
      const onAbort = (): void => {
        timer.cancel();
        reject(abortReason(signal as AbortSignal));
      };
      const timer = this.after(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
