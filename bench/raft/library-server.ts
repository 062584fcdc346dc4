import * as grpc from '@grpc/grpc-js';
import type { Handle } from './grpc-server.ts';
import { PUT_PATH, RANGE_PATH } from './kv-messages.ts';

const same = (bytes: Buffer): Buffer => bytes;

function method(path: string): grpc.MethodDefinition<Buffer, Buffer> {
  const bytes = {
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
  return { path, requestStream: false, responseStream: false, ...bytes };
}

/** The same service through the gRPC library that the managers use, for comparison. */
export async function serveByLibrary(address: string, handle: Handle): Promise<void> {
  const implementation =
    (path: string): grpc.handleUnaryCall<Buffer, Buffer> =>
    (call, callback) => {
      const refused = { code: grpc.status.UNAVAILABLE, details: 'not now' };
      const answer = (_stream: number, message: Uint8Array): void => callback(null, Buffer.from(message));
      handle(path, call.request, 0, { message: answer, unavailable: () => callback(refused) });
    };
  const server = new grpc.Server();
  const methods = { Put: method(PUT_PATH), Range: method(RANGE_PATH) };
  server.addService(methods, { Put: implementation(PUT_PATH), Range: implementation(RANGE_PATH) });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
}
