import { abortReason, errorMessage, isShoalError, ShoalError, unavailable } from '../../base/index.ts';
import {
  DispatcherService,
  LogBrokerService,
  type AgentReport,
  type MethodDescription,
  type ReportAck,
  type RequestOf,
  type ResponseOf,
} from '../../proto/index.ts';
import type { DispatcherHandlers } from '../../manager/sim/index.ts';
import type { SimProcess } from '../../raft/sim/index.ts';
import type { AgentConnection, ReportEvents, ReportLink } from '../../worker/index.ts';
import type { Connection, EndPoint, Wires } from './links.ts';

/** What agents call, by name. */
const METHODS = {
  session: DispatcherService.Session,
  assignments: DispatcherService.Assignments,
  heartbeat: DispatcherService.Heartbeat,
  updateTaskStatus: DispatcherService.UpdateTaskStatus,
  listenSubscriptions: LogBrokerService.ListenSubscriptions,
} as const;

export type MethodName = keyof typeof METHODS;

/** A call as it comes to a manager. */
export interface ServedCall {
  method: MethodName;
  nodeId: string;
  address: string;
  request: unknown;
  signal: AbortSignal;
  /** A manager passed it on: it goes no further. */
  forwarded: boolean;
  /** One message of a stream. */
  send(message: unknown): Promise<void>;
}

/** An agent's stream of reports as it comes to a manager. */
export type ServedReports = Parameters<DispatcherHandlers['reports']>[0] & { forwarded: boolean };

/** Where calls go. */
export interface RpcServer {
  hostId: number;
  process: SimProcess;
  /** Serves a call; resolves with the answer of a unary one. */
  serve(call: ServedCall): Promise<unknown>;
  /** Serves a stream of reports until it ends. */
  serveReports(call: ServedReports): Promise<void>;
}

function codecOf(method: MethodName): MethodDescription<unknown, unknown> {
  return METHODS[method];
}

/** Errors cross the wire as code and text. */
function wireError(error: unknown): ShoalError {
  if (isShoalError(error)) return new ShoalError(error.code, error.message);
  return new ShoalError('Unknown', errorMessage(error));
}

/** For whom a client calls. */
export interface CallerIdentity {
  nodeId: string;
  address: string;
  forwarded: boolean;
}

interface PendingCall {
  fail(error: Error): void;
}

/** A client's side of one connection to a manager. Calls are by value, as over a wire. */
export class RpcClient {
  readonly #connection: Connection;
  readonly #server: RpcServer;
  readonly #client: { hostId: number; process: SimProcess };
  readonly #as: CallerIdentity;
  readonly #pending = new Set<PendingCall>();
  readonly #serving = new Set<AbortController>();
  /** Called with each message before the client sees it, in its process. */
  onMessage: ((method: MethodName, message: unknown) => void) | undefined;
  #broken: Error | undefined;

