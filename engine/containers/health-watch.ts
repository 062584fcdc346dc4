import { newHexId } from '../../base/index.ts';
import type { ExecOutcome, ExecRequest, ImageConfig } from '../types.ts';
import { healthCheckOf } from './config.ts';
import { HealthMonitor, type HealthStatus } from './health.ts';
import type { ContainerRecord } from './record.ts';

/** Runs a command in the container to its end. */
type RunExec = (request: ExecRequest, signal: AbortSignal) => Promise<ExecOutcome>;

/** Watches a container's health while it runs, and writes what it finds into its record. */
export class HealthWatch {
  readonly #record: ContainerRecord;
  readonly #exec: RunExec;
  #monitor: HealthMonitor | undefined;

  constructor(record: ContainerRecord, exec: RunExec) {
    this.#record = record;
    this.#exec = exec;
  }

  /** @param known what is known from before: the daemon was started anew, or the container was paused. */
  start(image: ImageConfig, known: HealthStatus | undefined): void {
    const { container, parts } = this.#record;
    this.#monitor?.stop();
    const check = healthCheckOf(container.config, image);
    if (check === undefined) {
      delete container.health;
      delete container.healthLog;
      return;
    }
    container.health = known ?? 'starting';
    if (known === undefined) container.healthLog = { failingStreak: 0, probes: [] };
    this.#monitor = new HealthMonitor(
      {
        check,
        shell: container.config.shell?.length ? container.config.shell : image.Shell,
        clock: parts.clock,
        log: parts.log.with({ container: container.id }),
        startedMs: container.startedMs,
        exec: (request, signal) => this.#run(request, signal),
        // Not saved each time: only the status matters after a crash.
        onProbe: (log) => {
          container.healthLog = log;
        },
        onStatus: (status) => {
          container.health = status;
          this.#record.event(`health_status: ${status}`);
          this.#record.saveLater();
        },
      },
      container.health,
      container.healthLog,
    );
  }

  /** A probe is an exec as any other to those who listen. */
  async #run(request: ExecRequest, signal: AbortSignal): Promise<ExecOutcome> {
    const { parts } = this.#record;
    const execID = newHexId(parts.random);
    const words = request.command.join(' ');
    parts.counters.healthChecks += 1;
    this.#record.event(`exec_create: ${words}`, { execID });
    this.#record.event(`exec_start: ${words}`, { execID });
    let exitCode: number | undefined;
    try {
      const outcome = await this.#exec(request, signal);
      exitCode = outcome.exitCode;
      return outcome;
    } catch (error) {
      parts.counters.healthCheckFailures += 1;
      throw error;
    } finally {
      if (exitCode !== undefined) this.#record.event('exec_die', { execID, exitCode: String(exitCode) });
    }
  }

  stop(): void {
    this.#monitor?.stop();
    this.#monitor = undefined;
  }
}
