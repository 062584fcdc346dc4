import type { Timer } from '../../base/index.ts';
import type { Limiter } from './limiter.ts';
import type { ContainerRecord } from './record.ts';
import { RestartBackoff, shouldRestart } from './restart.ts';

/** The next start of one container by its restart policy. */
export class Restarts {
  readonly #record: ContainerRecord;
  readonly #lock: Limiter;
  readonly #launch: () => Promise<void>;
  #backoff = new RestartBackoff();
  #timer: Timer | undefined;
  #closed = false;

  /** @param launch starts the container; called with `lock` held. */
  constructor(record: ContainerRecord, lock: Limiter, launch: () => Promise<void>) {
    this.#record = record;
    this.#lock = lock;
    this.#launch = launch;
  }

  get scheduled(): boolean {
    return this.#timer !== undefined;
  }

  /** Whether its policy wants it started again, now that it has ended with `exitCode`. */
  wanted(exitCode: number): boolean {
    const { container, stored } = this.#record;
    return shouldRestart(container.config.restart, exitCode, container.restartCount, stored);
  }

  /** Starts it again after the delay that its last run earned. @param ranMs how long that was, ms. */
  after(ranMs: number): void {
    this.schedule(this.#backoff.delayAfter(ranMs));
  }

  schedule(delayMs: number): void {
    if (this.#closed) return;
    const { container, parts } = this.#record;
    this.#timer = parts.clock.after(delayMs, () => {
      this.#timer = undefined;
      void this.#lock
        .run(async () => {
          if (container.state !== 'restarting' || this.#closed) return;
          await parts.starts.run(this.#launch);
        })
        .catch((error: unknown) => {
          parts.log.warn('a container could not be restarted', { id: container.id, error });
          this.#retry();
        });
    });
  }

  /** A restart that failed (a network that is not back yet, say) is tried again by the same policy. */
  #retry(): void {
    const { container } = this.#record;
    if (container.state === 'restarting' || !this.wanted(container.exitCode)) return;
    container.state = 'restarting';
    container.restartCount += 1;
    this.after(0);
  }

  /** A user starts or ends it: there will be no start by itself, and the next delay is small again. */
  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#backoff = new RestartBackoff();
    const { container } = this.#record;
    if (container.state === 'restarting') container.state = 'exited';
  }

  /** As it is, without any more starts from here. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}
