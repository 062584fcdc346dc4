import { httpCall, readText, systemClock } from '../../base/index.ts';

/** Time between two requests of one kind, ms. */
const INTERVAL_MS = 100;

/** How long requests of one kind took, ms. */
export interface Latency {
  what: string;
  requests: number;
  failed: number;
  medianMs: number;
  p99Ms: number;
  maxMs: number;
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

/** Asks a manager's API at a steady rate, whatever it takes to answer, and keeps how long each request took. */
export class ApiProbe {
  readonly #host: string;
  readonly #paths: { what: string; path: () => string }[];
  readonly #took = new Map<string, number[]>();
  readonly #failed = new Map<string, number>();
  readonly #stop = new AbortController();
  #pending = new Set<Promise<void>>();

  constructor(host: string, paths: { what: string; path: () => string }[]) {
    this.#host = host;
    this.#paths = paths;
  }

  start(): void {
    for (const { what, path } of this.#paths) {
      const timer = setInterval(() => {
        const one = this.#ask(what, path()).finally(() => this.#pending.delete(one));
        this.#pending.add(one);
      }, INTERVAL_MS);
      this.#stop.signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    }
  }

  async #ask(what: string, path: string): Promise<void> {
    const began = systemClock.monotonic();
    try {
      const answer = await httpCall({ host: this.#host, method: 'GET', path });
      await readText(answer.body);
      if (answer.status !== 200) throw new Error(`status ${answer.status}`);
      const took = this.#took.get(what) ?? [];
      took.push(systemClock.monotonic() - began);
      this.#took.set(what, took);
    } catch {
      this.#failed.set(what, (this.#failed.get(what) ?? 0) + 1);
    }
  }

  /** Ends the asking and tells what was measured. */
  async stop(): Promise<Latency[]> {
    this.#stop.abort();
    await Promise.all(this.#pending);
    return this.#paths.map(({ what }) => {
      const took = this.#took.get(what) ?? [];
      return {
        ...{ what, requests: took.length, failed: this.#failed.get(what) ?? 0 },
        ...{ medianMs: quantile(took, 0.5), p99Ms: quantile(took, 0.99), maxMs: Math.max(0, ...took) },
      };
    });
  }
}
