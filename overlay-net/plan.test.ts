import fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { directSpawner, SeededRandom, ShoalError } from '../base/index.ts';
import { NetworkTable } from '../proto/index.ts';
import { macOf } from './ip.ts';
import { formatIp, overlap, parseIp, parsePrefix } from './ip4.ts';
import { createExecKernel } from './kernel/exec-kernel.ts';
import { createFfiKernel } from './kernel/ffi-kernel.ts';
import type { Op } from './kernel/index.ts';
import { DEFAULT_POOLS, freeSubnet, LocalNetworks } from './local-networks.ts';
import { diffItems, itemsOf, nextHopOf, peersOf, tunnelOverheadBytes, undo, type Items } from './plan.ts';
import { planIngress, planOverlay } from './live-plan.ts';
import { balancingOf } from './balancing-index.ts';
import { balancingDiff, balancingTable, WEIGHT_PLACES_MAX } from './plan-balancing.ts';
import { hostTable } from './host-table.ts';
import { ingressTable } from './plan-nft.ts';

const underlay = { vtep: '192.0.2.1', dataPathPort: 4789, nodeId: 'n1', mtu: 1500 };
const table = (indexes: readonly number[]): NetworkTable =>
  NetworkTable.create({
    network_id: 'net',
    endpoints: indexes.map((i) => ({
      task_id: `t${i}`,
      service_id: 's',
      node_id: `n${i % 4}`,
      vtep: `192.0.2.${i % 4}`,
      address: `10.0.0.${i}/24`,
      address6: `fd00:9::${i.toString(16)}/64`,
      weight: i % 5,
      mac: `02:42:0a:00:00:${i.toString(16).padStart(2, '0')}`,
      serving: i % 2 === 0,
    })),
    network: {
      ipam: {
        configs: [
          { subnet: '10.0.0.0/24', gateway: '10.0.0.1' },
          { subnet: 'fd00:9::/64', gateway: 'fd00:9::1' },
        ],
      },
    },
    services: [{ service_id: 's', name: 'web', vip: '10.0.0.2', vip6: 'FD00:9:0::2' }],
  });

const some = fc.uniqueArray(fc.integer({ min: 3, max: 200 }), { maxLength: 40 });

test('the diff leads from any state to any other, and twice changes nothing', () => {
  const play = (state: Items, ops: readonly Op[]): Map<string, Op> => {
    const next = new Map(state);
    for (const op of ops) {
      const removed = [...next].find(([, held]) => JSON.stringify(undo(held)) === JSON.stringify(op));
      if (removed !== undefined) next.delete(removed[0]);
    }
    return next;
  };
  fc.assert(
    fc.property(some, some, fc.boolean(), (before, after, ingress) => {
      const plan = ingress ? planIngress : planOverlay;
      const [from, to] = [plan(table(before), underlay), plan(table(after), underlay)];
      const ops = diffItems(from, to);
      const kept = play(from, ops);
      for (const key of kept.keys()) expect(to.has(key)).toBe(true);
      const added = [...to].filter(([key, op]) => JSON.stringify(from.get(key)) !== JSON.stringify(op));
      expect(ops.slice(ops.length - added.length)).toEqual(added.map(([, op]) => op));
      expect(diffItems(to, to)).toEqual([]);
    }),
  );
});

test('weights are places in turn, evenly mixed and bounded', () => {
  const spread = (weights: readonly number[]): string[] => {
    const endpoints = weights.map((weight, i) => ({
      task_id: `t${i}`,
      service_id: 's',
      address: `10.0.0.${i + 1}/24`,
      address6: `fd00::${i + 1}/64`,
      serving: true,
      weight,
    }));
    const services = [{ service_id: 's', vip: '10.0.0.99', vip6: 'fd00::99' }];
    const balancing = balancingOf(NetworkTable.create({ endpoints, services }), new Set());
    const four = (balancing.get('10.0.0.99') ?? []).map((address) => address.split('.')[3] ?? '');
    expect((balancing.get('fd00::99') ?? []).map((address) => address.split('::')[1])).toEqual(four);
    return four;
  };
  expect(spread([0, 1])).toEqual(['1', '2']);
  expect(spread([7, 7, 7])).toEqual(['1', '2', '3']);
  expect(spread([30, 10])).toEqual(['1', '1', '2', '1']);
  const wide = spread([4_000_000_000, 1, 2]);
  expect(wide.length).toBeLessThanOrEqual(WEIGHT_PLACES_MAX + 3);
  expect(new Set(wide)).toEqual(new Set(['1', '2', '3']));
});

