import type { Clock } from '../../base/index.ts';

/** A flag that one loop waits for. Wakes that come while nobody waits are kept as one. */
export class Wakeup {
  #pending = false;
  #waiter: (() => void) | undefined;

  wake(): void {
    this.#pending = true;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.();
  }

  /** Resolves after the next (or a kept) wake, after `timeoutMs`, or when `signal` aborts. Never rejects. */
  async wait(signal: AbortSignal, timeout?: { clock: Clock; ms: number }): Promise<void> {
    if (!this.#pending && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = timeout?.clock.after(timeout.ms, () => done());
        const done = (): void => {
          timer?.cancel();
          signal.removeEventListener('abort', done);
          this.#waiter = undefined;
          resolve();
        };
        signal.addEventListener('abort', done, { once: true });
        this.#waiter = done;
      });
    }
    this.#pending = false;
  }
}
