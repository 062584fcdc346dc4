/** Connections that are taken over: exact bytes on a unix socket, with streams that come from memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { notFound, silentLogger } from '../base/index.ts';
import type { AttachedFacts, AttachRequestFacts, ExecRequestFacts, OutputFacts, Ports } from './ports.ts';
import { ApiServer } from './server.ts';
import { frame } from './stream.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const path = join(dir, 'api.sock');
const seen: { attach: AttachRequestFacts[]; exec: ExecRequestFacts[]; start: object[] } = {
  attach: [],
  exec: [],
  start: [],
};

/** Gives back what it is sent, by both streams in turn, and a last word when the input has ended. */
class Echo implements AttachedFacts {
  readonly tty: boolean;
  closed = false;
  readonly #queue: OutputFacts[] = [];
  #ended = false;
  #wake: () => void = () => undefined;

  constructor(tty: boolean) {
    this.tty = tty;
  }

  async *output(): AsyncGenerator<OutputFacts[]> {
    for (;;) {
      if (this.#queue.length > 0) yield this.#queue.splice(0);
      else if (this.#ended) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  write(data: Uint8Array): Promise<void> {
    this.#queue.push({ stream: 'stdout', data: Buffer.from(data) });
    this.#wake();
    return Promise.resolve();
  }

  endInput(): Promise<void> {
    this.#queue.push({ stream: 'stderr', data: Buffer.from('bye') });
    this.#ended = true;
    this.#wake();
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
    this.#ended = true;
    this.#wake();
  }
}

let last = new Echo(false);
const terminals = {
  attach: async (reference: string, request: AttachRequestFacts) => {
    if (reference === 'zz') throw notFound('No such container: zz');
    seen.attach.push(request);
    last = new Echo(reference === 'tty');
    return last;
  },
  createExec: async (_reference: string, request: ExecRequestFacts) => {
    seen.exec.push(request);
    return 'e1';
  },
  startExec: async (_id: string, options: { detach: boolean }) => {
    seen.start.push(options);
    last = new Echo(false);
    return options.detach ? undefined : last;
  },
  inspectExec: () => ({
    id: 'e1',
    containerId: 'c1',
    request: seen.exec[0],
    running: false,
    exitCode: 3,
    pid: 7,
  }),
  resizeExec: async (_id: string, size: object) => void seen.start.push(size),
};
const ports = { system: { version: '0.1.0' }, engine: { terminals } } as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });

beforeAll(() => server.listen(`unix://${path}`));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A connection whose received bytes are kept as text. */
class Wire {
  readonly socket: Socket = connect({ path, allowHalfOpen: true });
  text = '';
  ended = false;
  constructor() {
    this.socket.on('data', (data: Buffer) => (this.text += data.toString('latin1')));
    this.socket.on('end', () => (this.ended = true));
  }

  async has(want: string): Promise<void> {
    await expect.poll(() => this.text).toContain(want);
  }

