import type { LogLine } from '../types.ts';

/**
 * The log file conmon writes (the CRI form): `<RFC 3339 time> <stdout|stderr> <F|P> <text>\n` for each line. `F` ends a
 * line of the container, `P` is a part of one that goes on in the stream's next entry.
 */
export function parseLogEntry(entry: Buffer): LogLine | undefined {
  const timeEnd = entry.indexOf(0x20);
  const streamEnd = entry.indexOf(0x20, timeEnd + 1);
  if (timeEnd <= 0 || streamEnd < 0) return undefined;
  const stream = entry.toString('latin1', timeEnd + 1, streamEnd);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  const time = entry.toString('latin1', 0, timeEnd);
  const timestampMs = parseTimeMs(time);
  if (Number.isNaN(timestampMs)) return undefined;
  const full = entry[streamEnd + 1] === 0x46;
  const text = entry.subarray(streamEnd + 3);
  return { stream, time: asUtc(time), timestampMs, data: full ? Buffer.concat([text, LINE_END]) : Buffer.from(text) };
}

const LINE_END = Buffer.from('\n');

/** ms since the epoch with the fraction down to what a double holds (about 0.2 µs). */
function parseTimeMs(time: string): number {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(time);
  if (match === null) return NaN;
  return Date.parse(`${match[1]}${match[3]}`) + Number(`0${match[2] ?? ''}`) * 1000;
}

/** Docker's log times end in Z. */
function asUtc(time: string): string {
  if (time.endsWith('Z')) return time;
  if (time.endsWith('+00:00')) return `${time.slice(0, -6)}Z`;
  const fraction = /\.\d+/.exec(time)?.[0] ?? '';
  return `${new Date(Math.floor(parseTimeMs(time) / 1000) * 1000).toISOString().slice(0, 19)}${fraction}Z`;
}

/** Cuts a byte stream into entries. */
export class EntrySplitter {
  #rest: Buffer = Buffer.alloc(0);

  /** Complete entries, without their line ends; what is after the last line end waits for the next call. */
  push(chunk: Buffer): Buffer[] {
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const entries: Buffer[] = [];
    let start = 0;
    for (let end = data.indexOf(0x0a, start); end >= 0; end = data.indexOf(0x0a, start)) {
      entries.push(data.subarray(start, end));
      start = end + 1;
    }
    this.#rest = Buffer.from(data.subarray(start));
    return entries;
  }
}

/** Bytes after which a line is given out although its end has not come: as Docker's own log drivers do. */
const LINE_MAX_BYTES = 16 * 1024;

/** Joins the parts of each stream's lines. conmon cuts a line wherever its read buffer happened to end. */
export class LineJoiner {
  readonly #open = new Map<LogLine['stream'], LogLine>();

  /** The whole line that an entry completes, with the time of its first part; undefined while it goes on. */
  push(entry: LogLine): LogLine | undefined {
    const begun = this.#open.get(entry.stream);
    const line = begun === undefined ? entry : { ...begun, data: Buffer.concat([begun.data, entry.data]) };
    if (entry.data.at(-1) === 0x0a || line.data.length >= LINE_MAX_BYTES) {
      this.#open.delete(entry.stream);
      return line;
    }
    this.#open.set(entry.stream, line);
    return undefined;
  }

  /** What was begun and never ended: the last words of a container. */
  flush(): LogLine[] {
    const rest = [...this.#open.values()];
    this.#open.clear();
    return rest;
  }
}
