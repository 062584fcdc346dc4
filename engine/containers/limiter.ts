/** Runs at most `width` jobs at once; others wait in order. A width of 1 is a lock. */
export class Limiter {
  readonly #width: number;
  #running = 0;
  #waiting: (() => void)[] = [];

  constructor(width: number) {
    this.#width = width;
  }

  /** Whether a job runs or waits. */
  get busy(): boolean {
    return this.#running > 0;
  }

  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#width) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      return await job();
    } finally {
      // The place goes straight to the next one, so that nobody can slip in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
