import { Client, Metadata, status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import { abortReason, codeFromGrpc, ShoalError, systemClock } from '../base/index.ts';
import { grpcMethod, type MethodDescription } from '../proto/index.ts';

/** Whether a thrown value is a gRPC status. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === 'number' && 'details' in error;
}

/** A gRPC status as a catalogue error with the server's own words; other errors unchanged. */
export function fromServiceError(error: unknown): unknown {
  if (!isServiceError(error)) return error;
  const text = error.details === '' ? error.message : error.details;
  return new ShoalError(codeFromGrpc(error.code), text, { cause: error });
}

/** The status to answer for whatever a handler threw; what is no catalogue error is Unknown with its text. */
export function toServiceError(error: unknown): Partial<ServiceError> {
  if (error instanceof ShoalError) return { code: error.grpcStatus, details: error.message };
  if (isServiceError(error)) return { code: error.code, details: error.details };
  const details = error instanceof Error ? error.message : String(error);
  return { code: grpcStatus.UNKNOWN, details };
}

export interface CallOptions {
  /** Time for the whole call, ms from now on the wall clock. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  metadata?: Metadata | undefined;
}

/**
 * One unary call.
 * @throws ShoalError with the code and the words of the server; the signal's reason when it aborts.
 */
export function callUnary<Request, Response>(
  client: Client,
  method: MethodDescription<Request, Response>,
  request: Request,
  options: CallOptions,
): Promise<Response> {
  const { path, requestSerialize, responseDeserialize } = grpcMethod(method);
  const { signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortReason(signal));
      return;
    }
    const onAbort = (): void => call.cancel();
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      options.metadata ?? new Metadata(),
      { deadline: systemClock.now() + options.timeoutMs },
      (error, response) => {
        signal?.removeEventListener('abort', onAbort);
        if (signal?.aborted === true) reject(abortReason(signal));
        else if (error !== null) reject(fromServiceError(error));
        else resolve(response as Response);
      },
    );
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * One call with many responses. Leaving the loop early cancels the call.
 * @throws ShoalError with the code and the words of the server; the signal's reason when it aborts.
 */
export async function* callServerStream<Request, Response>(
  client: Client,
  method: MethodDescription<Request, Response>,
  request: Request,
  options: { signal: AbortSignal; metadata?: Metadata | undefined },
): AsyncGenerator<Response, void, void> {
  const { signal } = options;
  if (signal.aborted) throw abortReason(signal);
  const { path, requestSerialize, responseDeserialize } = grpcMethod(method);
  const metadata = options.metadata ?? new Metadata();
  const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata);
  const onAbort = (): void => call.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const message of call) yield message as Response;
  } catch (error) {
    throw signal.aborted ? abortReason(signal) : fromServiceError(error);
  } finally {
    signal.removeEventListener('abort', onAbort);
    call.cancel();
  }
}
