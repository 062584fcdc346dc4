import { assert } from './assert.ts';

/** A pending timer. `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** Time as a port, so that pure rooms and simulations never see the wall clock. All values are milliseconds. */
export interface Clock {
  /** Wall-clock time since the Unix epoch, ms. May jump. */
  now(): number;
  /** Monotonic time since an arbitrary origin, ms. Never goes back. */
  monotonic(): number;
  /** Calls `run` once after `delayMs`; the timer keeps the process alive only while it is pending. */
  after(delayMs: number, run: () => void): Timer;
  /** Resolves after `delayMs`, or rejects with the signal's reason when it aborts first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

function sleepOn(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortReason(signal));
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(abortReason(signal as AbortSignal));
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** The reason of an aborted signal as an Error. */
export function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason));
}

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, run) {
    const handle = setTimeout(run, delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
  sleep: (delayMs, signal) => sleepOn(systemClock, delayMs, signal),
};

interface VirtualTimer {
  at: number;
  order: number;
  run: () => void;
}

/**
 * A clock that moves only when told. Timers that fall due at the same instant run in the order they were set, so a
 * simulation that uses it is deterministic.
 */
export class VirtualClock implements Clock {
  #now: number;
  #order = 0;
  #timers: VirtualTimer[] = [];

  constructor(startMs = 0) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): Timer {
    assert(Number.isFinite(delayMs) && delayMs >= 0, 'a delay is a finite number of ms, not negative');
    const timer: VirtualTimer = { at: this.#now + delayMs, order: this.#order++, run };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, delayMs, signal);
  }

  /** Virtual time of the earliest pending timer, or undefined when none is set. */
  nextTimerAt(): number | undefined {
    return this.#earliest()?.at;
  }

  /** Moves time forward by `ms`, running each due timer at its own instant. */
  advance(ms: number): void {
    assert(ms >= 0, 'time does not go back');
    const end = this.#now + ms;
    for (let next = this.#earliest(); next !== undefined && next.at <= end; next = this.#earliest()) {
      const due = next;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#now = due.at;
      due.run();
    }
    this.#now = end;
  }

  /** As `advance`, but lets promises settle between timers; for tests of asynchronous code. */
  async advanceAsync(ms: number): Promise<void> {
    assert(ms >= 0, 'time does not go back');
    const end = this.#now + ms;
    await nextTurn();
    for (let next = this.#earliest(); next !== undefined && next.at <= end; next = this.#earliest()) {
      const due = next;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#now = due.at;
      due.run();
      await nextTurn();
    }
    this.#now = end;
    await nextTurn();
  }

  #earliest(): VirtualTimer | undefined {
    let best: VirtualTimer | undefined;
    for (const timer of this.#timers) {
      if (best === undefined || timer.at < best.at || (timer.at === best.at && timer.order < best.order)) best = timer;
    }
    return best;
  }
}

/** Lets everything that is already resolved run, and then whatever else the process has to do: one turn of its loop. */
export async function nextTurn(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
