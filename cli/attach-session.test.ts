import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/index.ts';
import { startSession } from './attach-session.ts';
import { Client } from './client.ts';
import type { Context } from './context.ts';
import { detachBytes, DetachFilter } from './detach-keys.ts';

const folder = mkdtempSync(join(tmpdir(), 'shoal-attach-'));
const path = join(folder, 'd.sock');
let server: Server | undefined;
afterEach(() => new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve()))));
afterAll(() => rmSync(folder, { recursive: true }));

const HEAD = 'HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n';
const PING = 'HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';

function frame(kind: number, text: string): Buffer {
  const head = Buffer.alloc(8);
  head[0] = kind;
  head.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([head, Buffer.from(text)]);
}

/** A daemon that answers pings, and gives every other connection away once its request has come. */
async function daemon(attached: (socket: Socket, request: string) => void): Promise<Client> {
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.once('data', (data) => {
      const request = data.toString('latin1');
      if (request.startsWith('HEAD')) socket.end(PING);
      else attached(socket, request);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  return new Client(`unix://${path}`);
}

interface Played {
  context: Context;
  input: PassThrough;
  said: { out: string; err: string };
}

function world(client: Client): Played {
  const said = { out: '', err: '' };
  const output = (to: 'out' | 'err') => ({
    write: (text: string | Uint8Array) => void (said[to] += Buffer.from(text).toString('utf8')),
    isTerminal: false,
    columns: 0,
  });
  const input = new PassThrough();
  const context = {
    ...{ client, out: output('out'), err: output('err'), clock: systemClock, env: {}, configDir: folder },
    ...{ onInterrupt: () => () => undefined, onSignal: () => () => undefined },
    input: input as unknown as NodeJS.ReadStream,
  };
  return { context, input, said };
}

const PLAIN = { stdin: true, stdout: true, stderr: true, tty: false, detachKeys: '' };

describe('an attached session', () => {
  it('loses nothing that came with the head of the answer, and tells outputs apart', async () => {
    const client = await daemon((socket) => {
      socket.write(Buffer.concat([Buffer.from(HEAD), frame(1, 'first '), frame(2, 'fault ')]));
      socket.end(frame(1, 'last'));
    });
    const { context, said } = world(client);
    const session = startSession(context, await client.hijack({ path: '/containers/a/attach' }), PLAIN);
    expect(await session.ended).toBe('closed');
    expect(said).toEqual({ out: 'first last', err: 'fault ' });
  });

  it('half-closes at the end of input and still reads what comes after', async () => {
    const client = await daemon((socket) => {
      socket.write(HEAD);
      let heard = '';
      socket.on('data', (data: Buffer) => (heard += data.toString('utf8')));
      socket.on('end', () => socket.end(frame(1, `heard ${heard}`)));
    });
    const { context, input, said } = world(client);
    const session = startSession(context, await client.hijack({ path: '/containers/a/attach' }), PLAIN);
    input.end('question');
    expect(await session.ended).toBe('closed');
    expect(said.out).toBe('heard question');
  });

  it('waits for a daemon that reads slowly', async () => {
    let taken = 0;
    let release = (): void => undefined;
    const client = await daemon((socket) => {
      socket.write(HEAD);
      socket.pause();
      release = () => socket.resume();
      socket.on('data', (data: Buffer) => (taken += data.length));
      socket.on('end', () => socket.end());
      // The listener above set the stream going.
      socket.pause();
    });
    const { context, input } = world(client);
    const session = startSession(context, await client.hijack({ path: '/containers/a/attach' }), PLAIN);
    const chunk = Buffer.alloc(64 * 1024);
    let sent = 0;
    while (input.write(chunk) || sent < 16) sent++;
    await systemClock.sleep(50);
    // What the kernel and the streams hold; the rest waits where it comes from.
    expect(input.readableLength).toBeGreaterThan(0);
    release();
    input.end();
    await session.ended;
    expect(taken).toBe((sent + 1) * chunk.length);
  });

  it('ends when the keys for it are typed on a terminal, and does not send them', async () => {
    let heard = '';
    const client = await daemon((socket) => {
      socket.write(HEAD);
      socket.on('data', (data: Buffer) => (heard += data.toString('latin1')));
      socket.on('end', () => socket.end());
      socket.on('error', () => undefined);
    });
    const { context, input } = world(client);
    const socket = await client.hijack({ path: '/containers/a/attach' });
    const session = startSession(context, socket, { ...PLAIN, tty: true });
    input.write('ls\u0010');
    input.write('\u0011');
    expect(await session.ended).toBe('detached');
    await expect.poll(() => heard).toBe('ls');
  });

  it('tells the fault that the daemon sends in the stream, and its refusal', async () => {
    const client = await daemon((socket) => socket.end(Buffer.concat([Buffer.from(HEAD), frame(3, 'disk gone')])));
    const { context } = world(client);
    const session = startSession(context, await client.hijack({ path: '/exec/a/start', body: {} }), PLAIN);
    await expect(session.ended).rejects.toThrow('error from daemon in stream: disk gone');
  });

  it('gives the words of a daemon that refuses', async () => {
    const body = '{"message":"No such container: a"}';
    const head = `HTTP/1.1 404 Not Found\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
    const client = await daemon((socket) => socket.end(head + body));
    const refused = client.hijack({ path: '/containers/a/attach' });
    await expect(refused).rejects.toThrow('Error response from daemon: No such container: a');
  });
});

describe('detach keys', () => {
  it.each([
    ['', [16, 17]],
    ['ctrl-a', [1]],
    ['ctrl-@,a,ctrl-]', [0, 97, 29]],
    ['ctrl-x,q', [24, 113]],
    ['ctrl-', undefined],
    ['ab', undefined],
  ])('%s', (text, bytes) => expect(detachBytes(text)).toEqual(bytes));

  it('holds the start of a sequence back until it is known how it goes on', () => {
    const filter = new DetachFilter('ctrl-p,ctrl-q');
    const send = (text: string): [string, boolean] => {
      const result = filter.filter(Buffer.from(text, 'latin1'));
      return [result.send.toString('latin1'), result.detached];
    };
    expect(send('a\u0010')).toEqual(['a', false]);
    expect(send('b')).toEqual(['\u0010b', false]);
    expect(send('\u0010\u0010')).toEqual(['\u0010', false]);
    expect(send('\u0011after')).toEqual(['', true]);
  });
});
