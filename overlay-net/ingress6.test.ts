import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PortConfig, PortConfig_Protocol, PortConfig_PublishMode, type NetworkTable } from '../proto/index.ts';
import { canonicalIp } from './ip.ts';
import { macOf } from './ip4.ts';
import { ask, makeTable, run, startLab, type Lab, type TestHost } from './testing/harness.ts';

const INGRESS = 'ing0123456789abcdef';
const CLIENT6 = '2001:db8::99';
const TASK6 = 'fd77::6';

let lab: Lab;
let a: TestHost;
let b: TestHost;
let version = 0;
let task = '';
const stops: (() => void)[] = [];
const six = (host: TestHost): string => `2001:db8::${host.name.replace('host', '')}`;

/** The ingress network of both families; its one task is on the second host. */
function table(port: Partial<PortConfig>): NetworkTable {
  const made = makeTable({
    ...{ id: INGRESS, name: 'ingress', version: ++version, vni: 4096, ingress: true, vip: '10.0.0.2' },
    ...{ subnet: '10.0.0.0/24', gateway: '10.0.0.1', hosts: lab.hosts },
    tasks: [{ id: 't2', host: b, address: '10.0.0.6' }],
  });
  made.network?.ipam?.configs.push({ family: 0, range: '', reserved: {}, subnet: 'fd77::/64', gateway: 'fd77::1' });
  for (const endpoint of made.endpoints) endpoint.address6 = `${TASK6}/64`;
  for (const service of made.services) {
    service.ports = [
      { published_port: 8000, target_port: 8080, ...port },
      { published_port: 5300, target_port: 5353, protocol: PortConfig_Protocol.UDP },
    ].map((one) => PortConfig.create({ publish_mode: PortConfig_PublishMode.INGRESS, ...one }));
  }
  return made;
}

async function publish(port: Partial<PortConfig> = {}): Promise<void> {
  const made = table(port);
  for (const host of lab.hosts) await host.network.setTable(made);
}

/** A server of both families that tells each client the client's address. */
async function serveBoth(namespace: string, name: string, port: number, protocol: 'TCP' | 'UDP'): Promise<void> {
  const tell = `echo ${name} $SOCAT_PEERADDR`;
  const action = protocol === 'TCP' ? `SYSTEM:${tell}` : `SYSTEM:read x; ${tell}`;
  for (const family of ['4', '6']) {
    const listen = `${protocol}${family}-LISTEN:${port},fork,reuseaddr${family === '6' ? ',ipv6only=1' : ''}`;
    const child = spawn('nsenter', [`--net=${namespace}`, 'socat', listen, action], {
      stdio: 'ignore',
      detached: true,
    });
    stops.push(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    });
  }
  const flag = protocol === 'TCP' ? '-ltn' : '-lun';
  for (let i = 0; i < 100; i++) {
    if (run(namespace, 'busybox', 'netstat', flag).out.split(`:${port} `).length === 3) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What a server says over IPv6, with the address in its short form. */
function told(out: string): string {
  return out.trim().replace(/\[([0-9a-f:]+)\]/, (_, address: string) => canonicalIp(address));
}

function ask6(namespace: string, address: string, port: number): string {
  return told(run(namespace, 'socat', '-T3', '-u', `TCP6:[${address}]:${port},connect-timeout=3`, '-').out);
}

function say6(namespace: string, address: string, port: number): string {
  return told(run(namespace, 'sh', '-c', `echo x | socat -t2 -T2 - UDP6:[${address}]:${port}`).out);
}

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  run(lab.client, 'ip', '-6', 'addr', 'add', `${CLIENT6}/64`, 'dev', 'eth0', 'nodad');
  for (const host of lab.hosts) {
    run(host.namespace, 'ip', '-6', 'addr', 'add', `${six(host)}/64`, 'dev', 'eth0', 'nodad');
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
  }
  await publish();
  const made = await b.network.createSandbox({
    id: 't2'.repeat(32),
    names: ['t2'],
    endpoints: [
      { networkId: INGRESS, address: '10.0.0.6/24', address6: `${TASK6}/64`, mac: macOf('10.0.0.6'), aliases: [] },
    ],
    ports: [],
    dns: [],
  });
  task = made.namespacePath;
  await serveBoth(task, 'web', 8080, 'TCP');
  await serveBoth(task, 'dgram', 5353, 'UDP');
  await serveBoth(lab.client, 'outside', 7000, 'TCP');
}, 60_000);

afterAll(async () => {
  for (const stop of stops) stop();
  await lab.close();
});

test('a published port answers over IPv6 on every host and keeps the address of the client', async () => {
  await expect.poll(() => ask6(lab.client, six(b), 8000)).toBe(`web ${CLIENT6}`);
  expect(ask6(lab.client, six(a), 8000)).toBe(`web ${CLIENT6}`);
  for (const host of lab.hosts) {
    expect(say6(lab.client, six(host), 5300)).toBe(`dgram ${CLIENT6}`);
    expect(ask(lab.client, host.address, 8000)).toBe(`web ${lab.clientAddress}`);
  }
}, 30_000);

