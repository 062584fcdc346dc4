import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { macOf } from './ip4.ts';
import {
  ask,
  connectEcho,
  makeTable,
  run,
  serve,
  serveEcho,
  startLab,
  type Lab,
  type TestHost,
} from './testing/harness.ts';
import type { SandboxResult } from './types.ts';

let lab: Lab;
let a: TestHost;
let b: TestHost;
const stops: (() => void)[] = [];
const sandbox: Record<string, SandboxResult> = {};
const NET = 'net0123456789abcdef';
const PORT = 4_789;

const task = (host: TestHost, id: string, address: string): { id: string; host: TestHost; address: string } => ({
  id,
  host,
  address,
});

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  const table = makeTable({
    id: NET,
    name: 'back',
    version: 1,
    vni: 4097,
    subnet: '10.9.1.0/24',
    gateway: '10.9.1.1',
    vip: '10.9.1.2',
    hosts: lab.hosts,
    tasks: [task(a, 't1', '10.9.1.5'), task(b, 't2', '10.9.1.6')],
  });
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: PORT, nodeId: host.nodeId });
    await host.network.setTable(table);
    await host.network.waitForNetwork(NET, 1000);
  }
  for (const [host, name, address] of [
    [a, '1'.repeat(64), '10.9.1.5'],
    [b, '2'.repeat(64), '10.9.1.6'],
  ] as const) {
    sandbox[host.name] = await host.network.createSandbox({
      id: name,
      names: [`c-${host.name}`],
      endpoints: [{ networkId: NET, address: `${address}/24`, mac: macOf(address), aliases: [] }],
      ports: [],
      dns: ['192.0.2.99'],
    });
    stops.push(await serve(sandbox[host.name]?.namespacePath ?? '', host.name, 8080));
  }
}, 60_000);

const INGRESS = 'ing0123456789abcdef';

/** The ingress network: its one task is on the second host. */
function ingressTable(version: number, serving: boolean): Parameters<TestHost['network']['setTable']>[0] {
  return makeTable({
    id: INGRESS,
    name: 'ingress',
    version,
    vni: 4096,
    // The switch's clients must not mind that some host's LAN could look like this.
    subnet: '10.0.0.0/24',
    gateway: '10.0.0.1',
    ingress: true,
    vip: '10.0.0.2',
    hosts: lab.hosts,
    tasks: [{ ...task(b, 't2', '10.0.0.6'), serving }],
    ports: [
      { published: 8000, target: 8080 },
      { published: 8001, target: 9000 },
      { published: 5300, target: 5353, udp: true },
    ],
  });
}

afterAll(async () => {
  for (const stop of stops) stop();
  await lab.close();
});

const inside = (host: TestHost): string => sandbox[host.name]?.namespacePath ?? '';

test('packets and connections cross the tunnel', () => {
  expect(run(inside(a), 'busybox', 'ping', '-c1', '-W2', '10.9.1.6').out).toContain('1 packets received');
  expect(ask(inside(a), '10.9.1.6', 8080)).toBe('host2 10.9.1.5');
  expect(ask(inside(b), '10.9.1.5', 8080)).toBe('host1 10.9.1.6');
});

test('the virtual address is balanced over both hosts, own task included', () => {
  const seen = Array.from({ length: 4 }, () => ask(inside(a), '10.9.1.2', 8080)).sort();
  expect(seen).toEqual(['host1 10.9.1.5', 'host1 10.9.1.5', 'host2 10.9.1.5', 'host2 10.9.1.5']);
});

test('names are answered inside a sandbox', () => {
  const look = (name: string): string => run(inside(a), 'busybox', 'nslookup', name, '127.0.0.11').out;
  expect(look('web')).toContain('10.9.1.2');
  expect(look('web.back')).toContain('10.9.1.2');
  const tasks = look('tasks.web');
  expect(tasks).toContain('10.9.1.5');
  expect(tasks).toContain('10.9.1.6');
  expect(look('web.1.t1')).toContain('10.9.1.5');
  expect(look('10.9.1.6')).toContain('web.2.t2.back');
});

test('a published port answers on every host and keeps the address of the client', async () => {
  for (const host of lab.hosts) await host.network.setTable(ingressTable(1, true));
  const made = await b.network.createSandbox({
    id: '3'.repeat(64),
    names: ['pub'],
    endpoints: [{ networkId: INGRESS, address: '10.0.0.6/24', mac: macOf('10.0.0.6'), aliases: [] }],
    ports: [],
    dns: [],
  });
  stops.push(await serve(made.namespacePath, 'pub', 8080), await serve(made.namespacePath, 'dgram', 5353, 'UDP'));
  stops.push(await serveEcho(made.namespacePath, 9000));
  await expect.poll(() => ask(lab.client, a.address, 8000)).toBe(`pub ${lab.clientAddress}`);
  expect(ask(lab.client, b.address, 8000)).toBe(`pub ${lab.clientAddress}`);
  for (const host of lab.hosts) {
    const sent = `echo x | socat -t2 -T2 - UDP4:${host.address}:5300`;
    expect(run(lab.client, 'sh', '-c', sent).out.trim()).toBe(`dgram ${lab.clientAddress}`);
  }
  // From the hosts themselves, by their own address and by loopback.
  for (const host of lab.hosts) {
    expect(ask(host.namespace, host.address, 8000)).toBe(`pub ${host.address}`);
    expect(ask(host.namespace, '127.0.0.1', 8000)).toMatch(/^pub 169\.254\./);
  }
  // From the task itself, by either host, and outward to anyone.
  expect(ask(made.namespacePath, b.address, 8000)).toMatch(/^pub 169\.254\./);
  expect(ask(made.namespacePath, a.address, 8000)).toBe(`pub ${b.address}`);
  stops.push(await serve(lab.client, 'outside', 7000));
  expect(ask(made.namespacePath, lab.clientAddress, 7000)).toBe(`outside ${b.address}`);
  // A container with overlay networks only goes out too, and reaches published ports.
  expect(ask(inside(a), lab.clientAddress, 7000)).toBe(`outside ${a.address}`);
  expect(ask(inside(a), a.address, 8000)).toMatch(/^pub 169\.254\./);
  expect(ask(inside(a), b.address, 8000)).toBe(`pub ${a.address}`);
});

