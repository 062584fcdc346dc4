/** IPv6 between hosts: real namespaces, real tunnels. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { IPAMConfig } from '../proto/index.ts';
import { macOf } from './ip.ts';
import { addUnderlay6, serve6, serveEcho6, tell, underlay6, withIp6 } from './testing/dual.ts';
import { ask, connectEcho, makeTable, run, serve, startLab, type Lab, type TestHost } from './testing/harness.ts';

let lab: Lab;
let a: TestHost;
let b: TestHost;
const stops: (() => void)[] = [];
const NET = 'dual0123456789abcdef';
const OTHER = 'othr0123456789abcdef';
const PREFIX = 'fd00:9:1::';
const PREFIX2 = 'fd00:9:2::';
const PORT = 4_789;
/** Namespaces of the containers by name. */
const inside: Record<string, string> = {};

function table(version: number, change: { serving?: boolean; weight?: number; vtep6?: boolean } = {}): NetworkTable {
  const made = withIp6(
    makeTable({
      id: NET,
      name: 'back',
      version,
      vni: 4097,
      subnet: '10.9.1.0/24',
      gateway: '10.9.1.1',
      vip: '10.9.1.2',
      hosts: lab.hosts,
      tasks: [
        { id: 't1', host: a, address: '10.9.1.5', serving: change.serving ?? true },
        { id: 't2', host: b, address: '10.9.1.6', serving: change.serving ?? true },
      ],
    }),
    PREFIX,
    change,
  );
  const [first] = made.endpoints;
  if (first !== undefined) first.weight = change.weight ?? 0;
  made.network?.ipam?.configs.push(
    IPAMConfig.create({ subnet: '10.9.7.0/24', gateway: '10.9.7.1' }),
    IPAMConfig.create({ subnet: 'FD00:9:7::/64', gateway: 'fd00:9:7::1' }),
  );
  return made;
}

type NetworkTable = ReturnType<typeof makeTable>;

function otherTable(version: number, change: { vtep6?: boolean } = {}): NetworkTable {
  const facts = { subnet: '10.9.2.0/24', gateway: '10.9.2.1', vip: '10.9.2.2', hosts: lab.hosts, service: 'apart' };
  const tasks = [{ id: 't3', host: b, address: '10.9.2.5' }];
  return withIp6(makeTable({ id: OTHER, name: 'apart', version, vni: 4098, ...facts, tasks }), PREFIX2, change);
}

async function container(host: TestHost, name: string, networkId: string, last: number): Promise<void> {
  const [four, six] = networkId === NET ? ['10.9.1', PREFIX] : ['10.9.2', PREFIX2];
  const address = `${four}.${last}`;
  const made = await host.network.createSandbox({
    id: name.repeat(64).slice(0, 64),
    names: [name],
    endpoints: [
      {
        networkId,
        address: `${address}/24`,
        address6: `${six.toUpperCase()}${last.toString(16)}/64`,
        mac: macOf(address),
        aliases: [],
      },
    ],
    ports: [],
    dns: [],
  });
  expect(made.endpoints[0]).toMatchObject({ address6: `${six}${last}/64` });
  inside[name] = made.namespacePath;
}

const at = (name: string): string => inside[name] ?? '';

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  addUnderlay6(lab.hosts);
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: PORT, nodeId: host.nodeId });
    for (const one of [table(1), otherTable(1)]) {
      await host.network.setTable(one);
      await host.network.waitForNetwork(one.network_id, 1000);
    }
  }
  await container(a, 'a', NET, 5);
  await container(b, 'b', NET, 6);
  await container(b, 'c', OTHER, 5);
  for (const [name, word] of [
    ['a', 'host1'],
    ['b', 'host2'],
    ['c', 'apart'],
  ] as const) {
    stops.push(await serve6(at(name), word, 8080));
    stops.push(await serve6(at(name), word, 5353, 'UDP'));
  }
  stops.push(await serve(at('b'), 'host2', 8081));
  stops.push(await serveEcho6(at('b'), 9000));
}, 60_000);

afterAll(async () => {
  for (const stop of stops) stop();
  await lab.close();
});

