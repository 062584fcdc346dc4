import * as grpc from '@grpc/grpc-js';
import { backoffDelayMs, must } from '../../base/index.ts';
import type { Clock, Logger, Random, Timer } from '../../base/index.ts';
import { grpcMethod, RaftMessageType, RaftService } from '../../proto/index.ts';
import type { RaftMessage, StreamRaftMessageRequest, StreamRaftMessageResponse } from '../../proto/index.ts';
import { splitSnapshot } from './snapshot-chunks.ts';
import type { RaftTransportReports } from './transport.ts';

/** Messages that wait for one peer at the most; the oldest gives way (raft sends again what matters). */
export const PEER_QUEUE_MESSAGES = 4096;
const RECONNECT_BASE_MS = 50;
const RECONNECT_CAP_MS = 1000;
/** A snapshot of which the peer takes nothing for this long has failed. */
const SNAPSHOT_STALL_MS = 10_000;

/** Exact words by which SwarmKit's managers tell a member that it was removed. */
export const REMOVED_MESSAGE = 'raft: member was removed from the cluster';

export interface PeerOptions {
  raftId: number;
  address: string;
  credentials: () => grpc.ChannelCredentials;
  channelOptions: grpc.ChannelOptions;
  clock: Clock;
  random: Random;
  log: Logger;
  reports: RaftTransportReports;
}

type MessageStream = grpc.ClientWritableStream<StreamRaftMessageRequest>;

/** The way to one other member: one long-lived stream, and one more for each snapshot. */
export class Peer {
  readonly address: string;
  readonly #options: PeerOptions;
  readonly #log: Logger;
  #client: grpc.Client | null = null;
  #stream: MessageStream | null = null;
  #snapshot: MessageStream | null = null;
  #watchdog: Timer | null = null;
  #queue: RaftMessage[] = [];
  /** The stream's buffer is full; writing goes on when it drains. */
  #blocked = false;
  #failures = 0;
  #openedAt = 0;
  #retry: Timer | null = null;
  #closed = false;

  constructor(options: PeerOptions) {
    this.address = options.address;
    this.#options = options;
    this.#log = options.log.with({ peer: options.raftId, address: options.address });
  }

  send(message: RaftMessage): void {
    if (this.#closed) return;
    if (message.type === RaftMessageType.MsgSnap) {
      this.#sendSnapshot(message);
      return;
    }
    if (this.#queue.length >= PEER_QUEUE_MESSAGES) {
      this.#queue.shift();
      this.#options.reports.unreachable(this.#options.raftId);
    }
    this.#queue.push(message);
    this.#flush();
  }

  #flush(): void {
    // While a connection is not to be tried again yet, messages would only grow stale.
    if (this.#retry !== null) {
      this.#queue = [];
      return;
    }
    if (this.#stream === null) {
      this.#openedAt = this.#options.clock.monotonic();
      this.#stream = this.#open((error) => this.#onStreamEnd(error));
    }
    const stream = this.#stream;
    while (this.#queue.length > 0 && !this.#blocked) {
      const message = must(this.#queue.shift(), 'queued message');
      if (!stream.write({ message })) this.#blocked = true;
    }
  }

  #open(onEnd: (error: grpc.ServiceError | null) => void): MessageStream {
    const { credentials, channelOptions } = this.#options;
    this.#client ??= new grpc.Client(this.address, credentials(), channelOptions);
    const method = grpcMethod<StreamRaftMessageRequest, StreamRaftMessageResponse>(RaftService.StreamRaftMessage);
    const stream = this.#client.makeClientStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      (error) => onEnd(error),
    );
    stream.on('drain', () => {
      if (stream !== this.#stream) return;
      this.#blocked = false;
      this.#flush();
    });
    // A failed write also ends the call; its status says why.
    stream.on('error', () => undefined);
    return stream;
  }

  /** The peer ended the stream, or it broke: what was on it is lost. */
  #onStreamEnd(error: grpc.ServiceError | null): void {
    this.#stream = null;
    this.#blocked = false;
    this.#queue = [];
    if (this.#closed) return;
    this.#noteRemoved(error);
    const { clock, random, raftId, reports } = this.#options;
    // A stream that held for a while worked: its end is the first failure, not one more.
    if (clock.monotonic() - this.#openedAt > 2 * RECONNECT_CAP_MS) this.#failures = 0;
    const delayMs = backoffDelayMs(this.#failures++, { baseMs: RECONNECT_BASE_MS, capMs: RECONNECT_CAP_MS }, random);
    if (this.#failures === 1) this.#log.info('raft stream ended', { error: error?.details ?? 'closed by the peer' });
    this.#retry = clock.after(delayMs, () => {
      this.#retry = null;
    });
    reports.unreachable(raftId);
  }

  #noteRemoved(error: grpc.ServiceError | null): void {
    if (error?.code === grpc.status.NOT_FOUND && error.details === REMOVED_MESSAGE) this.#options.reports.removed();
  }

  #sendSnapshot(message: RaftMessage): void {
    const { raftId, reports } = this.#options;
    // One at a time; the leader asks again when it hears nothing of it.
    if (this.#snapshot !== null) return;
    const finish = (delivered: boolean): void => {
      if (this.#snapshot !== stream) return;
      this.#snapshot = null;
      this.#watchdog?.cancel();
      reports.snapshot(raftId, delivered);
    };
    const stream = this.#open((error) => {
      this.#noteRemoved(error);
      if (error !== null) this.#log.warn('raft snapshot was not delivered', { error: error.details });
      finish(error === null);
    });
    this.#snapshot = stream;
    const chunks = splitSnapshot(message);
    const pump = (): void => {
      if (this.#snapshot !== stream) return;
      this.#watchdog?.cancel();
      this.#watchdog = this.#options.clock.after(SNAPSHOT_STALL_MS, () => stream.cancel());
      // Bounded by the size of the snapshot.
      for (let chunk = chunks.next(); chunk.done !== true; chunk = chunks.next()) {
        if (!stream.write({ message: chunk.value })) return;
      }
      stream.end();
    };
    stream.on('drain', pump);
    pump();
  }

  /** Lets what is queued go out, then ends the streams. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#retry?.cancel();
    this.#retry = null;
    if (this.#stream !== null) for (const message of this.#queue) this.#stream.write({ message });
    this.#queue = [];
    this.#stream?.end();
    this.#watchdog?.cancel();
    this.#snapshot?.cancel();
    this.#snapshot = null;
    // A channel that is closed with calls on it ends when they do.
    this.#client?.close();
  }

  /** Ends the streams at once. */
  abort(): void {
    const stream = this.#stream;
    this.close();
    stream?.cancel();
  }
}