  constructor(wires: Wires, client: { hostId: number; process: SimProcess }, server: RpcServer, as: CallerIdentity) {
    this.#client = client;
    this.#server = server;
    this.#as = as;
    const near: EndPoint = { ...client, broken: (error) => this.#breakNear(error) };
    const far: EndPoint = {
      hostId: server.hostId,
      process: server.process,
      broken: (error) => {
        for (const controller of this.#serving) controller.abort(error);
      },
    };
    this.#connection = wires.connect(near, far);
  }

  #breakNear(error: Error): void {
    this.#broken = error;
    for (const call of [...this.#pending]) call.fail(error);
  }

  close(): void {
    this.#connection.close();
    this.#breakNear(unavailable('the connection is closed'));
  }

  /** One answer for one request. @throws ShoalError */
  unary(method: MethodName, request: unknown, timeoutMs: number, signal: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#broken !== undefined) return reject(this.#broken);
      if (signal.aborted) return reject(abortReason(signal));
      const call = this.#begin(method, request, {
        message: () => undefined,
        done: (answer) => end(() => resolve(answer)),
        fail: (error) => end(() => reject(error)),
      });
      const deadline = this.#client.process.after(timeoutMs, () => {
        end(() => reject(new ShoalError('DeadlineExceeded', 'Deadline exceeded')));
        call.cancel();
      });
      const onAbort = (): void => {
        end(() => reject(new ShoalError('Aborted', 'Cancelled on client')));
        call.cancel();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const end = (settle: () => void): void => {
        deadline.cancel();
        signal.removeEventListener('abort', onAbort);
        this.#pending.delete(call);
        settle();
      };
    });
  }

  /** A stream of messages; ends when `signal` aborts. @throws ShoalError */
  async *stream(method: MethodName, request: unknown, signal: AbortSignal): AsyncGenerator<unknown, void> {
    if (this.#broken !== undefined) throw this.#broken;
    if (signal.aborted) return;
    const inbox = new Inbox();
    const call = this.#begin(method, request, {
      message: (message) => inbox.push(message),
      done: () => inbox.end(undefined),
      fail: (error) => inbox.end(error),
    });
    const onAbort = (): void => inbox.end(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (;;) {
        const next = await inbox.next();
        if (next === undefined || signal.aborted) return;
        yield next.message;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#pending.delete(call);
      call.cancel();
    }
  }

  /** A stream of heartbeats and statuses. */
  reports(events: ReportEvents): ReportLink {
    const { request, response } = DispatcherService.Reports;
    const connection = this.#connection;
    const controller = new AbortController();
    const inbox = new ReportInbox();
    let over = false;
    const end = (error: Error): void => {
      if (!over) events.ended(wireError(error));
      over = true;
      this.#pending.delete(call);
    };
    const call: PendingCall = { fail: end };
    this.#pending.add(call);
    if (this.#broken !== undefined) this.#client.process.after(0, () => end(this.#broken as Error));
    const answer = (work: () => void): void => connection.toClient(() => (over ? undefined : work()));
    const send = (ack: ReportAck): boolean => {
      const bytes = response.encode(ack);
      answer(() => events.answer(response.decode(bytes)));
      return true;
    };
    connection.toServer(() => {
      this.#serving.add(controller);
      const streams = { ...inbox.streams(), send, onDrain: () => undefined };
      const served = this.#server.serveReports({ ...this.#as, signal: controller.signal, ...streams });
      const finish = (error: unknown): void => {
        this.#serving.delete(controller);
        const sent = wireError(error);
        answer(() => end(sent));
      };
      served.then(() => finish(unavailable('the manager has ended the stream of reports')), finish);
    });
    return {
      send: (report) => {
        const bytes = request.encode(report);
        connection.toServer(() => inbox.push(request.decode(bytes)));
      },
      close: () => {
        over = true;
        this.#pending.delete(call);
        connection.toServer(() => controller.abort(new ShoalError('Aborted', 'the caller cancelled the call')));
      },
    };
  }

  #begin(
    method: MethodName,
    request: unknown,
    events: { message(message: unknown): void; done(answer: unknown): void; fail(error: Error): void },
  ): PendingCall & { cancel(): void } {
    const codec = codecOf(method);
    const bytes = codec.request.encode(request as never);
    const connection = this.#connection;
    const controller = new AbortController();
    let over = false;
    const call = {
      fail: (error: Error): void => {
        if (!over) events.fail(error);
        over = true;
      },
      cancel: (): void => {
        over = true;
        connection.toServer(() => controller.abort(new ShoalError('Aborted', 'the caller cancelled the call')));
      },
    };
    this.#pending.add(call);
    const answer = (work: () => void): void =>
      connection.toClient(() => {
        if (!over) work();
      });
    const send = (message: unknown): Promise<void> => {
      const encoded = codec.response.encode(message as never);
      return new Promise((resolve) => {
        answer(() => {
          const decoded = codec.response.decode(encoded);
          this.onMessage?.(method, decoded);
          events.message(decoded);
          connection.toServer(resolve);
        });
      });
    };
    connection.toServer(() => {
      this.#serving.add(controller);
      const served = this.#server.serve({
        method,
        ...this.#as,
        request: codec.request.decode(bytes),
        signal: controller.signal,
        send,
      });
      const finish = (work: () => void): void => {
        this.#serving.delete(controller);
        answer(() => {
          over = true;
          work();
        });
      };
      served.then(
        (result) => {
          const encoded = result === undefined ? undefined : codec.response.encode(result as never);
          finish(() => events.done(encoded === undefined ? undefined : codec.response.decode(encoded)));
        },
        (error: unknown) => {
          const sent = wireError(error);
          finish(() => events.fail(sent));
        },
      );
    });
    return call;
  }
}

