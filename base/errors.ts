/**
 * The error catalogue. Every error that a user can see is one of these codes; each has one HTTP and one gRPC status.
 * HTTP statuses follow the Docker Engine API, gRPC numbers follow google.rpc.Code.
 */
export const ERROR_CATALOGUE = {
  /** The request is malformed, whatever the state of the system. */
  InvalidArgument: { http: 400, grpc: 3 },
  NotFound: { http: 404, grpc: 5 },
  AlreadyExists: { http: 409, grpc: 6 },
  /** The request conflicts with the present state of one object (a running container, a used image). */
  Conflict: { http: 409, grpc: 10 },
  PermissionDenied: { http: 403, grpc: 7 },
  Unauthenticated: { http: 401, grpc: 16 },
  /** The state of the cluster forbids the request now; it must be changed first. */
  FailedPrecondition: { http: 400, grpc: 9 },
  OutOfRange: { http: 400, grpc: 11 },
  /** Not available now; the same request may succeed later. */
  Unavailable: { http: 503, grpc: 14 },
  DeadlineExceeded: { http: 500, grpc: 4 },
  ResourceExhausted: { http: 500, grpc: 8 },
  Unimplemented: { http: 501, grpc: 12 },
  /** The request changed nothing because nothing had to change (HTTP 304). */
  NotModified: { http: 304, grpc: 0 },
  Aborted: { http: 500, grpc: 10 },
  DataLoss: { http: 500, grpc: 15 },
  Unknown: { http: 500, grpc: 2 },
  Internal: { http: 500, grpc: 13 },
} as const;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

/** An error with a code of the catalogue. `message` names the thing and the way out; it is shown to users unchanged. */
export class ShoalError extends Error {
  override readonly name = 'ShoalError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get httpStatus(): number {
    return ERROR_CATALOGUE[this.code].http;
  }

  get grpcStatus(): number {
    return ERROR_CATALOGUE[this.code].grpc;
  }
}

/** Whether `error` is a catalogue error of one of the given codes (of any code when none is given). */
export function isShoalError(error: unknown, ...codes: ErrorCode[]): error is ShoalError {
  return error instanceof ShoalError && (codes.length === 0 || codes.includes(error.code));
}

/** Code for a gRPC status number; Unknown for numbers that have none. */
export function codeFromGrpc(status: number): ErrorCode {
  const preferred: Record<number, ErrorCode> = { 10: 'Aborted', 0: 'Unknown' };
  const known = preferred[status];
  if (known !== undefined) return known;
  for (const [code, entry] of Object.entries(ERROR_CATALOGUE)) {
    if (entry.grpc === status) return code as ErrorCode;
  }
  return 'Unknown';
}

/** The text of whatever was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export const invalidArgument = (message: string): ShoalError => new ShoalError('InvalidArgument', message);
export const notFound = (message: string): ShoalError => new ShoalError('NotFound', message);
export const alreadyExists = (message: string): ShoalError => new ShoalError('AlreadyExists', message);
export const conflict = (message: string): ShoalError => new ShoalError('Conflict', message);
export const failedPrecondition = (message: string): ShoalError => new ShoalError('FailedPrecondition', message);
export const unavailable = (message: string): ShoalError => new ShoalError('Unavailable', message);
