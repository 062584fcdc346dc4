import { mkdtempSync, readFileSync, rmSync, openSync, closeSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answerError, httpCall, httpJson, readText } from './http.ts';
import { createLogger } from './log.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'http.sock')}`;

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await readText(request);
  const type = request.headers['content-type'];
  if (request.url === '/echo') response.end(JSON.stringify({ method: request.method, type, body }));
  else if (request.url === '/empty') response.writeHead(204).end();
  else if (request.url === '/silent') return;
  else if (request.url === '/text') response.writeHead(500).end('plain words\n');
  else response.writeHead(404).end('{"message":"No such thing"}');
}
const server = createServer((request, response) => void answer(request, response));
beforeAll(() => new Promise<void>((resolve) => void server.listen(join(dir, 'http.sock'), resolve)));
afterAll(() => {
  server.close();
  server.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

describe('HTTP calls', () => {
  it.each([
    ['an object', { a: 1 }, 'application/json', '{"a":1}'],
    ['bytes', Buffer.from('raw'), undefined, 'raw'],
    ['a stream', () => Readable.from(['one', 'two']), undefined, 'onetwo'],
  ])('send %s', async (_what, body, type, text) => {
    const given = typeof body === 'function' ? body() : body;
    expect(await httpJson({ host, method: 'POST', path: '/echo', body: given })).toEqual({
      method: 'POST',
      type,
      body: text,
    });
  });

  it('go to TCP too', async () => {
    const tcp = createServer((request, response) => void answer(request, response));
    await new Promise<void>((resolve) => void tcp.listen(0, '127.0.0.1', resolve));
    const { port } = tcp.address() as { port: number };
    expect(await httpJson({ host: `tcp://127.0.0.1:${port}`, method: 'GET', path: '/echo' })).toMatchObject({
      body: '',
    });
    tcp.close();
  });

  it('give undefined for an empty answer', async () => {
    expect(await httpJson({ host, method: 'GET', path: '/empty' })).toBeUndefined();
  });

  it('throw the server’s words', async () => {
    await expect(httpJson({ host, method: 'GET', path: '/none' })).rejects.toMatchObject({
      code: 'NotFound',
      message: 'No such thing',
    });
    const error = await answerError(await httpCall({ host, method: 'GET', path: '/text' }));
    expect([error.code, error.message]).toEqual(['Unknown', 'plain words']);
  });

  it('end when nobody answers, in time or at all', async () => {
    await expect(httpCall({ host, method: 'GET', path: '/silent', timeoutMs: 30 })).rejects.toThrow(
      'no answer within 30 ms',
    );
    const signal = AbortSignal.timeout(30);
    await expect(httpCall({ host, method: 'GET', path: '/silent', signal })).rejects.toThrow();
    await expect(httpCall({ host: `unix://${dir}/none`, method: 'GET', path: '/' })).rejects.toMatchObject({
      code: 'Unavailable',
      message: `Cannot connect to the Docker daemon at unix://${dir}/none. Is the shoal daemon running?`,
    });
    await expect(httpCall({ host: 'ssh://x', method: 'GET', path: '/' })).rejects.toThrow(
      'unable to parse docker host ssh://x',
    );
  });
});

describe('the log', () => {
  it('has one object a line, errors in words, and levels', () => {
    const path = join(dir, 'log');
    const fd = openSync(path, 'w');
    const log = createLogger({ level: 'info', fd });
    log.debug('not shown');
    log.with({ component: 'x' }).warn('words', { error: new Error('why'), count: 2 });
    log.setLevel('debug');
    log.debug('shown', { error: 'text' });
    closeSync(fd);
    const lines = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      {
        level: 'warn',
        component: 'x',
        error: 'why',
        count: 2,
        msg: 'words',
        stack: expect.stringContaining('Error: why'),
      },
      { level: 'debug', error: 'text', msg: 'shown' },
    ]);
  });
});
