import type { Clock } from './clock.ts';
import { ShoalError } from './errors.ts';

/** The shortest timer: it fires once per turn of the event loop, ms. */
const TURN_MS = 1;

export interface TurnPacerOptions {
  clock: Clock;
  /** Works that begin in one turn of the event loop. */
  perTurn: number;
  /** Works that wait for their turn at the most; further ones are refused. */
  waitingMax: number;
  /** What the works are, for the refusal. */
  what: string;
}

/**
 * Spreads many works that come at once over turns of the event loop, so that timers and sockets get theirs in between.
 * Few works never wait. Order is kept.
 */
export class TurnPacer {
  readonly #options: TurnPacerOptions;
  #waiting: (() => void)[] = [];
  /** First of `#waiting` that has not begun. */
  #next = 0;
  /** Works begun in this turn. */
  #begun = 0;
  /** Whether the end of this turn is waited for. */
  #armed = false;

  constructor(options: TurnPacerOptions) {
    this.#options = options;
  }

  /** Works that wait. */
  get waiting(): number {
    return this.#waiting.length - this.#next;
  }

  /**
   * Resolves when the work may begin.
   * @throws ShoalError ResourceExhausted when too many wait.
   */
  turn(): Promise<void> {
    const { perTurn, waitingMax, what } = this.#options;
    if (this.waiting === 0 && this.#begun < perTurn) {
      this.#begin();
      return Promise.resolve();
    }
    if (this.waiting >= waitingMax) {
      return Promise.reject(
        new ShoalError('ResourceExhausted', `more than ${waitingMax} ${what} wait; try again later`),
      );
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #begin(): void {
    this.#begun++;
    if (this.#armed) return;
    this.#armed = true;
    this.#options.clock.after(TURN_MS, () => this.#nextTurn());
  }

  #nextTurn(): void {
    this.#armed = false;
    this.#begun = 0;
    while (this.waiting > 0 && this.#begun < this.#options.perTurn) {
      const begin = this.#waiting[this.#next++] as () => void;
      this.#begin();
      begin();
    }
    if (this.waiting > 0) return;
    this.#waiting = [];
    this.#next = 0;
  }
}
