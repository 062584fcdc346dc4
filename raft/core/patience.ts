/** Further election timeouts for which a follower waits at the most. */
const PATIENCE_ELECTIONS_MAX = 2;
/** The longest silence is forgotten at this pace: one tick of it in so many. */
const FORGET_TICKS = 60;

/**
 * How much longer than the election timeout a follower waits for a leader that was late before and yet lived: as a
 * failure detector that looks at the times between heartbeats (Hayashibara et al. 2004), with the longest of the last
 * while in place of their distribution. A leader that is in time is given up as fast as ever; one that serves thousands
 * of agents, or whose machine is busy, does not lose its office for it. Only the own campaign waits; promises to the
 * leader, and so its lease, are what they were.
 */
export class Patience {
  /** Longest silence after which the leader was heard, ticks. */
  #silence = 0;
  #elapsed = 0;

  /** The leader was heard again, after so many ticks. */
  heard(silentTicks: number): void {
    if (silentTicks < this.#silence) return;
    this.#silence = silentTicks;
    this.#elapsed = 0;
  }

  tick(): void {
    if (this.#silence === 0 || ++this.#elapsed < FORGET_TICKS) return;
    this.#elapsed = 0;
    this.#silence--;
  }

  /** Ticks beyond the election timeout: none while every silence was shorter than half of it. */
  extraTicks(electionTicks: number): number {
    return Math.min(PATIENCE_ELECTIONS_MAX * electionTicks, Math.max(0, 2 * this.#silence - electionTicks));
  }
}
