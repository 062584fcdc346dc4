import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { macOf } from './ip4.ts';
import { ask, connectEcho, makeTable, run, serve, startLab, type Lab, type TestHost } from './testing/harness.ts';
import { addUnderlay6, serve6, serveEcho6, tell, underlay6 } from './testing/dual.ts';
import type { LocalNetwork, SandboxResult } from './types.ts';

/** Ports that one host publishes for containers whose networks a user gave no IPv6. */
const OVERLAY = 'ov40123456789abcdef';
const PORT = 8080;
/** Containers by where their default route leads. */
const KINDS = [
  { name: 'on the default bridge', id: 'd', published: 8100, networkId: 'bridge', address: '', mac: '' },
  {
    name: 'on an overlay',
    id: 'e',
    published: 8200,
    networkId: OVERLAY,
    address: '10.8.0.5/24',
    mac: macOf('10.8.0.5'),
  },
] as const;

let lab: Lab;
let host: TestHost;
let other: TestHost;
const namespaces = new Map<string, string>();
const stops: (() => void)[] = [];

beforeAll(async () => {
  lab = await startLab(2);
  [host, other] = lab.hosts as [TestHost, TestHost];
  addUnderlay6(lab.hosts);
  await host.network.start();
  await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
  const tasks = [{ id: 'e', host, address: '10.8.0.5' }];
  const network = { id: OVERLAY, name: 'four', version: 1, vni: 4100, subnet: '10.8.0.0/24', gateway: '10.8.0.1' };
  await host.network.setTable(makeTable({ ...network, vip: '10.8.0.2', hosts: [host], tasks }));
  for (const { id, published, networkId, address, mac } of KINDS) {
    const ports = (['tcp', 'udp'] as const).map((protocol) => {
      return { protocol, targetPort: PORT, publishedPort: published, hostIp: '' };
    });
    const echo = { protocol: 'tcp', targetPort: PORT + 1, publishedPort: published + 1, hostIp: '' } as const;
    const own = { protocol: 'tcp', targetPort: PORT, publishedPort: published + 2, hostIp: '::1' } as const;
    const endpoints = [{ networkId, address, mac, aliases: [] }];
    const { namespacePath } = await host.network.createSandbox({
      id: id.repeat(64),
      names: [id],
      endpoints,
      ports: [...ports, echo, own],
      dns: [],
    });
    namespaces.set(id, namespacePath);
    stops.push(await serve(namespacePath, id, PORT), await serve6(namespacePath, id, PORT));
    stops.push(await serve6(namespacePath, id, PORT, 'UDP'));
  }
}, 60_000);

afterAll(async () => {
  for (const stop of stops) stop();
  await lab.close();
});

/** `2001:db8:77::N` as socat writes it. */
const seen = (index: number): string => `[2001:0db8:0077:0000:0000:0000:0000:000${index}]`;

test.each(KINDS)('a container $name is reached over both families, and sees the client', ({ id, published }) => {
  expect(ask(other.namespace, host.address, published)).toBe(`${id} ${other.address}`);
  for (const protocol of ['TCP', 'UDP'] as const) {
    expect(tell(other.namespace, underlay6(1), published, protocol)).toBe(`${id} ${seen(2)}`);
    expect(tell(host.namespace, underlay6(1), published, protocol)).toBe(`${id} ${seen(1)}`);
  }
});

test.each(KINDS)('a container $name reaches itself and the other over IPv6 by published ports', ({ id }) => {
  for (const { id: to, published } of KINDS) {
    expect(tell(namespaces.get(id) ?? '', underlay6(1), published)).toMatch(new RegExp(`^${to} \\[`));
  }
});

const loopback = (id: string, published: number, protocol: 'TCP' | 'UDP' = 'TCP'): void => {
  expect(tell(host.namespace, '::1', published, protocol)).toMatch(new RegExp(`^${id} \\[fd`));
};

test.each(KINDS)(
  'a container $name is reached from ::1, also where bridged frames pass the rules',
  ({ id, published }) => {
    const before = run(host.namespace, 'cat', '/proc/sys/net/bridge/bridge-nf-call-ip6tables').out.trim();
    for (const value of ['1', '0', before]) {
      run(host.namespace, 'sh', '-c', `echo ${value} >/proc/sys/net/bridge/bridge-nf-call-ip6tables`);
      for (const protocol of ['TCP', 'UDP'] as const) loopback(id, published, protocol);
    }
  },
);

