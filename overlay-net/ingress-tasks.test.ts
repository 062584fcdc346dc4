import { afterAll, beforeAll, expect, test } from 'vitest';
import { IPAMConfig, PortConfig, PortConfig_PublishMode, type NetworkTable } from '../proto/index.ts';
import { macOf } from './ip4.ts';
import { ask, makeTable, serve, startLab, type Lab, type TestHost } from './testing/harness.ts';
import { addUnderlay6, serve6, tell, underlay6 } from './testing/dual.ts';

/** Tasks of the ingress network among themselves: of both families and of two subnets of each, on two hosts. */
const INGRESS = 'ing0123456789abcdef';
const PUBLISHED = 8000;
const PORT = 8080;

interface Task {
  name: string;
  address: string;
  address6: string;
  host: () => TestHost;
}

let lab: Lab;
const [a, b] = [(): TestHost => lab.hosts[0] as TestHost, (): TestHost => lab.hosts[1] as TestHost];
const TASKS: readonly Task[] = [
  { name: 't1', address: '10.0.0.5', address6: 'fd77::5', host: a },
  { name: 't2', address: '10.0.0.6', address6: 'fd77::6', host: b },
  { name: 't3', address: '10.0.1.7', address6: 'fd77:1::7', host: a },
  { name: 't4', address: '10.0.1.8', address6: 'fd77:1::8', host: b },
];
const namespaces = new Map<string, string>();
const stops: (() => void)[] = [];

/** Only the last task is published. */
function table(): NetworkTable {
  const made = makeTable({
    ...{ id: INGRESS, name: 'ingress', version: 1, vni: 4096, ingress: true, vip: '10.0.0.2' },
    ...{ subnet: '10.0.0.0/24', gateway: '10.0.0.1', hosts: lab.hosts },
    tasks: TASKS.map(({ name, address, host }) => ({ id: name, host: host(), address })),
  });
  const more = [
    { subnet: '10.0.1.0/24', gateway: '10.0.1.1' },
    { subnet: 'fd77::/64', gateway: 'fd77::1' },
    { subnet: 'fd77:1::/64', gateway: 'fd77:1::1' },
  ];
  made.network?.ipam?.configs.push(...more.map((config) => IPAMConfig.create(config)));
  for (const [i, endpoint] of made.endpoints.entries()) {
    endpoint.address6 = `${TASKS[i]?.address6}/64`;
    if (TASKS[i]?.name !== 't4') endpoint.service_id = 'other';
  }
  for (const service of made.services) {
    const port = { published_port: PUBLISHED, target_port: PORT, publish_mode: PortConfig_PublishMode.INGRESS };
    service.ports = [PortConfig.create(port)];
  }
  return made;
}

beforeAll(async () => {
  lab = await startLab(2);
  addUnderlay6(lab.hosts);
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
    await host.network.setTable(table());
  }
  for (const { name, address, address6, host } of TASKS) {
    const where = { networkId: INGRESS, address: `${address}/24`, address6: `${address6}/64`, mac: macOf(address) };
    const spec = { id: name.repeat(32), names: [name], endpoints: [{ ...where, aliases: [] }], ports: [], dns: [] };
    const { namespacePath } = await host().network.createSandbox(spec);
    namespaces.set(name, namespacePath);
    stops.push(await serve(namespacePath, name, PORT), await serve6(namespacePath, name, PORT));
  }
}, 60_000);

afterAll(async () => {
  for (const stop of stops) stop();
  await lab.close();
});

/** As socat writes an address. */
function longIp6(address: string): string {
  const [head = [], tail = []] = address.split('::').map((half): readonly string[] => half.split(':'));
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => '0'), ...tail]
    .map((group) => group.padStart(4, '0'))
    .join(':');
}

const pairs = TASKS.flatMap((from) => TASKS.filter((to) => to !== from).map((to) => ({ from, to })));

test.each(pairs)('$from.name reaches $to.name, which sees it, over both families', ({ from, to }) => {
  const namespace = namespaces.get(from.name) ?? '';
  expect(ask(namespace, to.address, PORT)).toBe(`${to.name} ${from.address}`);
  expect(tell(namespace, to.address6, PORT)).toBe(`${to.name} [${longIp6(from.address6)}]`);
});

test.each(TASKS)('$name reaches a published port by each host, over both families', ({ name }) => {
  const namespace = namespaces.get(name) ?? '';
  for (const [i, host] of lab.hosts.entries()) {
    expect(ask(namespace, host.address, PUBLISHED)).toMatch(/^t4 /);
    expect(tell(namespace, underlay6(i + 1), PUBLISHED)).toMatch(/^t4 /);
  }
});

test('the state stands: nothing is repaired', async () => {
  for (const host of lab.hosts) {
    await host.network.reconcile();
    expect(await host.network.takeRepairs()).toEqual([]);
  }
});
