import * as grpc from '@grpc/grpc-js';
import { errorMessage, isShoalError, systemClock, type Clock } from '../../base/index.ts';
import { grpcService, RaftService } from '../../proto/index.ts';
import type {
  ProcessRaftMessageRequest,
  ProcessRaftMessageResponse,
  RaftMessage,
  ResolveAddressRequest,
  ResolveAddressResponse,
  StreamRaftMessageRequest,
  StreamRaftMessageResponse,
} from '../../proto/index.ts';
import { decodeBatch } from './codec.ts';
import { answerMetadata, helloOf, offerOf } from './hello.ts';
import { REMOVED_MESSAGE } from './link.ts';
import { SnapshotAssembler } from './snapshot-chunks.ts';
import { SnapshotInbox, type IncomingSnapshot } from './snapshot-inbox.ts';

/** The member as the server half sees it (a RaftNode fits). */
export interface MessageReceiver {
  /** This member's own id; messages for another are dropped here and counted. */
  readonly id?: number;
  step(message: RaftMessage): void;
  isRemoved(raftId: number): boolean;
}

/** Snapshots of senders that make no offer, received at once at the most. */
const WHOLE_SNAPSHOTS_MAX = 2;

type AnyCall = grpc.ServerUnaryCall<never, never> | grpc.ServerReadableStream<never, never>;

/** What came in over the life of this process. */
export interface RaftReceiveCounters {
  messages: number;
  /** gRPC messages that carried them. */
  batches: number;
  /** For a member that is not here (any more). */
  staleTo: number;
  /** From whom may not speak, or not for that member. */
  refused: number;
  /** From members that were removed. */
  removed: number;
}

export const newReceiveCounters = (): RaftReceiveCounters => ({
  messages: 0,
  batches: 0,
  staleTo: 0,
  refused: 0,
  removed: 0,
});

export interface RaftHandlerOptions {
  /** The member of this process; undefined while it is not a manager. */
  node: () => MessageReceiver | undefined;
  /** Throws a ShoalError (PermissionDenied) unless the caller may speak for the member `fromRaftId`. */
  authorize: (call: AnyCall, fromRaftId: number) => void;
  /** Throws a ShoalError unless the caller may ask where members are. Default: all who get here may. */
  authorizeResolve?: (call: AnyCall) => void;
  /** Address of a member, for ResolveAddress. */
  addressOf: (raftId: number) => string | undefined;
  /** Members removed in times that the node's log no longer tells of. */
  isRemoved?: (raftId: number) => boolean;
  /** A member that is authorised to speak for itself says where it can be reached now (`host:port`). */
  onAddress?: (raftId: number, address: string, call: AnyCall) => void;
  counters?: RaftReceiveCounters;
  /** Default: the system's. */
  clock?: Clock;
}

export interface RaftServiceHandlers extends grpc.UntypedServiceImplementation {
  ProcessRaftMessage: grpc.handleUnaryCall<ProcessRaftMessageRequest, ProcessRaftMessageResponse>;
  StreamRaftMessage: grpc.handleClientStreamingCall<StreamRaftMessageRequest, StreamRaftMessageResponse>;
  ResolveAddress: grpc.handleUnaryCall<ResolveAddressRequest, ResolveAddressResponse>;
}

/** The definition of the service `Raft` for grpc-js, with the lean codec for the stream of messages. */
export function raftServiceDefinition(): ReturnType<typeof grpcService<typeof RaftService>> {
  const definition = grpcService(RaftService);
  return {
    ...definition,
    StreamRaftMessage: { ...definition.StreamRaftMessage, requestDeserialize: (bytes) => decodeBatch(bytes) },
  };
}

type Failure = { code: grpc.status; details: string };

function failureOf(error: unknown): Failure {
  if (isShoalError(error)) return { code: error.grpcStatus, details: error.message };
  return { code: grpc.status.INTERNAL, details: errorMessage(error) };
}

/** What all calls of one server share. */
class Receiver {
  readonly options: RaftHandlerOptions;
  readonly counters: RaftReceiveCounters;
  readonly inbox: SnapshotInbox;
  /** Streams that collect a snapshot without an offer. */
  readonly collecting = new Set<IncomingStream>();

  constructor(options: RaftHandlerOptions) {
    this.options = options;
    this.counters = options.counters ?? newReceiveCounters();
    this.inbox = new SnapshotInbox(options.clock ?? systemClock);
  }

  /** Why a caller may not speak for a member, or undefined. */
  refusal(call: AnyCall, from: number): Failure | undefined {
    const { node, isRemoved, authorize } = this.options;
    const member = node();
    if (member === undefined) return { code: grpc.status.UNAVAILABLE, details: 'this node is not a manager now' };
    if (member.isRemoved(from) || isRemoved?.(from) === true) {
      this.counters.removed++;
      return { code: grpc.status.NOT_FOUND, details: REMOVED_MESSAGE };
    }
    try {
      authorize(call, from);
      return undefined;
    } catch (error) {
      this.counters.refused++;
      return failureOf(error);
    }
  }

  /** Hands one whole message to the member. @returns why it is refused, or undefined. */
  deliver(call: AnyCall, message: RaftMessage): Failure | undefined {
    const refusal = this.refusal(call, message.from);
    if (refusal !== undefined) return refusal;
    const member = this.options.node();
    this.counters.messages++;
    if (member?.id !== undefined && member.id !== message.to) {
      // Meant for a member that this process was before it joined anew, or for one that had this address.
      this.counters.staleTo++;
      return undefined;
    }
    try {
      member?.step(message);
      return undefined;
    } catch (error) {
      return failureOf(error);
    }
  }
}

