import type { MessageType } from './message.ts';

/** One method of a service, as generated. */
export interface MethodDescription<Request, Response> {
  readonly path: string;
  readonly request: MessageType<Request>;
  readonly response: MessageType<Response>;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

/** The structure grpc-js wants of one method (its MethodDefinition). */
export interface GrpcMethod<Request, Response> {
  path: string;
  requestStream: boolean;
  responseStream: boolean;
  requestSerialize: (value: Request) => Buffer;
  requestDeserialize: (bytes: Buffer) => Request;
  responseSerialize: (value: Response) => Buffer;
  responseDeserialize: (bytes: Buffer) => Response;
}

function buffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The grpc-js definition of one method. */
export function grpcMethod<Request, Response>(
  method: MethodDescription<Request, Response>,
): GrpcMethod<Request, Response> {
  return {
    path: method.path,
    requestStream: method.requestStream,
    responseStream: method.responseStream,
    requestSerialize: (value) => buffer(method.request.encode(value as never)),
    requestDeserialize: (bytes) => method.request.decode(bytes),
    responseSerialize: (value) => buffer(method.response.encode(value as never)),
    responseDeserialize: (bytes) => method.response.decode(bytes),
  };
}

/** What every method has, whatever its messages. */
export interface AnyMethod {
  readonly path: string;
  readonly request: unknown;
  readonly response: unknown;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

/** The grpc-js definition of a whole service, for `Server.addService`. */
export function grpcService<Methods extends Readonly<Record<string, AnyMethod>>>(
  methods: Methods,
): { [Name in keyof Methods]: GrpcMethod<RequestOf<Methods[Name]>, ResponseOf<Methods[Name]>> } {
  return Object.fromEntries(
    Object.entries(methods).map(([name, method]) => [name, grpcMethod(method as MethodDescription<unknown, unknown>)]),
  ) as never;
}

/** Request type of a generated method. */
export type RequestOf<Method> = Method extends MethodDescription<infer Request, infer _Response> ? Request : never;
/** Response type of a generated method. */
export type ResponseOf<Method> = Method extends MethodDescription<infer _Request, infer Response> ? Response : never;
