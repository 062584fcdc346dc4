import type { SimulationResult } from './simulate.ts';

const SUMMED = ['messages', 'elections', 'entries', 'operations', 'acknowledged'] as const;

/** What several seeds did together, for people. */
export class Totals {
  #seeds = 0;
  #simulatedMs = 0;
  readonly #sums = { messages: 0, elections: 0, entries: 0, operations: 0, acknowledged: 0 };
  readonly #faults = new Map<string, number>();

  add(result: SimulationResult): void {
    this.#seeds++;
    this.#simulatedMs += result.simulatedMs;
    for (const key of SUMMED) this.#sums[key] += result[key];
    for (const [kind, count] of Object.entries(result.faults)) {
      this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + count);
    }
  }

  get hours(): number {
    return this.#simulatedMs / 3_600_000;
  }

  text(): string {
    const { elections, entries, operations, acknowledged, messages } = this.#sums;
    const rows = [...this.#faults].sort(([a], [b]) => (a < b ? -1 : 1));
    const width = Math.max(5, ...rows.map(([kind]) => kind.length));
    const lines = rows.map(([kind, count]) => `  ${kind.padEnd(width)}  ${String(count).padStart(12)}`);
    return [
      `  ${'fault'.padEnd(width)}  ${'count'.padStart(12)}`,
      ...lines,
      '',
      `${this.#seeds} seed(s), ${this.hours.toFixed(2)} simulated hours: ${elections} elections, ${entries} entries, ` +
        `${messages} messages, ${operations} operations of clients, ${acknowledged} writes acknowledged`,
    ].join('\n');
  }
}