test('over IPv6 too, hosts and containers reach published ports of their own host, and tasks reach the world', async () => {
  for (const host of lab.hosts) expect(ask6(host.namespace, six(host), 8000)).toBe(`web ${six(host)}`);
  expect(ask6(a.namespace, six(b), 8000)).toBe(`web ${six(a)}`);
  expect(ask6(task, six(b), 8000)).toMatch(/^web fd5a:/);
  expect(ask6(task, six(a), 8000)).toBe(`web ${six(b)}`);
  expect(ask6(task, CLIENT6, 7000)).toBe(`outside ${six(b)}`);
  for (const host of lab.hosts) expect(ask6(host.namespace, '::1', 8000)).toMatch(/^web fd5a:/);
}, 30_000);

test('a firewall of the host that forwards nothing by default is no obstacle, over both families', async () => {
  for (const host of lab.hosts) {
    run(host.namespace, 'nft', 'add table inet filter');
    run(host.namespace, 'nft', 'add chain inet filter fwd { type filter hook forward priority 0; policy drop; }');
    for (const family of ['ip', 'ip6']) {
      run(host.namespace, 'nft', `add table ${family} filter`);
      const chain = `add chain ${family} filter FORWARD { type filter hook forward priority 0; policy accept; }`;
      run(host.namespace, 'nft', chain);
      run(host.namespace, 'nft', `add rule ${family} filter FORWARD counter drop`);
    }
    await host.network.reconcile();
  }
  for (const host of lab.hosts) {
    expect(ask6(lab.client, six(host), 8000)).toBe(`web ${CLIENT6}`);
    expect(ask(lab.client, host.address, 8000)).toBe(`web ${lab.clientAddress}`);
    expect(ask6(host.namespace, six(host), 8000)).toBe(`web ${six(host)}`);
  }
  expect(ask6(task, six(b), 8000)).toMatch(/^web fd5a:/);
}, 30_000);

test('a port bound to an IPv6 address answers only there; a restart takes all over', async () => {
  run(a.namespace, 'ip', '-6', 'addr', 'add', '2001:db8::201/64', 'dev', 'eth0', 'nodad');
  await publish({ host_ip: '2001:DB8:0::201', published_port: 8100 });
  await expect.poll(() => ask6(lab.client, '2001:db8::201', 8100)).toBe(`web ${CLIENT6}`);
  expect(ask6(lab.client, six(a), 8100)).toContain('refused');
  expect(ask(lab.client, a.address, 8100)).toContain('refused');
  await publish();
  await expect.poll(() => ask6(lab.client, six(a), 8000)).toBe(`web ${CLIENT6}`);
  await a.restart(true);
  await a.network.start();
  expect(ask6(lab.client, six(a), 8000)).toBe(`web ${CLIENT6}`);
  expect(say6(lab.client, six(a), 5300)).toBe(`dgram ${CLIENT6}`);
}, 30_000);

test('a container of a local network with IPv6 is published over both families', async () => {
  const wanted = { subnet: '', gateway: '', internal: false, labels: {}, options: {} };
  const local = await a.network.createLocalNetwork({ ...wanted, name: 'six', subnet6: 'fd66::/64' });
  const made = await a.network.createSandbox({
    id: 'c6'.repeat(32),
    names: ['c6'],
    endpoints: [{ networkId: local.id, address: '', mac: '', aliases: [] }],
    ports: [
      { protocol: 'tcp', targetPort: 8080, publishedPort: 8600, hostIp: '' },
      { protocol: 'tcp', targetPort: 8080, publishedPort: 8601, hostIp: '2001:db8::201' },
      { protocol: 'udp', targetPort: 5353, publishedPort: 8602, hostIp: '::' },
    ],
    dns: [],
  });
  await serveBoth(made.namespacePath, 'local', 8080, 'TCP');
  await serveBoth(made.namespacePath, 'gram', 5353, 'UDP');
  expect(ask6(lab.client, six(a), 8600)).toBe(`local ${CLIENT6}`);
  expect(ask(lab.client, a.address, 8600)).toBe(`local ${lab.clientAddress}`);
  expect(ask6(lab.client, six(a), 8601)).toContain('refused');
  expect(ask6(lab.client, '2001:db8::201', 8601)).toBe(`local ${CLIENT6}`);
  expect(say6(lab.client, six(a), 8602)).toBe(`gram ${CLIENT6}`);
  expect(ask6(a.namespace, six(a), 8600)).toBe(`local ${six(a)}`);
  expect(ask6(made.namespacePath, six(a), 8600)).toBe('local fd66::1');
  expect(ask6(made.namespacePath, CLIENT6, 7000)).toMatch(/^outside 2001:db8::/);
  expect(ask6(a.namespace, '::1', 8600)).toBe('local fd66::1');
  // Nobody comes to the container but by its ports.
  run(lab.client, 'ip', '-6', 'route', 'add', 'fd66::/64', 'via', six(a));
  const address = (made.endpoints[0]?.address6 ?? '').split('/')[0] ?? '';
  expect(ask6(lab.client, address, 8080)).not.toContain('local');
  await a.network.removeSandbox('c6'.repeat(32));
}, 30_000);

test('destroy leaves nothing of IPv6 behind', async () => {
  for (const host of lab.hosts) await host.network.destroy();
  for (const host of lab.hosts) {
    expect(run(host.namespace, 'nft', 'list', 'ruleset').out).not.toMatch(/shoal|sh[0-9a-z]+\*/);
    expect(run(host.namespace, 'ip', '-6', 'rule').out).not.toContain('fwmark');
  }
}, 30_000);
