import type { TLSSocket } from 'node:tls';
import {
  Server,
  ServerCredentials,
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Metadata,
  type ServerReadableStream,
  type ServiceDefinition,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { ShoalError, TurnPacer, type Clock, type Logger } from '../../base/index.ts';
import { channelOptions, toServiceError, type AuthenticatedCall, type TlsIdentity } from '../../identity/index.ts';
import type { AnyMethod, MethodDescription } from '../../proto/index.ts';
import { authorise, callerOf, forwardingMetadata, type IncomingCall, type TrustPolicy } from './access.ts';
import type {
  Access,
  Caller,
  ClientStreamHandler,
  DuplexHandler,
  HandlersOf,
  ServiceRules,
  StreamHandler,
  UnaryHandler,
} from './calls.ts';
import { duplexOf } from './duplex.ts';
import {
  forwardClientStream,
  forwardDuplex,
  forwardServerStream,
  forwardUnary,
  type ForwardTarget,
} from './forward.ts';
import type { ManagerClients } from './leader-link.ts';
import { TlsListener } from './listener.ts';
import { ServedCall, writeTo, type AnyCall } from './served-call.ts';

/** Time for open calls to end when the server stops, ms. */
const DRAIN_MS = 500;
/** Calls ended in one turn of the event loop when this manager ceases to lead: agents have three open each. */
const ENDED_PER_TURN = 32;
/** Calls that wait for their end at the most; one at a time does. */
const ENDS_WAITING_MAX = 64;

/** What the server asks its manager. */
export interface LeadershipView {
  /** Aborts when this manager ceases to lead; undefined while it does not lead. */
  leaderSignal(): AbortSignal | undefined;
  /** Address of another manager that leads, if one is known. */
  leaderAddr(): string | undefined;
}

export interface ManagerServerOptions {
  tls: TlsIdentity;
  trust: TrustPolicy;
  leadership: LeadershipView;
  clients: ManagerClients;
  /** Address under which this manager is known, for the metadata of forwarded calls. */
  selfAddr: () => string;
  /** Whether connections from a host are served before all others: managers are there. */
  isPreferred?: (host: string) => boolean;
  clock: Clock;
  log: Logger;
  /** Called with each call: when thousands come at once, timers wait for all of them (`RaftNode.pulse`). */
  pulse?: () => void;
  /** The error of leader-only calls while nobody leads. */
  noLeader: () => ShoalError;
}

interface Route {
  method: MethodDescription<unknown, unknown>;
  access: Access;
  leaderOnly: boolean;
  handler: unknown;
}

/** Where a call is to be served: here, in a context, or by the leader. */
type Destination = { here: ServedCall; stop: () => void } | { there: ForwardTarget };

const raw = (bytes: Buffer): Buffer => bytes;
const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * The one gRPC server of a manager: authenticates callers, authorises them per method, serves what it may serve, and
 * forwards leader-only calls to the leader. Messages of forwarded calls are never decoded.
 */
export class ManagerServer {
  readonly #options: ManagerServerOptions;
  readonly #server: Server;
  readonly #termCalls = new WeakMap<AbortSignal, Set<ServedCall>>();
  readonly #ends: TurnPacer;
  #listener: TlsListener | undefined;

  constructor(options: ManagerServerOptions) {
    this.#options = options;
    const pace = { perTurn: ENDED_PER_TURN, waitingMax: ENDS_WAITING_MAX, what: 'ends of calls' };
    this.#ends = new TurnPacer({ clock: options.clock, ...pace });
    this.#server = new Server({
      ...channelOptions(),
      'grpc.max_concurrent_streams': 100_000,
      'grpc.enable_channelz': 0,
    });
  }

  /** Adds a service; before `listen`. */
  add<Service extends Readonly<Record<string, AnyMethod>>>(
    service: Service,
    rules: ServiceRules<Service>,
    handlers: HandlersOf<Service>,
  ): void {
    const definition: Record<string, unknown> = {};
    const implementation: Record<string, UntypedHandleCall> = {};
    for (const [name, method] of Object.entries(service)) {
      const access = rules.except?.[name] ?? rules.access;
      const handler = (handlers as Record<string, unknown>)[name];
      if (handler === undefined && !rules.leaderOnly) continue;
      const route: Route = {
        method: method as MethodDescription<unknown, unknown>,
        access,
        leaderOnly: rules.leaderOnly,
        handler,
      };
      const { path, requestStream, responseStream } = method;
      const codecs = {
        requestSerialize: raw,
        requestDeserialize: raw,
        responseSerialize: raw,
        responseDeserialize: raw,
      };
      definition[name] = { path, requestStream, responseStream, ...codecs };
      implementation[name] = this.#implementation(route);
    }
    this.#server.addService(definition as ServiceDefinition, implementation);
  }

  /**
   * Adds a service whose handlers are in grpc-js's own form; only the authorisation is done here.
   * @param refusal says why a call is refused, where the service has words of its own for it.
   */
  addNative(
    definition: ServiceDefinition,
    access: Access,
    implementation: Record<string, UntypedHandleCall>,
    refusal?: (call: AuthenticatedCall) => ShoalError | undefined,
  ): void {
    const guarded = Object.entries(implementation).map(([name, handle]) => [
      name,
      this.#guard(access, handle, refusal),
    ]);
    this.#server.addService(definition, Object.fromEntries(guarded) as Record<string, UntypedHandleCall>);
  }

  /**
   * @param listenAddr `host:port`; port 0 picks a free one. @returns the port bound.
   * @throws ShoalError Unavailable that names the address.
   */
  async listen(listenAddr: string): Promise<number> {
    const { tls, clock, log, isPreferred = () => false } = this.#options;
    // The listener has done TLS when a connection comes here.
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    const serve = (socket: TLSSocket): void => injector.injectConnection(socket);
    const listener = new TlsListener({ tls, clock, log, isPreferred, serve });
    const port = await listener.listen(listenAddr);
    this.#listener = listener;
    return port;
  }

  /** Ends all calls, gently for a moment, then by force. Idempotent. */
  async stop(): Promise<void> {
    if (this.#listener === undefined) return;
    this.#listener.close();
    this.#listener = undefined;
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(DRAIN_MS, () => {
        this.#server.forceShutdown();
        resolve();
      });
      this.#server.tryShutdown(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  /** Wraps a native handler; a refusal goes out in the form of its kind of call. */
  #guard(
    access: Access,
    handle: UntypedHandleCall,
    refusal?: (call: AuthenticatedCall) => ShoalError | undefined,
  ): UntypedHandleCall {
    const { trust } = this.#options;
    return ((call: IncomingCall & { emit(event: string, error: unknown): void }, reply?: unknown) => {
      try {
        const { caller, forwarded } = callerOf(call, trust);
        if (forwarded) throw new ShoalError('PermissionDenied', 'this call is not forwarded');
        authorise(caller, access);
      } catch (error) {
        const status = toServiceError(refusal?.(call) ?? error);
        if (typeof reply === 'function') (reply as (status: unknown) => void)(status);
        else call.emit('error', status);
        return;
      }
      (handle as (call: unknown, reply?: unknown) => void)(call, reply);
    }) as UntypedHandleCall;
  }

  /** Decides where a call is served, after authorising it. @throws ShoalError */
  #route(call: AnyCall, route: Route): Destination {
    const { trust, leadership, clients, selfAddr, noLeader, pulse } = this.#options;
    pulse?.();
    const { caller, forwarded } = callerOf(call, trust);
    authorise(caller, route.access);
    if (!route.leaderOnly) return this.#here(call, caller, undefined);
    const leaderSignal = leadership.leaderSignal();
    if (leaderSignal !== undefined) return this.#here(call, caller, leaderSignal);
    const addr = leadership.leaderAddr();
    // A second hop could go in circles while managers disagree about the leader.
    if (addr === undefined || forwarded) throw noLeader();
    const metadata: Metadata = forwardingMetadata(caller, trust.clusterId, selfAddr());
    return { there: { client: clients.to(addr), path: route.method.path, metadata } };
  }

  #here(call: AnyCall, caller: Caller, leaderSignal: AbortSignal | undefined): Destination {
    const context = new ServedCall(call, caller);
    if (leaderSignal === undefined) return { here: context, stop: () => undefined };
    const open = this.#openCalls(leaderSignal);
    open.add(context);
    if (leaderSignal.aborted) context.lost();
    return { here: context, stop: () => open.delete(context) };
  }

  /**
   * The calls that end with a term of leadership. One listener for all of them: with thousands of streams open, listeners
   * of their own would make each further call search the list of them.
   */
  #openCalls(leaderSignal: AbortSignal): Set<ServedCall> {
    let open = this.#termCalls.get(leaderSignal);
    if (open === undefined) {
      const calls = new Set<ServedCall>();
      leaderSignal.addEventListener('abort', () => void this.#lose(calls), { once: true });
      this.#termCalls.set(leaderSignal, calls);
      open = calls;
    }
    return open;
  }

  /** A former leader must vote and follow while it ends thousands of calls. */
  async #lose(calls: ReadonlySet<ServedCall>): Promise<void> {
    for (const call of [...calls]) {
      await this.#ends.turn();
      call.lost();
    }
  }

  #implementation(route: Route): UntypedHandleCall {
    const { requestStream, responseStream } = route.method;
    if (requestStream) return responseStream ? this.#duplex(route) : this.#clientStream(route);
    return responseStream ? this.#serverStream(route) : this.#unary(route);
  }

  #handlerOf<Handler>(route: Route): Handler {
    if (route.handler === undefined) throw new ShoalError('Unimplemented', `${route.method.path} is not served`);
    return route.handler as Handler;
  }

  #decode(route: Route, bytes: Buffer): unknown {
    try {
      return route.method.request.decode(bytes);
    } catch (error) {
      throw new ShoalError('InvalidArgument', `the request of ${route.method.path} cannot be read`, { cause: error });
    }
  }

  #encode(route: Route, message: unknown): Buffer {
    return bufferOf(route.method.response.encode(message as never));
  }

  #log(route: Route, error: unknown): void {
    if (error instanceof ShoalError) return;
    this.#options.log.error('a call failed unexpectedly', { method: route.method.path, error });
  }

  /** Serves a call here or by the leader; whatever goes wrong reaches the caller by `fail`. */
  #serve(
    call: AnyCall,
    route: Route,
    to: {
      forward: (target: ForwardTarget) => void;
      here: (context: ServedCall) => Promise<void>;
      fail: (status: ReturnType<typeof toServiceError>) => void;
    },
  ): void {
    const serve = async (): Promise<void> => {
      const destination = this.#route(call, route);
      if ('there' in destination) {
        to.forward(destination.there);
        return;
      }
      try {
        await to.here(destination.here);
      } finally {
        destination.stop();
      }
    };
    serve().catch((error: unknown) => {
      if (!call.cancelled) this.#log(route, error);
      to.fail(toServiceError(error));
    });
  }

  #unary(route: Route): handleUnaryCall<Buffer, Buffer> {
    return (call, reply) =>
      this.#serve(call, route, {
        forward: (target) => forwardUnary(call, reply, target, this.#options.clock.now()),
        here: async (context) => {
          const request = this.#decode(route, call.request);
          const handler = this.#handlerOf<UnaryHandler<unknown, unknown>>(route);
          reply(null, this.#encode(route, await handler(context.with({ request }))));
        },
        fail: (status) => reply(status),
      });
  }

  #serverStream(route: Route): handleServerStreamingCall<Buffer, Buffer> {
    return (call) =>
      this.#serve(call, route, {
        forward: (target) => forwardServerStream(call, target),
        here: async (context) => {
          const request = this.#decode(route, call.request);
          const handler = this.#handlerOf<StreamHandler<unknown, unknown>>(route);
          const send = (message: unknown, encoded?: Uint8Array): Promise<void> =>
            writeTo(call, encoded === undefined ? this.#encode(route, message) : bufferOf(encoded), context.signal);
          await handler(context.with({ request, send }));
          call.end();
        },
        fail: (status) => call.emit('error', status),
      });
  }

  #clientStream(route: Route): handleClientStreamingCall<Buffer, Buffer> {
    return (call, reply) =>
      this.#serve(call, route, {
        forward: (target) => forwardClientStream(call, reply, target),
        here: async (context) => {
          const handler = this.#handlerOf<ClientStreamHandler<unknown, unknown>>(route);
          const messages = this.#messages(route, call);
          reply(null, this.#encode(route, await handler(context.with({ messages }))));
        },
        fail: (status) => reply(status),
      });
  }

  #duplex(route: Route): handleBidiStreamingCall<Buffer, Buffer> {
    return (call) =>
      this.#serve(call, route, {
        forward: (target) => forwardDuplex(call, target),
        here: async (context) => {
          const handler = this.#handlerOf<DuplexHandler<unknown, unknown>>(route);
          const decode = (bytes: Buffer): unknown => {
            this.#options.pulse?.();
            return this.#decode(route, bytes);
          };
          const encode = (message: unknown): Buffer => this.#encode(route, message);
          await duplexOf(call, { decode, encode }, (streams) => handler(context.with(streams)));
          call.end();
        },
        fail: (status) => call.emit('error', status),
      });
  }

  async *#messages(route: Route, call: ServerReadableStream<Buffer, Buffer>): AsyncGenerator<unknown> {
    for await (const bytes of call) yield this.#decode(route, bytes as Buffer);
  }
}