test('a container has its address at once, and nothing of the link is learnt', () => {
  const shown = run(at('a'), 'ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0').out;
  expect(shown).toContain(`${PREFIX}5/64`);
  expect(shown).not.toMatch(/tentative|dadfailed/);
  expect(run(at('a'), 'cat', '/proc/sys/net/ipv6/conf/eth0/accept_ra').out.trim()).toBe('0');
  // Its way to the outside has both families too.
  expect(run(at('a'), 'ip', '-6', '-o', 'addr', 'show', 'dev', 'eth1').out).toMatch(/inet6 fd[0-9a-f:]+\/64/);
  expect(run(at('a'), 'ip', '-6', 'route', 'show', 'default').out).toContain('dev eth1');
});

test('tasks speak TCP and UDP over IPv6 across hosts, each way, and see the address of the other', () => {
  for (const [from, to, last, word, own] of [
    ['a', 'b', '6', 'host2', '5'],
    ['b', 'a', '5', 'host1', '6'],
  ] as const) {
    expect(run(at(from), 'busybox', 'ping', '-6', '-c1', '-W2', `${PREFIX}${last}`).out).toContain(
      '1 packets received',
    );
    for (const [protocol, port] of [
      ['TCP', 8080],
      ['UDP', 5353],
    ] as const) {
      const said = tell(at(from), `${PREFIX}${last}`, port, protocol);
      expect(said, `${from} to ${to} by ${protocol}`).toMatch(new RegExp(`^${word} \\[?fd00:0*9:0*1:.*0*${own}\\]?$`));
    }
  }
});

test('neighbours are known, not asked for: nothing is flooded into the tunnel', () => {
  const overlay = at('a').replace(/[^/]*$/, `ov-${NET.slice(0, 12)}`);
  const sent = (): number => {
    const [link] = JSON.parse(run(overlay, 'ip', '-j', '-s', 'link', 'show', 'vxlan0').out) as {
      stats64: { tx: { packets: number } };
    }[];
    return link?.stats64.tx.packets ?? -1;
  };
  run(at('a'), 'ip', '-6', 'neigh', 'flush', 'dev', 'eth0');
  const before = sent();
  expect(run(at('a'), 'busybox', 'ping', '-6', '-c1', '-W1', `${PREFIX}dead`).out).toContain('0 packets received');
  expect(sent()).toBe(before);
  expect(run(at('a'), 'busybox', 'ping', '-6', '-c1', '-W2', `${PREFIX}6`).out).toContain('1 packets received');
  expect(run(at('a'), 'ip', '-6', 'neigh', 'show', `${PREFIX}6`).out).toContain(macOf('10.9.1.6'));
  expect(sent()).toBe(before + 1);
});

test('the virtual address is balanced over both hosts by TCP and UDP, without source NAT', async () => {
  const hosts = (count: number, protocol: 'TCP' | 'UDP' = 'TCP'): string[] => {
    const port = protocol === 'TCP' ? 8080 : 5353;
    const said = Array.from({ length: count }, () => tell(at('a'), `${PREFIX}2`, port, protocol));
    for (const words of said) expect(words).toMatch(/^host[12] \[?fd00:0*9:0*1:.*0*5\]?$/);
    return said.map((words) => words.split(' ')[0] ?? '').sort();
  };
  expect(hosts(4)).toEqual(['host1', 'host1', 'host2', 'host2']);
  expect(hosts(2, 'UDP')).toEqual(['host1', 'host2']);
  await a.network.setTable(table(2, { weight: 3 }));
  await expect.poll(() => run(at('a'), 'nft', 'list', 'table', 'ip6', 'shoal').out).toContain('mod 4');
  expect(hosts(4)).toEqual(['host1', 'host1', 'host1', 'host2']);
  await a.network.setTable(table(3));
  await expect.poll(() => run(at('a'), 'nft', 'list', 'table', 'ip6', 'shoal').out).toContain('mod 2');
});

test('tasks of other subnets of the network are on the same link, in both families', async () => {
  const more = table(4);
  const [first] = more.endpoints;
  if (first === undefined) throw new Error('a table has endpoints');
  const address = '10.9.7.9/24';
  const address6 = 'fd00:9:7::9/64';
  const mac = macOf(address);
  more.endpoints.push({ ...first, task_id: 't9', task_name: 'web.9.t9', address, address6, mac, serving: false });
  for (const host of lab.hosts) await host.network.setTable(more);
  const made = await a.network.createSandbox({
    id: 'd'.repeat(64),
    names: ['d'],
    endpoints: [{ networkId: NET, address, address6, mac, aliases: [] }],
    ports: [],
    dns: [],
  });
  expect(tell(made.namespacePath, `${PREFIX}6`, 8080)).toMatch(/^host2/);
  expect(tell(made.namespacePath, `${PREFIX}5`, 8080)).toMatch(/^host1/);
  expect(ask(made.namespacePath, '10.9.1.6', 8081)).toBe('host2 10.9.7.9');
  expect(tell(made.namespacePath, `${PREFIX}2`, 8080)).toMatch(/^host/);
  await a.network.removeSandbox('d'.repeat(64));
  for (const host of lab.hosts) await host.network.setTable(table(5));
});

