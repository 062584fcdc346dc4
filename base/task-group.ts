import type { Logger } from './log.ts';

/**
 * Structured concurrency: named background loops that start together and end together. A loop that throws is logged and
 * reported through `onFailure`; `stop` aborts all and waits for them.
 */
export class TaskGroup {
  readonly #controller = new AbortController();
  readonly #running = new Map<string, Promise<void>>();
  readonly #log: Logger;
  readonly #onFailure: ((name: string, error: unknown) => void) | undefined;
  #count = 0;

  constructor(log: Logger, onFailure?: (name: string, error: unknown) => void) {
    this.#log = log;
    this.#onFailure = onFailure;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts a loop. It must return soon after `signal` aborts. */
  start(name: string, run: (signal: AbortSignal) => Promise<void>): void {
    if (this.signal.aborted) return;
    const key = `${name}#${this.#count++}`;
    const promise = run(this.signal)
      .catch((error: unknown) => {
        if (this.signal.aborted) return;
        this.#log.error('background task failed', { task: name, error });
        this.#onFailure?.(name, error);
      })
      .finally(() => this.#running.delete(key));
    this.#running.set(key, promise);
  }

  /** Names of the loops that still run. */
  names(): string[] {
    return [...this.#running.keys()];
  }

  /** Aborts every loop and waits until all have returned. Idempotent. */
  async stop(): Promise<void> {
    this.#controller.abort(new Error('stopped'));
    while (this.#running.size > 0) await Promise.all(this.#running.values());
  }
}
