/** Container routes over a unix socket, with an engine that answers from memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BoundedQueue,
  httpCall,
  httpJson,
  readText,
  ShoalError,
  silentLogger,
  type HttpAnswer,
} from '../base/index.ts';
import type { ContainersPort, LogLineFacts, LogQueryFacts, Ports } from './ports.ts';
import { ApiServer } from './server.ts';
import { frame } from './stream.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'api.sock')}`;
const facts = {
  id: 'c1'.repeat(32),
  config: { name: 'web', image: 'web:1', labels: {}, tty: false, network: { mode: 'host' } },
  imageId: 'sha256:1',
  createdMs: 1,
  state: 'running',
  startedMs: 1,
  endpoints: [],
  ports: [],
  mounts: [],
  path: 'sh',
  args: [],
};
const seen: { call: string; options: unknown }[] = [];
let lines = new BoundedQueue<LogLineFacts[]>(10);
interface Ended {
  exitCode: number;
  error?: string;
}
let ended: (end: Ended) => void = () => undefined;

const containers = {
  list: () => [facts, { ...facts, id: 'd2', state: 'exited', exitCode: 3, createdMs: 2 }],
  inspect: (reference: string) => {
    if (reference !== 'web') throw new ShoalError('NotFound', `No such container: ${reference}`);
    return facts;
  },
  logDetails: () => 'a=b',
  logBlocks: (_reference: string, query: LogQueryFacts) => {
    seen.push({ call: 'logs', options: query });
    return lines;
  },
  wait: () => new Promise<Ended>((resolve) => (ended = resolve)),
  start: () => Promise.reject(new ShoalError('NotModified', 'it runs')),
  stop: (_reference: string, options: unknown) => {
    seen.push({ call: 'stop', options });
    return Promise.resolve();
  },
} as unknown as ContainersPort;
const ports = { system: { version: '0.1.0' }, engine: { containers } } as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });
const call = (method: string, path: string): Promise<HttpAnswer> => httpCall({ host, method, path });
const line = (stream: 'stdout' | 'stderr', text: string): LogLineFacts => ({
  stream,
  time: '2026-01-01T00:00:00.000000001Z',
  data: Buffer.from(text),
});

beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

describe('logs', () => {
  it('come in frames as they are written, with the query passed on', async () => {
    lines = new BoundedQueue(10);
    const got = await call('GET', '/v1.50/containers/web/logs?stdout=1&stderr=1&follow=1&tail=5&since=2.5');
    expect(got.headers['content-type']).toBe('application/vnd.docker.multiplexed-stream');
    const since = '1970-01-01T00:00:02.500000000Z';
    expect(seen.at(-1)?.options).toEqual({ stdout: true, stderr: true, follow: true, tail: 5, since });
    lines.push([line('stdout', 'out\n')]);
    lines.push([line('stderr', 'err\n')]);
    lines.close();
    expect(await readText(got.body)).toBe(
      String(Buffer.concat([frame('stdout', Buffer.from('out\n')), frame('stderr', Buffer.from('err\n'))])),
    );
  });

  it('carry times and details on request, once in a line, and the raw type for old clients', async () => {
    lines = new BoundedQueue(10);
    lines.push([line('stdout', 'out'), { ...line('stdout', ' and on\n'), continued: true }]);
    lines.close();
    const got = await call('GET', '/v1.41/containers/web/logs?stdout=1&timestamps=1&details=1');
    expect(got.headers['content-type']).toBe('application/vnd.docker.raw-stream');
    const rest = String(frame('stdout', Buffer.from(' and on\n')));
    expect((await readText(got.body)).slice(8)).toBe(`2026-01-01T00:00:00.000000001Z a=b out${rest}`);
  });

  it('come whole for a tail that is no number, as with dockerd', async () => {
    lines = new BoundedQueue(10);
    lines.close();
    expect((await call('GET', '/containers/web/logs?stdout=1&tail=some')).status).toBe(200);
    expect(seen.at(-1)?.options).not.toHaveProperty('tail');
  });

  it('need a stream, and a container', async () => {
    expect((await call('GET', '/containers/web/logs')).status).toBe(400);
    expect((await call('GET', '/containers/none/logs?stdout=1')).status).toBe(404);
  });
});

describe('wait', () => {
  it('sends headers at once and the code at the end', async () => {
    const got = await call('POST', '/containers/web/wait?condition=next-exit');
    expect(got.status).toBe(200);
    ended({ exitCode: 7 });
    expect(JSON.parse(await readText(got.body))).toEqual({ StatusCode: 7 });
    expect((await call('POST', '/containers/web/wait?condition=never')).status).toBe(400);
  });

  it("tells a start's error, but not once the container is removed as wanted", async () => {
    const end = async (condition: string): Promise<unknown> => {
      const got = await call('POST', `/containers/web/wait?condition=${condition}`);
      ended({ exitCode: 127, error: 'no such program' });
      return JSON.parse(await readText(got.body));
    };
    expect(await end('next-exit')).toEqual({ StatusCode: 127, Error: { Message: 'no such program' } });
    expect(await end('removed')).toEqual({ StatusCode: 127 });
  });
});

describe('verbs', () => {
  it('have the statuses that clients expect', async () => {
    expect((await call('POST', '/containers/web/start')).status).toBe(304);
    expect((await call('POST', '/containers/web/stop?t=3&signal=SIGINT')).status).toBe(204);
    expect(seen.at(-1)).toEqual({ call: 'stop', options: { graceMs: 3000, signal: 'SIGINT' } });
    expect((await call('POST', '/containers/web/stop?t=x')).status).toBe(400);
  });
});

describe('lists', () => {
  const ids = async (query: string): Promise<string[]> =>
    (await httpJson<{ Id: string }[]>({ host, method: 'GET', path: `/containers/json?${query}` })).map((one) =>
      one.Id.slice(0, 2),
    );
  const filter = (value: object): string => `filters=${encodeURIComponent(JSON.stringify(value))}`;

  it('show what runs, all, the newest, or what a filter says', async () => {
    expect(await ids('')).toEqual(['c1']);
    expect(await ids('all=1')).toEqual(['d2', 'c1']);
    expect(await ids('limit=1')).toEqual(['d2']);
    expect(await ids(filter({ status: ['exited'] }))).toEqual(['d2']);
    expect(await ids(`all=1&${filter({ exited: ['3'] })}`)).toEqual(['d2']);
    // Only a wanted status means all.
    expect(await ids(filter({ exited: ['3'] }))).toEqual([]);
    expect(await ids(`all=1&${filter({ id: ['c1'] })}`)).toEqual(['c1']);
    expect(await ids(`all=1&${filter({ 'is-task': ['true'] })}`)).toEqual([]);
  });
});
