import type { ExecOutcome, ExecRequest, ImageConfig } from '../types.ts';
import { healthCheckOf } from './config.ts';
import { HealthMonitor, type HealthStatus } from './health.ts';
import type { ContainerRecord } from './record.ts';

/** Watches a container's health while it runs, and writes what it finds into its record. */
export class HealthWatch {
  readonly #record: ContainerRecord;
  readonly #exec: (request: ExecRequest, signal: AbortSignal) => Promise<ExecOutcome>;
  #monitor: HealthMonitor | undefined;

  constructor(record: ContainerRecord, exec: (request: ExecRequest, signal: AbortSignal) => Promise<ExecOutcome>) {
    this.#record = record;
    this.#exec = exec;
  }

  /** @param known what is known from before (the daemon was started anew). */
  start(image: ImageConfig, known: HealthStatus | undefined): void {
    const { container, parts } = this.#record;
    const check = healthCheckOf(container.config, image);
    if (check === undefined) return;
    container.health = known ?? 'starting';
    this.#monitor = new HealthMonitor(
      {
        check,
        clock: parts.clock,
        log: parts.log.with({ container: container.id }),
        exec: this.#exec,
        onStatus: (status) => {
          container.health = status;
          this.#record.event(`health_status: ${status}`);
          this.#record.saveLater();
        },
      },
      container.health,
    );
  }

  stop(): void {
    this.#monitor?.stop();
    this.#monitor = undefined;
  }
}
