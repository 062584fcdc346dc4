import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { NetworkCheckOrder, NetworkFault_Kind, type NetworkCheckResult } from '../../proto/index.ts';
import { macOf } from '../ip4.ts';
import { makeTable, run, serve, startLab, type Lab, type TestHost } from '../testing/harness.ts';
import { join } from 'node:path';

const NET = 'net0123456789abcdef';
const A = { id: 't1', address: '10.9.1.5' };
const B = { id: 't2', address: '10.9.1.6' };
let lab: Lab;
let a: TestHost;
let b: TestHost;
let stop: () => void;

beforeAll(async () => {
  // What is broken here must stay broken until it was found.
  vi.stubEnv('SHOAL_TEST_UPKEEP', 'off');
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  const table = makeTable({
    ...{ id: NET, name: 'back', version: 1, vni: 4097, subnet: '10.9.1.0/24', gateway: '10.9.1.1', vip: '10.9.1.2' },
    hosts: lab.hosts,
    tasks: [
      { ...A, host: a },
      { ...B, host: b },
    ],
  });
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
    await host.network.setTable(table);
    await host.network.waitForNetwork(NET, 1000);
  }
  for (const [host, task] of [
    [a, A],
    [b, B],
  ] as const) {
    const { namespacePath } = await host.network.createSandbox({
      id: task.id.padEnd(64, '0'),
      names: [task.id],
      endpoints: [{ networkId: NET, address: `${task.address}/24`, mac: macOf(task.address), aliases: [] }],
      ports: [],
      dns: [],
    });
    if (host === b) stop = await serve(namespacePath, 'b', 8080);
  }
}, 60_000);

afterAll(async () => {
  stop();
  await lab.close();
});

async function check(host: TestHost): Promise<NetworkCheckResult> {
  const report = await host.network.checkNetworks(NetworkCheckOrder.create({ id: 'x', network_ids: [NET] }));
  expect(report).toMatchObject({ id: 'x', error: '' });
  const [result] = report.results;
  return result as NetworkCheckResult;
}

const inOverlay = (host: TestHost): string => join(host.execRoot, 'netns', `ov-${NET.slice(0, 12)}`);
const inSandbox = (host: TestHost, id: string): string => join(host.execRoot, 'netns', id.padEnd(12, '0').slice(0, 12));

async function trace(host: TestHost, port: number, name: string, targets = ['t2']): Promise<string[]> {
  const order = { network_id: NET, from_task_id: 't1', to_task_ids: targets, name, port };
  const target = host === b;
  const report = await host.network.checkNetworks(
    NetworkCheckOrder.create({ id: 'y', trace: { ...order, target_side: target } }),
  );
  expect(report.error).toBe('');
  return report.trace.map((step) => `${step.right ? 'ok' : 'BROKEN'} ${step.name}: ${step.words}`);
}

test('a network that works has no faults', async () => {
  for (const host of [a, b]) {
    const result = await check(host);
    expect(result.faults).toEqual([]);
    expect(result).toMatchObject({ tasks: 1, names: 1, names_right: 1 });
    expect(result.entries).toBeGreaterThan(4);
    const other = host === a ? b : a;
    expect(result.pairs.find((pair) => pair.node_id === other.nodeId)).toMatchObject({
      ...{ asked: 1, answered: 1, mtu: 1450, mtu_right: true },
    });
    // The virtual address answers too.
    expect(result.pairs.find((pair) => pair.node_id === '')).toMatchObject({ asked: 1, answered: 1 });
  }
}, 20_000);

test('a forwarding entry that leads elsewhere is named, and what it breaks', async () => {
  const mac = macOf(B.address);
  expect(run(inOverlay(a), 'bridge', 'fdb', 'replace', mac, 'dev', 'vxlan0', 'dst', '192.0.2.77', 'self').code).toBe(0);
  const { faults, pairs } = await check(a);
  const words = faults.map((fault) => `${fault.kind} ${fault.peer_node_id} ${fault.words}`);
  expect(words).toContainEqual(
    `${NetworkFault_Kind.PATH} node2 fdb entry ${mac} leads to 192.0.2.77, it must lead to 192.0.2.2, ` +
      'in the namespace of network back',
  );
  expect(words).toContainEqual(
    `${NetworkFault_Kind.REACHABILITY} node2 web.1.t1 (10.9.1.5) does not reach web.2.t2 (10.9.1.6): no answer`,
  );
  expect(pairs.find((pair) => pair.node_id === 'node2')).toMatchObject({ asked: 1, answered: 0 });
  const steps = await trace(a, 8080, 'web');
  expect(steps).toContainEqual(`BROKEN fdb: ${mac} leads to 192.0.2.77, it must lead to 192.0.2.2`);
  expect(run(inOverlay(a), 'bridge', 'fdb', 'replace', mac, 'dev', 'vxlan0', 'dst', '192.0.2.2', 'self').code).toBe(0);
}, 20_000);

