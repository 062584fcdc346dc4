import { abortReason, type Clock } from '../../base/index.ts';

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

export interface ExitStatus {
  exitCode: number;
  error?: string;
}

interface Waiter {
  condition: WaitCondition;
  resolve: (status: ExitStatus) => void;
}

/** Those who wait for something to happen to one container. */
export class Waiters {
  readonly #waiting = new Set<Waiter>();

  /** Resolves with the next notice of `condition`. Rejects with the reason when `signal` aborts. */
  wait(condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    if (signal.aborted) return Promise.reject(abortReason(signal));
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        condition,
        resolve: (status) => {
          signal.removeEventListener('abort', onAbort);
          resolve(status);
        },
      };
      const onAbort = (): void => {
        this.#waiting.delete(waiter);
        reject(abortReason(signal));
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(waiter);
    });
  }

  /** The next end, for who waits however long it takes. */
  nextExit(): Promise<ExitStatus> {
    return new Promise((resolve) => this.#waiting.add({ condition: 'next-exit', resolve }));
  }

  notify(status: ExitStatus, ...conditions: readonly WaitCondition[]): void {
    for (const waiter of [...this.#waiting]) {
      if (!conditions.includes(waiter.condition)) continue;
      this.#waiting.delete(waiter);
      waiter.resolve(status);
    }
  }
}

/** Whether an end comes within a time; negative is without limit. */
export async function comesWithin(exit: Promise<ExitStatus>, graceMs: number, clock: Clock): Promise<boolean> {
  if (graceMs < 0) return exit.then(() => true);
  const timeout = new AbortController();
  const late = clock.sleep(graceMs, timeout.signal).then(
    () => false,
    () => true,
  );
  const result = await Promise.race([exit.then(() => true), late]);
  timeout.abort();
  return result;
}
