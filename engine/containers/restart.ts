import type { ContainerConfig } from '../types.ts';

const FIRST_DELAY_MS = 100;
const DELAY_MAX_MS = 60_000;
/** A run of this length makes the next delay small again. */
const STEADY_MS = 10_000;

/** Whether a container that ended with `exitCode` is to be started again. */
export function shouldRestart(
  policy: ContainerConfig['restart'],
  exitCode: number,
  restartCount: number,
  manuallyStopped: boolean,
): boolean {
  switch (policy.name) {
    case 'no':
      return false;
    case 'always':
    case 'unless-stopped':
      return !manuallyStopped;
    case 'on-failure':
      if (manuallyStopped || exitCode === 0) return false;
      return policy.maximumRetryCount === 0 || restartCount < policy.maximumRetryCount;
  }
}

/**
 * Whether a container found not running when the daemon starts is to be started: `always` forgets that a user stopped
 * it, and the count of `on-failure` begins anew.
 */
export function shouldStartWithDaemon(
  policy: ContainerConfig['restart'],
  exitCode: number,
  manuallyStopped: boolean,
): boolean {
  return policy.name === 'always' || shouldRestart(policy, exitCode, 0, manuallyStopped);
}

/** Docker's back-off: 100 ms, doubled each time up to a minute, small again after a run of 10 s. */
export class RestartBackoff {
  #nextMs = FIRST_DELAY_MS;

  /** @param ranMs how long the container ran. @returns the delay before its next start, ms. */
  delayAfter(ranMs: number): number {
    if (ranMs >= STEADY_MS) this.#nextMs = FIRST_DELAY_MS;
    const delay = this.#nextMs;
    this.#nextMs = Math.min(DELAY_MAX_MS, this.#nextMs * 2);
    return delay;
  }
}
