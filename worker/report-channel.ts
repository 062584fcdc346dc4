import { assert, isShoalError, ShoalError, type Clock, type Logger, type Timer } from '../base/index.ts';
import type { Duration, ReportAck, TaskUsage, UpdateTaskStatusRequest } from '../proto/index.ts';
import type { AgentConnection, ReportLink } from './connection.ts';

type Updates = UpdateTaskStatusRequest['updates'];

/** A message whose answer is awaited. */
interface Awaited {
  number: number;
  timer: Timer;
  resolve: () => void;
  reject: (error: ShoalError) => void;
}

/** Our side of a stream of reports: one heartbeat and one message with updates are under way at the most. */
class ReportStream {
  readonly #clock: Clock;
  readonly #sessionId: string;
  readonly #link: ReportLink;
  #number = 0;
  #heartbeat: Awaited | undefined;
  #updates: Awaited | undefined;
  #period: Duration | null = null;
  #ended: ShoalError | undefined;

  constructor(open: NonNullable<AgentConnection['reports']>, sessionId: string, clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#sessionId = sessionId;
    this.#link = open({ answer: (ack) => this.#answer(ack), ended: (error) => this.#end(error) });
    const cancel = (): void => this.#end(new ShoalError('Aborted', 'the session has ended'));
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  }

  /** Resolves with the time until the next heartbeat. @throws ShoalError */
  async heartbeat(usage: TaskUsage[], timeoutMs: number): Promise<Duration | null> {
    assert(this.#heartbeat === undefined, 'one heartbeat at a time');
    await new Promise<void>((resolve, reject) => {
      this.#heartbeat = this.#send({ heartbeat: true, usage, updates: [] }, timeoutMs, resolve, reject);
    });
    return this.#period;
  }

  /** Resolves when the manager has committed the updates. @throws ShoalError */
  update(updates: Updates, timeoutMs: number): Promise<void> {
    assert(this.#updates === undefined, 'one report at a time');
    return new Promise<void>((resolve, reject) => {
      this.#updates = this.#send({ heartbeat: false, usage: [], updates }, timeoutMs, resolve, reject);
    });
  }

  #send(
    what: { heartbeat: boolean; usage: TaskUsage[]; updates: Updates },
    timeoutMs: number,
    resolve: () => void,
    reject: (error: ShoalError) => void,
  ): Awaited | undefined {
    if (this.#ended !== undefined) {
      reject(this.#ended);
      return undefined;
    }
    const number = ++this.#number;
    this.#link.send({ session_id: number === 1 ? this.#sessionId : '', number, ...what });
    const name = what.heartbeat ? 'a heartbeat' : 'a report';
    const timer = this.#clock.after(timeoutMs, () => {
      this.#end(new ShoalError('DeadlineExceeded', `the manager did not answer ${name} within ${timeoutMs} ms`));
    });
    return { number, timer, resolve, reject };
  }

  #answer(ack: ReportAck): void {
    const [heartbeat, updates] = [this.#heartbeat, this.#updates];
    if (heartbeat !== undefined && ack.heartbeat >= heartbeat.number) {
      this.#heartbeat = undefined;
      this.#period = ack.period;
      heartbeat.timer.cancel();
      heartbeat.resolve();
    }
    if (updates !== undefined && ack.committed >= updates.number) {
      this.#updates = undefined;
      updates.timer.cancel();
      updates.resolve();
    }
  }

  #end(error: ShoalError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    const [heartbeat, updates] = [this.#heartbeat, this.#updates];
    this.#heartbeat = undefined;
    this.#updates = undefined;
    for (const awaited of [heartbeat, updates]) {
      awaited?.timer.cancel();
      awaited?.reject(error);
    }
    this.#link.close();
  }
}

export interface ReportChannelOptions {
  connection: AgentConnection;
  sessionId: string;
  clock: Clock;
  log: Logger;
}

/**
 * How one session tells heartbeats and statuses: on a stream of Shoal's own where the manager has it, else by the calls
 * that every manager has. Which it is shows with the first answer, and stays so for the session.
 */
export class ReportChannel {
  readonly #options: ReportChannelOptions;
  readonly #signal: AbortSignal;
  #stream: ReportStream | undefined;

  /** Opens the stream; it closes when `signal` aborts. */
  constructor(options: ReportChannelOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    const { connection, sessionId, clock } = options;
    if (connection.reports === undefined) return;
    this.#stream = new ReportStream((events) => connection.reports!(events), sessionId, clock, signal);
  }

  /**
   * A sign of life; one at a time. Resolves with the time until the next one is due.
   * @throws ShoalError as the manager answers; DeadlineExceeded after `timeoutMs`.
   */
  heartbeat(usage: TaskUsage[], timeoutMs: number): Promise<Duration | null> {
    const { connection, sessionId } = this.#options;
    const call = async (): Promise<Duration | null> =>
      (await connection.heartbeat({ session_id: sessionId, usage }, timeoutMs, this.#signal)).period;
    return this.#either((stream) => stream.heartbeat(usage, timeoutMs), call);
  }

  /** Statuses of tasks; one report at a time. Resolves when they are committed. @throws as `heartbeat`. */
  update(updates: Updates, timeoutMs: number): Promise<void> {
    const { connection, sessionId } = this.#options;
    const call = (): Promise<void> =>
      connection.updateTaskStatus({ session_id: sessionId, updates }, timeoutMs, this.#signal);
    return this.#either((stream) => stream.update(updates, timeoutMs), call);
  }

  async #either<T>(streamed: (stream: ReportStream) => Promise<T>, called: () => Promise<T>): Promise<T> {
    const stream = this.#stream;
    if (stream === undefined) return called();
    try {
      return await streamed(stream);
    } catch (error) {
      if (!isShoalError(error, 'Unimplemented')) throw error;
      if (this.#stream !== undefined) this.#options.log.info('the manager has no stream of reports; calls are used');
      this.#stream = undefined;
      return called();
    }
  }
}