/** Handlers of the service `Raft`, to be added to the manager's gRPC server with `raftServiceDefinition()`. */
export function raftServiceHandlers(options: RaftHandlerOptions): RaftServiceHandlers {
  const receiver = new Receiver(options);
  return {
    ProcessRaftMessage(call, callback) {
      const { message } = call.request;
      const failure =
        message === null
          ? { code: grpc.status.INVALID_ARGUMENT, details: 'no raft message' }
          : receiver.deliver(call as unknown as AnyCall, message);
      callback(failure ?? null, {});
    },
    StreamRaftMessage(call, callback) {
      new IncomingStream(receiver, call, callback).begin();
    },
    ResolveAddress(call, callback) {
      try {
        options.authorizeResolve?.(call as unknown as AnyCall);
      } catch (error) {
        receiver.counters.refused++;
        callback(failureOf(error));
        return;
      }
      const addr = options.addressOf(call.request.raft_id);
      if (addr === undefined) {
        callback({ code: grpc.status.NOT_FOUND, details: `member ${call.request.raft_id} is not known` });
      } else {
        callback(null, { addr });
      }
    },
  };
}

/** One stream of messages from another member. */
class IncomingStream {
  readonly #receiver: Receiver;
  readonly #call: grpc.ServerReadableStream<StreamRaftMessageRequest, StreamRaftMessageResponse>;
  readonly #callback: grpc.sendUnaryData<StreamRaftMessageResponse>;
  readonly #assembler = new SnapshotAssembler();
  /** The snapshot that was offered at the beginning, if one was. */
  #snapshot: IncomingSnapshot | undefined;
  #done = false;

  constructor(
    receiver: Receiver,
    call: grpc.ServerReadableStream<StreamRaftMessageRequest, StreamRaftMessageResponse>,
    callback: grpc.sendUnaryData<StreamRaftMessageResponse>,
  ) {
    this.#receiver = receiver;
    this.#call = call;
    this.#callback = callback;
  }

  get #peer(): AnyCall {
    return this.#call as unknown as AnyCall;
  }

  begin(): void {
    const call = this.#call;
    call.on('data', (request: StreamRaftMessageRequest) => this.#guard(() => this.#take(request)));
    call.on('end', () => this.#guard(() => this.#end()));
    call.on('error', (error: unknown) => this.#finish(failureOf(error)));
    call.on('cancelled', () => {
      // What was collected of a snapshot without an offer is worth nothing.
      this.#done = true;
      this.#receiver.collecting.delete(this);
    });
    this.#guard(() => this.#greet());
  }

  #guard(run: () => void): void {
    if (this.#done) return;
    try {
      run();
    } catch (error) {
      this.#finish(failureOf(error));
    }
  }

  #finish(failure: Failure | null): void {
    if (this.#done) return;
    this.#done = true;
    this.#receiver.collecting.delete(this);
    this.#callback(failure, {});
  }

  /** Tells the other side at once what this one understands, or that it may not speak. */
  #greet(): void {
    const { metadata } = this.#call;
    const [hello, offer] = [helloOf(metadata), offerOf(metadata)];
    for (const from of [hello?.raftId, offer?.from]) {
      const refusal = from === undefined ? undefined : this.#receiver.refusal(this.#peer, from);
      if (refusal !== undefined) {
        this.#finish(refusal);
        return;
      }
    }
    // Who may not speak may not fill memory either.
    if (offer !== undefined) this.#snapshot = this.#receiver.inbox.open(offer);
    this.#call.sendMetadata(answerMetadata(this.#snapshot?.offset));
    if (hello === undefined || hello.address === '') return;
    this.#receiver.options.onAddress?.(hello.raftId, hello.address, this.#peer);
  }

  #take(request: StreamRaftMessageRequest): void {
    if (request.message === null) return;
    const { counters, options } = this.#receiver;
    counters.batches++;
    if (this.#snapshot !== undefined) {
      options.authorize(this.#peer, request.message.from);
      this.#snapshot.add(request.message, request.snapshot_offset);
      return;
    }
    this.#push(request.message);
    for (const message of request.more) this.#push(message);
  }

  #push(message: RaftMessage): void {
    if (this.#done) return;
    const refusal = message.snapshot === null ? undefined : this.#collect(message.from);
    if (message.snapshot === null && this.#assembler.pending) this.#receiver.collecting.delete(this);
    if (refusal !== undefined) this.#finish(refusal);
    else this.#deliver(this.#assembler.push(message));
  }

  /** Why this stream may not fill memory with a snapshot, or undefined. */
  #collect(from: number): Failure | undefined {
    const { collecting } = this.#receiver;
    const refusal = this.#receiver.refusal(this.#peer, from);
    if (refusal !== undefined) return refusal;
    if (!collecting.has(this) && collecting.size >= WHOLE_SNAPSHOTS_MAX) {
      return { code: grpc.status.RESOURCE_EXHAUSTED, details: 'enough raft snapshots are being received' };
    }
    collecting.add(this);
    return undefined;
  }

  #deliver(messages: readonly RaftMessage[]): void {
    for (const message of messages) {
      if (this.#done) return;
      const failure = this.#receiver.deliver(this.#peer, message);
      if (failure !== undefined) this.#finish(failure);
    }
  }

  #end(): void {
    if (this.#snapshot === undefined) this.#deliver(this.#assembler.end());
    else this.#deliver([this.#snapshot.finish()]);
    this.#finish(null);
  }
}
