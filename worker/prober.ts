import { backoffDelayMs, type Clock, type Random } from '../base/index.ts';

/** Time between two questions, to one host after the other, ms; half of it is chance. */
const PROBE_INTERVAL = { baseMs: 500, capMs: 500 };
/** Longest wait for an answer, ms: no shorter than what a session gives a connection. Up to 8 questions are open at once. */
export const PROBE_TIMEOUT_MS = 2_000;

/** Whether a host takes a connection; never rejects. */
export type Reaches = (address: string, timeoutMs: number, signal: AbortSignal) => Promise<boolean>;

export interface ProberOptions {
  reaches: Reaches;
  clock: Clock;
  random: Random;
  /** A host that said nothing answers again. */
  onAnswer: (address: string) => void;
}

/**
 * Watches managers that could not be connected to, so that an agent that was cut off is back a moment after the cut ends,
 * whatever its pauses have grown to. Only a host that was silent and answers is news: one that is merely busy takes
 * connections all the time, and must not be asked for sessions more often.
 */
export class Prober {
  readonly #options: ProberOptions;
  /** Hosts to ask, in order; the next one first. */
  #watched: string[] = [];
  readonly #silent = new Set<string>();
  #running: Promise<void> | undefined;
  #end = new AbortController();

  constructor(options: ProberOptions) {
    this.#options = options;
  }

  /** Whether the host answered nothing when it was last asked: there is no use in trying a session. */
  isSilent(address: string): boolean {
    return this.#silent.has(address);
  }

  /** A connection to the host came to nothing: it is asked until it answers, or `clear`. */
  suspect(address: string): void {
    if (!this.#watched.includes(address)) this.#watched.push(address);
    if (this.#running !== undefined) return;
    const { signal } = (this.#end = new AbortController());
    this.#running = this.#run(signal);
  }

  /** Forgets all of them: there is a session. Resolves when nothing is open any more. */
  async clear(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    this.#end.abort();
    this.#watched = [];
    this.#silent.clear();
    await running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    const open = new Set<Promise<void>>();
    while (!signal.aborted && this.#watched.length > 0) {
      const address = this.#watched.shift();
      if (address === undefined) break;
      this.#watched.push(address);
      const one = this.#ask(address, signal).finally(() => open.delete(one));
      open.add(one);
      await clock.sleep(backoffDelayMs(0, PROBE_INTERVAL, random), signal).catch(() => undefined);
    }
    await Promise.all(open);
    if (this.#end.signal === signal) this.#running = undefined;
  }

  async #ask(address: string, signal: AbortSignal): Promise<void> {
    const answers = await this.#options.reaches(address, PROBE_TIMEOUT_MS, signal);
    if (signal.aborted || !this.#watched.includes(address)) return;
    if (!answers) {
      this.#silent.add(address);
      return;
    }
    this.#watched = this.#watched.filter((one) => one !== address);
    if (this.#silent.delete(address)) this.#options.onAnswer(address);
  }
}
