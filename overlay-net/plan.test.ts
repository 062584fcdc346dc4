import fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SeededRandom, ShoalError } from '../base/index.ts';
import { NetworkTable } from '../proto/index.ts';
import { formatIp, overlap, parseIp, parsePrefix } from './ip4.ts';
import { createFfiKernel } from './kernel/ffi-kernel.ts';
import type { Op } from './kernel/index.ts';
import { DEFAULT_POOLS, freeSubnet, LocalNetworks } from './local-networks.ts';
import { balancingOf, diffItems, itemsOf, planIngress, planOverlay, undo, type Items } from './plan.ts';
import { balancingDiff, balancingTable, ingressTable } from './plan-nft.ts';
import { hostTable } from './host-table.ts';

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
      mac: `02:42:0a:00:00:${i.toString(16).padStart(2, '0')}`,
      serving: i % 2 === 0,
    })),
    services: [{ service_id: 's', name: 'web', vip: '10.0.0.2' }],
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

test('local tasks have no tunnel entries; drained and idle ones get no connections', () => {
  expect([...planOverlay(table([5]), underlay).keys()]).toEqual([]);
  expect([...planOverlay(table([6]), underlay).keys()]).toEqual(['neigh 10.0.0.6', 'fdb 02:42:0a:00:00:06']);
  expect(balancingOf(table([4, 5, 6]), new Set(['10.0.0.4'])).get('10.0.0.2')).toEqual(['10.0.0.6']);
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
    for (const indexes of [[6, 7, 8], [6, 10], [], [11, 6]]) {
      const desired = planIngress(table(indexes), underlay);
      await kernel.apply(namespace, diffItems(applied, desired));
      applied = desired;
      const sorted = (items: Items): string[] =>
        [...items].map(([key, op]) => key + JSON.stringify(Object.entries(op).map(String).sort())).sort();
      expect(sorted(itemsOf(await kernel.state(namespace)))).toEqual(sorted(desired));
    }
    const steps = [
      [],
      [['10.0.0.2', ['10.0.0.5']]],
      [
        ['10.0.0.2', []],
        ['10.0.0.3', ['10.0.0.5', '10.0.0.6']],
      ],
      [],
    ] as const;
    let before = new Map<string, readonly string[]>();
    await kernel.nft(namespace, balancingTable(before, 3, true), true);
    for (const step of steps) {
      const after = new Map<string, readonly string[]>(step.map(([vip, list]) => [vip, list]));
      const text = balancingDiff(before, after, 3);
      if (text !== '') await kernel.nft(namespace, text);
      before = after;
    }
    expect(await kernel.nft(namespace, 'list table ip shoal\n')).not.toContain('10.0.0');
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
