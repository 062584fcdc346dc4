import { setMaxListeners } from 'node:events';
import { abortReason, ShoalError } from '../../../base/index.ts';
import type { ImageProgress } from '../../types.ts';

export type Report = (line: ImageProgress) => void;

/** Lines kept for callers that join later. */
const KEPT_LINES_MAX = 2000;

interface Running<T> {
  result: Promise<T>;
  reports: Set<Report>;
  lines: ImageProgress[];
  waiters: number;
  abort: AbortController;
}

/**
 * Work that many may ask for at once and that is done once: each caller gets the progress lines and the result. The
 * work is given up when every caller has given up.
 */
export class SharedWork<T> {
  readonly #running = new Map<string, Running<T>>();

  async run(
    key: string,
    caller: { signal: AbortSignal; report: Report },
    start: (report: Report, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { signal, report } = caller;
    if (signal.aborted) throw abortReason(signal);
    // One caller may ask for any number of things under one signal.
    setMaxListeners(0, signal);
    const running = this.#running.get(key) ?? this.#begin(key, start);
    for (const line of running.lines) report(line);
    running.reports.add(report);
    running.waiters++;
    let onAbort = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => reject(abortReason(signal));
      signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([running.result, aborted]);
    } finally {
      signal.removeEventListener('abort', onAbort);
      running.reports.delete(report);
      if (--running.waiters === 0) {
        if (this.#running.get(key) === running) this.#running.delete(key);
        running.abort.abort(new ShoalError('Aborted', 'context canceled'));
      }
    }
  }

  #begin(key: string, start: (report: Report, signal: AbortSignal) => Promise<T>): Running<T> {
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const reports = new Set<Report>();
    const lines: ImageProgress[] = [];
    const emit: Report = (line) => {
      const moving = line.progressDetail?.current !== undefined;
      if (!moving && lines.length < KEPT_LINES_MAX) lines.push(line);
      for (const report of reports) report(line);
    };
    const result = Promise.resolve().then(() => start(emit, abort.signal));
    const running: Running<T> = { result, reports, lines, waiters: 0, abort };
    this.#running.set(key, running);
    const end = (): void => {
      if (this.#running.get(key) === running) this.#running.delete(key);
    };
    result.then(end, end);
    return running;
  }
}

/** Runs at most `limit` of the given jobs at once, in order. */
export class Limiter {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await job();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
