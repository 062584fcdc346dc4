import { createServer, type Server, type Socket } from 'node:net';
import { errorMessage } from '../../base/index.ts';
import { indexed, kept, PathReader } from './hpack.ts';
import { END_HEADERS, END_STREAM, FrameReader, FrameWriter, GRPC_PREFIX_BYTES, HEADERS } from './http2.ts';

/** Answers of one connection. */
export interface Answers {
  message(stream: number, message: Uint8Array): void;
  /** Fails a call with UNAVAILABLE. */
  unavailable(stream: number): void;
}

/** Called for each request; `message` is a view of what was received and stays valid. */
export type Handle = (path: string, message: Buffer, stream: number, answers: Answers) => void;

const STATUS_UNAVAILABLE = '14';

/** Serves unary gRPC calls on one connection. */
class Connection implements Answers {
  readonly #writer: FrameWriter;
  readonly #reader: FrameReader;
  readonly #paths = new PathReader();
  readonly #open = new Map<number, string>();
  readonly #queue: { stream: number; message: Uint8Array }[] = [];
  #head = Buffer.concat([indexed(8), kept(31, 'application/grpc')]);
  #trailers = kept('grpc-status', '0');
  readonly #socket: Socket;

  constructor(socket: Socket, handle: Handle) {
    this.#socket = socket;
    this.#writer = new FrameWriter((bytes) => socket.write(bytes));
    this.#reader = new FrameReader(
      this.#writer,
      {
        headers: (stream, block) => this.#open.set(stream, this.#paths.path(block)),
        data: (stream, payload) => {
          const path = this.#open.get(stream);
          if (path === undefined) return;
          this.#open.delete(stream);
          handle(path, payload.subarray(GRPC_PREFIX_BYTES), stream, this);
        },
        reset: (stream) => this.#open.delete(stream),
      },
      true,
    );
    this.#writer.begin();
  }

  push(chunk: Buffer): void {
    this.#reader.push(chunk);
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      if (this.#reader.sendWindow < GRPC_PREFIX_BYTES + next.message.length) {
        this.#queue.unshift(next);
        return;
      }
      this.#send(next.stream, next.message);
    }
  }

  message(stream: number, message: Uint8Array): void {
    if (this.#socket.destroyed) return;
    if (this.#queue.length > 0 || this.#reader.sendWindow < GRPC_PREFIX_BYTES + message.length) {
      this.#queue.push({ stream, message });
    } else {
      this.#send(stream, message);
    }
  }

  #send(stream: number, message: Uint8Array): void {
    this.#writer.frame(HEADERS, END_HEADERS, stream, this.#head);
    this.#reader.sendWindow -= this.#writer.message(0, stream, message);
    this.#writer.frame(HEADERS, END_HEADERS | END_STREAM, stream, this.#trailers);
    // Both stand in the other side's table from now on.
    this.#head = HEAD_AGAIN;
    this.#trailers = TRAILERS_AGAIN;
  }

  unavailable(stream: number): void {
    if (this.#socket.destroyed) return;
    const status = Buffer.concat([Buffer.of(0), REFUSAL]);
    const block = Buffer.concat([indexed(8), CONTENT_TYPE, status]);
    this.#writer.frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
  }
}

const named = (value: string): Buffer => Buffer.concat([Buffer.of(value.length), Buffer.from(value, 'latin1')]);
const HEAD_AGAIN = Buffer.concat([indexed(8), indexed(63)]);
const TRAILERS_AGAIN = indexed(62);
const REFUSAL = Buffer.concat([named('grpc-status'), named(STATUS_UNAVAILABLE)]);
/** `content-type` without a place in the table: index 31 does not fit the four bits of the first byte. */
const CONTENT_TYPE = Buffer.concat([Buffer.of(0x0f, 31 - 15), named('application/grpc')]);

/** Listens on a port of 127.0.0.1 (or `host`). */
export function serveGrpc(host: string, port: number, handle: Handle): Promise<Server> {
  const server = createServer({ noDelay: true }, (socket) => {
    const connection = new Connection(socket, handle);
    socket.on('data', (chunk: Buffer) => {
      try {
        connection.push(chunk);
      } catch (error) {
        console.error(`bench member: ${errorMessage(error)}`);
        socket.destroy();
      }
    });
    socket.on('error', () => socket.destroy());
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve(server));
  });
}
