import type { Clock, Timer } from '../base/index.ts';

/** Runs one job on request, never twice at once and at most once every `intervalMs`; requests in between are one. */
export class Coalescer {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #run: () => Promise<void>;
  readonly #onError: (error: unknown) => void;
  #timer: Timer | undefined;
  #running: Promise<void> = Promise.resolve();
  #lastMs = -Infinity;
  #closed = false;

  constructor(clock: Clock, intervalMs: number, run: () => Promise<void>, onError: (error: unknown) => void) {
    this.#clock = clock;
    this.#intervalMs = intervalMs;
    this.#run = run;
    this.#onError = onError;
  }

  /** Lets the job run soon. */
  request(): void {
    if (this.#timer !== undefined || this.#closed) return;
    const wait = Math.max(0, this.#lastMs + this.#intervalMs - this.#clock.monotonic());
    this.#timer = this.#clock.after(wait, () => {
      this.#timer = undefined;
      void this.now().catch(this.#onError);
    });
  }

  /** Runs the job at once, after the one that may be running. Rejects with the job's error. */
  now(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const next = this.#running.then(() => {
      this.#lastMs = this.#clock.monotonic();
      return this.#run();
    });
    this.#running = next.catch(() => undefined);
    return next;
  }

  /** Ends it after the run that may be under way. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#running;
  }
}
