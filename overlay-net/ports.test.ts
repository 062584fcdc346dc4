import { createServer, type Server } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { SeededRandom, silentLogger, type Logger } from '../base/index.ts';
import { PortHolder } from './ports.ts';
import type { PortRule } from './published.ts';

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
});

function listen(host: string, port = 0): Promise<number> {
  const server = createServer();
  servers.push(server);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

const warned: string[] = [];
const log: Logger = { ...silentLogger, warn: (message) => void warned.push(message), with: () => log };
const rule = (port: number): PortRule => ({ protocol: 'tcp', port, hostIp: '', targets: [], ingress: true });
const wish = (publishedPort: number, hostIp = ''): Parameters<PortHolder['hold']>[1][number] => ({
  protocol: 'tcp',
  targetPort: 80,
  publishedPort,
  hostIp,
});

test('a port of the mesh that a program listens on is told once, and held as soon as it is free', async () => {
  const holder = new PortHolder(new SeededRandom(1), log);
  const port = await listen('127.0.0.1');
  holder.holdIngress([rule(port)]);
  holder.holdIngress([rule(port)]);
  expect(warned).toHaveLength(1);
  const clash = { protocol: 'tcp', port, hostIp: '', holder: 'a program of that host' };
  expect(holder.meshClashes).toEqual([clash]);
  await new Promise((resolve) => servers.pop()?.close(resolve));
  holder.holdIngress([rule(port)]);
  expect(holder.meshClashes).toEqual([]);
  expect(warned).toHaveLength(1);
  await expect(listen('127.0.0.1', port)).rejects.toThrow('EADDRINUSE');
  await expect(listen('::1', port)).rejects.toThrow('EADDRINUSE');
  expect(() => holder.hold('web', [wish(port)], 'c1')).toThrow(
    `driver failed programming external connectivity on endpoint web: Bind for 0.0.0.0:${port} failed: port is already allocated`,
  );
  holder.holdIngress([]);
  expect(await listen('127.0.0.1', port)).toBe(port);
  holder.close();
});

test('a port of one host is refused when a program has it, over either family', async () => {
  const holder = new PortHolder(new SeededRandom(2), log);
  const port = await listen('127.0.0.1');
  expect(() => holder.hold('web', [wish(port)], 'c1')).toThrow(
    `listen tcp4 0.0.0.0:${port}: bind: address already in use`,
  );
  const six = await listen('::1');
  expect(() => holder.hold('web', [wish(six)], 'c1')).toThrow('address already in use');
  expect(() => holder.hold('web', [wish(six, '::1')], 'c1')).toThrow(`listen tcp6 [::1]:${six}`);
  expect(holder.hold('web', [wish(six, '127.0.0.1')], 'c2')).toHaveLength(1);
  expect(() => holder.hold('web', [wish(80, 'no-such-link')], 'c3')).toThrow('no such interface');
  holder.close();
});
