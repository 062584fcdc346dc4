import type { Clock } from '../../base/index.ts';

/** Bytes that may go at once after a pause, in time of the rate, ms. */
const BURST_MS = 20;

/** Spreads bytes over time, for all who share it together. */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #bytesPerMs: number;
  /** When what was let through so far is paid for, monotonic ms. */
  #paidAtMs = 0;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Resolves when `bytes` may go. @throws the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonic();
    const startMs = Math.max(this.#paidAtMs, nowMs - BURST_MS);
    this.#paidAtMs = startMs + bytes / this.#bytesPerMs;
    if (startMs > nowMs) await this.#clock.sleep(startMs - nowMs, signal);
  }
}
