import { assert } from '../base/index.ts';
import type { Clock, Timer } from '../base/index.ts';
import type { Raft } from './core/index.ts';
import type { RaftTicks } from './options.ts';

/**
 * Election timeouts for which a leader whose timers get no turn is busy: it sends heartbeats all the same when it is
 * pulsed (`RaftNode.pulse`). Beyond, it does its cluster no service: others may elect one that has time.
 */
export const BUSY_ELECTIONS_MAX = 3;

export interface TickerOptions extends RaftTicks {
  clock: Clock;
  core: Raft;
  /** Called after the core was told of the time. One call stands for one tick, however late it is. */
  onTick: () => void;
  /** The process was stopped or its event loop held up: for so many ms no time was counted. */
  onLate: (lateMs: number) => void;
  /** The core threw. */
  onError: (error: unknown) => void;
}

/**
 * Tells the core of time, by the monotonic clock. A timer that fires late (the process was stopped, or the event loop
 * was held up) stands for several ticks, but what the other members said meanwhile may still wait in the sockets:
 * - a follower counts the missed ticks one tick later, and not at all when it has heard its leader by then. So it does
 *   not campaign only because it slept;
 * - a leader sends heartbeats at once, whose answers tell it of a newer term. The rest does not count: a busy leader
 *   gives way when nobody answers for an election timeout of ticks in which it could hear (check of the quorum), not
 *   because it was busy. After more than BUSY_ELECTIONS_MAX it was not busy but stopped, and counts one tick later what
 *   it missed. Leases do not depend on this: they are measured by the clock (`now`).
 */
export class Ticker {
  readonly #options: TickerOptions;
  #tickMs: number;
  #electionTicks: number;
  #heartbeatTicks: number;
  #timer: Timer | undefined;
  #dueMs = 0;
  /** Ticks that had passed at `#sinceMs`. */
  #ticksBefore = 0;
  #sinceMs: number;
  /** Missed ticks that are not counted yet. */
  #owed = 0;
  #stopped = false;

  constructor(options: TickerOptions) {
    this.#options = options;
    this.#tickMs = options.tickMs;
    this.#sinceMs = options.clock.monotonic();
    this.#electionTicks = options.electionTicks;
    this.#heartbeatTicks = options.heartbeatTicks;
  }

  start(): void {
    this.#dueMs = this.#options.clock.monotonic() + this.#tickMs;
    this.#arm();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Takes effect at once; the tick under way begins anew. */
  set({ tickMs, electionTicks, heartbeatTicks }: RaftTicks): void {
    assert(tickMs > 0, 'a tick takes time');
    this.#electionTicks = electionTicks;
    this.#heartbeatTicks = heartbeatTicks;
    if (tickMs === this.#tickMs || this.#stopped) return;
    this.#ticksBefore = this.now();
    this.#sinceMs = this.#options.clock.monotonic();
    this.#tickMs = tickMs;
    this.#timer?.cancel();
    this.start();
  }

  /** The present time in ticks since the start, by the monotonic clock: it goes on while the process is stopped. */
  now(): number {
    return this.#ticksBefore + (this.#options.clock.monotonic() - this.#sinceMs) / this.#tickMs;
  }

  /** How late the next tick is, ms; negative while it is not due. */
  lateMs(): number {
    return this.#stopped ? -Infinity : this.#options.clock.monotonic() - this.#dueMs;
  }

  /** A leader spoke: a follower was not deaf for as long as it slept. */
  heardLeader(): void {
    if (this.#owed > 0 && this.#options.core.role !== 'leader') this.#owed = 0;
  }

  #arm(): void {
    const { clock } = this.#options;
    this.#timer = clock.after(Math.max(0, this.#dueMs - clock.monotonic()), () => this.#fire());
  }

  #fire(): void {
    if (this.#stopped) return;
    const { clock, core, onTick, onLate, onError } = this.#options;
    const nowMs = clock.monotonic();
    const lateMs = nowMs - this.#dueMs;
    const missed = Math.max(0, Math.floor(lateMs / this.#tickMs));
    if (missed >= this.#electionTicks / 2) onLate(lateMs);
    // After a delay a whole tick is left for the sockets.
    this.#dueMs = missed > 0 ? nowMs + this.#tickMs : this.#dueMs + this.#tickMs;
    this.#arm();
    try {
      this.#count(core, missed);
    } catch (error) {
      onError(error);
      return;
    }
    onTick();
  }

  #count(core: Raft, missed: number): void {
    let now = this.#owed;
    if (missed === 0) {
      this.#owed = 0;
      now++;
    } else if (core.role === 'leader') {
      const wasStopped = missed > BUSY_ELECTIONS_MAX * this.#electionTicks;
      const behind = Math.min(missed + 1, this.#electionTicks);
      const early = Math.min(behind, this.#heartbeatTicks);
      this.#owed = wasStopped ? behind - early : 0;
      now = early;
    } else {
      // Enough for any election timeout.
      this.#owed = Math.min(missed + 1, 2 * this.#electionTicks);
    }
    const { role } = core;
    const nowTicks = this.now();
    for (let i = 0; i < now && core.role === role; i++) core.tick(nowTicks);
  }
}
