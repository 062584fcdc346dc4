import type { Clock } from '../base/index.ts';
import { RESTART_GRACE_MS } from './dispatcher/index.ts';

/**
 * How long nodes are waited for after this manager was started from its own data. All hosts may be starting with it, and
 * their containers run on: nothing is moved at once. A manager that finds another one leading did not start together with
 * all the others; when it comes to lead later, it gives the usual grace only.
 */
export class StartGrace {
  readonly #clock: Clock;
  #startedAtMs: number | undefined;
  #awaitMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @param awaitMs how long nodes of a restored cluster are waited for, ms */
  begin(awaitMs = 0): void {
    this.#startedAtMs = this.#clock.monotonic();
    this.#awaitMs = awaitMs;
  }

  /** Another manager leads. */
  leaderFound(): void {
    this.#startedAtMs = undefined;
  }

  /** Whether the others may still be starting, too. */
  get restarted(): boolean {
    return this.#startedAtMs !== undefined && this.#clock.monotonic() - this.#startedAtMs < RESTART_GRACE_MS;
  }

  /** What is left of the time that was asked for, ms. */
  get awaitMs(): number {
    if (this.#startedAtMs === undefined) return 0;
    return Math.max(0, this.#startedAtMs + this.#awaitMs - this.#clock.monotonic());
  }
}
