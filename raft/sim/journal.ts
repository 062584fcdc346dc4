import type { Scheduler } from './scheduler.ts';

/** Lines that are kept for the report of a failure. */
const LINES_MAX = 60;

/** What happened: counts by kind, and the last lines for people. */
export class Journal {
  readonly counts = new Map<string, number>();
  /** Called with each line, as it is written. */
  onLine: ((line: string) => void) | null = null;
  readonly #scheduler: Scheduler;
  #lines: string[] = [];

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  count(kind: string, by = 1): void {
    if (by > 0) this.counts.set(kind, (this.counts.get(kind) ?? 0) + by);
  }

  note(text: string): void {
    const line = `${(this.#scheduler.now / 1000).toFixed(4).padStart(10)} s  ${text}`;
    this.#lines.push(line);
    if (this.#lines.length > 2 * LINES_MAX) this.#lines = this.#lines.slice(-LINES_MAX);
    this.onLine?.(line);
  }

  /** A fault was injected: counted and noted. */
  fault(kind: string, detail = ''): void {
    this.count(kind);
    this.note(`${kind}${detail === '' ? '' : ` ${detail}`}`);
  }
}
