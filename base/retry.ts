import type { Clock } from './clock.ts';
import type { Random } from './random.ts';

/** Exponential back-off with full jitter above half of the step. */
export interface BackoffOptions {
  /** First delay, ms. */
  baseMs: number;
  /** Largest delay, ms. */
  capMs: number;
}

/** Delay before attempt `attempt` (0 is the first retry), ms: between half of the step and the whole step. */
export function backoffDelayMs(attempt: number, options: BackoffOptions, random: Random): number {
  const step = Math.min(options.capMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return step / 2 + random.float() * (step / 2);
}

export interface RetryOptions extends BackoffOptions {
  /** Number of calls at the most, the first included. */
  attempts: number;
  clock: Clock;
  random: Random;
  signal?: AbortSignal;
  /** Whether an error is worth another try; default: all are. */
  retryable?: (error: unknown) => boolean;
}

/** Calls `run` until it succeeds, its attempts are used up (the last error is thrown), or the signal aborts. */
export async function retry<T>(run: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await run(attempt);
    } catch (error) {
      const last = attempt + 1 >= options.attempts;
      if (last || options.signal?.aborted === true || options.retryable?.(error) === false) throw error;
      await options.clock.sleep(backoffDelayMs(attempt, options, options.random), options.signal);
    }
  }
}
