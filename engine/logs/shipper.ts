import { rename, writeFile } from 'node:fs/promises';
import { errorMessage, failedPrecondition, readFileIfExists, type Clock, type Logger } from '../../base/index.ts';
import type { LogLine } from '../types.ts';
import { logFiles } from './files.ts';
import { journaldMessages, journaldSink, JOURNAL_SOCKET } from './journald.ts';
import { LineJoiner } from './k8s-file.ts';
import type { LogHold } from './keeper.ts';
import { logAttributes, logTag, type LogDriver, type LogSubject } from './policy.ts';
import { LogReading } from './reader.ts';
import type { Sink } from './sinks.ts';
import { turns } from './turns.ts';
import { syslogMessages, syslogSink } from './syslog.ts';

/** Lines sent in one round of the event loop. */
const LINES_PER_TURN = 200;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 10_000;
/** A place that was reached is written down this often: what follows it is sent twice after a crash. */
const SAVE_INTERVAL_MS = 1000;
/** The end of a container waits so long for its last lines to be sent; they go on being sent after it. */
const DRAIN_WAIT_MS = 3000;

export interface ShipperOptions {
  clock: Clock;
  log: Logger;
  /** Where journald listens; default systemd's place. */
  journalSocket?: string;
}

export interface ShipRequest {
  path: string;
  driver: LogDriver;
  subject: LogSubject;
  hold: () => LogHold;
}

interface Shipment {
  end: () => void;
  stop: AbortController;
  done: Promise<void>;
}

/**
 * Sends what containers write to journald or syslog, from the log files on disk: a receiver that is away or slow holds
 * up no container, and what it missed is sent later, as far as the files reach back. Lines keep their order; after a
 * crash of the daemon those of the last second may come twice.
 */
export class LogShippers {
  readonly #options: ShipperOptions;
  readonly #shipments = new Map<string, Shipment>();

  constructor(options: ShipperOptions) {
    this.#options = options;
  }

  /**
   * Begins to send a log, or goes on. @param fresh fails when nobody takes the lines; else it is tried again and again.
   * @throws ShoalError FailedPrecondition in Docker's words
   */
  async begin(request: ShipRequest, fresh: boolean): Promise<void> {
    if (request.driver.type !== 'journald' && request.driver.type !== 'syslog') return;
    // What the run before has left is sent by this one.
    const before = this.#shipments.get(request.path);
    before?.stop.abort();
    await before?.done;
    let sink: Sink;
    try {
      sink = this.#sink(request.driver);
      if (fresh) await sink.open();
    } catch (error) {
      if (fresh)
        throw failedPrecondition(
          `failed to create task for container: failed to initialize logging driver: ${errorMessage(error)}`,
        );
      this.#options.log.warn('a log cannot be sent', { path: request.path, error: errorMessage(error) });
      return;
    }
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const stop = new AbortController();
    const done = this.#ship(request, sink, ended, stop.signal)
      .catch((error: unknown) => {
        if (!stop.signal.aborted) {
          this.#options.log.warn('a log is not sent any more', { path: request.path, error: errorMessage(error) });
        }
      })
      .finally(() => {
        sink.close();
        this.#shipments.delete(request.path);
      });
    this.#shipments.set(request.path, { end, stop, done });
  }

  #sink(driver: LogDriver): Sink {
    const { clock, journalSocket } = this.#options;
    if (driver.type === 'journald') return journaldSink(clock, journalSocket ?? JOURNAL_SOCKET);
    return syslogSink(driver.config, clock);
  }

  async #ship(request: ShipRequest, sink: Sink, ended: Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const { path } = request;
    let sent: SentPlace | undefined;
    let live = true;
    void ended.then(() => (live = false));
    const hold = request.hold();
    try {
      const saved = readPlace(path);
      const files = logFiles(path);
      const file = files.find((one) => one.number >= saved.number);
      const begin = file === undefined ? undefined : { file, offset: file.number === saved.number ? saved.offset : 0 };
      hold.number = file?.number ?? 0;
      const source = { path, live: () => live, nextEnd: () => ended };
      const reading = new LogReading(source, begin, true, clock, signal, hold);
      const joiner = new LineJoiner();
      const message = messagesOf(request);
      let savedMs = clock.monotonic();
      for await (const entries of reading.entries()) {
        const lines = entries.map((entry) => joiner.push(entry)).filter((line) => line !== undefined);
        for (const [at, line] of lines.entries()) {
          if (at % LINES_PER_TURN === LINES_PER_TURN - 1) await turns.next();
          await this.#send(sink, message(line), signal);
        }
        sent = reading.place();
        if (clock.monotonic() - savedMs < SAVE_INTERVAL_MS) continue;
        savedMs = clock.monotonic();
        await savePlace(path, sent);
      }
      if (!signal.aborted) for (const line of joiner.flush()) await this.#send(sink, message(line), signal);
      sent = reading.place();
    } finally {
      // The container may have been removed with all its files.
      await savePlace(path, sent).catch(() => undefined);
      hold.release();
    }
  }

  /** Sends one message, however long the other side is away. */
  async #send(sink: Sink, message: Buffer, signal: AbortSignal): Promise<void> {
    for (let waitMs = RETRY_MIN_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)) {
      try {
        return await sink.send(message);
      } catch {
        await sink.open().catch(() => this.#options.clock.sleep(waitMs, signal));
      }
    }
    throw new Error('stopped');
  }

  /** No more is written: sends what there is. Waits a little for it to be sent. */
  async end(path: string): Promise<void> {
    const shipment = this.#shipments.get(path);
    if (shipment === undefined) return;
    shipment.end();
    const late = new AbortController();
    await Promise.race([shipment.done, this.#options.clock.sleep(DRAIN_WAIT_MS, late.signal).catch(() => undefined)]);
    late.abort();
  }

  /** The daemon goes: what is not sent is sent by the next one. */
  async close(): Promise<void> {
    const all = [...this.#shipments.values()];
    for (const { stop } of all) stop.abort();
    await Promise.all(all.map(({ done }) => done));
  }
}

function messagesOf({ driver, subject }: ShipRequest): (line: LogLine) => Buffer {
  const tag = logTag(driver.config['tag'] || '{{.ID}}', subject);
  if (driver.type === 'syslog') return syslogMessages(driver.config, tag);
  return journaldMessages(subject, tag, logAttributes(driver, subject));
}

/** A place in a log by the file's number: bytes of it that were sent. */
interface SentPlace {
  number: number;
  offset: number;
}

const placeFile = (path: string): string => `${path}.sent`;

function readPlace(path: string): SentPlace {
  try {
    const { number, offset } = JSON.parse(readFileIfExists(placeFile(path)) ?? '{}') as Partial<SentPlace>;
    if (Number.isSafeInteger(number) && Number.isSafeInteger(offset)) return { number, offset } as SentPlace;
  } catch {
    // Written half: all of the log is sent again.
  }
  return { number: 0, offset: 0 };
}

async function savePlace(path: string, place: SentPlace | undefined): Promise<void> {
  if (place === undefined) return;
  await writeFile(`${placeFile(path)}.new`, JSON.stringify(place), { mode: 0o600 });
  await rename(`${placeFile(path)}.new`, placeFile(path));
}
