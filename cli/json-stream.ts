import type { Clock } from '../base/index.ts';
import type { Output } from './context.ts';
import { formatDuration, humanSize } from './units.ts';

/** One message of a progress stream: pull, push, load, import, and the client's own service progress. */
export interface ProgressMessage {
  status?: string;
  id?: string;
  stream?: string;
  progress?: string;
  progressDetail?: { current?: number; total?: number; start?: number; hidecounts?: boolean; units?: string };
  aux?: unknown;
  error?: string;
  errorDetail?: { code?: number; message?: string };
}

/** A line longer than this is no progress message, bytes. */
const LINE_MAX_BYTES = 1024 * 1024;
/** Width that texts are made for when there is no terminal. */
const COLUMNS_DEFAULT = 200;
const BAR_COLUMNS_MIN = 110;
const TIME_COLUMNS_MIN = 50;

function bar(detail: NonNullable<ProgressMessage['progressDetail']>, columns: number, nowMs: number): string {
  const { current = 0, total = 0, start = 0, units = '' } = detail;
  if (current <= 0 && total <= 0) return '';
  const amount = (value: number): string => (units === '' ? humanSize(value) : String(value));
  if (total <= 0) return units === '' ? amount(current).padStart(8) : `${current} ${units}`;
  const half = Math.min(50, Math.trunc(Math.trunc((current / total) * 100) / 2));
  let text = columns > BAR_COLUMNS_MIN ? `[${'='.repeat(half)}>${' '.repeat(50 - half)}] ` : '';
  if (detail.hidecounts !== true) {
    text += amount(current).padStart(8);
    if (current <= total) text += `/${amount(total)}${units === '' ? '' : ` ${units}`}`;
    else if (units !== '') text += ` ${units}`;
  }
  if (current > 0 && start > 0 && half < 50 && columns > TIME_COLUMNS_MIN) {
    const perUnitMs = (nowMs - start * 1000) / current;
    text += ` ${formatDuration(Math.trunc(((total - current) * perUnitMs) / 1000) * 1e9)}`;
  }
  return text;
}

/**
 * Shows progress messages: on a terminal each id keeps its own line, which is drawn anew; elsewhere bars are left out
 * and every status is a line.
 */
export class ProgressDisplay {
  readonly #out: Output;
  readonly #clock: Clock;
  #lines = new Map<string, number>();

  constructor(out: Output, clock: Clock) {
    this.#out = out;
    this.#clock = clock;
  }

  /** @throws Error with the message's own words when it says that the work failed */
  show(message: ProgressMessage): void {
    if (message.aux !== undefined && message.aux !== null) return;
    const { isTerminal } = this.#out;
    const id = message.id ?? '';
    let below = 0;
    if (id !== '' && message.progressDetail !== undefined) {
      let at = this.#lines.get(id);
      if (at === undefined) {
        at = this.#lines.size;
        this.#lines.set(id, at);
        if (isTerminal) this.#out.write('\n');
      }
      below = this.#lines.size - at;
      if (isTerminal) this.#out.write(`\u001b[${below}A`);
    } else {
      this.#lines = new Map();
    }
    this.#line(message, id);
    if (id !== '' && isTerminal && below > 0) this.#out.write(`\u001b[${below}B`);
  }

  #line(message: ProgressMessage, id: string): void {
    const failure = message.errorDetail?.message ?? message.error;
    if (failure !== undefined) throw new Error(failure);
    const { isTerminal, columns } = this.#out;
    const detail = message.progressDetail;
    const drawn = detail === undefined ? '' : bar(detail, columns || COLUMNS_DEFAULT, this.#clock.now());
    let start = '';
    let end = '';
    if (isTerminal && (message.stream ?? '') === '' && detail !== undefined) {
      start = '\u001b[2K\r';
      end = '\r';
    } else if (drawn !== '') return;
    const head = start + (id === '' ? '' : `${id}: `);
    const status = message.status ?? '';
    if (detail !== undefined && isTerminal) this.#out.write(`${head}${status} ${drawn}${end}`);
    else if ((message.stream ?? '') !== '') this.#out.write(`${head}${message.stream}${end}`);
    else this.#out.write(`${head}${status}${end}\n`);
  }
}

/** Messages of a body of JSON objects, one per line or side by side. @throws Error for a line that is too long */
export async function* jsonMessages<T>(
  body: AsyncIterable<Uint8Array>,
  parse: (text: string) => T = (text) => JSON.parse(text) as T,
): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LINE_MAX_BYTES) throw new Error(`the daemon sent a message of more than ${LINE_MAX_BYTES} bytes`);
    for (const line of lines) if (line.trim() !== '') yield parse(line);
  }
  if (rest.trim() !== '') yield parse(rest);
}

/** Shows all messages of a progress stream. @throws Error with the message's own words when the work failed */
export async function showProgress(body: AsyncIterable<Uint8Array>, output: Output, clock: Clock): Promise<void> {
  const display = new ProgressDisplay(output, clock);
  for await (const message of jsonMessages<ProgressMessage>(body)) display.show(message);
}

/** Takes text and shows none of it (`--quiet`). */
export const SILENT: Output = { write: () => undefined, isTerminal: false, columns: 0 };