test.each(KINDS)('a port of a container $name that is bound to ::1 answers only there', ({ id, published }) => {
  loopback(id, published + 2);
  expect(tell(host.namespace, underlay6(1), published + 2)).toContain('refused');
  expect(tell(other.namespace, underlay6(1), published + 2)).toContain('refused');
  expect(ask(host.namespace, '127.0.0.1', published + 2)).toContain('refused');
});

test('a connection from ::1 outlives a restart; what is lost of its way is made again', async () => {
  stops.push(await serveEcho6(namespaces.get('d') ?? '', PORT + 1));
  const client = connectEcho(host.namespace, '::1', 8101);
  expect(await client.echoes('first')).toBe(true);
  await host.restart(true);
  await host.network.start();
  expect(await client.echoes('second')).toBe(true);
  client.close();
  run(host.namespace, 'ip', 'link', 'del', `sh${host.tag}l`);
  await host.network.reconcile();
  loopback('d', 8100);
  run(host.namespace, 'ip', '-6', 'rule', 'del', 'priority', '20011');
  await host.network.reconcile();
  loopback('d', 8100);
  expect((await host.network.takeRepairs()).join()).toMatch(/link sh\w+l .*rule for mark/s);
  await host.network.reconcile();
  expect(await host.network.takeRepairs()).toEqual([]);
}, 30_000);

test('nobody comes to the containers but by their ports', () => {
  const address = (run(namespaces.get('d') ?? '', 'ip', '-6', '-o', 'addr', 'show', 'scope', 'global').out.match(
    /inet6 ([0-9a-f:]+)/,
  ) ?? [])[1];
  expect(address).toMatch(/^fd/);
  run(other.namespace, 'ip', '-6', 'route', 'add', `${address}/128`, 'via', underlay6(1));
  expect(tell(other.namespace, address ?? '', PORT)).not.toMatch(/^d /);
});

test('a default bridge that an earlier version stored without IPv6 gets it, once', async () => {
  const file = join(other.execRoot, 'networks.json');
  const bridge = (): LocalNetwork => {
    const all = JSON.parse(readFileSync(file, 'utf8')) as LocalNetwork[];
    return all.find(({ name }) => name === 'bridge') as LocalNetwork;
  };
  await other.network.start();
  const made = bridge();
  writeFileSync(file, JSON.stringify([{ ...made, subnet6: '', gateway6: '' }]));
  await other.restart(true);
  await other.network.start();
  const { subnet6, gateway6, ...rest } = bridge();
  expect(subnet6).toMatch(/^fd[0-9a-f:]+\/64$/);
  expect(gateway6).toMatch(/^fd[0-9a-f:]+1$/);
  expect(made).toMatchObject(rest);
  await other.restart(true);
  await other.network.start();
  expect(bridge()).toEqual({ ...rest, subnet6, gateway6 });
}, 30_000);

test.each(['iptables', 'ip6tables'])(
  'containers kept apart are so in both families without bridge-nf-call-%s',
  async (name) => {
    run(other.namespace, 'sh', '-c', `echo 0 >/proc/sys/net/bridge/bridge-nf-call-${name}`);
    const wanted = { name, subnet: '', gateway: '', internal: false, labels: {}, ipv6: true };
    const options = { 'com.docker.network.bridge.enable_icc': 'false' };
    const { id: networkId } = await other.network.createLocalNetwork({ ...wanted, options });
    const make = (id: string): Promise<SandboxResult> => {
      const endpoints = [{ networkId, address: '', mac: '', aliases: [] }];
      return other.network.createSandbox({ id: id.repeat(64), names: [id], endpoints, ports: [], dns: [] });
    };
    const [one, two] = [await make('1'), await make('2')];
    stops.push(await serve(two.namespacePath, 'two', PORT), await serve6(two.namespacePath, 'two', PORT));
    const targets = two.endpoints.flatMap(({ address, address6 = '' }) => [address, address6]);
    expect(targets).toHaveLength(2);
    for (const target of targets) {
      expect(tell(one.namespacePath, target.replace(/\/.*/, ''), PORT)).not.toMatch(/^two/);
    }
    run(other.namespace, 'sh', '-c', `echo 1 >/proc/sys/net/bridge/bridge-nf-call-${name}`);
    for (const owner of ['1', '2']) await other.network.removeSandbox(owner.repeat(64));
  },
);

test('destroy leaves nothing of it behind', async () => {
  await host.network.destroy();
  expect(run(host.namespace, 'ip', '-6', 'rule').out).not.toContain('fwmark');
  expect(run(host.namespace, 'ip', '-o', 'link').out).not.toContain(`sh${host.tag}`);
});
