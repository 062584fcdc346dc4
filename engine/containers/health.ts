import { errorMessage, type Clock, type Logger, type Timer } from '../../base/index.ts';
import type { ExecOutcome, ExecRequest, HealthCheckRequest, HealthLog, HealthProbe } from '../types.ts';

export type HealthStatus = 'starting' | 'healthy' | 'unhealthy';

/** Probes kept for `docker inspect`, and bytes of output kept of each. */
export const PROBES_KEPT_MAX = 5;
const OUTPUT_MAX_BYTES = 4096;
/** Exit code of a probe that was not run to its end. */
const EXIT_NOT_RUN = -1;

/** What runs a check that is given as text, unless container or image name a shell. */
const DEFAULT_SHELL = ['/bin/sh', '-c'];

export interface HealthMonitorOptions {
  check: HealthCheckRequest;
  /** Runs a check that is given as text; empty or left out: /bin/sh -c. */
  shell?: readonly string[] | undefined;
  clock: Clock;
  log: Logger;
  exec: (request: ExecRequest, signal: AbortSignal) => Promise<ExecOutcome>;
  /** When the container was started, wall clock, ms; default now. The start period counts from there. */
  startedMs?: number;
  /** Told of every probe, before `onStatus`. */
  onProbe?: (log: HealthLog) => void;
  /** Told whenever the status becomes another one. */
  onStatus: (status: HealthStatus) => void;
}

/** A duration as Go prints it: 1m30s, 500ms. */
function goDuration(ms: number): string {
  if (ms < 1000) return `${ms}ms`;
  const [hours, minutes, seconds] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, (ms / 1000) % 60];
  const head = hours > 0 ? `${hours}h${minutes}m` : minutes > 0 ? `${minutes}m` : '';
  return `${head}${seconds}s`;
}

function outputOf({ stdout, stderr }: Pick<ExecOutcome, 'stdout' | 'stderr'>): string {
  const all = Buffer.concat([stdout, stderr]);
  if (all.length <= OUTPUT_MAX_BYTES) return all.toString('utf8');
  return `${all.subarray(0, OUTPUT_MAX_BYTES).toString('utf8')}...`;
}

function commandOf(test: readonly string[], shell: readonly string[] | undefined): string[] {
  const command = test.slice(1);
  return test[0] === 'CMD-SHELL' ? [...(shell?.length ? shell : DEFAULT_SHELL), ...command] : command;
}

/**
 * Runs a container's health check again and again by Docker's rules: one success makes it healthy; `retries` failures
 * in a row make it unhealthy; failures in the start period do not count until it has been healthy once.
 */
export class HealthMonitor {
  readonly #options: HealthMonitorOptions;
  readonly #abort = new AbortController();
  readonly #startedMs: number;
  #timer: Timer | undefined;
  #status: HealthStatus;
  #log: HealthLog;

  /** @param status and log are what is known from before (adoption after a restart of the daemon, end of a pause). */
  constructor(options: HealthMonitorOptions, status: HealthStatus = 'starting', log?: HealthLog) {
    this.#options = options;
    this.#startedMs = options.startedMs ?? options.clock.now();
    this.#status = status;
    this.#log = log ?? { failingStreak: 0, probes: [] };
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

  /** Whether at this time failures do not count yet. */
  #starting(atMs: number): boolean {
    return this.#status === 'starting' && atMs - this.#startedMs < this.#options.check.startPeriodMs;
  }

  /** Checks come at another pace while the container starts up, if it has a start period. */
  #intervalMs(): number {
    const { clock, check } = this.#options;
    return (this.#starting(clock.now()) && check.startIntervalMs) || check.intervalMs;
  }

  async #round(): Promise<void> {
    try {
      const probe = await this.#probe();
      if (!this.#abort.signal.aborted) this.#take(probe);
    } finally {
      this.#schedule();
    }
  }

  async #probe(): Promise<HealthProbe> {
    const { check, shell, clock, exec } = this.#options;
    const startMs = clock.now();
    const timeout = new AbortController();
    const timer = clock.after(check.timeoutMs, () => timeout.abort(new Error('the health check took too long')));
    const signal = AbortSignal.any([timeout.signal, this.#abort.signal]);
    try {
      const request = { command: commandOf(check.test, shell), env: [], privileged: false };
      const outcome = await exec(request, signal);
      return { startMs, endMs: clock.now(), exitCode: outcome.exitCode, output: outputOf(outcome) };
    } catch (error) {
      const late = timeout.signal.aborted;
      if (!late && !this.#abort.signal.aborted) {
        this.#options.log.warn('a health check could not be run', { error: errorMessage(error) });
      }
      const output = late ? `Health check exceeded timeout (${goDuration(check.timeoutMs)})` : errorMessage(error);
      return { startMs, endMs: clock.now(), exitCode: EXIT_NOT_RUN, output };
    } finally {
      timer.cancel();
    }
  }

  #take(probe: HealthProbe): void {
    const { check, onProbe } = this.#options;
    const probes = [...this.#log.probes, probe].slice(-PROBES_KEPT_MAX);
    const healthy = probe.exitCode === 0;
    const counts = !healthy && !this.#starting(probe.startMs);
    const failingStreak = healthy ? 0 : this.#log.failingStreak + (counts ? 1 : 0);
    this.#log = { failingStreak, probes };
    onProbe?.(this.#log);
    if (healthy) this.#set('healthy');
    else if (counts && failingStreak >= check.retries) this.#set('unhealthy');
  }

  #set(status: HealthStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#options.onStatus(status);
  }
}
