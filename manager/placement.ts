import { type Clock, type Logger } from '../base/index.ts';
import { PlacementPass } from './placement-pass.ts';
import type { LeaderDuty, Store } from './store/types.ts';

/** A pass runs this long after the last commit that matters, ms… */
export const PASS_QUIET_MS = 10;
/** …but at most this long after the first, ms. */
export const PASS_LATEST_MS = 250;
/** Pause after a write that failed, ms. */
export const RETRY_MS = 500;
/** Longest single wait of a timer, ms. */
const WAIT_MAX_MS = 60_000;

export interface PlacementOptions {
  store: Store;
  clock: Clock;
  log: Logger;
}

/** Follows the store until a reset, an overflow or the end. */
class Follower {
  readonly #options: PlacementOptions;
  readonly #signal: AbortSignal;
  readonly #pass: PlacementPass;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(options: PlacementOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    this.#pass = new PlacementPass(options.store, options.clock);
    this.#pass.onDue = () => this.#wake?.();
  }

  async run(): Promise<void> {
    const watch = this.#options.store.watch();
    const close = (): void => watch.close();
    this.#signal.addEventListener('abort', close, { once: true });
    const reader = this.#read(watch);
    try {
      await this.#pass.load(this.#signal);
      while (!this.#ended) {
        await this.#pass.run(this.#signal);
        await this.#waitUntilDue();
      }
    } finally {
      this.#signal.removeEventListener('abort', close);
      close();
      await reader;
    }
  }

  async #read(commits: AsyncIterable<Parameters<PlacementPass['absorb']>[0]>): Promise<void> {
    for await (const commit of commits) {
      if (!this.#pass.absorb(commit)) break;
      if (this.#pass.isDue) this.#wake?.();
    }
    this.#ended = true;
    this.#wake?.();
  }

  /** Until a pass is due: news, and then quiet; an explanation's time; a failed write's retry. */
  async #waitUntilDue(): Promise<void> {
    const { clock, log } = this.#options;
    const pass = this.#pass;
    while (!this.#ended) {
      if (pass.hasFailedWrites) {
        pass.hasFailedWrites = false;
        log.warn('placements could not be written; they are tried again');
        await clock.sleep(RETRY_MS, this.#signal);
        return;
      }
      if (pass.isDue) return this.#gather();
      const waitMs = pass.wakeAtMs === undefined ? WAIT_MAX_MS : pass.wakeAtMs - clock.now();
      if (waitMs <= 0) return;
      await this.#sleep(Math.min(waitMs, WAIT_MAX_MS));
    }
  }

  /** Sleeps; ends early on news. */
  async #sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(ms, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
    this.#wake = undefined;
  }

  /** Takes in what comes until nothing that matters comes any more. */
  async #gather(): Promise<void> {
    const { clock } = this.#options;
    const deadlineMs = clock.monotonic() + PASS_LATEST_MS;
    while (!this.#ended && clock.monotonic() < deadlineMs) {
      const before = this.#pass.news;
      await clock.sleep(PASS_QUIET_MS, this.#signal);
      if (this.#pass.news === before) return;
    }
  }
}

/**
 * The leader's duty that gives nodes to waiting tasks (swarmkit.md §3.9): PENDING tasks become ASSIGNED, those that
 * fit nowhere get an explanation in `status.err`, those whose node is given (global services) are checked only. Where
 * the service says so, tasks of lower priority are told to stop for one that fits nowhere.
 */
export function createPlacement(options: PlacementOptions): LeaderDuty {
  return {
    name: 'placement',
    run: async (signal) => {
      while (!signal.aborted) {
        try {
          await new Follower(options, signal).run();
        } catch (error) {
          if (!signal.aborted) throw error;
        }
      }
    },
  };
}