  async end(): Promise<string> {
    await expect.poll(() => this.ended).toBe(true);
    this.socket.destroy();
    return this.text;
  }
}

const UPGRADE = 'Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n';
const framed = (stream: 'stdout' | 'stderr', text: string): string =>
  frame(stream, Buffer.from(text)).toString('latin1');

describe('a connection that is taken over', () => {
  it('is answered by 101 as docker expects it, and carries frames until both sides are done', async () => {
    const wire = new Wire();
    wire.socket.write(
      `POST /v1.50/containers/c1/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-a HTTP/1.1\r\n${UPGRADE}\r\n`,
    );
    const head =
      'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n' +
      'Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n';
    await wire.has(head);
    wire.socket.write('hello');
    await wire.has(framed('stdout', 'hello'));
    wire.socket.end();
    expect(await wire.end()).toBe(head + framed('stdout', 'hello') + framed('stderr', 'bye'));
    const all = { stdin: true, stdout: true, stderr: true, logs: false, stream: true };
    expect(seen.attach.at(-1)).toEqual({ ...all, detachKeys: 'ctrl-a' });
  });

  it('loses nothing of what the client sends at once after head and body', async () => {
    for (const upgrade of [UPGRADE, 'Host: x\r\n']) {
      const wire = new Wire();
      const body = '{"Detach":false}';
      const head = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
      wire.socket.write(`POST /v1.41/exec/e1/start HTTP/1.1\r\n${upgrade}${head}\r\n${body}GET eager`);
      wire.socket.end();
      const text = await wire.end();
      const status = upgrade === UPGRADE ? 'HTTP/1.1 101 UPGRADED' : 'HTTP/1.1 200 OK';
      // Before API 1.42 framed streams are called raw as well.
      expect(text.startsWith(`${status}\r\nContent-Type: application/vnd.docker.raw-stream\r\n`)).toBe(true);
      expect(text.endsWith(`\r\n\r\n${framed('stdout', 'GET eager')}${framed('stderr', 'bye')}`)).toBe(true);
    }
  });

  it('takes a body in pieces, and a connection that carried other calls before', async () => {
    const wire = new Wire();
    wire.socket.write('GET /v1.50/exec/e1/missing HTTP/1.1\r\nHost: x\r\n\r\n');
    await wire.has('page not found');
    wire.socket.write('POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"Det');
    await new Promise((resolve) => setImmediate(resolve));
    wire.socket.write('ach": false}raw');
    await wire.has(framed('stdout', 'raw'));
    wire.socket.end();
    await wire.end();
  });

  it('carries a terminal raw', async () => {
    const wire = new Wire();
    wire.socket.write(`POST /containers/tty/attach?stream=1 HTTP/1.1\r\n${UPGRADE}\r\nkeys`);
    wire.socket.end();
    expect((await wire.end()).split('\r\n\r\n')).toEqual([
      expect.stringContaining('Content-Type: application/vnd.docker.raw-stream'),
      'keysbye',
    ]);
  });

  it('is plain HTTP when the call fails, is detached, or is not for taking over', async () => {
    const failed = new Wire();
    failed.socket.write(`POST /containers/zz/attach?stream=1 HTTP/1.1\r\n${UPGRADE}\r\n`);
    expect(await failed.end()).toMatch(/^HTTP\/1.1 404 Not Found\r\n[^]*\{"message":"No such container: zz"\}/);
    const detached = new Wire();
    detached.socket.write(
      'POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"Detach":true}',
    );
    expect(await detached.end()).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    const other = new Wire();
    other.socket.write(`GET /exec/e1/nothing HTTP/1.1\r\n${UPGRADE}\r\n`);
    await other.has('page not found');
    other.socket.destroy();
    const long = new Wire();
    long.socket.write('POST /exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n');
    expect(await long.end()).toMatch(/^HTTP\/1.1 400 /);
  });

  it('tells the engine that the client has gone, and ends with the daemon', async () => {
    const wire = new Wire();
    wire.socket.write(`POST /containers/c1/attach?stream=1 HTTP/1.1\r\n${UPGRADE}\r\n`);
    await wire.has('101');
    wire.socket.destroy();
    await expect.poll(() => last.closed).toBe(true);
    const second = new ApiServer({ ports, log: silentLogger });
    await second.listen(`unix://${path}.2`);
    const socket = connect(`${path}.2`);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.write(`POST /containers/c1/attach?stream=1 HTTP/1.1\r\n${UPGRADE}\r\n`);
    await new Promise((resolve) => socket.once('data', resolve));
    await second.close();
    await closed;
  });
});

describe('exec', () => {
  const call = async (text: string): Promise<string> => {
    const wire = new Wire();
    wire.socket.write(text);
    await wire.has('\r\n\r\n');
    wire.socket.end();
    return wire.end();
  };
  const post = (url: string, body: string): Promise<string> =>
    call(
      `POST ${url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${body.length}\r\n\r\n${body}`,
    );

  it('is created and shown as by docker', async () => {
    const body = '{"Cmd":["sh","-c","x"],"Tty":true,"AttachStdin":true,"User":"web","ConsoleSize":[3,4],"Env":["A=1"]}';
    expect(await post('/containers/c1/exec', body)).toMatch(/^HTTP\/1.1 201 [^]*\{"Id":"e1"\}/);
    expect(seen.exec.at(-1)).toEqual({
      command: ['sh', '-c', 'x'],
      env: ['A=1'],
      user: 'web',
      privileged: false,
      tty: true,
      attachStdin: true,
      attachStdout: false,
      attachStderr: false,
      detachKeys: '',
      consoleSize: { height: 3, width: 4 },
    });
    const shown = await call('GET /exec/e1/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(JSON.parse(shown.split('\r\n').find((line) => line.startsWith('{')) ?? '')).toEqual({
      ID: 'e1',
      Running: false,
      ExitCode: 3,
      ProcessConfig: { tty: true, entrypoint: 'sh', arguments: ['-c', 'x'], privileged: false, user: 'web' },
      OpenStdin: true,
      OpenStderr: false,
      OpenStdout: false,
      CanRemove: false,
      ContainerID: 'c1',
      DetachKeys: '',
      Pid: 7,
    });
  });

  it('is resized', async () => {
    expect(await post('/exec/e1/resize?h=20&w=80', '')).toMatch(/^HTTP\/1.1 200 /);
    expect(seen.start.at(-1)).toEqual({ height: 20, width: 80 });
    expect(await post('/exec/e1/resize?h=-1&w=80', '')).toContain('invalid resize height');
  });
});
