import type {
  Client,
  Deadline,
  Metadata,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceError,
  sendUnaryData,
} from '@grpc/grpc-js';
import { toServiceError } from '../../identity/index.ts';

/** Time for a forwarded unary call that came without a deadline, ms. */
const FORWARD_TIMEOUT_MS = 30_000;

/** Where a call goes, and what goes with it. Messages pass as bytes, undecoded. */
export interface ForwardTarget {
  client: Client;
  path: string;
  metadata: Metadata;
}

const same = (bytes: Buffer): Buffer => bytes;

const passError = (error: ServiceError): Partial<ServiceError> =>
  toServiceError(Object.assign(error, { metadata: undefined }));

/** The caller's deadline, or a bound of our own. */
function deadlineOf(deadline: Deadline, nowMs: number): number {
  const given = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(given) ? given : nowMs + FORWARD_TIMEOUT_MS;
}

export function forwardUnary(
  call: ServerUnaryCall<Buffer, Buffer>,
  reply: sendUnaryData<Buffer>,
  target: ForwardTarget,
  nowMs: number,
): void {
  const out = target.client.makeUnaryRequest(
    target.path,
    same,
    same,
    call.request,
    target.metadata,
    { deadline: deadlineOf(call.getDeadline(), nowMs) },
    (error, response) => {
      if (error !== null) reply(passError(error));
      else reply(null, response);
    },
  );
  call.on('cancelled', () => out.cancel());
}

export function forwardServerStream(call: ServerWritableStream<Buffer, Buffer>, target: ForwardTarget): void {
  const out = target.client.makeServerStreamRequest<Buffer, Buffer>(
    target.path,
    same,
    same,
    call.request,
    target.metadata,
  );
  call.on('cancelled', () => out.cancel());
  out.on('data', (message: Buffer) => {
    if (call.write(message)) return;
    out.pause();
    call.once('drain', () => out.resume());
  });
  out.on('end', () => call.end());
  out.on('error', (error: ServiceError) => call.emit('error', passError(error)));
}

export function forwardClientStream(
  call: ServerReadableStream<Buffer, Buffer>,
  reply: sendUnaryData<Buffer>,
  target: ForwardTarget,
): void {
  const out = target.client.makeClientStreamRequest<Buffer, Buffer>(
    target.path,
    same,
    same,
    target.metadata,
    (error, response) => {
      if (error !== null) reply(passError(error));
      else reply(null, response);
    },
  );
  call.on('cancelled', () => out.cancel());
  call.on('error', () => out.cancel());
  call.on('data', (message: Buffer) => {
    if (out.write(message)) return;
    call.pause();
    out.once('drain', () => call.resume());
  });
  call.on('end', () => out.end());
}

/** Both directions with their back-pressure; what ends one side ends the other. */
export function forwardDuplex(call: ServerDuplexStream<Buffer, Buffer>, target: ForwardTarget): void {
  const out = target.client.makeBidiStreamRequest<Buffer, Buffer>(target.path, same, same, target.metadata);
  let over = false;
  const stop = (): void => {
    over = true;
    out.cancel();
  };
  call.on('cancelled', stop);
  call.on('data', (message: Buffer) => {
    if (over || out.write(message)) return;
    call.pause();
    out.once('drain', () => call.resume());
  });
  call.on('end', () => {
    if (!over) out.end();
  });
  out.on('data', (message: Buffer) => {
    if (over || call.write(message)) return;
    out.pause();
    call.once('drain', () => out.resume());
  });
  out.on('end', () => {
    if (!over) call.end();
    over = true;
  });
  out.on('error', (error: ServiceError) => {
    if (over) return;
    over = true;
    call.emit('error', passError(error));
  });
}
