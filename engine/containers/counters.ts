/** Upper bounds of the classes in which durations are counted, s; dockerd's own. */
export const DURATION_BOUNDS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** How long something took, counted by class. */
export interface DurationCount {
  count: number;
  sumSeconds: number;
  /** Count of those up to each bound. */
  upTo: number[];
}

/** What is counted of containers since the start of the daemon, for measurements. */
export class Counters {
  healthChecks = 0;
  healthCheckFailures = 0;
  readonly #durations = new Map<string, DurationCount>();

  /** Counts how long an action took, one that succeeded. @param ms duration, ms */
  took(action: string, ms: number): void {
    const seconds = ms / 1000;
    const known = this.#durations.get(action) ?? {
      count: 0,
      sumSeconds: 0,
      upTo: DURATION_BOUNDS_SECONDS.map(() => 0),
    };
    known.count += 1;
    known.sumSeconds += seconds;
    for (const [index, bound] of DURATION_BOUNDS_SECONDS.entries()) {
      if (seconds <= bound) known.upTo[index] = (known.upTo[index] ?? 0) + 1;
    }
    this.#durations.set(action, known);
  }

  /** Runs an action and counts how long it took, if it succeeds. */
  async timed<T>(action: string, clock: { monotonic(): number }, work: () => Promise<T>): Promise<T> {
    const begin = clock.monotonic();
    const result = await work();
    this.took(action, clock.monotonic() - begin);
    return result;
  }

  durations(): ReadonlyMap<string, DurationCount> {
    return this.#durations;
  }
}