test('hosts whose tunnels speak IPv6 get next hops, marks and MACs of their own', () => {
  const far = {
    task_id: 't2',
    node_id: 'n2',
    vtep: '2001:DB8::2',
    address: '10.0.0.9/24',
    address6: 'fd00:9::9/64',
    mac: '',
  };
  const six = NetworkTable.create({
    ...table([]),
    endpoints: [far, { ...far, task_id: 't3', node_id: 'n3', vtep: '192.0.2.3' }],
  });
  const here = { ...underlay, vtep: '2001:db8::1' };
  expect(peersOf(six, here)).toEqual(['2001:db8::2']);
  expect(tunnelOverheadBytes(here)).toBe(70);
  expect(planOverlay(six, here).get('fdb 02:42:0a:00:00:09')).toMatchObject({ to: '2001:db8::2' });
  const plan = planIngress(six, here);
  const hop = plan.get('route main 10.0.0.9/32');
  expect(hop).toMatchObject({ via: nextHopOf('2001:db8::2', 4) });
  expect(plan.get(`neigh ${nextHopOf('2001:db8::2', 4)}`)).toMatchObject({ mac: macOf('2001:db8::2') });
  expect(plan.get('route main fd00:9::9/128')).toMatchObject({ via: nextHopOf('2001:db8::2', 6) });
  expect(nextHopOf('192.0.2.1', 6)).toBe('fe80::c000:201');
});

test('local tasks have no tunnel entries; drained and idle ones get no connections', () => {
  expect([...planOverlay(table([5]), underlay).keys()]).toEqual([]);
  const keys = ['neigh 10.0.0.6', 'neigh fd00:9::6', 'fdb 02:42:0a:00:00:06'];
  expect([...planOverlay(table([6]), underlay).keys()]).toEqual(keys);
  const balancing = balancingOf(table([4, 5, 6]), new Set(['10.0.0.4']));
  expect([...balancing]).toEqual([
    ['10.0.0.2', ['10.0.0.6']],
    ['fd00:9::2', ['fd00:9::6']],
  ]);
});

