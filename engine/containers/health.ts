import { errorMessage, type Clock, type Logger, type Timer } from '../../base/index.ts';
import type { ExecOutcome, ExecRequest, HealthCheckRequest } from '../types.ts';

export type HealthStatus = 'starting' | 'healthy' | 'unhealthy';

export interface HealthMonitorOptions {
  check: HealthCheckRequest;
  clock: Clock;
  log: Logger;
  exec: (request: ExecRequest, signal: AbortSignal) => Promise<ExecOutcome>;
  /** Told whenever the status becomes another one. */
  onStatus: (status: HealthStatus) => void;
}

function commandOf(test: readonly string[]): string[] {
  return test[0] === 'CMD-SHELL' ? ['/bin/sh', '-c', test[1] ?? ''] : test.slice(1);
}

/**
 * Runs a container's health check again and again by Docker's rules: one success makes it healthy; `retries` failures
 * in a row make it unhealthy; failures in the start period do not count until it has been healthy once.
 */
export class HealthMonitor {
  readonly #options: HealthMonitorOptions;
  readonly #abort = new AbortController();
  readonly #beginMs: number;
  #timer: Timer | undefined;
  #failures = 0;
  #status: HealthStatus = 'starting';

  /** @param status what is known from before (adoption after a restart of the daemon). */
  constructor(options: HealthMonitorOptions, status: HealthStatus = 'starting') {
    this.#options = options;
    this.#beginMs = options.clock.monotonic();
    this.#status = status;
    this.#schedule();
  }

  stop(): void {
    this.#abort.abort(new Error('the container ended'));
    this.#timer?.cancel();
  }

  #schedule(): void {
    if (this.#abort.signal.aborted) return;
    this.#timer = this.#options.clock.after(this.#intervalMs(), () => {
      void this.#round().catch((error: unknown) => {
        this.#options.log.error('health checks ended', { error: errorMessage(error) });
      });
    });
  }

  get #starting(): boolean {
    const { check, clock } = this.#options;
    return this.#status === 'starting' && clock.monotonic() - this.#beginMs < check.startPeriodMs;
  }

  /** Checks come more often while the container starts up, if it has a start period. */
  #intervalMs(): number {
    const { intervalMs, startIntervalMs } = this.#options.check;
    return this.#starting && startIntervalMs ? Math.min(startIntervalMs, intervalMs) : intervalMs;
  }

  async #round(): Promise<void> {
    try {
      const healthy = await this.#passes();
      if (!this.#abort.signal.aborted) this.#take(healthy);
    } finally {
      this.#schedule();
    }
  }

  async #passes(): Promise<boolean> {
    const { check, clock, exec } = this.#options;
    const timeout = new AbortController();
    const timer = clock.after(check.timeoutMs, () => timeout.abort(new Error('the health check took too long')));
    const signal = AbortSignal.any([timeout.signal, this.#abort.signal]);
    try {
      const request = { command: commandOf(check.test), env: [], privileged: false };
      return (await exec(request, signal)).exitCode === 0;
    } catch (error) {
      const expected = timeout.signal.aborted || this.#abort.signal.aborted;
      if (!expected) this.#options.log.warn('a health check could not be run', { error: errorMessage(error) });
      return false;
    } finally {
      timer.cancel();
    }
  }

  #take(healthy: boolean): void {
    const { check } = this.#options;
    if (healthy) {
      this.#failures = 0;
      this.#set('healthy');
      return;
    }
    if (this.#starting) return;
    this.#failures += 1;
    if (this.#failures >= check.retries) this.#set('unhealthy');
  }

  #set(status: HealthStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#options.onStatus(status);
  }
}
