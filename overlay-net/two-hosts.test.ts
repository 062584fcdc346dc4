import { afterAll, beforeAll, expect, test } from 'vitest';
import { macOf } from './ip4.ts';
import { ask, makeTable, run, serve, startLab, type Lab, type TestHost } from './testing/harness.ts';
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
