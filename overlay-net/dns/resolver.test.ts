import packet from 'dns-packet';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, Socket as Stream } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import {
  AF_INET,
  inNetworkNamespace,
  must,
  silentLogger,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketAddress4,
  sockets,
  systemClock,
  systemRandom,
} from '../../base/index.ts';
import { NetworkTable } from '../../proto/index.ts';
import { createFfiKernel } from '../kernel/ffi-kernel.ts';
import { dropNamespace } from '../kernel/namespace.ts';
import { resolverRules } from '../name-service.ts';
import { probeResolver } from './probe.ts';
import { ResolverThread } from './resolver-thread.ts';
import type { SandboxView } from './thread-protocol.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-'));
const namespace = join(root, 'box');
const kernel = createFfiKernel();
const source = JSON.stringify(fileURLToPath(new URL('./thread.ts', import.meta.url)));
const boot = `import('tsx/esm/api').then(({ register }) => { register(); return import(${source}); })`;
const workers: Worker[] = [];
const reopened: [string, number][] = [];
let thread: ResolverThread;
let port = 0;

const table = (address: string, count = 1): NetworkTable =>
  NetworkTable.create({
    endpoints: Array.from({ length: count }, (_, i) => {
      return { task_id: `t${i}`, task_name: `web.${i}.t`, service_id: 's', address: `${address}/24`, serving: true };
    }),
    services: [{ service_id: 's', name: 'web' }],
  });
const view = (more: Partial<SandboxView> = {}): SandboxView => ({
  zones: ['o:n'],
  upstream: { servers: [], namespace, hostServers: false },
  keepsDotless: false,
  ...more,
});

beforeAll(async () => {
  await kernel.createNamespace(namespace);
  await kernel.apply(namespace, [{ kind: 'link', name: 'lo', up: true }]);
  thread = new ResolverThread({
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    onReopened: (id, at) => reopened.push([id, at]),
    start: () => {
      const worker = new Worker(boot, { eval: true });
      workers.push(worker);
      return worker;
    },
  });
  thread.setZone('o:n', 'net', table('10.1.0.1'));
  port = await thread.open('box', namespace, 0, view());
  await kernel.nft(namespace, resolverRules(port));
}, 20_000);

afterEach(() => thread.setView('box', view()));

afterAll(async () => {
  await thread.stop();
  dropNamespace(namespace);
  rmSync(root, { recursive: true, force: true });
});

const query = (name: string): Buffer =>
  packet.encode({ type: 'query', id: 5, flags: packet.RECURSION_DESIRED, questions: [{ type: 'A', name }] });

/** Asks as a container does; undefined after `waitMs`. */
function ask(name: string, waitMs = 2000): Promise<packet.Packet | undefined> {
  const fd = inNetworkNamespace(namespace, () => sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK));
  return new Promise((resolve) => {
    const socket = createSocket('udp4').bind({ fd });
    const timer = setTimeout(() => finish(undefined), waitMs);
    const finish = (answer: packet.Packet | undefined): void => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    socket.on('message', (bytes, from) => {
      // Clients take answers only from where they asked.
      if (from.port === 53 && from.address === '127.0.0.11') finish(packet.decode(bytes));
    });
    socket.send(query(name), 53, '127.0.0.11');
  });
}

const first = (got: packet.Packet | undefined): unknown => (got?.answers?.[0] as { data: unknown } | undefined)?.data;

test('a container is answered by UDP and TCP at port 53, which stays free for servers of its own', async () => {
  expect(first(await ask('web'))).toBe('10.1.0.1');
  const fd = inNetworkNamespace(namespace, () => {
    const made = sockets.open(AF_INET, SOCK_STREAM);
    sockets.connect(made, socketAddress4('127.0.0.11', 53));
    // What a name server in the container would do.
    const own = sockets.open(AF_INET, SOCK_DGRAM);
    sockets.bind(own, socketAddress4('0.0.0.0', 53));
    return made;
  });
  const stream = new Stream({ fd });
  // Two queries in three pieces.
  const message = Buffer.concat([Buffer.of(0, query('web').length), query('web')]);
  const both = Buffer.concat([message, message]);
  for (const [from, to] of [
    [0, 1],
    [1, 40],
    [40, both.length],
  ] as const) {
    stream.write(both.subarray(from, to));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const got: Buffer[] = [];
  for await (const data of stream) {
    got.push(data as Buffer);
    const all = Buffer.concat(got);
    if (all.length === 2 * (2 + all.readUInt16BE(0))) break;
  }
  expect(first(packet.decode(Buffer.concat(got).subarray(2)))).toBe('10.1.0.1');
  expect(first(await ask('web'))).toBe('10.1.0.1');
});

test('a record is right a moment after its table came, also in a large network', async () => {
  for (const [count, address] of [
    [1, '10.1.0.2'],
    [5000, '10.1.0.3'],
  ] as const) {
    const next = table(address, count);
    const startMs = performance.now();
    thread.setZone('o:n', 'net', next);
    while (first(await ask('web')) !== address) expect(performance.now() - startMs).toBeLessThan(10_000);
  }
});

test('a flood of queries through one socket is answered whole', async () => {
  const fd = inNetworkNamespace(namespace, () => sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK));
  const socket = createSocket('udp4').bind({ fd });
  const ids = new Set<number>();
  socket.on('message', (bytes) => ids.add(bytes.readUInt16BE(0)));
  for (let id = 0; id < 100; id++) {
    const bytes = query('web');
    bytes.writeUInt16BE(id, 0);
    socket.send(bytes, 53, '127.0.0.11');
  }
  const endMs = performance.now() + 3000;
  while (ids.size < 100 && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 10));
  socket.close();
  expect(ids.size).toBe(100);
});

