import type { TaskStatus, UpdateTaskStatusRequest } from '../proto/index.ts';

/** Statuses in one call; the rest goes in the next. About 400 kB. */
export const REPORT_MAX = 2000;

/**
 * The statuses that the manager has not acknowledged. One call at a time carries all of them; while it is under way
 * newer ones replace older ones of the same task.
 */
export class Reporter {
  readonly #pending = new Map<string, TaskStatus>();
  #wake: (() => void) | undefined;

  report(taskId: string, status: TaskStatus): void {
    this.#pending.set(taskId, status);
    this.#wake?.();
  }

  /** The task was removed: nobody asks for its status any more. */
  forget(taskId: string): void {
    this.#pending.delete(taskId);
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  /**
   * Sends what is pending and what comes, until `signal` aborts.
   * @throws what `send` throws; the statuses stay pending for the next session.
   */
  async run(send: (updates: UpdateTaskStatusRequest['updates']) => Promise<void>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#pending.size === 0) {
        await this.#waitForMore(signal);
        continue;
      }
      const batch = [...this.#pending].slice(0, REPORT_MAX);
      await send(batch.map(([taskId, status]) => ({ task_id: taskId, status })));
      for (const [taskId, status] of batch) {
        if (this.#pending.get(taskId) === status) this.#pending.delete(taskId);
      }
    }
  }

  #waitForMore(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      this.#wake = done;
      if (signal.aborted) done();
      else signal.addEventListener('abort', done, { once: true });
    });
  }
}
