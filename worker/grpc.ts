import {
  Client,
  connectivityState,
  Metadata,
  type ChannelCredentials,
  type ChannelOptions,
  type ServiceError,
} from '@grpc/grpc-js';
import type { ClientReadableStream } from '@grpc/grpc-js';
import { abortReason, codeFromGrpc, ShoalError, type Clock } from '../base/index.ts';
import {
  DispatcherService,
  LogBrokerService,
  NetworkCheckBrokerService,
  ResourceAllocatorService,
  grpcMethod,
  type MethodDescription,
  type PublishLogsMessage,
  type ReportAck,
} from '../proto/index.ts';
import type { AgentConnection, LogStream, ReportEvents, ReportLink } from './connection.ts';

/** A COMPLETE message of a large node may be big (stock agents take 2^31 − 1 bytes as well). */
const RECEIVE_MAX_BYTES = 2 ** 31 - 1;

/** For calls that only their deadline ends. */
const NEVER = new AbortController().signal;

const toShoal = (error: Partial<ServiceError>): ShoalError =>
  new ShoalError(codeFromGrpc(error.code ?? 2), error.details || error.message || 'unknown error', { cause: error });

function messages<T>(stream: ClientReadableStream<T>, signal: AbortSignal): AsyncIterable<T> {
  // Without a listener of its own an error of a stream that nobody reads would end the process.
  stream.on('error', () => undefined);
  return read(stream, signal);
}

async function* read<T>(stream: ClientReadableStream<T>, signal: AbortSignal): AsyncGenerator<T, void> {
  const cancel = (): void => stream.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    if (signal.aborted) return;
    for await (const message of stream) yield message as T;
  } catch (error) {
    if (signal.aborted) return;
    throw toShoal(error as ServiceError);
  } finally {
    signal.removeEventListener('abort', cancel);
    stream.cancel();
  }
}

function unary<Request, Response>(
  client: Client,
  clock: Clock,
  method: MethodDescription<Request, Response>,
  request: Request,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<Response> {
  const { path, requestSerialize, responseDeserialize } = grpcMethod(method);
  return new Promise((resolve, reject) => {
    if (options.signal.aborted) {
      reject(abortReason(options.signal));
      return;
    }
    const deadline = clock.now() + options.timeoutMs;
    const done = (error: ServiceError | null, response?: Response): void => {
      options.signal.removeEventListener('abort', cancel);
      if (error !== null) reject(toShoal(error));
      else resolve(response as Response);
    };
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      new Metadata(),
      { deadline },
      done,
    );
    const cancel = (): void => call.cancel();
    options.signal.addEventListener('abort', cancel, { once: true });
  });
}

function publishLogs(client: Client, signal: AbortSignal): LogStream {
  const { path, requestSerialize, responseDeserialize } = grpcMethod(LogBrokerService.PublishLogs);
  let settle: (error: ShoalError | undefined) => void = () => undefined;
  const finished = new Promise<ShoalError | undefined>((resolve) => (settle = resolve));
  const call = client.makeClientStreamRequest(path, requestSerialize, responseDeserialize, (error) => {
    signal.removeEventListener('abort', cancel);
    settle(error === null ? undefined : toShoal(error));
  });
  call.on('error', () => undefined);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  return {
    async write(message: PublishLogsMessage): Promise<void> {
      if (call.write(message)) return;
      const drained = new Promise<'drained'>((resolve) => call.once('drain', () => resolve('drained')));
      const first = await Promise.race([drained, finished]);
      if (first !== 'drained') throw first ?? new ShoalError('Aborted', 'the manager has ended the log stream');
    },
    async end(): Promise<void> {
      call.end();
      const error = await finished;
      if (error !== undefined) throw error;
    },
  };
}

function reports(client: Client, events: ReportEvents): ReportLink {
  const { path, requestSerialize, responseDeserialize } = grpcMethod(DispatcherService.Reports);
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  call.on('data', (ack: ReportAck) => events.answer(ack));
  call.on('error', (error: ServiceError) => events.ended(toShoal(error)));
  call.on('end', () => events.ended(new ShoalError('Unavailable', 'the manager has ended the stream of reports')));
  return { send: (report) => void call.write(report), close: () => call.cancel() };
}

/**
 * A connection to a manager over gRPC.
 * @param options credentials (mutual TLS of the node's certificate) and channel options, for instance
 *   `grpc.ssl_target_name_override` with the name `swarm-manager`.
 */
export function grpcConnection(
  address: string,
  options: { credentials: ChannelCredentials; clock: Clock; channel?: ChannelOptions },
): AgentConnection {
  const client = new Client(address, options.credentials, {
    'grpc.max_receive_message_length': RECEIVE_MAX_BYTES,
    // A session's connection is its own: a broken one must not be shared with the next try.
    'grpc.use_local_subchannel_pool': 1,
    ...options.channel,
  });
  const { clock } = options;
  const stream = <Request, Response>(
    method: MethodDescription<Request, Response>,
    request: Request,
    signal: AbortSignal,
  ): AsyncIterable<Response> => {
    const { path, requestSerialize, responseDeserialize } = grpcMethod(method);
    return messages(client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request), signal);
  };
  return {
    session: (request, signal) => stream(DispatcherService.Session, request, signal),
    assignments: (request, signal) => stream(DispatcherService.Assignments, request, signal),
    listenSubscriptions: (signal) => stream(LogBrokerService.ListenSubscriptions, {}, signal),
    heartbeat: (request, timeoutMs, signal) =>
      unary(client, clock, DispatcherService.Heartbeat, request, { timeoutMs, signal }),
    updateTaskStatus: async (request, timeoutMs, signal) => {
      await unary(client, clock, DispatcherService.UpdateTaskStatus, request, { timeoutMs, signal });
    },
    reports: (events) => reports(client, events),
    publishLogs: (signal) => publishLogs(client, signal),
    listenChecks: (signal) => stream(NetworkCheckBrokerService.ListenChecks, {}, signal),
    reportCheck: async (report, timeoutMs, signal) => {
      await unary(client, clock, NetworkCheckBrokerService.ReportCheck, report, { timeoutMs, signal });
    },
    attachNetwork: async (request, timeoutMs) => {
      const { AttachNetwork } = ResourceAllocatorService;
      const answer = await unary(client, clock, AttachNetwork, request, { timeoutMs, signal: NEVER });
      return answer.attachment_id;
    },
    detachNetwork: async (attachment_id, timeoutMs) => {
      const { DetachNetwork } = ResourceAllocatorService;
      await unary(client, clock, DetachNetwork, { attachment_id }, { timeoutMs, signal: NEVER });
    },
    isConnected: () => client.getChannel().getConnectivityState(false) === connectivityState.READY,
    close: () => client.close(),
  };
}