test('names have both addresses', () => {
  const look = (type: string, name: string): string =>
    run(at('a'), 'busybox', 'nslookup', `-type=${type}`, name, '127.0.0.11').out;
  expect(look('aaaa', 'web')).toContain(`${PREFIX}2`);
  expect(look('a', 'web')).toContain('10.9.1.2');
  expect(look('aaaa', 'tasks.web')).toContain(`${PREFIX}6`);
});

test('networks are apart, whatever route a container makes for itself', () => {
  const far = `${PREFIX2}5`;
  expect(tell(at('b'), far, 8080)).not.toContain('apart');
  run(at('b'), 'ip', '-6', 'route', 'add', `${PREFIX2}/64`, 'dev', 'eth0');
  expect(tell(at('b'), far, 8080)).not.toContain('apart');
  run(at('c'), 'ip', '-6', 'route', 'add', `${PREFIX}/64`, 'dev', 'eth0');
  expect(tell(at('c'), `${PREFIX}6`, 8080)).not.toContain('host2');
});

test('a connection outlives restarts; a service without tasks refuses at once; an old connection goes on', async () => {
  const long = connectEcho(at('a'), `${PREFIX}2`, 9000);
  const tried = await long.echoes('first');
  // Its turn may be the task without an echo server.
  const open = tried ? long : connectEcho(at('a'), `${PREFIX}2`, 9000);
  expect(tried || (await open.echoes('first'))).toBe(true);
  for (const [host, kill] of [
    [a, true],
    [b, false],
  ] as const) {
    await host.restart(kill);
    await host.network.start();
    expect(await open.echoes(`after-${host.name}`)).toBe(true);
  }
  await a.network.setTable(table(6, { serving: false }));
  await expect.poll(() => tell(at('a'), `${PREFIX}2`, 8080)).toMatch(/refused/);
  // What a transaction takes away, the kernel lets go a grace period later.
  run(at('a'), 'sleep', '0.2');
  expect(await open.echoes('drained')).toBe(true);
  await a.network.setTable(table(7));
  await expect.poll(() => tell(at('a'), `${PREFIX}2`, 8080)).toMatch(/^host/);
  // A container that is about to stop takes no more from its own host.
  await a.network.drainSandbox('a'.repeat(64));
  await expect.poll(() => run(at('a'), 'nft', 'list', 'table', 'ip6', 'shoal').out).not.toContain('mod 2');
  expect([1, 2, 3].map(() => tell(at('a'), `${PREFIX}2`, 8080).split(' ')[0])).toEqual(['host2', 'host2', 'host2']);
  expect(await open.echoes('still')).toBe(true);
  open.close();
  long.close();
}, 30_000);

test('lost neighbours and tunnels are made again', async () => {
  const overlay = at('a').replace(/[^/]*$/, `ov-${NET.slice(0, 12)}`);
  run(overlay, 'ip', 'link', 'del', 'vxlan0');
  await a.network.reconcile();
  expect(tell(at('a'), `${PREFIX}6`, 8080)).toMatch(/^host2/);
});

test('the tunnels themselves may run over IPv6', async () => {
  for (const [i, host] of lab.hosts.entries()) {
    await host.network.setUnderlay({ vtep: underlay6(i + 1).toUpperCase(), dataPathPort: PORT, nodeId: host.nodeId });
    for (const one of [table(8, { vtep6: true }), otherTable(2, { vtep6: true })]) await host.network.setTable(one);
  }
  expect(tell(at('a'), `${PREFIX}6`, 8080)).toMatch(/^host2/);
  expect(ask(at('a'), '10.9.1.6', 8081)).toBe('host2 10.9.1.5');
  const overlay = at('a').replace(/[^/]*$/, `ov-${NET.slice(0, 12)}`);
  expect(run(overlay, 'ip', '-d', 'link', 'show', 'vxlan0').out).toMatch(/mtu 1430 .*local 2001:db8:77::1 /s);
  expect(run(overlay, 'bridge', 'fdb', 'show', 'dev', 'vxlan0').out).toContain('dst 2001:db8:77::2');
});
