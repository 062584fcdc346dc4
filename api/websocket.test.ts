/** WebSockets: real ws clients on a unix socket and on TCP, with streams that come from memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket, type ClientOptions } from 'ws';
import { notFound, silentLogger } from '../base/index.ts';
import type { AttachedFacts, AttachRequestFacts, OutputFacts, Ports } from './ports.ts';
import { ApiServer } from './server.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const path = join(dir, 'api.sock');

/** Gives back what it is sent, 2 MB for `flood`, and ends at `exit`. Input waits while `stuck` holds. */
class Echo implements AttachedFacts {
  readonly tty = false;
  readonly request: AttachRequestFacts;
  closed = false;
  taken = '';
  stuck: Promise<void> | undefined;
  #queue: OutputFacts[] = [];
  #wake: () => void = () => undefined;
  #ended = false;

  constructor(request: AttachRequestFacts) {
    this.request = request;
  }

  async *output(): AsyncGenerator<OutputFacts[]> {
    for (;;) {
      if (this.#queue.length > 0) yield this.#queue.splice(0, 1);
      else if (this.#ended) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async write(data: Uint8Array): Promise<void> {
    await this.stuck;
    const text = Buffer.from(data).toString('latin1');
    this.taken += text;
    const reply = text === 'flood' ? Array.from({ length: 32 }, () => Buffer.alloc(65_536, 'f')) : [Buffer.from(data)];
    this.#queue.push(...reply.map((bytes) => ({ stream: 'stderr' as const, data: bytes })));
    if (text === 'exit') this.#ended = true;
    this.#wake();
  }

  endInput(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
    this.#ended = true;
    this.#wake();
  }
}

let last: Echo | undefined;
let hold: Promise<void> | undefined;
const terminals = {
  attach: async (reference: string, request: AttachRequestFacts) => {
    if (reference === 'zz') throw notFound('No such container: zz');
    last = new Echo(request);
    last.stuck = hold;
    return last;
  },
};
const ports = { system: { version: '0.1.0' }, engine: { terminals } } as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });
let port = 0;

beforeAll(async () => {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  port = (probe.address() as AddressInfo).port;
  await new Promise((resolve) => probe.close(resolve));
  await server.listen(`unix://${path}`);
  await server.listen(`tcp://127.0.0.1:${port}`);
});
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A client that keeps what it gets. */
class Client {
  readonly socket: WebSocket;
  bytes = Buffer.alloc(0);
  kinds = new Set<boolean>();
  /** The code it was closed with. */
  readonly closed: Promise<number>;
  /** The answer instead of a WebSocket: status and message. */
  readonly refused: Promise<string>;

  constructor(url: string, options: ClientOptions = {}) {
    this.socket = new WebSocket(url.startsWith('/') ? `ws+unix://${path}:${url}` : url, options);
    this.socket.on('message', (data: Buffer, binary) => {
      this.bytes = Buffer.concat([this.bytes, data]);
      this.kinds.add(binary);
    });
    this.socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => this.socket.on('close', resolve));
    this.refused = new Promise((resolve) => {
      this.socket.on('unexpected-response', (_request, response) => {
        let text = '';
        response.on('data', (data: Buffer) => (text += data.toString()));
        response.on('end', () => {
          resolve(`${response.statusCode} ${text.trim()}`);
          this.socket.terminate();
        });
      });
    });
  }

  async opened(): Promise<this> {
    if (this.socket.readyState !== WebSocket.OPEN) await new Promise((resolve) => this.socket.on('open', resolve));
    return this;
  }
}

const ALL = 'stream=1&stdin=1&stdout=1&stderr=1';

test('raw bytes both ways in binary messages, and a normal closure at the end', async () => {
  const client = await new Client(`/v1.50/containers/c1/attach/ws?${ALL}&detachKeys=ctrl-a`).opened();
  const data = Buffer.from([0, 255, 128, 10]);
  client.socket.send(data);
  client.socket.send('text');
  client.socket.send('exit');
  expect(await client.closed).toBe(1000);
  expect(client.bytes).toEqual(Buffer.concat([data, Buffer.from('textexit')]));
  expect([...client.kinds]).toEqual([true]);
  expect(last?.request).toEqual({
    ...{ stdin: true, stdout: true, stderr: true, logs: false, stream: true },
    detachKeys: 'ctrl-a',
  });
});

test('streams are asked for since API 1.42; messages are called binary since 1.28', async () => {
  const some = await new Client('/v1.42/containers/c1/attach/ws?stream=1&stdout=1').opened();
  expect(last?.request).toMatchObject({ stdin: false, stdout: true, stderr: false, logs: false, stream: true });
  some.socket.close();
  const old = await new Client('/v1.27/containers/c1/attach/ws?logs=1').opened();
  expect(last?.request).toMatchObject({ stdin: true, stdout: true, stderr: true, logs: true, stream: false });
  old.socket.send('exit');
  await old.closed;
  expect([...old.kinds]).toEqual([false]);
});

test('what is no handshake, or of no container, gets a plain answer', async () => {
  expect(await new Client(`/containers/zz/attach/ws?${ALL}`).refused).toBe('404 {"message":"No such container: zz"}');
  const plain = await fetch(`http://127.0.0.1:${port}/v1.50/containers/c1/attach/ws`);
  expect([plain.status, await plain.json()]).toEqual([
    400,
    { message: 'a WebSocket handshake is expected here: Upgrade: websocket and a Sec-WebSocket-Key' },
  ]);
});

test('on TCP web pages of others are refused', async () => {
  const url = `ws://127.0.0.1:${port}/containers/c1/attach/ws?${ALL}`;
  const foreign = new Client(url, { origin: 'https://evil.example' });
  expect(await foreign.refused).toBe(
    '403 {"message":"web pages of https://evil.example may not open WebSockets here"}',
  );
  for (const origin of ['http://localhost', `http://127.0.0.1:${port}`]) {
    const own = await new Client(url, { origin }).opened();
    own.socket.send('exit');
    expect(await own.closed).toBe(1000);
  }
  const local = await new Client(`/containers/c1/attach/ws?${ALL}`, { origin: 'https://evil.example' }).opened();
  local.socket.close();
});

test('a client that goes away leaves; what it sent before arrives', async () => {
  let go = (): void => undefined;
  hold = new Promise((resolve) => (go = resolve));
  const client = await new Client(`/containers/c1/attach/ws?${ALL}`).opened();
  const attached = last;
  hold = undefined;
  client.socket.send('one');
  client.socket.send('two');
  client.socket.close();
  await client.closed;
  expect(attached?.closed).toBe(false);
  go();
  await expect.poll(() => attached?.closed).toBe(true);
  expect(attached?.taken).toBe('onetwo');
  const killed = await new Client(`/containers/c1/attach/ws?${ALL}`).opened();
  killed.socket.terminate();
  await expect.poll(() => last?.closed).toBe(true);
});

test('much output for a slow client all arrives; a message that is too large ends the connection', async () => {
  const client = await new Client(`/containers/c1/attach/ws?${ALL}`).opened();
  client.socket.pause();
  client.socket.send('flood');
  client.socket.send('exit');
  await expect.poll(() => last?.taken).toBe('floodexit');
  client.socket.resume();
  expect(await client.closed).toBe(1000);
  expect(client.bytes.length).toBe(32 * 65_536 + 4);
  const large = await new Client(`/containers/c1/attach/ws?${ALL}`).opened();
  large.socket.send(Buffer.alloc(1024 * 1024 + 1));
  expect(await large.closed).toBe(1009);
  await expect.poll(() => last?.closed).toBe(true);
});
