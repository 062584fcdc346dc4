import type { ContainerConfig } from '../types.ts';

const FIRST_DELAY_MS = 100;
const DELAY_MAX_MS = 60_000;
/** A run of this length makes the next delay small again. */
const STEADY_MS = 10_000;

/** What users have done to a container since they started it. */
export interface UserActs {
  /** It was stopped, or sent any signal: `unless-stopped` does not bring it back. */
  manuallyStopped: boolean;
  /** It was meant to end: no policy brings it back while the daemon runs. */
  policyEnded?: boolean;
}

/** Whether a container that ended with `exitCode` is to be started again (dockerd's restart manager). */
export function shouldRestart(
  policy: ContainerConfig['restart'],
  exitCode: number,
  restartCount: number,
  { manuallyStopped, policyEnded }: UserActs,
): boolean {
  if (policyEnded === true) return false;
  switch (policy.name) {
    case 'no':
      return false;
    case 'always':
      return true;
    case 'unless-stopped':
      return !manuallyStopped;
    case 'on-failure':
      if (exitCode === 0) return false;
      return policy.maximumRetryCount === 0 || restartCount < policy.maximumRetryCount;
  }
}

/**
 * Whether a container found not running when the daemon starts is to be started: `always` forgets that a user stopped
 * it, and the count of `on-failure` begins anew.
 */
export function shouldStartWithDaemon(policy: ContainerConfig['restart'], exitCode: number, acts: UserActs): boolean {
  if (policy.name === 'always') return true;
  return !acts.manuallyStopped && shouldRestart(policy, exitCode, 0, acts);
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
