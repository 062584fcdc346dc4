import { connect, type Socket } from 'node:net';
import { errorMessage, ShoalError } from '../../base/index.ts';
import { indexed, kept, passing } from './hpack.ts';
import { END_HEADERS, END_STREAM, FrameReader, FrameWriter, GRPC_PREFIX_BYTES, HEADERS, PREFACE } from './http2.ts';

/** A request that waits for its answer; one object per client, so that none is made per request. */
export interface Caller {
  /** `message` is a view that is valid during the call. */
  answered(message: Buffer): void;
  failed(error: Error): void;
}

/** Bytes of a request that count against the window: prefix and message. */
interface Waiting {
  path: string;
  message: Uint8Array;
  caller: Caller;
}

/** One HTTP/2 connection for unary gRPC calls: as lean as it can be, since it shares the machine with what it measures. */
export class GrpcConnection {
  readonly #socket: Socket;
  readonly #writer: FrameWriter;
  readonly #reader: FrameReader;
  readonly #callers = new Map<number, Caller>();
  readonly #paths = new Map<string, Buffer>();
  readonly #first: (path: string) => Buffer;
  #nextStream = 1;
  #waiting: Waiting[] = [];
  #lost: Error | null = null;

  private constructor(socket: Socket, authority: string) {
    this.#socket = socket;
    this.#writer = new FrameWriter((bytes) => socket.write(bytes));
    this.#reader = new FrameReader(
      this.#writer,
      {
        headers: (stream, _block, end) => this.#headers(stream, end),
        data: (stream, payload, end) => this.#data(stream, payload, end),
        reset: (stream) => this.#fail(stream, 'the call was reset'),
      },
      false,
    );
    this.#first = (path) => {
      const names = [kept(1, authority), kept(31, 'application/grpc'), kept('te', 'trailers')];
      return Buffer.concat([indexed(3), indexed(6), passing(4, path), ...names]);
    };
    this.#writer.raw(PREFACE);
    this.#writer.begin();
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.#close(error));
    socket.on('close', () => this.#close(new ShoalError('Unavailable', 'the connection was closed')));
  }

  static async connect(host: string, port: number): Promise<GrpcConnection> {
    const socket = connect({ host, port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    return new GrpcConnection(socket, `${host}:${port}`);
  }

  call(path: string, message: Uint8Array, caller: Caller): void {
    if (this.#lost !== null) {
      caller.failed(this.#lost);
      return;
    }
    // The window of the connection; that of a stream is never less than a message of the benchmark.
    if (this.#waiting.length > 0 || this.#reader.sendWindow < GRPC_PREFIX_BYTES + message.length) {
      this.#waiting.push({ path, message, caller });
      return;
    }
    const stream = this.#nextStream;
    this.#nextStream += 2;
    this.#callers.set(stream, caller);
    this.#writer.frame(HEADERS, END_HEADERS, stream, this.#block(path));
    this.#reader.sendWindow -= this.#writer.message(END_STREAM, stream, message);
  }

  close(): void {
    this.#socket.destroy();
  }

  #block(path: string): Buffer {
    const block = this.#paths.get(path);
    if (block !== undefined) return block;
    const first = this.#paths.size === 0;
    // The three kept headers, newest first: te, content-type, authority.
    const names = [indexed(64), indexed(63), indexed(62)];
    const later = Buffer.concat([indexed(3), indexed(6), passing(4, path), ...names]);
    this.#paths.set(path, later);
    return first ? this.#first(path) : later;
  }

  #take(chunk: Buffer): void {
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#close(error instanceof Error ? error : new Error(errorMessage(error)));
      return;
    }
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const { path, message, caller } of waiting) this.call(path, message, caller);
  }

  #headers(stream: number, end: boolean): void {
    // Headers that end the stream are trailers. Without a message before them the call has failed.
    if (end) this.#fail(stream, 'the call was refused');
  }

  #data(stream: number, payload: Buffer, _end: boolean): void {
    const caller = this.#callers.get(stream);
    if (caller === undefined) return;
    if (payload.length < GRPC_PREFIX_BYTES || payload.readUInt32BE(1) !== payload.length - GRPC_PREFIX_BYTES) {
      throw new ShoalError('Unimplemented', 'an answer in several frames');
    }
    // A unary answer with a message is a success; its trailers bring nothing more.
    this.#callers.delete(stream);
    caller.answered(payload.subarray(GRPC_PREFIX_BYTES));
  }

  #fail(stream: number, why: string): void {
    const caller = this.#callers.get(stream);
    if (caller === undefined) return;
    this.#callers.delete(stream);
    caller.failed(new ShoalError('Unavailable', why));
  }

  #close(error: Error): void {
    if (this.#lost !== null) return;
    this.#lost = error;
    this.#socket.destroy();
    const callers = [...this.#callers.values(), ...this.#waiting.map((waiting) => waiting.caller)];
    this.#callers.clear();
    this.#waiting = [];
    for (const caller of callers) caller.failed(error);
  }
}
