import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls';
import { errorMessage, ShoalError } from '../../base/index.ts';
import { indexed, kept, passing } from '../raft/hpack.ts';
import {
  END_HEADERS,
  END_STREAM,
  FrameReader,
  FrameWriter,
  GRPC_PREFIX_BYTES,
  HEADERS,
  PREFACE,
  WINDOW_INITIAL,
} from '../raft/http2.ts';

/** Output gathered at once; the largest report of an agent must fit one frame, 16 KiB. */
const SLAB_BYTES = 32 * 1024;
/** Name in the certificates of managers. */
const SERVER_NAME = 'swarm-manager';

/** One call that is open. */
export interface Call {
  message(bytes: Buffer): void;
  /** The call is over: without an error for a unary one that was answered. */
  ended(error: Error | undefined): void;
}

interface Open {
  call: Call;
  answered: boolean;
  unary: boolean;
  path: string;
  /** Bytes of a message that have not all come. */
  rest: Buffer | undefined;
  /** What may still be sent on a stream that stays open, and what waits for it. */
  sendWindow: number;
  waiting: Uint8Array[];
}

/**
 * One agent's connection to a manager: gRPC over HTTP/2 over mutual TLS, as lean as can be, since thousands share the
 * machine with the managers that they load.
 */
export class AgentConnection {
  readonly #socket: TLSSocket;
  readonly #writer: FrameWriter;
  readonly #reader: FrameReader;
  readonly #open = new Map<number, Open>();
  readonly #blocks = new Map<string, Buffer>();
  readonly #authority: string;
  #nextStream = 1;
  #lost: Error | undefined;
  onLost: ((error: Error) => void) | undefined;

  private constructor(socket: TLSSocket, authority: string) {
    this.#socket = socket;
    this.#authority = authority;
    this.#writer = new FrameWriter((bytes) => socket.write(bytes), SLAB_BYTES);
    this.#reader = new FrameReader(
      this.#writer,
      {
        headers: (stream, _block, end) => (end ? this.#end(stream) : undefined),
        data: (stream, payload, end) => {
          this.#data(stream, payload);
          if (end) this.#end(stream);
        },
        reset: (stream) => this.#end(stream),
        window: (stream, bytes) => this.#widen(stream, bytes),
      },
      false,
    );
    this.#writer.raw(PREFACE);
    this.#writer.begin();
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.#close(error));
    socket.on('close', () => this.#close(new ShoalError('Unavailable', 'the connection was closed')));
  }

  static async connect(addr: string, secureContext: SecureContext): Promise<AgentConnection> {
    const at = addr.lastIndexOf(':');
    const socket = connectTls({
      ...{ host: addr.slice(0, at), port: Number(addr.slice(at + 1)), servername: SERVER_NAME },
      ...{ secureContext, ALPNProtocols: ['h2'] },
    });
    socket.setNoDelay(true);
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', () => resolve());
      socket.once('error', reject);
    });
    return new AgentConnection(socket, addr);
  }

  /** Sends one message and half-closes; answers go to `call`. */
  call(path: string, message: Uint8Array, unary: boolean, call: Call): void {
    const stream = this.#begin(path, unary, call);
    if (stream !== undefined) this.#message(stream, message, END_STREAM);
  }

  /**
   * Opens a stream for messages in both directions. @returns what sends one on it: in order, when its window has room.
   * What was sent and is not answered is bounded by the caller.
   */
  stream(path: string, call: Call): (message: Uint8Array) => void {
    const stream = this.#begin(path, false, call);
    return (message) => {
      const open = stream === undefined ? undefined : this.#open.get(stream);
      open?.waiting.push(message);
      if (stream !== undefined && open?.waiting.length === 1) this.#widen(stream, 0);
    };
  }

  #begin(path: string, unary: boolean, call: Call): number | undefined {
    if (this.#lost !== undefined) {
      call.ended(this.#lost);
      return undefined;
    }
    const stream = this.#nextStream;
    this.#nextStream += 2;
    const windows = { sendWindow: WINDOW_INITIAL, waiting: [] };
    this.#open.set(stream, { call, unary, path, answered: false, rest: undefined, ...windows });
    this.#writer.frame(HEADERS, END_HEADERS, stream, this.#block(path));
    return stream;
  }

  #message(stream: number, message: Uint8Array, flags: number): void {
    if (this.#reader.sendWindow < GRPC_PREFIX_BYTES + message.length) {
      this.#close(new ShoalError('ResourceExhausted', 'the manager does not open the window of a connection'));
      return;
    }
    this.#reader.sendWindow -= this.#writer.message(flags, stream, message);
  }

  /** Sends what waits on a stream as far as its window goes. */
  #widen(stream: number, bytes: number): void {
    const open = this.#open.get(stream);
    if (open === undefined) return;
    open.sendWindow += bytes;
    for (let next = open.waiting[0]; next !== undefined; next = open.waiting[0]) {
      const length = GRPC_PREFIX_BYTES + next.length;
      if (open.sendWindow < length) return;
      open.waiting.shift();
      open.sendWindow -= length;
      this.#message(stream, next, 0);
    }
  }

  close(): void {
    this.onLost = undefined;
    this.#socket.destroy();
  }

  #block(path: string): Buffer {
    const known = this.#blocks.get(path);
    if (known !== undefined) return known;
    const first = this.#blocks.size === 0;
    // Method, scheme and path; then three headers that the first request puts into the table, newest first.
    const names = [indexed(64), indexed(63), indexed(62)];
    const request = [indexed(3), indexed(7), passing(4, path)];
    const later = Buffer.concat([...request, ...names]);
    this.#blocks.set(path, later);
    if (!first) return later;
    const full = [kept(1, this.#authority), kept(31, 'application/grpc'), kept('te', 'trailers')];
    return Buffer.concat([...request, ...full]);
  }

  #take(chunk: Buffer): void {
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#close(error instanceof Error ? error : new Error(errorMessage(error)));
    }
  }

  #data(stream: number, payload: Buffer): void {
    const open = this.#open.get(stream);
    if (open === undefined) return;
    let input = open.rest === undefined ? payload : Buffer.concat([open.rest, payload]);
    open.rest = undefined;
    while (input.length >= GRPC_PREFIX_BYTES) {
      const end = GRPC_PREFIX_BYTES + input.readUInt32BE(1);
      if (input.length < end) break;
      open.answered = true;
      open.call.message(input.subarray(GRPC_PREFIX_BYTES, end));
      input = input.subarray(end);
    }
    if (input.length > 0) open.rest = input;
  }

  #end(stream: number): void {
    const open = this.#open.get(stream);
    if (open === undefined) return;
    this.#open.delete(stream);
    const fine = open.unary && open.answered;
    open.call.ended(fine ? undefined : new ShoalError('Unavailable', `the manager has ended ${open.path}`));
  }

  #close(error: Error): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    this.#socket.destroy();
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const { call } of open) call.ended(error);
    this.onLost?.(error);
  }
}
