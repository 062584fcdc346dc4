import type { LogLine } from '../types.ts';

/*
 * The log file conmon writes (the CRI form): `<RFC 3339 time> <stdout|stderr> <F|P> <text>\n` for each entry. `F` ends a
 * line of the container, `P` is a part of one that goes on in the stream's next entry.
 */

const SPACE = 0x20;
const NEWLINE = 0x0a;
const FULL = 0x46;
/** conmon cuts at its read buffer of 8 KiB; what is longer is no entry (a damaged file) and is left out. */
const ENTRY_MAX_BYTES = 64 * 1024;

/** A time as conmon writes it, in the two forms we need. */
interface Stamp {
  text: string;
  time: string;
  timestampMs: number;
}

function readStamp(text: string): Stamp | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null) return undefined;
  const seconds = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(seconds)) return undefined;
  const nanoseconds = (match[2] ?? '').padEnd(9, '0');
  return {
    text,
    time: `${new Date(seconds).toISOString().slice(0, 19)}.${nanoseconds}Z`,
    timestampMs: seconds + Number(nanoseconds) / 1e6,
  };
}

/** A time in ms as RFC 3339 with nanoseconds: times of this form sort as texts. */
export function timeText(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const nanoseconds = Math.min(999_999_999, Math.round((ms - seconds * 1000) * 1e6));
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(nanoseconds).padStart(9, '0')}Z`;
}

/** Reads entries from a file's bytes, in any cuts. */
export class EntryParser {
  #rest: Buffer = Buffer.alloc(0);
  /** The last time read: conmon gives all that it read at once the same. */
  #stamp: Stamp | undefined;
  #skipping = false;

  /** Bytes of an entry whose end has not come. */
  get waitingBytes(): number {
    return this.#rest.length;
  }

  /** The entries that end in this chunk; what is no entry is left out. They share the chunk's memory. */
  push(chunk: Buffer): LogLine[] {
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const entries: LogLine[] = [];
    let start = 0;
    for (let end = data.indexOf(NEWLINE, start); end >= 0; end = data.indexOf(NEWLINE, start)) {
      const entry = this.#skipping ? undefined : this.entry(data, start, end);
      if (entry !== undefined) entries.push(entry);
      this.#skipping = false;
      start = end + 1;
    }
    this.#rest = Buffer.from(data.subarray(start));
    if (this.#rest.length > ENTRY_MAX_BYTES) {
      this.#rest = Buffer.alloc(0);
      this.#skipping = true;
    }
    return entries;
  }

  /** The entry of `data` from `start` to the line end at `end`. */
  entry(data: Buffer, start: number, end: number): LogLine | undefined {
    const timeEnd = data.indexOf(SPACE, start);
    const streamEnd = timeEnd + 7;
    if (timeEnd <= start || timeEnd - start > 40 || streamEnd + 2 > end || data[streamEnd] !== SPACE) return undefined;
    const stream = data.toString('latin1', timeEnd + 1, streamEnd);
    if (stream !== 'stdout' && stream !== 'stderr') return undefined;
    const text = data.toString('latin1', start, timeEnd);
    const stamp = text === this.#stamp?.text ? this.#stamp : readStamp(text);
    if (stamp === undefined) return undefined;
    this.#stamp = stamp;
    const { time, timestampMs } = stamp;
    const textStart = Math.min(streamEnd + 3, end);
    const full = data[streamEnd + 1] === FULL;
    return { stream, time, timestampMs, data: data.subarray(textStart, full ? end + 1 : end) };
  }
}

export const isComplete = (line: LogLine): boolean => line.data.at(-1) === NEWLINE;

/** Bytes after which a line is given out although its end has not come: as Docker's own log drivers do. */
const LINE_MAX_BYTES = 16 * 1024;

/** Joins the parts of each stream's lines. conmon cuts a line wherever its read buffer happened to end. */
export class LineJoiner {
  readonly #open = new Map<LogLine['stream'], LogLine>();
  /** Streams in the middle of a line of which a part was given out. */
  readonly #continued = new Set<LogLine['stream']>();

  /** The whole line that an entry completes, with the time of its first part; undefined while it goes on. */
  push(entry: LogLine): LogLine | undefined {
    const { stream } = entry;
    const begun = this.#open.get(stream);
    const complete = isComplete(entry);
    if (begun === undefined && complete && !this.#continued.has(stream)) return entry;
    const data = begun === undefined ? entry.data : Buffer.concat([begun.data, entry.data]);
    const line = { ...(begun ?? entry), data, ...(this.#continued.has(stream) ? { continued: true as const } : {}) };
    if (!complete && data.length < LINE_MAX_BYTES) {
      this.#open.set(stream, line);
      return undefined;
    }
    this.#open.delete(stream);
    if (complete) this.#continued.delete(stream);
    else this.#continued.add(stream);
    return line;
  }

  /** What was begun and never ended: the last words of a container. */
  flush(): LogLine[] {
    const rest = [...this.#open.values()];
    this.#open.clear();
    return rest;
  }
}
