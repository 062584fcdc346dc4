import {
  Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import { ShoalError, errorMessage, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { createDispatcher, type CallContext, type Dispatcher } from '../../manager/dispatcher/index.ts';
import { createLogBroker, type LogBroker } from '../../manager/logs/index.ts';
import type { MemoryStore } from '../../manager/store/testing.ts';
import { DispatcherService, LogBrokerService, grpcService, type WeightedPeer } from '../../proto/index.ts';

type AnyCall =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerReadableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;

const status = (error: unknown): { code: number; details: string; metadata: Metadata } => ({
  code: error instanceof ShoalError ? error.grpcStatus : 2,
  details: errorMessage(error),
  metadata: new Metadata(),
});

/** A manager's agent-facing half on loopback, without TLS: its peer is always `nodeId`. */
export class WireManager {
  readonly dispatcher: Dispatcher;
  readonly broker: LogBroker;
  address = '';
  /** Calls of agents are dropped without an answer while this is set: a partition. */
  silent = false;
  /** Calls that agents have made, by their names. */
  readonly calls: string[] = [];
  readonly #server = new Server();
  readonly #controller = new AbortController();
  readonly #duties: Promise<unknown>[] = [];
  readonly #nodeId: string;

  /** @param stock whether it has only the calls that SwarmKit's managers have. */
  constructor(store: MemoryStore, nodeId: string, managers: () => WeightedPeer[], stock = false) {
    this.#nodeId = nodeId;
    const common = { store, clock: systemClock, random: systemRandom, log: silentLogger };
    this.dispatcher = createDispatcher({ ...common, nodeId: 'manager', managers, rootCa: () => Buffer.from('root') });
    this.broker = createLogBroker(common);
    const { handlers } = this.dispatcher;
    this.#server.addService(grpcService(DispatcherService as never), {
      Session: this.#stream(handlers.session),
      Assignments: this.#stream(handlers.assignments),
      Heartbeat: this.#unary(handlers.heartbeat),
      UpdateTaskStatus: this.#unary(handlers.updateTaskStatus),
      UpdateVolumeStatus: this.#unary(handlers.updateVolumeStatus),
      ...(!stock && { Reports: this.#duplex(handlers.reports) }),
    });
    this.#server.addService(grpcService(LogBrokerService as never), {
      ListenSubscriptions: this.#stream(this.broker.handlers.listenSubscriptions),
      PublishLogs: (call: ServerReadableStream<unknown, unknown>, callback: sendUnaryData<unknown>) => {
        const run = this.broker.handlers.publishLogs({ ...this.#context(call), messages: call as never });
        run.then(
          (response) => callback(null, response),
          (error: unknown) => callback(status(error)),
        );
      },
    });
  }

  async start(port = 0): Promise<void> {
    for (const { duty } of [this.dispatcher, this.broker]) this.#duties.push(duty.run(this.#controller.signal));
    const bound = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, chosen) =>
        error === null ? resolve(chosen) : reject(error),
      );
    });
    this.address = `127.0.0.1:${bound}`;
  }

  async stop(): Promise<void> {
    this.#controller.abort(new Error('stopped'));
    await Promise.all(this.#duties);
    this.#server.forceShutdown();
  }

  #context(call: AnyCall): CallContext {
    const controller = new AbortController();
    (call as NodeJS.EventEmitter).on('cancelled', () => controller.abort(new Error('cancelled')));
    this.calls.push(call.getPath().split('/').at(-1) ?? '');
    return { nodeId: this.#nodeId, address: '10.9.0.1:5000', signal: controller.signal };
  }

  #unary(handler: (call: never) => Promise<unknown>) {
    return (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>): void => {
      if (this.silent) return;
      handler({ ...this.#context(call), request: call.request } as never).then(
        (response) => callback(null, response),
        (error: unknown) => callback(status(error)),
      );
    };
  }

  #stream(handler: (call: never) => Promise<void>) {
    return (call: ServerWritableStream<unknown, unknown>): void => {
      if (this.silent) return;
      const send = (message: unknown): Promise<void> =>
        call.write(message) ? Promise.resolve() : new Promise((resolve) => call.once('drain', () => resolve()));
      handler({ ...this.#context(call), request: call.request, send } as never).then(
        () => call.end(),
        (error: unknown) => call.emit('error', status(error)),
      );
    };
  }

  #duplex(handler: (call: never) => Promise<void>) {
    return (call: ServerDuplexStream<unknown, unknown>): void => {
      if (this.silent) return;
      const streams = {
        receive: (message: (request: unknown) => void, done: () => void) => {
          call.on('data', (request) => (this.silent ? undefined : message(request)));
          call.on('end', done);
        },
        pause: () => call.pause(),
        resume: () => call.resume(),
        send: (message: unknown) => call.write(message),
        onDrain: (listener: () => void) => call.on('drain', listener),
      };
      handler({ ...this.#context(call), ...streams } as never).then(
        () => call.end(),
        (error: unknown) => call.emit('error', status(error)),
      );
    };
  }
}
