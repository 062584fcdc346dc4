import { once } from 'node:events';
import { ServerResponse, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { invalidArgument } from '../base/index.ts';
import { frame } from './stream.ts';
import type { Takeover } from './router.ts';
import type { AttachedFacts } from './stream-port.ts';
import { acceptWebSocket, carryWebSocket, checkHandshake } from './websocket.ts';

/** Body of a request that takes the connection over, bytes. */
const BODY_MAX_BYTES = 1024 * 1024;
/** Output written to a client's connection before it must have taken it, bytes. */
const SOCKET_BUFFER_MAX_BYTES = 256 * 1024;

/** Silence on a TCP connection after which it is asked whether its other end is still there. */
const KEEP_ALIVE_MS = 30_000;
/** A client that has all output may keep its own side open this long. */
const LINGER_MS = 5000;

/** Calls after which the connection carries the streams of a process. */
const HIJACK_PATHS: Readonly<Record<string, RegExp>> = {
  POST: /^(?:\/v\d+\.\d+)?\/(?:containers\/[^/?]+\/attach|exec\/[^/?]+\/start)(?:\?|$)/,
  GET: /^(?:\/v\d+\.\d+)?\/containers\/[^/?]+\/attach\/ws(?:\?|$)/,
};

function hijackable({ method, url }: IncomingMessage): boolean {
  return HIJACK_PATHS[method ?? '']?.test(url ?? '') === true;
}

/** Node's parser of one connection; `onIncoming` is called with each request's head, before its body is read. */
interface HttpParser {
  onIncoming: ((request: IncomingMessage & { upgrade: boolean }, keepAlive: boolean) => number) | null;
}

export type HijackHandler = (request: IncomingMessage, response: ServerResponse, hijack: Hijack) => void;

/**
 * Hands requests that may take their connection over to `handler`, with all that the client sent after their head, with
 * and without an Upgrade header: node stops reading HTTP at once only if it takes the request for an upgrade. Upgrade
 * headers of other requests are ignored, as node does by itself.
 */
export function takeHijacks(server: Server, handler: HijackHandler): void {
  server.on('connection', (socket: Socket & { parser?: HttpParser | null }) => {
    const { parser } = socket;
    const onIncoming = parser?.onIncoming;
    if (parser === undefined || parser === null || onIncoming === null || onIncoming === undefined) return;
    parser.onIncoming = (request, keepAlive) => {
      request.upgrade = hijackable(request);
      return onIncoming(request, keepAlive);
    };
  });
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.on('finish', () => {
      response.detachSocket(socket);
      socket.end();
    });
    // A client whose host has gone is found out in time.
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    // Told by 'close' as well.
    socket.on('error', () => socket.destroy());
    handler(request, response, new Hijack(request, response, socket, head));
  });
}

/** A connection that a handler may take over. */
export class Hijack implements Takeover {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #socket: Socket;
  #head: Buffer;
  #taken = false;

  constructor(request: IncomingMessage, response: ServerResponse, socket: Socket, head: Buffer) {
    this.#request = request;
    this.#response = response;
    this.#socket = socket;
    this.#head = head;
  }

  /** The answer has begun and is not HTTP any more. */
  get taken(): boolean {
    return this.#taken;
  }

  onClose(listener: () => void): void {
    this.#socket.once('close', listener);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async body(): Promise<Buffer> {
    const { headers } = this.#request;
    if (headers['transfer-encoding'] !== undefined) {
      throw invalidArgument('the body of this call needs a Content-Length: Transfer-Encoding is not taken here');
    }
    const length = Number(headers['content-length'] ?? 0);
    if (!Number.isSafeInteger(length) || length > BODY_MAX_BYTES) {
      throw invalidArgument(`request body is larger than ${BODY_MAX_BYTES} bytes`);
    }
    while (this.#head.length < length) {
      const chunk: unknown = this.#socket.read();
      if (Buffer.isBuffer(chunk)) this.#head = Buffer.concat([this.#head, chunk]);
      else if (this.#socket.readableEnded || this.#socket.destroyed) throw invalidArgument('unexpected EOF');
      else await Promise.race([once(this.#socket, 'readable'), once(this.#socket, 'end'), once(this.#socket, 'close')]);
    }
    const body = this.#head.subarray(0, length);
    this.#head = this.#head.subarray(length);
    return body;
  }

  async carry(attached: AttachedFacts, type: string): Promise<void> {
    const socket = this.#socket;
    this.#taken = true;
    this.#response.detachSocket(socket);
    const upgrade = this.#request.headers.upgrade;
    socket.write(
      upgrade === undefined
        ? `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\n\r\n`
        : `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`,
    );
    const onClose = (): void => attached.close();
    socket.once('close', onClose);
    const input = this.#carryInput(attached);
    for await (const batch of attached.output()) {
      socket.cork();
      for (const { stream, data } of batch) socket.write(attached.tty ? data : frame(stream, data));
      socket.uncork();
      if (socket.destroyed) break;
      if (socket.writableLength > SOCKET_BUFFER_MAX_BYTES) await drained(socket);
    }
    attached.close();
    // What the client still sends is read and dropped: closing on unread input would cut off output on its way.
    socket.end(() => socket.setTimeout(LINGER_MS, () => socket.destroy()));
    await input;
  }

  async carryWebSocket(attach: () => Promise<AttachedFacts>, binary: boolean): Promise<void> {
    const socket = this.#socket;
    checkHandshake(this.#request);
    const attached = await attach();
    this.#taken = true;
    this.#response.detachSocket(socket);
    const client = await acceptWebSocket(this.#request, socket, this.#head);
    if (client === undefined) attached.close();
    else await carryWebSocket(client, socket, attached, binary);
  }

  async #carryInput(attached: AttachedFacts): Promise<void> {
    if (this.#head.length > 0) await attached.write(this.#head);
    try {
      // Destroying it on return would cut off output that the client still reads.
      for await (const data of this.#socket.iterator({ destroyOnReturn: false })) await attached.write(data as Buffer);
      await attached.endInput();
    } catch {
      // The client has gone: `close` is told.
    }
  }
}

async function drained(socket: Socket): Promise<void> {
  if (socket.destroyed || !socket.writableNeedDrain) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}
