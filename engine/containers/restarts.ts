import type { Timer } from '../../base/index.ts';
import type { Limiter } from './limiter.ts';
import type { ContainerRecord } from './record.ts';
import { RestartBackoff, shouldRestart } from './restart.ts';

/** The next start of one container by its restart policy. */
export class Restarts {
  readonly #record: ContainerRecord;
  readonly #lock: Limiter;
  readonly #launch: () => Promise<void>;
  readonly #backoff = new RestartBackoff();
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
          container.restartCount += 1;
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
    const { container, stored } = this.#record;
    const { restart } = container.config;
    if (!shouldRestart(restart, container.exitCode, container.restartCount, stored.manuallyStopped)) return;
    container.state = 'restarting';
    this.after(0);
  }

  /** There will be no start by itself: who waited for one has ended. */
  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { container } = this.#record;
    if (container.state === 'restarting') container.state = 'exited';
  }

  /** As it is, without any more starts from here. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}
