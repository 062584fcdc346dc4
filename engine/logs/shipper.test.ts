import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import {
  AF_UNIX,
  closeFd,
  silentLogger,
  SOCK_DGRAM,
  socketAddressUnix,
  sockets,
  systemClock,
} from '../../base/index.ts';
import { logPolicy } from './policy.ts';
import { LogShippers, type ShipRequest } from './shipper.ts';

/** Machines are busy: what comes at last is not late. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, 20_000);

const base = mkdtempSync(join(tmpdir(), 'shoal-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

const entry = (text: string, stream = 'stdout', flag = 'F'): string =>
  `2026-01-05T00:00:01.123456789+00:00 ${stream} ${flag} ${text}\n`;

function request(type: string, config: Record<string, string>): ShipRequest {
  return {
    path: join(mkdtempSync(join(base, 'c-')), 'ctr.log'),
    driver: { type, config },
    subject: { id: 'a'.repeat(64), name: 'web', imageId: 'sha256:b', imageName: 'nginx', labels: { x: '1' }, env: [] },
    hold: () => ({ number: 0, release: () => undefined }),
  };
}

/** A journal that keeps its datagrams. */
function journal(path: string): { received: string[]; close: () => void } {
  const fd = sockets.open(AF_UNIX, SOCK_DGRAM);
  sockets.bind(fd, socketAddressUnix(path));
  const received: string[] = [];
  const into = Buffer.alloc(256 * 1024);
  const timer = setInterval(() => {
    for (let n = sockets.tryReceive(fd, into); n !== undefined; n = sockets.tryReceive(fd, into)) {
      received.push(into.toString('latin1', 0, n));
    }
  }, 1);
  return { received, close: () => (clearInterval(timer), closeFd(fd), rmSync(path)) };
}

const shippers = (journalSocket = '/nowhere'): LogShippers =>
  new LogShippers({ clock: systemClock, log: silentLogger, journalSocket });

test('journald gets every line once with its fields, also over a restart of the daemon and of journald', async () => {
  const socket = join(base, 'journal.sock');
  let there = journal(socket);
  const ship = request('journald', { labels: 'x', tag: '{{.Name}}' });
  writeFileSync(ship.path, entry('one') + entry('bad', 'stderr'));
  const first = shippers(socket);
  await first.begin(ship, true);
  await eventually(() => expect(there.received).toHaveLength(2));
  const [one = '', bad = ''] = there.received;
  expect(one.split('\n')).toEqual([
    ...['MESSAGE=one', 'PRIORITY=6', 'SYSLOG_TIMESTAMP=2026-01-05T00:00:01.123456789Z'],
    ...[`CONTAINER_ID=${'a'.repeat(12)}`, `CONTAINER_ID_FULL=${'a'.repeat(64)}`, 'CONTAINER_NAME=web'],
    ...['CONTAINER_TAG=web', 'IMAGE_NAME=nginx', 'SYSLOG_IDENTIFIER=web', 'X=1', ''],
  ]);
  expect(bad).toContain('PRIORITY=3');
  await first.close();
  appendFileSync(ship.path, entry('while no daemon ran'));
  const second = shippers(socket);
  await second.begin(ship, false);
  await eventually(() => expect(there.received[2]).toContain('while no daemon ran'));
  there.close();
  appendFileSync(ship.path, entry('while no journal ran'));
  await systemClock.sleep(150);
  there = journal(socket);
  await eventually(() => expect(there.received[0]).toContain('while no journal ran'));
  appendFileSync(ship.path, entry('a part', 'stdout', 'P'));
  await second.end(ship.path);
  await eventually(() => expect(there.received[1]).toContain('MESSAGE=a part\n'));
  expect(there.received[1]).toContain('CONTAINER_PARTIAL_MESSAGE=true');
  there.close();
});

test('where there is no journald, or nobody listens, the start fails in docker words', async () => {
  const none =
    'failed to create task for container: failed to initialize logging driver: journald is not enabled on this host';
  await expect(shippers().begin(request('journald', {}), true)).rejects.toThrow(none);
  const refused = request('syslog', { 'syslog-address': 'tcp://127.0.0.1:1' });
  await expect(shippers().begin(refused, true)).rejects.toThrow('failed to initialize logging driver: connect ECONN');
  await shippers().begin(request('journald', {}), false);
});

test('syslog over tcp in the form of RFC 5424, in order, over a lost connection', async () => {
  const got: string[] = [];
  const connections: Socket[] = [];
  const server = createServer((socket) => {
    connections.push(socket);
    socket.on('data', (data) => got.push(...data.toString().trimEnd().split('\n')));
    socket.on('error', () => undefined);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const config = {
    'syslog-address': `tcp://127.0.0.1:${port}`,
    'syslog-format': 'rfc5424',
    'syslog-facility': 'local0',
  };
  const ship = request('syslog', config);
  writeFileSync(ship.path, Array.from({ length: 3000 }, (_, i) => entry(`line ${i}`)).join(''));
  const sender = shippers();
  await sender.begin(ship, true);
  await eventually(() => expect(got).toHaveLength(3000));
  expect(got[0]).toMatch(/^<134>1 2026-01-05T00:00:01Z \S+ a{12} \d+ a{12} - line 0$/);
  expect(got.every((text, i) => text.endsWith(` line ${i}`))).toBe(true);
  for (const socket of connections) socket.destroy();
  await systemClock.sleep(50);
  appendFileSync(ship.path, entry('after'));
  await eventually(() => expect(got.at(-1)).toMatch(/ after$/));
  await sender.end(ship.path);
  await sender.close();
  for (const socket of connections) socket.destroy();
  server.close();
});

test('syslog over udp in its default form', async () => {
  const server = createSocket('udp4');
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const ship = request('syslog', { 'syslog-address': `udp://127.0.0.1:${port}`, tag: 't' });
  writeFileSync(ship.path, entry('hello', 'stderr'));
  const sender = shippers();
  const datagram = once(server, 'message');
  await sender.begin(ship, true);
  expect(String((await datagram)[0])).toMatch(/^<27>Jan {2}5 00:00:01 t\[\d+\]: hello\n$/);
  await sender.close();
  server.close();
});

test.each([
  [{ 'syslog-address': 'ftp://x' }, 'syslog-address should be in form proto://address, got ftp://x'],
  [{ 'syslog-address': 'unix://rel' }, 'an absolute path is expected'],
  [{ 'syslog-facility': 'nope' }, 'invalid syslog facility'],
  [{ 'syslog-format': 'xml' }, 'invalid syslog format: xml'],
])('refuses %j', (config, words) => {
  expect(() => logPolicy({ type: 'syslog', config })).toThrow(words);
});