test('the kernel holds what the plans say, reads back the same, and takes every step between rule sets', async () => {
  const root = mkdtempSync(join(tmpdir(), 'shoal-'));
  const namespace = join(root, 'ns');
  const kernel = createFfiKernel();
  await kernel.createNamespace(namespace);
  try {
    const vxlan = {
      kind: 'vxlan',
      name: 'vxlan0',
      namespace,
      vni: 7,
      local: '127.0.0.1',
      port: 4999,
      mtu: 1450,
    } as const;
    await kernel.apply(namespace, [
      { kind: 'link', name: 'lo', up: true },
      { kind: 'bridge', name: 'br0' },
    ]);
    // Its socket lives in the namespace itself here, so that tests beside this one are not disturbed.
    await kernel.apply(namespace, [
      { ...vxlan, proxy: false },
      { kind: 'link', name: 'vxlan0', up: true },
    ]);
    let applied: Items = new Map();
    const programs = createExecKernel(directSpawner);
    for (const [by, indexes] of [
      [kernel, [6, 7, 8]],
      [programs, [6, 10]],
      [kernel, []],
      [programs, [11, 6]],
      [kernel, [9]],
    ] as const) {
      const desired = planIngress(table(indexes), underlay);
      await by.apply(namespace, diffItems(applied, desired));
      applied = desired;
      const sorted = (items: Items): string[] =>
        [...items].map(([key, op]) => key + JSON.stringify(Object.entries(op).map(String).sort())).sort();
      for (const reader of [kernel, programs]) {
        expect(sorted(itemsOf(await reader.state(namespace)))).toEqual(sorted(desired));
      }
    }
    const steps = [
      [],
      [
        ['10.0.0.2', ['10.0.0.5']],
        ['fd00:9::2', ['fd00:9::5']],
      ],
      [
        ['10.0.0.2', []],
        ['10.0.0.3', ['10.0.0.5', '10.0.0.6']],
        ['fd00:9::2', []],
        ['fd00:9::3', ['fd00:9::5', 'fd00:9::6', 'fd00:9::5']],
      ],
      [],
    ] as const;
    let before = new Map<string, readonly string[]>();
    await kernel.nft(namespace, balancingTable(before, 3, true, [4, 6]), true);
    for (const step of steps) {
      const after = new Map<string, readonly string[]>(step.map(([vip, list]) => [vip, list]));
      const text = balancingDiff(before, after, 3);
      if (text !== '') await kernel.nft(namespace, text);
      before = after;
    }
    expect(await kernel.nft(namespace, 'list table ip shoal\n')).not.toContain('10.0.0');
    expect(await kernel.nft(namespace, 'list table ip6 shoal\n')).not.toContain('fd00:');
    await kernel.nft(namespace, ingressTable(['192.0.2.2', '192.0.2.3']));
    await expect(kernel.nft(namespace, 'add rule ip nothing here drop\n')).rejects.toThrow(ShoalError);
    await expect(kernel.apply(namespace, [{ kind: 'link', name: 'none', up: true }])).rejects.toThrow('link none');
  } finally {
    kernel.removeNamespace(namespace);
    rmSync(root, { recursive: true, force: true });
  }
});

test('equal wishes give equal rules, so that nothing is replaced in vain', () => {
  const rules = { table: 't', mark: 2, bridges: [], ingressLink: undefined, dataPath: undefined, seed: 0 };
  const port = (hostIp: string, target: string): Parameters<typeof hostTable>[0]['ports'][number] => ({
    protocol: 'tcp',
    port: 80,
    hostIp,
    targets: [{ address: target, port: 8080 }],
    ingress: false,
  });
  const one = hostTable({ ...rules, ports: [port('', '10.0.0.1'), port('192.0.2.1', '10.0.0.2')] }, 'ip');
  expect(hostTable({ ...rules, ports: [port('192.0.2.1', '10.0.0.2'), port('', '10.0.0.1')] }, 'ip')).toBe(one);
  expect(one.indexOf('10.0.0.2:8080')).toBeLessThan(one.indexOf('10.0.0.1:8080'));
});

test('subnets never overlap and addresses are not given twice', () => {
  const taken = [parsePrefix('172.16.0.0/12')];
  expect(overlap(freeSubnet(DEFAULT_POOLS, taken), parsePrefix('192.168.0.0/16'))).toBe(true);
  const locals = new LocalNetworks(new SeededRandom(1), 't1');
  const wanted = { name: 'n', subnet: '10.1.1.0/29', gateway: '', internal: false, labels: {}, options: {} };
  const network = locals.complete(wanted, DEFAULT_POOLS, [], 0);
  locals.add(network);
  const given = Array.from({ length: 5 }, () => locals.choose(network));
  expect(new Set(given).size).toBe(5);
  expect(() => locals.choose(network)).toThrow('no available IPv4 addresses');
  locals.release(network.id, given[2] ?? '');
  expect(locals.choose(network)).toBe(given[2]);
  expect(() => locals.complete({ ...wanted, name: 'm' }, DEFAULT_POOLS, [], 0)).toThrow('Pool overlaps');
  fc.assert(fc.property(fc.ipV4(), (text) => formatIp(parseIp(text)) === text));
});
