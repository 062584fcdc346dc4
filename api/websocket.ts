import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { RawData, WebSocket, WebSocketServer } from 'ws';
import { invalidArgument, ShoalError } from '../base/index.ts';
import type { AttachedFacts } from './stream-port.ts';

/** Largest message of input, bytes; a larger one ends the connection (close code 1009). */
const MESSAGE_MAX_BYTES = 1024 * 1024;
/** Output written to a client's connection before it must have taken it, bytes. */
const SOCKET_BUFFER_MAX_BYTES = 256 * 1024;
/** What a client sent before it left is handed on this long, if the process takes it. */
const LAST_INPUT_MS = 5000;
const NORMAL_CLOSURE = 1000;
/** The connection has ended without a word of it. */
const ABNORMAL_CLOSURE = 1006;

let acceptor: WebSocketServer | undefined;

/** Loaded for the first client that asks: an idle daemon does not pay for it. */
async function getAcceptor(): Promise<WebSocketServer> {
  const { WebSocketServer: Server } = await import('ws');
  acceptor ??= new Server({
    noServer: true,
    clientTracking: false,
    maxPayload: MESSAGE_MAX_BYTES,
    perMessageDeflate: false,
    // Clients of docker send what a terminal sends as text messages, whatever it is.
    skipUTF8Validation: true,
  });
  return acceptor;
}

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];

/**
 * Whether a request may be of a web page of somebody else's. Browsers let any page open WebSockets to any host, so a page
 * could reach the terminals of a daemon that listens on its reader's machine. They cannot open unix sockets.
 */
function isForeign({ headers, socket }: IncomingMessage): boolean {
  const { origin, host } = headers;
  if (origin === undefined || socket.remoteAddress === undefined) return false;
  const nameOf = (text: string): string => (URL.canParse(text) ? new URL(text).hostname : '');
  const [page, own] = [nameOf(origin), nameOf(`http://${host ?? ''}`)];
  return page !== own && !(LOOPBACK.includes(page) && LOOPBACK.includes(own));
}

/** @throws ShoalError InvalidArgument for a request that is no handshake, PermissionDenied for a foreign web page's. */
export function checkHandshake(request: IncomingMessage): void {
  const { upgrade = '', origin = '' } = request.headers;
  const version = request.headers['sec-websocket-version'];
  const key = request.headers['sec-websocket-key'] ?? '';
  if (upgrade.toLowerCase() !== 'websocket' || !/^[+/0-9A-Za-z]{22}==$/.test(key)) {
    throw invalidArgument('a WebSocket handshake is expected here: Upgrade: websocket and a Sec-WebSocket-Key');
  }
  if (version !== '13' && version !== '8') {
    throw invalidArgument(`WebSocket version ${version ?? '(none)'} is not supported: 13 is`);
  }
  if (isForeign(request)) {
    throw new ShoalError('PermissionDenied', `web pages of ${origin} may not open WebSockets here`);
  }
}

/** Answers the handshake; undefined when the client has gone. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): Promise<WebSocket | undefined> {
  const server = await getAcceptor();
  let accepted: WebSocket | undefined;
  // Called at once: nothing here waits.
  server.handleUpgrade(request, socket, head, (client) => (accepted = client));
  return accepted;
}

function bytesOf(data: RawData): Uint8Array {
  if (Array.isArray(data)) return Buffer.concat(data);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data;
}

/** Hands messages on one after the other; the client waits while the process does. */
function carryInput(client: WebSocket, attached: AttachedFacts): void {
  let waiting = 0;
  let last = Promise.resolve();
  client.on('message', (data) => {
    client.pause();
    waiting += 1;
    last = last
      .then(() => attached.write(bytesOf(data)))
      // The process has ended: so does its output.
      .catch(() => undefined)
      .then(() => {
        waiting -= 1;
        if (waiting === 0) client.resume();
      });
  });
  client.on('close', (code) => {
    const close = (): void => attached.close();
    if (code === ABNORMAL_CLOSURE) return close();
    const late = setTimeout(close, LAST_INPUT_MS).unref();
    void last.then(() => {
      clearTimeout(late);
      close();
    });
  });
  // Told by 'close' as well.
  client.on('error', () => client.terminate());
}

/** Carries a process' streams until its output has ended or the client has gone. */
export async function carryWebSocket(
  client: WebSocket,
  socket: Socket,
  attached: AttachedFacts,
  binary: boolean,
): Promise<void> {
  carryInput(client, attached);
  for await (const batch of attached.output()) {
    // The last input of one that has left is still on its way.
    if (client.readyState !== client.OPEN) continue;
    const data = Buffer.concat(batch.map((chunk) => chunk.data));
    const full = socket.writableLength + data.length > SOCKET_BUFFER_MAX_BYTES;
    if (full) await sent(client, data, binary);
    else client.send(data, { binary });
  }
  attached.close();
  client.close(NORMAL_CLOSURE);
}

/** Sends a message and waits until the client's host has taken it, or the client has gone. */
function sent(client: WebSocket, data: Buffer, binary: boolean): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      client.off('close', done);
      resolve();
    };
    client.on('close', done);
    client.send(data, { binary }, done);
  });
}
