import type { Clock, Logger, Timer } from '../../base/index.ts';

/** Between passes that look for news in the kernel and repair, ms. */
const UPKEEP_MS = 1000;
/** Every such pass is a deep one: switches of the kernel and the host's forward chain are read too. */
const DEEP_EVERY = 3;

export interface Pass {
  /** Read also what gives no news of itself. */
  deep: boolean;
  /** Read every namespace, with news or without. */
  all: boolean;
}

/** Runs passes one after the other, again and again. */
export class Upkeep {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #pass: (pass: Pass) => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  #count = 0;
  #stopped = false;

  constructor(clock: Clock, log: Logger, pass: (pass: Pass) => Promise<void>) {
    this.#clock = clock;
    this.#log = log;
    this.#pass = pass;
  }

  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.after(UPKEEP_MS, () => {
      void this.run({ deep: ++this.#count % DEEP_EVERY === 0, all: false })
        .catch((error: unknown) => this.#log.error('cannot repair the network', { error }))
        .finally(() => this.start());
    });
  }

  /** Runs a pass after the one that may be under way. Rejects with its error. */
  run(pass: Pass): Promise<void> {
    const next = this.#running.then(() => (this.#stopped ? undefined : this.#pass(pass)));
    this.#running = next.catch(() => undefined);
    return next;
  }

  /** Ends it after the pass that may be under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }
}