test('a draining task gets no new connections while an old one goes on', async () => {
  const old = connectEcho(lab.client, a.address, 8001);
  expect(await old.echoes('hello')).toBe(true);
  for (const host of lab.hosts) await host.network.setTable(ingressTable(2, false));
  await expect.poll(() => ask(lab.client, a.address, 8000)).toMatch(/refused/);
  expect(await old.echoes('still-here')).toBe(true);
  old.close();
  for (const host of lab.hosts) await host.network.setTable(ingressTable(3, true));
  await expect.poll(() => ask(lab.client, a.address, 8000)).toContain('pub');
});

test('a restart takes everything over and cuts no connection', async () => {
  stops.push(await serveEcho(inside(b), 9000));
  const east = connectEcho(inside(a), '10.9.1.6', 9000);
  const virtual = connectEcho(inside(a), '10.9.1.2', 8080);
  const outer = connectEcho(lab.client, a.address, 8001);
  expect(await east.echoes('one')).toBe(true);
  expect(await outer.echoes('one')).toBe(true);
  virtual.close();
  for (const [host, kill] of [
    [a, true],
    [b, false],
  ] as const) {
    await host.restart(kill);
    expect(await outer.echoes(`between-${host.name}`)).toBe(true);
    // Before start() the kernel alone carries connections, new ones too.
    expect(ask(lab.client, host.address, 8000)).toBe(`pub ${lab.clientAddress}`);
    await host.network.start();
    expect(await outer.echoes(`after-${host.name}`)).toBe(true);
    expect(await east.echoes(`east-${host.name}`)).toBe(true);
  }
  east.close();
  outer.close();
  expect(ask(lab.client, a.address, 8000)).toBe(`pub ${lab.clientAddress}`);
  expect(run(inside(a), 'busybox', 'nslookup', 'tasks.web', '127.0.0.11').out).toContain('10.9.1.6');
  const seen = Array.from({ length: 2 }, () => ask(inside(a), '10.9.1.2', 8080)).sort();
  expect(seen).toEqual(['host1 10.9.1.5', 'host2 10.9.1.5']);
});

test('a service without tasks refuses at once; a moved task is found on its new host', async () => {
  const facts = {
    id: NET,
    name: 'back',
    vni: 4097,
    subnet: '10.9.1.0/24',
    gateway: '10.9.1.1',
    vip: '10.9.1.2',
    hosts: lab.hosts,
  };
  await a.network.setTable(makeTable({ ...facts, version: 2, tasks: [] }));
  await expect.poll(() => ask(inside(a), '10.9.1.2', 8080)).toMatch(/refused/);
  // A lower version is stale and changes nothing.
  await a.network.setTable(makeTable({ ...facts, version: 1, tasks: [task(b, 't2', '10.9.1.6')] }));
  const tasks = [task(a, 't1', '10.9.1.5'), task(b, 't2', '10.9.1.6')];
  await a.network.setTable(makeTable({ ...facts, version: 3, tasks }));
  await expect.poll(() => ask(inside(a), '10.9.1.2', 8080)).toContain('10.9.1.5');
  expect(ask(inside(a), '10.9.1.6', 8080)).toBe('host2 10.9.1.5');
});

test('lost rules and links are made again', async () => {
  run(a.namespace, 'nft', 'delete', 'table', 'ip', `shoal-${a.tag}`);
  const overlay = inside(a).replace(/[^/]*$/, `ov-${NET.slice(0, 12)}`);
  run(overlay, 'ip', 'link', 'del', 'vxlan0');
  await a.network.reconcile();
  expect(ask(lab.client, a.address, 8000)).toBe(`pub ${lab.clientAddress}`);
  expect(ask(inside(a), '10.9.1.6', 8080)).toBe('host2 10.9.1.5');
});

test('destroy leaves nothing behind', async () => {
  for (const stop of stops.splice(0)) stop();
  for (const host of lab.hosts) await host.network.destroy();
  for (const host of lab.hosts) {
    await expect.poll(() => run(host.namespace, 'ip', '-o', 'link').out).not.toMatch(/: sh/);
    expect(run(host.namespace, 'nft', 'list', 'tables').out.trim()).toBe('');
    expect(run(host.namespace, 'ip', 'rule').out).not.toContain('fwmark');
    expect(existsSync(`${host.execRoot}/netns`)).toBe(false);
  }
});
