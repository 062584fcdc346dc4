import * as grpc from '@grpc/grpc-js';
import { errorMessage, isShoalError } from '../../base/index.ts';
import type {
  ProcessRaftMessageRequest,
  ProcessRaftMessageResponse,
  RaftMessage,
  ResolveAddressRequest,
  ResolveAddressResponse,
  StreamRaftMessageRequest,
  StreamRaftMessageResponse,
} from '../../proto/index.ts';
import { REMOVED_MESSAGE } from './peer.ts';
import { SnapshotAssembler } from './snapshot-chunks.ts';

/** The member as the server half sees it (a RaftNode fits). */
export interface MessageReceiver {
  step(message: RaftMessage): void;
  isRemoved(raftId: number): boolean;
}

type AnyCall = grpc.ServerUnaryCall<never, never> | grpc.ServerReadableStream<never, never>;

export interface RaftHandlerOptions {
  /** The member of this process; undefined while it is not a manager. */
  node: () => MessageReceiver | undefined;
  /** Throws a ShoalError (PermissionDenied) unless the caller may speak for the member `fromRaftId`. */
  authorize: (call: AnyCall, fromRaftId: number) => void;
  /** Address of a member, for ResolveAddress. */
  addressOf: (raftId: number) => string | undefined;
  /** Members removed in times that the node's log no longer tells of. */
  isRemoved?: (raftId: number) => boolean;
}

export interface RaftServiceHandlers extends grpc.UntypedServiceImplementation {
  ProcessRaftMessage: grpc.handleUnaryCall<ProcessRaftMessageRequest, ProcessRaftMessageResponse>;
  StreamRaftMessage: grpc.handleClientStreamingCall<StreamRaftMessageRequest, StreamRaftMessageResponse>;
  ResolveAddress: grpc.handleUnaryCall<ResolveAddressRequest, ResolveAddressResponse>;
}

type Failure = { code: grpc.status; details: string };

function failureOf(error: unknown): Failure {
  if (isShoalError(error)) return { code: error.grpcStatus, details: error.message };
  return { code: grpc.status.INTERNAL, details: errorMessage(error) };
}

/** Hands one whole message to the member. @returns why it is refused, or undefined. */
function deliver(options: RaftHandlerOptions, call: AnyCall, message: RaftMessage): Failure | undefined {
  const node = options.node();
  if (node === undefined) return { code: grpc.status.UNAVAILABLE, details: 'this node is not a manager now' };
  if (node.isRemoved(message.from) || options.isRemoved?.(message.from) === true) {
    return { code: grpc.status.NOT_FOUND, details: REMOVED_MESSAGE };
  }
  try {
    options.authorize(call, message.from);
    node.step(message);
    return undefined;
  } catch (error) {
    return failureOf(error);
  }
}

/** Handlers of the service `Raft`, to be added to the manager's gRPC server with `grpcService(RaftService)`. */
export function raftServiceHandlers(options: RaftHandlerOptions): RaftServiceHandlers {
  return {
    ProcessRaftMessage(call, callback) {
      const { message } = call.request;
      const failure =
        message === null
          ? { code: grpc.status.INVALID_ARGUMENT, details: 'no raft message' }
          : deliver(options, call as unknown as AnyCall, message);
      callback(failure ?? null, {});
    },
    StreamRaftMessage(call, callback) {
      streamMessages(options, call, callback);
    },
    ResolveAddress(call, callback) {
      const addr = options.addressOf(call.request.raft_id);
      if (addr === undefined) {
        callback({ code: grpc.status.NOT_FOUND, details: `member ${call.request.raft_id} is not known` });
      } else {
        callback(null, { addr });
      }
    },
  };
}

function streamMessages(
  options: RaftHandlerOptions,
  call: grpc.ServerReadableStream<StreamRaftMessageRequest, StreamRaftMessageResponse>,
  callback: grpc.sendUnaryData<StreamRaftMessageResponse>,
): void {
  const assembler = new SnapshotAssembler();
  let done = false;
  const finish = (failure: Failure | null): void => {
    if (done) return;
    done = true;
    callback(failure, {});
  };
  const take = (messages: readonly RaftMessage[]): void => {
    for (const message of messages) {
      if (done) return;
      const failure = deliver(options, call as unknown as AnyCall, message);
      if (failure !== undefined) finish(failure);
    }
  };
  call.on('data', (request: StreamRaftMessageRequest) => {
    if (done || request.message === null) return;
    try {
      // Who may not speak may not fill memory either.
      options.authorize(call as unknown as AnyCall, request.message.from);
      take(assembler.push(request.message));
    } catch (error) {
      finish(failureOf(error));
    }
  });
  call.on('end', () => {
    take(assembler.end());
    finish(null);
  });
  call.on('error', (error: unknown) => finish(failureOf(error)));
  call.on('cancelled', () => {
    // An unfinished snapshot is worth nothing.
    done = true;
  });
}