test('a neighbour that is missing is named', async () => {
  const args = ['neigh', 'del', B.address, 'dev', 'vxlan0'];
  expect(run(inOverlay(a), 'ip', ...args).code).toBe(0);
  const { faults } = await check(a);
  expect(faults.map((fault) => fault.words)).toContainEqual(
    `neighbour ${B.address} is missing (it must lead to ${macOf(B.address)}), in the namespace of network back`,
  );
  const lladdr = ['lladdr', macOf(B.address), 'nud', 'permanent'];
  expect(run(inOverlay(a), 'ip', 'neigh', 'replace', B.address, ...lladdr, 'dev', 'vxlan0').code).toBe(0);
}, 20_000);

test('a link with less room between the hosts is found by packets of full size', async () => {
  expect(run(b.namespace, 'ip', 'link', 'set', 'eth0', 'mtu', '1400').code).toBe(0);
  try {
    const { faults, pairs } = await check(a);
    expect(faults.map((fault) => fault.kind)).toContain(NetworkFault_Kind.MTU);
    expect(pairs.find((pair) => pair.node_id === 'node2')).toMatchObject({ answered: 1, mtu_right: false });
  } finally {
    run(b.namespace, 'ip', 'link', 'set', 'eth0', 'mtu', '1500');
  }
}, 20_000);

test('a firewall that drops the tunnel is told apart from a host that is gone', async () => {
  const rules = 'table inet fw { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }';
  expect(run(b.namespace, 'nft', rules).code).toBe(0);
  const { faults } = await check(a);
  expect(run(b.namespace, 'nft', 'delete', 'table', 'inet', 'fw').code).toBe(0);
  expect(faults.map((fault) => fault.words)).toContainEqual(
    '192.0.2.2 itself answers: if no entry is wrong on either side, something between drops UDP port 4789',
  );
  expect(run(b.namespace, 'ip', 'link', 'set', 'eth0', 'down').code).toBe(0);
  const gone = await check(a);
  expect(run(b.namespace, 'ip', 'link', 'set', 'eth0', 'up').code).toBe(0);
  expect(gone.faults.map((fault) => fault.words)).toContainEqual(
    "192.0.2.2, the host's own address, does not answer either",
  );
}, 30_000);

test('a lost rule set, a link that is down and an address that was changed are found in the container', async () => {
  const sandbox = inSandbox(a, 't1');
  expect(run(sandbox, 'nft', 'flush', 'chain', 'ip', 'shoal', 'output').code).toBe(0);
  const virtual = await check(a);
  expect(virtual.faults.map((fault) => fault.words)).toContainEqual(
    'web.1.t1 (10.9.1.5) does not reach the virtual address 10.9.1.2 of service web: no answer',
  );
  expect(run(sandbox, 'nft', 'add', 'rule', 'ip', 'shoal', 'output', 'ip', 'daddr', 'vmap', '@vips').code).toBe(0);
  expect(run(sandbox, 'ip', 'link', 'set', 'eth0', 'down').code).toBe(0);
  const down = await check(a);
  expect(down.faults.map((fault) => fault.words)).toContainEqual('link eth0 is down in container of web.1.t1');
  expect(run(sandbox, 'ip', 'link', 'set', 'eth0', 'up').code).toBe(0);
  expect(run(sandbox, 'ip', 'link', 'set', 'eth0', 'mtu', '1400').code).toBe(0);
  const small = await check(a);
  expect(small.faults.map((fault) => fault.words)).toContainEqual(
    'link eth0 in container of web.1.t1 has MTU 1400, it must have 1450',
  );
  expect(run(sandbox, 'ip', 'link', 'set', 'eth0', 'mtu', '1450').code).toBe(0);
}, 40_000);

test('a connection is followed from both sides', async () => {
  const steps = await trace(a, 8080, 'web');
  expect(steps.filter((step) => !step.startsWith('ok'))).toEqual([]);
  expect(steps.map((step) => step.split(/[ :]/)[1])).toEqual([
    ...['container', 'resolution', 'balancing', 'neighbour', 'fdb', 'underlay', 'reachability', 'mtu', 'connection'],
  ]);
  expect(await trace(b, 8080, 'web')).toContainEqual('ok listening: tcp port 8080: listens on 0.0.0.0');
  expect(await trace(a, 81, '')).toContainEqual('BROKEN connection: tcp 10.9.1.6:81 is refused: nothing listens there');
  expect(await trace(b, 81, '')).toContainEqual('BROKEN listening: tcp port 81: nothing listens');
}, 30_000);

test('a service may balance a task to itself, by the loopback link, which has no MTU to hold to', async () => {
  const steps = await trace(a, 8080, 'web', ['t1', 't2']);
  expect(steps).toContainEqual(expect.stringMatching(/^ok reachability: web\.1\.t1 \(10\.9\.1\.5\): answers/));
  expect(steps.filter((step) => !step.startsWith('ok'))).toEqual([]);
}, 30_000);

test('a network that this host does not have is told', async () => {
  const report = await a.network.checkNetworks(NetworkCheckOrder.create({ id: 'z', network_ids: ['nothere'] }));
  expect(report.results[0]?.faults[0]?.words).toBe('this host was given no table of the network');
});
