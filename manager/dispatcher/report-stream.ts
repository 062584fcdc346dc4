import { abortReason, ShoalError, type Clock, type Timer } from '../../base/index.ts';
import type { AgentReport, Duration, ReportAck, TaskUsage, UpdateTaskStatusRequest } from '../../proto/index.ts';
import type { DuplexCall } from './calls.ts';
import { sessionInvalid, type Session } from './session.ts';
import type { Settled } from './write-batch.ts';

/** Messages with updates on one stream that are not committed; no more are read until one is. Our agents send one. */
export const UNCOMMITTED_MAX = 8;
/** Time for a new stream to name its session, ms. */
export const FIRST_REPORT_MS = 10_000;

type Updates = UpdateTaskStatusRequest['updates'];

/** What the unary calls do, for the messages of a stream. All throw the ShoalErrors that those calls end with. */
export interface ReportRules {
  /** The session that the stream names. */
  session(sessionId: string): Session;
  /** Takes a heartbeat; returns the time until the next one. */
  beat(session: Session, usage: TaskUsage[]): Duration;
  /** Stores statuses; `settled` is called when they are committed or refused, it may be at once. */
  store(session: Session, updates: Updates, settled: Settled): void;
}

/**
 * Serves one agent's stream of reports until the agent ends it, the session ends, or a message fails.
 * @throws ShoalError what ended it, as the unary calls fail.
 */
export function serveReports(
  call: DuplexCall<AgentReport, ReportAck>,
  clock: Clock,
  rules: ReportRules,
): Promise<void> {
  return new Promise((resolve, reject) => {
    new ReportStream(call, clock, rules, (error) => (error === undefined ? resolve() : reject(error))).start();
  });
}

/** One stream of reports. Everything is done in the turn in which it comes; a message costs no promise. */
class ReportStream {
  readonly #call: DuplexCall<AgentReport, ReportAck>;
  readonly #rules: ReportRules;
  readonly #ended: (error: unknown) => void;
  readonly #waiting: Timer;
  #session: Session | undefined;
  /** Number of the newest message. */
  #number = 0;
  /** Messages with updates whose outcome is not known, oldest first. */
  readonly #uncommitted: { number: number; committed: boolean }[] = [];
  #paused = false;
  /** The answer that has not been sent; what comes while the transport is full goes into the same one. */
  #answer: ReportAck | undefined;
  /** Up to where updates are committed. */
  #committed = 0;
  #full = false;
  #over = false;
  readonly #onSessionEnd = (): void => this.#end(abortReason(this.#session?.signal as AbortSignal));
  readonly #onCallEnd = (): void => this.#end(abortReason(this.#call.signal));
  readonly #endReports = (reason: ShoalError): void => this.#end(reason);

  constructor(
    call: DuplexCall<AgentReport, ReportAck>,
    clock: Clock,
    rules: ReportRules,
    ended: (error: unknown) => void,
  ) {
    this.#call = call;
    this.#rules = rules;
    this.#ended = ended;
    this.#waiting = clock.after(FIRST_REPORT_MS, () => {
      this.#end(new ShoalError('DeadlineExceeded', `no report came within ${FIRST_REPORT_MS} ms`));
    });
  }

  start(): void {
    const { signal } = this.#call;
    if (signal.aborted) return this.#onCallEnd();
    signal.addEventListener('abort', this.#onCallEnd, { once: true });
    this.#call.onDrain(() => {
      this.#full = false;
      this.#flush();
    });
    this.#call.receive(
      (report) => this.#receive(report),
      () => this.#end(undefined),
    );
  }

  #receive(report: AgentReport): void {
    if (this.#over) return;
    try {
      this.#take(report);
    } catch (error) {
      this.#end(error);
      return;
    }
    this.#flush();
  }

  /** @throws ShoalError what the message ends the stream with. */
  #take(report: AgentReport): void {
    const session = this.#session ?? this.#begin(report.session_id);
    if (report.session_id !== '' && report.session_id !== session.id) throw sessionInvalid();
    const { number, updates } = report;
    if (number <= this.#number) {
      throw new ShoalError('InvalidArgument', `report ${number} comes after report ${this.#number}: numbers must rise`);
    }
    this.#number = number;
    if (report.heartbeat) {
      const period = this.#rules.beat(session, report.usage);
      this.#answer = { heartbeat: number, period, committed: this.#committed };
    }
    if (updates.length === 0) return;
    const held = { number, committed: false };
    this.#uncommitted.push(held);
    this.#rules.store(session, updates, (error) => this.#settled(held, error));
    if (this.#uncommitted.length < UNCOMMITTED_MAX || this.#over) return;
    this.#paused = true;
    this.#call.pause();
  }

  /** The stream takes the place of an older one of the same session. */
  #begin(sessionId: string): Session {
    const session = this.#rules.session(sessionId);
    this.#waiting.cancel();
    session.endReports?.(new ShoalError('Aborted', 'the agent has opened a newer stream of reports'));
    session.endReports = this.#endReports;
    session.signal.addEventListener('abort', this.#onSessionEnd, { once: true });
    this.#session = session;
    return session;
  }

  #settled(held: { number: number; committed: boolean }, error: ShoalError | undefined): void {
    if (this.#over) return;
    if (error !== undefined) return this.#end(error);
    held.committed = true;
    const waiting = this.#uncommitted;
    // What had nothing to write is done at once; it is told when all before it is.
    while (waiting[0]?.committed === true) this.#committed = (waiting.shift() as { number: number }).number;
    if (this.#committed < held.number) return;
    if (this.#answer !== undefined) this.#answer.committed = this.#committed;
    else this.#answer = { heartbeat: 0, period: null, committed: this.#committed };
    if (this.#paused && waiting.length < UNCOMMITTED_MAX) {
      this.#paused = false;
      this.#call.resume();
    }
    this.#flush();
  }

  #flush(): void {
    if (this.#answer === undefined || this.#full || this.#over) return;
    const answer = this.#answer;
    this.#answer = undefined;
    this.#full = !this.#call.send(answer);
  }

  #end(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting.cancel();
    this.#call.signal.removeEventListener('abort', this.#onCallEnd);
    const session = this.#session;
    session?.signal.removeEventListener('abort', this.#onSessionEnd);
    if (session?.endReports === this.#endReports) session.endReports = undefined;
    this.#ended(error);
  }
}
