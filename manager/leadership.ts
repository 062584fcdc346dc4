import { setMaxListeners } from 'node:events';
import { backoffDelayMs, TaskGroup, type Clock, type Logger, type Random } from '../base/index.ts';
import type { LeaderDuty } from './store/types.ts';

/** Pause before a duty that failed runs again, ms. */
const RESTART_BACKOFF = { baseMs: 200, capMs: 5_000 };

export interface LeadershipOptions {
  /** Duties that run while this manager leads. */
  duties: readonly LeaderDuty[];
  /** Called first in each term, before any duty; the term is given up when it throws. */
  prepare: () => Promise<void>;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** One period of leadership. */
interface Term {
  controller: AbortController;
  group: TaskGroup;
}

/**
 * Starts the leader's duties when this manager comes to lead and drains them when it ceases to. A duty that fails starts
 * again after a pause; each start begins with a full reconcile, so nothing is lost.
 */
export class Leadership {
  readonly #options: LeadershipOptions;
  #term: Term | undefined;
  /** Drains of earlier terms that still run. */
  #draining: Promise<void> = Promise.resolve();

  constructor(options: LeadershipOptions) {
    this.#options = options;
  }

  /** Whether this manager leads and its store holds all that earlier leaders wrote. */
  get leading(): boolean {
    return this.#term !== undefined;
  }

  /** Aborts when the present term ends. */
  get signal(): AbortSignal | undefined {
    return this.#term?.controller.signal;
  }

  /** A term began and its store is up to date. */
  begin(): void {
    if (this.#term !== undefined) return;
    const { log } = this.#options;
    const term: Term = { controller: new AbortController(), group: new TaskGroup(log) };
    // Every duty and every open call listens.
    setMaxListeners(0, term.controller.signal, term.group.signal);
    this.#term = term;
    const earlier = this.#draining;
    term.group.start('term', async (signal) => {
      // Duties of an earlier term must not run beside their successors.
      await earlier;
      await this.#prepare(signal);
      if (signal.aborted) return;
      for (const duty of this.#options.duties) term.group.start(duty.name, (stop) => this.#keepRunning(duty, stop));
      log.info('this manager leads the cluster', { duties: this.#options.duties.length });
    });
  }

  /** The term is over. Idempotent. */
  end(): void {
    const term = this.#term;
    if (term === undefined) return;
    this.#term = undefined;
    term.controller.abort(new Error('this manager is no longer the leader'));
    this.#draining = Promise.all([this.#draining, term.group.stop()]).then(() => undefined);
    this.#options.log.info('this manager no longer leads');
  }

  /** Ends the term and waits until all duties have returned. */
  async stop(): Promise<void> {
    this.end();
    await this.#draining;
  }

  async #prepare(signal: AbortSignal): Promise<void> {
    const { clock, random, log, prepare } = this.#options;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await prepare();
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.warn('the term cannot begin yet', { error });
        await clock.sleep(backoffDelayMs(attempt, RESTART_BACKOFF, random), signal).catch(() => undefined);
      }
    }
  }

  async #keepRunning(duty: LeaderDuty, signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const beganMs = clock.monotonic();
      try {
        await duty.run(signal);
        if (!signal.aborted) log.error('a duty of the leader ended by itself; it starts again', { duty: duty.name });
      } catch (error) {
        if (signal.aborted) return;
        log.error('a duty of the leader failed; it starts again', { duty: duty.name, error });
      }
      if (clock.monotonic() - beganMs > 10 * RESTART_BACKOFF.capMs) attempt = 0;
      await clock.sleep(backoffDelayMs(attempt, RESTART_BACKOFF, random), signal).catch(() => undefined);
    }
  }
}
