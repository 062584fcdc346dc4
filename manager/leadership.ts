import { setMaxListeners } from 'node:events';
import { backoffDelayMs, errorMessage, TaskGroup, type Clock, type Logger, type Random } from '../base/index.ts';
import type { LeaderDuty } from './store/types.ts';

/** Pause before a duty that failed runs again, ms. */
const RESTART_BACKOFF = { baseMs: 200, capMs: 5_000 };
/** Time in which duties should have returned after their term; then the log names those that have not, ms. */
export const DRAIN_WARNING_MS = 5_000;

export interface LeadershipOptions {
  /** Duties that run while this manager leads. */
  duties: readonly LeaderDuty[];
  /** Called first in each term, before any duty; the term is given up when it throws. */
  prepare: () => Promise<void>;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** How one duty of the present term is. */
export interface DutyStatus {
  name: string;
  /** Wall-clock time at which its present run began, ms since the epoch; undefined while it waits to start again. */
  runningSinceMs: number | undefined;
  /** How often it had to start again in this term. */
  restarts: number;
  /** Why it last had to. */
  lastError: string | undefined;
}

export interface LeadershipStatus {
  /** Wall-clock time at which the present term of this manager began, ms; undefined while another leads. */
  leadingSinceMs: number | undefined;
  /** Empty until the term is prepared. */
  duties: DutyStatus[];
  /** Duties of earlier terms that have not returned yet. */
  draining: string[];
}

/** One period of leadership. */
interface Term {
  controller: AbortController;
  group: TaskGroup;
  beganMs: number;
  duties: DutyStatus[];
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
  readonly #drainingGroups = new Set<TaskGroup>();

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
    const beganMs = this.#options.clock.now();
    const term: Term = { controller: new AbortController(), group: new TaskGroup(log), beganMs, duties: [] };
    // Every duty and every open call listens.
    setMaxListeners(0, term.controller.signal, term.group.signal);
    this.#term = term;
    const earlier = this.#draining;
    term.group.start('term', async (signal) => {
      // Duties of an earlier term must not run beside their successors.
      await earlier;
      await this.#prepare(signal);
      if (signal.aborted) return;
      for (const duty of this.#options.duties) {
        const status: DutyStatus = { name: duty.name, runningSinceMs: undefined, restarts: 0, lastError: undefined };
        term.duties.push(status);
        term.group.start(duty.name, (stop) => this.#keepRunning(duty, status, stop));
      }
      log.info('this manager leads the cluster', { duties: this.#options.duties.length });
    });
  }

  /** The term is over. Idempotent. */
  end(): void {
    const term = this.#term;
    if (term === undefined) return;
    this.#term = undefined;
    term.controller.abort(new Error('this manager is no longer the leader'));
    this.#draining = Promise.all([this.#draining, this.#drain(term.group)]).then(() => undefined);
    this.#options.log.info('this manager no longer leads');
  }

  /** Waits until all duties of a term have returned; the log names those that do not, again and again. */
  async #drain(group: TaskGroup): Promise<void> {
    const { clock, log } = this.#options;
    const beganMs = clock.monotonic();
    this.#drainingGroups.add(group);
    const warn = (): void => {
      const waitedMs = Math.round(clock.monotonic() - beganMs);
      log.warn('duties of the leader did not end with its term', { duties: dutyNames(group), waitedMs });
      timer = clock.after(DRAIN_WARNING_MS, warn);
    };
    let timer = clock.after(DRAIN_WARNING_MS, warn);
    await group.stop();
    timer.cancel();
    this.#drainingGroups.delete(group);
  }

  /** What runs, since when, and what does not end. */
  status(): LeadershipStatus {
    return {
      leadingSinceMs: this.#term?.beganMs,
      duties: this.#term?.duties.map((duty) => ({ ...duty })) ?? [],
      draining: [...this.#drainingGroups].flatMap(dutyNames),
    };
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

  async #keepRunning(duty: LeaderDuty, status: DutyStatus, signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const beganMs = clock.monotonic();
      status.runningSinceMs = clock.now();
      try {
        await duty.run(signal);
        if (signal.aborted) return;
        status.lastError = 'it ended by itself';
        log.error('a duty of the leader ended by itself; it starts again', { duty: duty.name });
      } catch (error) {
        if (signal.aborted) return;
        status.lastError = errorMessage(error);
        log.error('a duty of the leader failed; it starts again', { duty: duty.name, error });
      }
      status.runningSinceMs = undefined;
      status.restarts++;
      if (clock.monotonic() - beganMs > 10 * RESTART_BACKOFF.capMs) attempt = 0;
      await clock.sleep(backoffDelayMs(attempt, RESTART_BACKOFF, random), signal).catch(() => undefined);
    }
  }
}

/** Names of the duties that still run, as the log and the status show them. */
function dutyNames(group: TaskGroup): string[] {
  return group.names().map((name) => name.replace(/#\d+$/, ''));
}
