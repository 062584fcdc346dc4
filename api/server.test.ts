/** The HTTP server on a unix socket, with ports that answer from memory. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BoundedQueue, conflict, httpCall, readText, ShoalError, silentLogger } from '../base/index.ts';
import type { HttpAnswer } from '../base/index.ts';
import { GetServiceStatsResponse, Network, Service, SubscribeLogsMessage } from '../proto/index.ts';
import type { EventFacts, Ports, SwarmState } from './ports.ts';
import { metricsRoutes } from './routes/metrics.ts';
import { ApiServer } from './server.ts';
import { API_VERSION } from './versions.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'api.sock')}`;
const state: SwarmState = {
  nodeId: 'n1',
  nodeAddr: '10.0.0.1',
  localNodeState: 'active',
  controlAvailable: true,
  error: '',
  remoteManagers: [],
};
const calls: { method: string; request: unknown }[] = [];
let answer: (method: string) => unknown = () => ({});
let queue = new BoundedQueue<EventFacts>(10);

const save = async (references: readonly string[], path: string): Promise<void> => {
  if (references.includes('nosuch')) throw new ShoalError('NotFound', 'No such image: nosuch:latest');
  writeFileSync(path, `archive of ${references.join(' and ')}`);
};

const ports = {
  system: {
    version: '0.1.0',
    gitCommit: 'abc',
    components: () => [],
    storageDriver: 'overlay2',
    info: () => Promise.resolve({ KernelVersion: '6.1' }),
    events: () => queue,
    metrics: () => [{ name: 'up', type: 'gauge' as const, help: 'Up.', samples: [{ value: 1 }] }],
    temporaryFile: () => join(dir, 'upload'),
  },
  swarm: {
    state: () => state,
    call: (method: string, request: unknown) => {
      calls.push({ method, request });
      return Promise.resolve().then(() => answer(method));
    },
    async *subscribeLogs() {
      const context = { service_id: 's1', node_id: 'n1', task_id: 't1' };
      yield SubscribeLogsMessage.create({ messages: [{ context, stream: 1, data: Buffer.from('hello\n') }] });
      throw new ShoalError('Unavailable', 'incomplete log stream: node n2 is not available');
    },
  },
  engine: {
    containers: { list: () => [] },
    control: { networksPruned: () => undefined },
    images: { list: () => [], save },
    networks: { localNetworks: () => [], overlayNetworks: () => [] },
  },
} as unknown as Ports;

const server = new ApiServer({ ports, log: silentLogger });
const event = (more: Partial<EventFacts>): EventFacts => ({
  type: 'container',
  action: 'start',
  actorId: 'abc123',
  attributes: { name: 'web', image: 'web:1' },
  scope: 'local',
  timeMs: 1_700_000_000_500,
  ...more,
});
const call = (path: string, method = 'GET', body?: object | Uint8Array, headers = {}): Promise<HttpAnswer> =>
  httpCall({ host, method, path, headers, ...(body === undefined ? {} : { body }) });

async function text(path: string, method = 'GET', body?: object | Uint8Array, headers = {}): Promise<[number, string]> {
  const got = await call(path, method, body, headers);
  return [got.status, await readText(got.body)];
}
const message = (words: string): string => `${JSON.stringify({ message: words })}\n`;

beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

describe('ping', () => {
  it('tells versions in its headers, with and without a body', async () => {
    for (const method of ['GET', 'HEAD']) {
      const got = await call('/_ping', method);
      expect(got.headers).toMatchObject({
        'api-version': API_VERSION,
        ostype: 'linux',
        'docker-experimental': 'false',
        'builder-version': '1',
        swarm: 'active/manager',
        server: 'Shoal/0.1.0 (linux)',
        'cache-control': 'no-cache, no-store, must-revalidate',
      });
      expect([got.status, await readText(got.body)]).toEqual([200, method === 'GET' ? 'OK' : '']);
    }
    state.localNodeState = 'inactive';
    expect((await call('/v1.41/_ping')).headers['swarm']).toBe('inactive');
    state.localNodeState = 'active';
  });
});

describe('measurements', () => {
  it('are in the API, and served alone where the API is not', async () => {
    const lines = '# HELP up Up.\n# TYPE up gauge\nup 1\n';
    expect(await text('/metrics')).toEqual([200, lines]);
    const alone = new ApiServer({ ports, log: silentLogger, routes: metricsRoutes });
    const at = `unix://${join(dir, 'metrics.sock')}`;
    await alone.listen(at);
    try {
      const read = async (path: string): Promise<number> => {
        const got = await httpCall({ host: at, method: 'GET', path });
        await readText(got.body);
        return got.status;
      };
      expect(await read('/metrics')).toBe(200);
      expect(await read('/containers/json')).toBe(404);
    } finally {
      await alone.close();
    }
  });
});

describe('refusals', () => {
  it('name the version that is served', async () => {
    expect(await text('/v1.99/info')).toEqual([
      400,
      message(`client version 1.99 is too new. Maximum supported API version is ${API_VERSION}`),
    ]);
    expect((await text('/v1.12/info'))[0]).toBe(400);
  });

  it('are Docker’s for unknown pages and methods', async () => {
    for (const [path, method] of [
      ['/nothing', 'GET'],
      ['/v1.50/nothing', 'GET'],
      ['/info', 'DELETE'],
    ] as const) {
      expect(await text(path, method)).toEqual([404, message('page not found')]);
    }
    expect(await text('/services/%zz')).toEqual([400, message('invalid URL escape in "%zz"')]);
    expect((await text('//services'))[0]).toBe(404);
  });

  it('carry the status and the words of the catalogue', async () => {
    answer = () => {
      throw conflict('name conflicts with an existing object');
    };
    expect(await text('/services')).toEqual([409, message('name conflicts with an existing object')]);
    answer = () => {
      throw new ShoalError('Unavailable', 'This node is not a swarm manager.');
    };
    expect(await text('/services')).toEqual([503, message('This node is not a swarm manager.')]);
    answer = () => {
      throw new Error('broken');
    };
    expect(await text('/services')).toEqual([500, message('broken')]);
    answer = () => {
      throw new ShoalError('NotModified', 'as it was');
    };
    expect(await text('/services')).toEqual([304, '']);
  });

  it('of bodies change nothing', async () => {
    calls.length = 0;
    const json = { 'Content-Type': 'application/json' };
    const post = (body: object | Uint8Array, headers = {}): Promise<[number, string]> =>
      text('/services/create', 'POST', body, headers);
    expect(await post(Buffer.from('{'), json)).toEqual([400, expect.stringContaining('invalid JSON')]);
    expect(await post(Buffer.from('[]'), json)).toEqual([400, message('invalid JSON: an object is expected')]);
    expect(await post(Buffer.from('{}'), { 'Content-Type': 'text/plain' })).toEqual([
      400,
      message("unsupported Content-Type header (text/plain): must be 'application/json'"),
    ]);
    expect((await post(Buffer.alloc(17 * 1024 * 1024), json))[0]).toBe(400);
    expect(await text('/services/create', 'POST')).toEqual([400, message('mismatched Runtime and *Spec fields')]);
    expect(await text('/services?filters=%7B%22zz%22%3A%5B1%5D%7D')).toEqual([400, message("invalid filter 'zz'")]);
    expect(calls).toEqual([]);
  });
});

describe('services', () => {
  it('reach the control port', async () => {
    calls.length = 0;
    answer = (method) => (method === 'ListServices' ? { services: [] } : { service: Service.create({ id: 's1' }) });
    const body = { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'web' } } };
    const [status, created] = await text('/v1.47/services/create', 'POST', body, { 'X-Registry-Auth': 'abc' });
    expect([status, JSON.parse(created)]).toEqual([201, { ID: 's1', Warnings: null }]);
    expect(calls[0]).toMatchObject({
      method: 'CreateService',
      request: {
        spec: { annotations: { name: 'web' }, task: { container: { pull_options: { registry_auth: 'abc' } } } },
      },
    });
    expect(await text('/services')).toEqual([200, '[]\n']);
    const sent = async (Mode: object, labels: object): Promise<unknown> => {
      const spec = { annotations: { name: 'web', labels: { ...labels } }, replicated: { replicas: 7 } };
      answer = () => ({ service: Service.create({ id: 's1', spec }) });
      await text('/services/s1/update?version=1', 'POST', { ...body, Mode });
      return calls.at(-1)?.request;
    };
    const scales = { 'shoal.autoscale.max': '9' };
    expect(await sent({ Replicated: {} }, {})).toMatchObject({ spec: { replicated: { replicas: 1 } } });
    expect(await sent({ Replicated: {} }, scales)).toMatchObject({ spec: { replicated: { replicas: 7 } } });
    expect(await sent({ Replicated: { Replicas: 2 } }, scales)).toMatchObject({
      spec: { replicated: { replicas: 2 } },
    });
    expect(await text('/services/s1/update', 'POST', body)).toEqual([
      400,
      message("invalid service version '': must be a number"),
    ]);
  });
});

describe('what tasks use', () => {
  it('is told per task, with limits and what the autoscaler did last; what is not known is left out', async () => {
    const changed_at = { seconds: 1_700_000_000, nanos: 0 };
    const autoscale = {
      from_replicas: 1,
      to_replicas: 2,
      cpu_percent: 93,
      memory_percent: 0,
      changed_at,
      message: 'why',
    };
    const service = Service.create({
      id: 's1',
      spec: { annotations: { name: 'web' }, replicated: { replicas: 2 } },
      autoscale,
    });
    const last = {
      ...{ FromReplicas: 1, ToReplicas: 2, CPUPercent: 93, MemoryPercent: 0 },
      ...{ ChangedAt: '2023-11-14T22:13:20Z', Message: 'why' },
    };
    answer = () =>
      GetServiceStatsResponse.create({
        service,
        tasks: [
          { task_id: 't1', slot: 1, node_id: 'n1', known: true, cpu_percent: 9.876, memory_bytes: 5, age_ms: 7 },
          { task_id: 't2', slot: 2, node_id: 'n1', memory_limit_bytes: 64 },
        ],
        fresh: 1,
        cpu_percent: 98.764,
        autoscale: { min: 1, max: 4, cpu_target: 50 },
      });
    const [status, body] = await text('/shoal/services/web/stats');
    expect([status, JSON.parse(body)]).toEqual([
      200,
      {
        ServiceID: 's1',
        Name: 'web',
        Running: 2,
        Fresh: 1,
        CPUPercent: 98.76,
        MemoryPercent: 0,
        Autoscale: { Replicas: 2, Min: 1, Max: 4, CPUTarget: 50, Last: last },
        Tasks: [
          { ID: 't1', Slot: 1, NodeID: 'n1', CPUPercent: 9.88, MemoryBytes: 5, AgeMs: 7 },
          { ID: 't2', Slot: 2, NodeID: 'n1', MemoryLimitBytes: 64 },
        ],
      },
    ]);
    answer = () => ({ service });
    expect(JSON.parse((await text('/services/web'))[1])).toMatchObject({ Autoscale: last });
  });
});

describe('service logs', () => {
  it('tell in the stream what could not be read, as a frame of its own kind', async () => {
    answer = () => ({ service: Service.create({ id: 's1' }) });
    const got = await call('/v1.47/services/s1/logs?stdout=1');
    const bytes = Buffer.from(await readText(got.body));
    const head = bytes.readUInt32BE(4);
    expect([bytes[0], bytes.subarray(8, 8 + head).toString()]).toEqual([1, 'hello\n']);
    const rest = bytes.subarray(8 + head);
    expect([rest[0], rest.subarray(8).toString()]).toEqual([3, 'incomplete log stream: node n2 is not available']);
  });
});

describe('image save', () => {
  it('streams the archive of one image or several, and leaves no file', async () => {
    expect(await text('/images/get?names=a&names=b')).toEqual([200, 'archive of a and b']);
    expect(await text('/images/registry:5000/team/web:1/get')).toEqual([200, 'archive of registry:5000/team/web:1']);
    expect(await text('/images/nosuch/get')).toEqual([404, message('No such image: nosuch:latest')]);
    expect(existsSync(join(dir, 'upload'))).toBe(false);
  });
});

describe('network prune', () => {
  it('takes its filters seriously', async () => {
    const [status, words] = await text(`/networks/prune?filters=${encodeURIComponent('{"until":["soon"]}')}`, 'POST');
    expect([status, words]).toEqual([400, message("invalid filter 'until=soon'")]);
    expect(await text('/networks/prune', 'POST')).toEqual([200, '{"NetworksDeleted":[]}\n']);
  });
});

async function linesOf(got: HttpAnswer, count: number): Promise<Record<string, unknown>[]> {
  let seen = '';
  for await (const chunk of got.body as AsyncIterable<Buffer>) {
    seen += String(chunk);
    if (seen.split('\n').length > count) break;
  }
  return seen
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('events', () => {
  it('begin with headers, before anything happens, and come as they happen', async () => {
    queue = new BoundedQueue(10);
    const got = await call('/events');
    expect([got.status, got.headers['content-type']]).toEqual([200, 'application/json']);
    queue.push(event({}));
    expect(await linesOf(got, 1)).toEqual([
      {
        status: 'start',
        id: 'abc123',
        from: 'web:1',
        Type: 'container',
        Action: 'start',
        Actor: { ID: 'abc123', Attributes: { name: 'web', image: 'web:1' } },
        scope: 'local',
        time: 1_700_000_000,
        timeNano: 1_700_000_000_500_000_000,
      },
    ]);
  });

  it.each([
    [{ type: ['service'] }, ['service']],
    [{ event: ['die'] }, ['die']],
    [{ event: ['health_status'] }, ['health_status: healthy']],
    [{ container: ['web'] }, ['start', 'die', 'health_status: healthy']],
    [{ service: ['s1'] }, ['service']],
    [{ image: ['web:1'] }, ['start', 'die', 'health_status: healthy']],
    [{ scope: ['swarm'] }, ['service']],
    [{ label: ['tier=front'] }, ['die']],
  ])('are filtered by %j', async (wanted, actions) => {
    queue = new BoundedQueue(10);
    queue.push(event({}));
    queue.push(event({ action: 'die', attributes: { name: 'web', image: 'web:1', tier: 'front' } }));
    queue.push(event({ action: 'health_status: healthy' }));
    queue.push(event({ type: 'service', action: 'service', actorId: 's1', attributes: {}, scope: 'swarm' }));
    queue.close();
    const got = await call(`/events?filters=${encodeURIComponent(JSON.stringify(wanted))}`);
    expect((await linesOf(got, 99)).map((line) => line['Action'])).toEqual(actions);
  });

  it('end when the server closes', async () => {
    const own = new ApiServer({ ports, log: silentLogger });
    const where = `unix://${join(dir, 'own.sock')}`;
    queue = new BoundedQueue(10);
    await own.listen(where);
    const got = await httpCall({ host: where, method: 'GET', path: '/events' });
    const ended = readText(got.body).catch(() => 'cut');
    await own.close();
    queue.close();
    expect(await ended).toBe('cut');
  });
});

describe('addresses', () => {
  it('are taken from nobody, and left-over files are replaced', async () => {
    const own = new ApiServer({ ports, log: silentLogger });
    await expect(own.listen(host)).rejects.toThrow('another daemon uses it');
    await expect(own.listen('ftp://x')).rejects.toThrow('invalid host ftp://x');
    await expect(own.listen('tcp://203.0.113.1:1')).rejects.toMatchObject({ code: 'Unavailable' });
    const stale = join(dir, 'stale.sock');
    writeFileSync(stale, '');
    await own.listen(`unix://${stale}`);
    expect((await httpCall({ host: `unix://${stale}`, method: 'GET', path: '/_ping' })).status).toBe(200);
    await own.close();
  });

  it('refuses a local network with the name of one of the swarm', async () => {
    answer = () => ({ networks: [Network.create({ id: 'n1', spec: { annotations: { name: 'front' } } })] });
    const [status, body] = await text('/networks/create', 'POST', { Name: 'front' });
    expect([status, body]).toEqual([409, expect.stringContaining('network with name front already exists')]);
  });

  it('tells in the version whether it is experimental', async () => {
    const [, body] = await text('/version');
    expect(JSON.parse(body)).toMatchObject({ Components: [{ Details: { Experimental: 'false' } }] });
  });
});
