import * as grpc from '@grpc/grpc-js';
import type { Clock, Timer } from '../../base/index.ts';
import { grpcMethod, RaftService, ResolveAddressRequest } from '../../proto/index.ts';
import { answerOf } from './hello.ts';

/** Exact words by which SwarmKit's managers tell a member that it was removed. */
export const REMOVED_MESSAGE = 'raft: member was removed from the cluster';

/** A connection that is not there after this time is given up, ms. */
const DIAL_TIMEOUT_MS = 3_000;
/** How long the end of a stream may take after this side has ended it, ms. */
const LINGER_MS = 1_000;

/** How a link ended. */
export interface LinkEnd {
  /** Undefined when the other side took everything and ended the stream as asked. */
  error: string | undefined;
  code: grpc.status;
  /** The other side says that this member was removed. */
  removed: boolean;
}

export interface LinkOptions {
  address: string;
  credentials: () => grpc.ChannelCredentials;
  channelOptions: grpc.ChannelOptions;
  metadata: grpc.Metadata;
  clock: Clock;
  /** Why the manager that answers with this certificate (DER) is not the one meant, or undefined if it is. */
  check: (certificate: Uint8Array | undefined) => string | undefined;
  /** The connection is there. */
  onUp: (link: Link) => void;
  /** The other side's first word; what version it has, and where an offered snapshot is to go on. */
  onAnswer: (link: Link, answer: { version: number; offset: number | undefined }) => void;
  /** Called once, whatever happens. */
  onEnd: (link: Link, end: LinkEnd) => void;
}

const METHOD = grpcMethod(RaftService.StreamRaftMessage);
const RESOLVE = grpcMethod(RaftService.ResolveAddress);
const same = (bytes: Buffer): Buffer => bytes;

/** One attempt to reach a peer: a connection of its own with one message stream on it. Never comes back once it ended. */
export class Link {
  readonly address: string;
  readonly #options: LinkOptions;
  readonly #client: grpc.Client;
  readonly #stream: grpc.ClientWritableStream<Buffer>;
  #timer: Timer | null;
  #state: 'dialing' | 'up' | 'ended' = 'dialing';
  /** What ended the link from this side, if it was this side. */
  #reason: string | undefined;

  constructor(options: LinkOptions) {
    this.address = options.address;
    this.#options = options;
    this.#client = new grpc.Client(options.address, options.credentials(), options.channelOptions);
    this.#stream = this.#client.makeClientStreamRequest<Buffer, unknown>(
      METHOD.path,
      same,
      METHOD.responseDeserialize,
      options.metadata,
      (error) => this.#end(error),
    );
    this.#stream.on('metadata', (metadata: grpc.Metadata) => this.#answered(metadata));
    // A failed write also ends the call; its status says why.
    this.#stream.on('error', () => undefined);
    this.#timer = options.clock.after(DIAL_TIMEOUT_MS, () => this.cancel(`no connection within ${DIAL_TIMEOUT_MS} ms`));
    this.#watch();
  }

  get up(): boolean {
    return this.#state === 'up';
  }

  #watch(): void {
    if (this.#state !== 'dialing') return;
    const channel = this.#client.getChannel();
    const state = channel.getConnectivityState(true);
    if (state === grpc.connectivityState.READY) {
      this.#state = 'up';
      this.#timer?.cancel();
      this.#options.onUp(this);
    } else if (state !== grpc.connectivityState.SHUTDOWN) {
      channel.watchConnectivityState(state, Infinity, (error) => {
        if (error === undefined) this.#watch();
      });
    }
  }

  #answered(metadata: grpc.Metadata): void {
    if (this.#state === 'ended') return;
    const problem = this.#options.check(this.#stream.getAuthContext()?.sslPeerCertificate?.raw);
    if (problem !== undefined) {
      this.cancel(problem);
      return;
    }
    // The first word may overtake the news of the connection.
    this.#watch();
    this.#options.onAnswer(this, answerOf(metadata));
  }

  #end(error: { code: grpc.status; details: string } | null): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#timer?.cancel();
    this.#client.close();
    const removed = error?.code === grpc.status.NOT_FOUND && error.details === REMOVED_MESSAGE;
    const text = this.#reason ?? (error === null ? undefined : error.details);
    this.#options.onEnd(this, { error: text, code: error?.code ?? grpc.status.OK, removed });
  }

  /** Writes one encoded request; `accepted` is called when the connection has taken it. */
  write(bytes: Buffer, accepted: () => void): void {
    this.#stream.write(bytes, (error?: Error | null) => {
      if (this.#state !== 'ended' && (error === undefined || error === null)) accepted();
    });
  }

  /** Nothing more will be written: the other side takes what is on the way, and ends the stream. */
  finish(lingerMs = LINGER_MS): void {
    if (this.#state === 'ended') return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(lingerMs, () => this.cancel(`no answer within ${lingerMs} ms`));
    this.#stream.end();
  }

  /** Ends the link at once. */
  cancel(reason: string): void {
    if (this.#state === 'ended') return;
    this.#reason ??= reason;
    this.#stream.cancel();
    // The status of a call that never began may take its time.
    this.#end({ code: grpc.status.CANCELLED, details: reason });
  }

  /** Asks the manager at the other end for the address of a third one. */
  resolve(raftId: number, timeoutMs: number, answer: (address: string | undefined) => void): void {
    this.#client.makeUnaryRequest(
      RESOLVE.path,
      RESOLVE.requestSerialize,
      RESOLVE.responseDeserialize,
      ResolveAddressRequest.create({ raft_id: raftId }),
      new grpc.Metadata(),
      { deadline: this.#options.clock.now() + timeoutMs },
      (error, response) => answer(error === null ? response?.addr : undefined),
    );
  }
}
