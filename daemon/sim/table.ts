import type { SimulationResult } from './simulate.ts';

/** What several seeds did together, for people. */
export class Totals {
  #seeds = 0;
  #simulatedMs = 0;
  readonly #counts = new Map<string, number>();
  readonly #faults = new Map<string, number>();

  add({ simulatedMs, counts, faults }: SimulationResult): void {
    this.#seeds++;
    this.#simulatedMs += simulatedMs;
    for (const [name, count] of Object.entries(counts)) this.#counts.set(name, (this.#counts.get(name) ?? 0) + count);
    for (const [kind, count] of Object.entries(faults)) this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + count);
  }

  get hours(): number {
    return this.#simulatedMs / 3_600_000;
  }

  text(): string {
    const rows = [...this.#faults].sort(([a], [b]) => (a < b ? -1 : 1));
    const width = Math.max(20, ...rows.map(([kind]) => kind.length));
    const lines = rows.map(([kind, count]) => `  ${kind.padEnd(width)}  ${String(count).padStart(10)}`);
    const counts = [...this.#counts].map(([name, count]) => `${count} ${name}`).join(', ');
    return [
      `  ${'fault or request'.padEnd(width)}  ${'count'.padStart(10)}`,
      ...lines,
      '',
      `${this.#seeds} seed(s), ${this.hours.toFixed(2)} simulated hours: ${counts}`,
    ].join('\n');
  }
}