/** Reports that have come to a manager; they wait until somebody reads. */
class ReportInbox {
  readonly #reports: AgentReport[] = [];
  #reader: ((report: AgentReport) => void) | undefined;
  #paused = false;

  push(report: AgentReport): void {
    this.#reports.push(report);
    this.#read();
  }

  /** The reading side of a stream. Agents never end it but by a cancellation. */
  streams(): Pick<ServedReports, 'receive' | 'pause' | 'resume'> {
    return {
      receive: (message) => {
        this.#reader = message;
        this.#read();
      },
      pause: () => {
        this.#paused = true;
      },
      resume: () => {
        this.#paused = false;
        this.#read();
      },
    };
  }

  #read(): void {
    while (!this.#paused && this.#reader !== undefined) {
      const report = this.#reports.shift();
      if (report === undefined) return;
      this.#reader(report);
    }
  }
}

/** Messages that have come and were not read. */
class Inbox {
  #messages: { message: unknown }[] = [];
  #ended: { error: Error | undefined } | undefined;
  #wake: (() => void) | undefined;

  push(message: unknown): void {
    this.#messages.push({ message });
    this.#wake?.();
  }

  end(error: Error | undefined): void {
    this.#ended ??= { error };
    this.#wake?.();
  }

  /** Undefined at the end. @throws what ended it. */
  async next(): Promise<{ message: unknown } | undefined> {
    for (;;) {
      const first = this.#messages.shift();
      if (first !== undefined) return first;
      if (this.#ended?.error !== undefined) throw this.#ended.error;
      if (this.#ended !== undefined) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}

/** A manager as an agent sees it. @param streams whether heartbeats and reports go on a stream, not by calls. */
export function agentConnection(rpc: RpcClient, streams: boolean): AgentConnection {
  type Heartbeat = ResponseOf<typeof DispatcherService.Heartbeat>;
  type Stream<Name extends 'session' | 'assignments' | 'listenSubscriptions'> = (
    request: RequestOf<(typeof METHODS)[Name]>,
    signal: AbortSignal,
  ) => AsyncIterable<ResponseOf<(typeof METHODS)[Name]>>;
  const stream =
    <Name extends 'session' | 'assignments' | 'listenSubscriptions'>(name: Name): Stream<Name> =>
    (request, signal) =>
      rpc.stream(name, request, signal) as AsyncIterable<ResponseOf<(typeof METHODS)[Name]>>;
  return {
    session: stream('session'),
    assignments: stream('assignments'),
    listenSubscriptions: (signal) => stream('listenSubscriptions')({}, signal),
    heartbeat: async (request, timeoutMs, signal) =>
      (await rpc.unary('heartbeat', request, timeoutMs, signal)) as Heartbeat,
    updateTaskStatus: async (request, timeoutMs, signal) => {
      await rpc.unary('updateTaskStatus', request, timeoutMs, signal);
    },
    ...(streams && { reports: (events: ReportEvents) => rpc.reports(events) }),
    // Nobody asks for logs here.
    publishLogs: () => ({ write: () => Promise.resolve(), end: () => Promise.resolve() }),
    close: () => rpc.close(),
  };
}
