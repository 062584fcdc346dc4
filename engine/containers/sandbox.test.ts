import { afterAll, beforeAll, expect, test } from 'vitest';
import { directSpawner, runChecked } from '../../base/index.ts';
import type { HostNetworks, SandboxSpec } from '../../overlay-net/index.ts';
import type { Engine } from '../engine.ts';
import { config, logText, makeFixture, noNetworks, runToEnd, type Fixture } from './fixture.ts';

const never = new AbortController().signal;
const calls: string[] = [];
let wanted: SandboxSpec | undefined;
let fixture: Fixture;
let engine: Engine;
const name = `shoaltest${process.pid}`;

/** One namespace with nothing in it but a dummy address, and a note of every call. */
function oneNamespace(): HostNetworks {
  return {
    ...noNetworks(),
    createSandbox: async (spec) => {
      calls.push('create');
      wanted = spec;
      await runChecked(directSpawner, { file: 'ip', args: ['netns', 'add', name] });
      const endpoint = { networkId: 'n1', networkName: 'net', interfaceName: 'eth0', mac: '02:00:00:00:00:01' };
      return {
        namespacePath: `/run/netns/${name}`,
        endpoints: [{ ...endpoint, address: '10.9.8.7/24', gateway: '10.9.8.1' }],
        ports: [{ protocol: 'tcp', targetPort: 80, publishedPort: 30_000, hostIp: '' }],
      };
    },
    drainSandbox: async () => void calls.push('drain'),
    removeSandbox: async () => {
      calls.push('remove');
      await directSpawner.run({ file: 'ip', args: ['netns', 'del', name] });
    },
  };
}

beforeAll(async () => {
  fixture = makeFixture();
  engine = await fixture.open(oneNamespace());
});

afterAll(async () => {
  await engine.shutdown();
  await fixture.destroy();
});

test('a sandbox is made before the start, joined, drained at stop, removed at the end, and made again', async () => {
  const network = {
    mode: 'sandbox' as const,
    endpoints: [{ networkId: 'n1', address: '', mac: '', aliases: ['al'] }],
    ports: [{ protocol: 'tcp' as const, targetPort: 80, publishedPort: 0, hostIp: '' }],
    taskId: 'task1',
  };
  const text =
    'readlink /proc/self/ns/net; cat /etc/resolv.conf /etc/hosts; trap "exit 0" TERM; while :; do sleep 0.05; done';
  const { id } = await engine.containers.create(
    config({
      name: 'boxed',
      cmd: ['sh', '-c', text.replace('readlink', '/bin/busybox readlink')],
      network,
      dns: ['192.0.2.53'],
      extraHosts: ['host.docker.internal:host-gateway'],
    }),
  );
  await engine.containers.start(id);
  expect(wanted).toMatchObject({ id, taskId: 'task1', names: ['boxed', id.slice(0, 12)], dns: ['192.0.2.53'] });
  const running = engine.containers.inspect(id);
  expect(running.ports[0]?.publishedPort).toBe(30_000);
  expect(running.endpoints[0]?.address).toBe('10.9.8.7/24');
  await engine.containers.exec(id, { command: ['true'], env: [], privileged: false }, never);
  await engine.containers.stop(id, {});
  expect(calls).toEqual(['create', 'drain', 'remove']);
  const { out } = await logText(engine, id);
  expect(out).toContain('nameserver 127.0.0.11\n');
  expect(out).toContain(`10.9.8.7\t${id.slice(0, 12)}\n`);
  expect(out).toContain('10.9.8.1\thost.docker.internal\n');
  await engine.containers.start(id);
  expect(calls.at(-1)).toBe('create');
  await engine.containers.remove(id, { force: true, volumes: false });
  expect(calls.at(-1)).toBe('remove');
});

test('host mode shares the host network and its name; none has loopback only', async () => {
  const host = await runToEnd(engine, ['hostname'], { network: { mode: 'host' } });
  const own = (await runChecked(directSpawner, { file: 'hostname', args: [] })).trim();
  expect(host.out.trim()).toBe(own);
  const none = await runToEnd(engine, ['ip', '-o', 'addr']);
  expect(none.out).toContain('127.0.0.1/8');
  expect(none.out).not.toContain('eth0');
});
