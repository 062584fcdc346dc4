/** Real namespaces, changed by hand behind the daemon's back: it sees, tells and repairs. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { macOf } from '../ip4.ts';
import {
  ask,
  connectEcho,
  makeTable,
  run,
  serve,
  serveEcho,
  startLab,
  type EchoClient,
  type Lab,
  type TestHost,
} from '../testing/harness.ts';
import type { SandboxResult } from '../types.ts';

let lab: Lab;
let a: TestHost;
let b: TestHost;
let one: SandboxResult;
let local: SandboxResult;
let connection: EchoClient;
const stops: (() => void)[] = [];
const NET = 'net0123456789abcdef';
const INGRESS = 'ing0123456789abcdef';
const overlay = (): string => `${a.execRoot}/netns/ov-${NET.slice(0, 12)}`;
const ingress = (): string => `${a.execRoot}/netns/ingress`;

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  const common = { version: 1, hosts: lab.hosts };
  const back = makeTable({
    ...common,
    id: NET,
    name: 'back',
    vni: 4097,
    subnet: '10.9.1.0/24',
    gateway: '10.9.1.1',
    vip: '10.9.1.2',
    tasks: [
      { id: 't1', host: a, address: '10.9.1.5' },
      { id: 't2', host: b, address: '10.9.1.6' },
    ],
  });
  const outside = makeTable({
    ...common,
    id: INGRESS,
    name: 'ingress',
    vni: 4096,
    subnet: '10.0.0.0/24',
    gateway: '10.0.0.1',
    ingress: true,
    vip: '10.0.0.2',
    tasks: [{ id: 't2', host: b, address: '10.0.0.6' }],
    ports: [{ published: 8000, target: 8080 }],
  });
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
    for (const table of [back, outside]) await host.network.setTable(table);
  }
  const endpoint = (networkId: string, address: string) => ({
    networkId,
    address: `${address}/24`,
    mac: macOf(address),
    aliases: [],
  });
  one = await a.network.createSandbox({
    id: '1'.repeat(64),
    names: ['one'],
    endpoints: [endpoint(NET, '10.9.1.5')],
    ports: [],
    dns: [],
  });
  const two = await b.network.createSandbox({
    id: '2'.repeat(64),
    names: ['two'],
    endpoints: [endpoint(NET, '10.9.1.6'), endpoint(INGRESS, '10.0.0.6')],
    ports: [],
    dns: [],
  });
  local = await a.network.createSandbox({
    id: '3'.repeat(64),
    names: ['local'],
    endpoints: [{ networkId: 'bridge', address: '', mac: '', aliases: [] }],
    ports: [{ protocol: 'tcp', targetPort: 8080, publishedPort: 8090, hostIp: '' }],
    dns: [],
  });
  stops.push(await serve(one.namespacePath, 'one', 8080), await serve(two.namespacePath, 'two', 8080));
  stops.push(await serve(local.namespacePath, 'local', 8080), await serveEcho(two.namespacePath, 9000));
  connection = connectEcho(one.namespacePath, '10.9.1.6', 9000);
  expect(await connection.echoes('begin')).toBe(true);
}, 60_000);

afterAll(async () => {
  connection.close();
  for (const stop of stops) stop();
  await lab.close();
});

const nets = {
  overlay: (): boolean => ask(one.namespacePath, '10.9.1.6', 8080) === 'two 10.9.1.5',
  vip: (): boolean => [1, 2].every(() => ask(one.namespacePath, '10.9.1.2', 8080) !== ''),
  published: (): boolean => ask(lab.client, a.address, 8000) === `two ${lab.clientAddress}`,
  local: (): boolean => ask(lab.client, a.address, 8090) === `local ${lab.clientAddress}`,
  names: (): boolean =>
    run(one.namespacePath, 'busybox', 'nslookup', 'tasks.web', '127.0.0.11').out.includes('10.9.1.6'),
};

/** What is done by hand, and what is said of it. */
const CASES: [name: string, within: () => string, command: string, said: RegExp][] = [
  [
    'fdb entry',
    overlay,
    'bridge fdb del 02:42:0a:09:01:06 dev vxlan0 self',
    /fdb entry 02:42:0a:09:01:06 on network back was (changed|missing)/,
  ],
  [
    'fdb to nowhere',
    overlay,
    'bridge fdb replace 02:42:0a:09:01:06 dev vxlan0 dst 192.0.2.77 self permanent',
    /fdb entry 02:42:0a:09:01:06 on network back was changed/,
  ],
  [
    'foreign fdb',
    overlay,
    'bridge fdb add 02:42:0a:09:01:99 dev vxlan0 dst 192.0.2.2 self permanent',
    /fdb entry 02:42:0a:09:01:99 on network back did not belong there/,
  ],
  ['neighbour', overlay, 'ip neigh del 10.9.1.6 dev vxlan0', /neighbour 10.9.1.6 on network back was missing/],
  ['tunnel down', overlay, 'ip link set vxlan0 down', /link vxlan0 on network back was changed/],
  ['tunnel out of the bridge', overlay, 'ip link set vxlan0 nomaster', /link vxlan0 on network back was changed/],
  ['tunnel gone', overlay, 'ip link del vxlan0', /link vxlan0 on network back was missing/],
  ['bridge gone', overlay, 'ip link del br0', /link br0 on network back was missing/],
  ['bridge down', overlay, 'ip link set br0 down', /link br0 on network back was changed/],
  [
    'veth gone',
    overlay,
    'ip link del $(ip -o link | grep -o " v[0-9a-z]*@" | tr -d " @" | grep -v vxlan)',
    /link \S+ in container one was missing/,
  ],
  ['eth0 down', () => one.namespacePath, 'ip link set eth0 down', /link eth0 in container one was changed/],
  [
    'address gone',
    () => one.namespacePath,
    'ip addr flush dev eth0',
    /address 10.9.1.5\/24 of eth0 in container one was missing/,
  ],
  [
    'default route gone',
    () => local.namespacePath,
    'ip route del default',
    /route 0.0.0.0\/0 in container local was missing/,
  ],
  [
    'balancing map flushed',
    () => one.namespacePath,
    'nft flush map ip shoal vips',
    /nft table ip shoal map vips in container one was changed/,
  ],
  [
    'balancing table gone',
    () => one.namespacePath,
    'nft delete table ip shoal',
    /nft table ip shoal in container one was missing/,
  ],
  ['host table gone', () => a.namespace, 'nft flush ruleset', /nft table ip shoal-\S+ on the host was missing/],
  [
    'host chain flushed',
    () => a.namespace,
    'nft flush chain ip shoal-TAG prerouting',
    /nft table ip shoal-\S+ chain prerouting on the host was changed/,
  ],
  ['ingress table gone', ingress, 'nft delete table ip shoal', /nft table ip shoal on network ingress was missing/],
  ['ingress route gone', ingress, 'ip route del 10.0.0.6', /route 10.0.0.6\/32 on network ingress was missing/],
  ['ingress pair gone', () => a.namespace, 'ip link del shTAGi', /link sh\S+i on network ingress was missing/],
  [
    'ingress rule gone',
    () => a.namespace,
    'ip rule del priority 20010',
    /rule for mark \d+ on network ingress was missing/,
  ],
  [
    'bridge address gone',
    () => a.namespace,
    'ip addr flush dev shTAG0',
    /address 172.17.0.1\/16 of sh\S+0 on network bridge was missing/,
  ],
  ['local bridge gone', () => a.namespace, 'ip link del shTAG0', /link sh\S+0 on network bridge was missing/],
  ['network namespace unmounted', () => a.namespace, 'umount OVERLAY', /namespace on network back was missing/],
  [
    'container namespace unmounted',
    () => a.namespace,
    // A daemon that is quick has mounted it anew already.
    'umount BOX && { rm BOX 2>/dev/null || mountpoint -q BOX; }',
    /namespace in container one was missing/,
  ],
  [
    'forwarding off',
    () => a.namespace,
    'sysctl -qw net.ipv4.ip_forward=0',
    /sysctl net\/ipv4\/ip_forward on the host was changed/,
  ],
];

const says = (): Promise<string[]> => a.network.takeRepairs();

test.each(CASES)(
  '%s',
  async (_name, within, command, said) => {
    await says();
    const paths = command.replaceAll('OVERLAY', overlay()).replaceAll('BOX', one.namespacePath);
    const done = run(within(), 'sh', '-c', paths.replaceAll('TAG', a.tag));
    expect(done).toEqual({ code: 0, out: '' });
    const began = Date.now();
    const heard: string[] = [];
    await expect.poll(async () => heard.push(...(await says())) && heard.join('\n'), { timeout: 8_000 }).toMatch(said);
    for (const [name, works] of Object.entries(nets))
      await expect.poll(works, { message: name, timeout: 5_000 }).toBe(true);
    expect(Date.now() - began).toBeLessThan(10_000);
    expect(await connection.echoes(`after ${command}`)).toBe(true);
  },
  30_000,
);

test('a pass over a network in order repairs nothing', async () => {
  await a.network.reconcile();
  await says();
  await a.network.reconcile();
  expect(await says()).toEqual([]);
});