test("other names go to given resolvers from the container's own namespace, by UDP and by TCP", async () => {
  // A resolver that nobody but the container can reach.
  const { udp, tcp } = inNetworkNamespace(namespace, () => {
    const made = {
      udp: sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK),
      tcp: sockets.open(AF_INET, SOCK_STREAM | SOCK_NONBLOCK),
    };
    const own = socketAddress4('127.1.2.3', 5300);
    sockets.bind(made.udp, own);
    sockets.bind(made.tcp, own);
    sockets.listen(made.tcp, 8);
    return made;
  });
  const reply = (bytes: Buffer, flags: number, data?: string): Buffer => {
    const { id = 0, questions = [] } = packet.decode(bytes);
    const name = must(questions[0], 'a question').name;
    const answers: packet.Answer[] = data === undefined ? [] : [{ type: 'A', name, data }];
    return packet.encode({ type: 'response', id, flags, questions, answers });
  };
  const server = createSocket('udp4').bind({ fd: udp });
  server.on('message', (bytes, from) => {
    const big = packet.decode(bytes).questions?.[0]?.name === 'big.test';
    server.send(
      big ? reply(bytes, packet.TRUNCATED_RESPONSE) : reply(bytes, 0, '198.51.100.1'),
      from.port,
      from.address,
    );
  });
  const stream = createServer((client) => {
    client.on('data', (bytes) => {
      const answer = reply(bytes.subarray(2), 0, '198.51.100.2');
      client.end(Buffer.concat([Buffer.of(0, answer.length), answer]));
    });
  }).listen({ fd: tcp });
  await kernel.apply(namespace, [{ kind: 'addr', dev: 'lo', address: '192.0.2.53/32' }]);
  await kernel.nft(
    namespace,
    'add table ip t\nadd chain ip t out { type nat hook output priority -100; }\n' +
      'add rule ip t out ip daddr 192.0.2.53 meta l4proto { tcp, udp } dnat to 127.1.2.3',
  );
  thread.setView('box', view({ upstream: { servers: ['192.0.2.53#5300'], namespace, hostServers: false } }));
  expect(first(await ask('small.test'))).toBe('198.51.100.1');
  expect(first(await ask('big.test'))).toBe('198.51.100.2');
  thread.setView('box', view({ keepsDotless: true }));
  expect(await ask('dotless')).toMatchObject({ answers: [], flags: expect.any(Number) as number });
  server.close();
  stream.close();
});

test('what nobody can be asked fails at once', async () => {
  const got = await ask('nobody.test');
  expect((got?.flags ?? 0) & 15).toBe(2);
});

test('a thread that ends is started again and knows everything, at the same port', async () => {
  await must(workers.at(-1), 'a worker').terminate();
  const endMs = performance.now() + 10_000;
  let got: packet.Packet | undefined;
  while (got === undefined && performance.now() < endMs) got = await ask('web', 300);
  expect(first(got)).toBe('10.1.0.3');
  expect([workers.length, reopened]).toEqual([2, [['box', port]]]);
}, 15_000);

test('the check sees a resolver whose way is gone', async () => {
  expect(await probeResolver(namespace, systemClock)).toBe(true);
  await kernel.nft(namespace, 'delete table ip shoal-dns');
  expect(await probeResolver(namespace, systemClock)).toBe(false);
  await kernel.nft(namespace, resolverRules(port));
  expect(await probeResolver(namespace, systemClock)).toBe(true);
  expect(await probeResolver(join(root, 'none'), systemClock)).toBe(false);
});
