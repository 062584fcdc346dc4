import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { LinkInfo, NamespaceState, Op } from '../kernel/ops.ts';
import { subnetOf } from '../ip.ts';
import { itemsOf, VXLAN_LINK, type Items } from '../plan.ts';
import { compareItems, compareOps, compareSysctls, StateIndex, type Drift } from './compare.ts';
import { compareListings, parseListing, tablesOf } from './nft-compare.ts';
import { strayOps } from './strays.ts';

/** A namespace with a bridge, a tunnel, a container's veth, addresses, routes and rules. */
const OPS: readonly Op[] = [
  { kind: 'link', name: 'lo', up: true },
  { kind: 'bridge', name: 'br0', mac: '02:42:0a:00:00:01', mtu: 1450 },
  { kind: 'addr', dev: 'br0', address: '10.0.0.1/24' },
  { kind: 'addr', dev: 'br0', address: 'fd00:9::1/64' },
  { kind: 'link-del', name: 'v1' },
  {
    ...{ kind: 'veth', name: 'v1', mtu: 1450, master: 'br0', hairpin: true },
    peer: { name: 'eth0', namespace: '/elsewhere' },
  },
  { kind: 'fdb', dev: 'v1', mac: '02:42:0a:00:00:05', self: false, master: true },
  { kind: 'vxlan', name: VXLAN_LINK, namespace: '', vni: 7, local: '192.0.2.1', port: 4789, mtu: 1450, proxy: true },
  { kind: 'link', name: VXLAN_LINK, up: true, master: 'br0' },
  { kind: 'route', to: '0.0.0.0/0', via: '10.0.0.9', dev: 'br0' },
  { kind: 'route', to: '10.3.0.0/16', via: '10.0.0.8', dev: 'br0', table: 100 },
  { kind: 'route', to: '::/0', via: 'fd00:9::9', dev: 'br0' },
  { kind: 'rule', mark: 5, table: 100, priority: 7 },
];
const ITEMS: Items = new Map<string, Op>(
  [3, 4, 5].flatMap((i): [string, Op][] => [
    [`neigh fd00:9::${i}`, { kind: 'neigh', dev: VXLAN_LINK, ip: `fd00:9::${i}`, mac: `02:42:0a:00:01:0${i}` }],
    [`neigh 10.0.0.${i}`, { kind: 'neigh', dev: VXLAN_LINK, ip: `10.0.0.${i}`, mac: `02:42:0a:00:01:0${i}` }],
    [
      `fdb 02:42:0a:00:01:0${i}`,
      { kind: 'fdb', dev: VXLAN_LINK, mac: `02:42:0a:00:01:0${i}`, to: '192.0.2.2', self: true, master: true },
    ],
  ]),
);

const empty = (): NamespaceState => ({
  links: [{ name: 'lo', index: 1, mtu: 65_536, up: false, master: '' }],
  ...{ addresses: [], routes: [], neighbours: [], fdb: [], rules: [] },
});

/** A kernel as a model: what each op does to a state. */
function play(state: NamespaceState, op: Op): void {
  const link = (name: string): LinkInfo | undefined => state.links.find((candidate) => candidate.name === name);
  const add = (fresh: Omit<LinkInfo, 'index'>): void => {
    if (link(fresh.name) !== undefined) return;
    state.links.push({ ...fresh, index: Math.max(...state.links.map(({ index }) => index)) + 1 });
  };
  const dev = 'dev' in op ? (link(op.dev)?.index ?? 0) : 0;
  switch (op.kind) {
    case 'bridge':
      return add({ name: op.name, mtu: op.mtu ?? 1500, up: true, mac: op.mac ?? '', master: '' });
    case 'veth':
      return add({ name: op.name, mtu: op.mtu, up: true, master: op.master ?? '', hairpin: op.hairpin ?? false });
    case 'vxlan': {
      const { vni, local, port } = op;
      return add({ name: op.name, mtu: op.mtu, up: false, master: '', tunnel: { vni, local, port } });
    }
    case 'link':
      Object.assign(link(op.name) ?? {}, { ...op, ...(op.master === undefined ? {} : { hairpin: false }) });
      return;
    case 'link-del':
      return removeLink(state, op.name);
    case 'addr':
      state.addresses.push({ dev, address: op.address });
      // As the kernel does: what is in the subnet is on the link.
      state.routes.push({ to: subnetOf(op.address), via: '', dev, table: 254 });
      return;
    case 'route': {
      const table = op.table ?? 254;
      state.routes = state.routes.filter((route) => route.to !== op.to || route.table !== table);
      if (op.del !== true) state.routes.push({ to: op.to, via: op.via ?? '', dev, table });
      return;
    }
    case 'rule':
      state.rules = state.rules.filter((rule) => rule.mark !== op.mark);
      if (op.del !== true) state.rules.push({ mark: op.mark, table: op.table, priority: op.priority });
      return;
    case 'neigh':
      state.neighbours = state.neighbours.filter((entry) => entry.ip !== op.ip);
      if (op.del !== true) state.neighbours.push({ dev, ip: op.ip, mac: op.mac });
      return;
    case 'fdb':
      state.fdb = state.fdb.filter((entry) => entry.dev !== dev || entry.mac !== op.mac);
      if (op.del === true) return;
      if (op.self) state.fdb.push({ dev, mac: op.mac, to: op.to ?? '', self: true, master: false });
      if (op.master) state.fdb.push({ dev, mac: op.mac, to: '', self: false, master: true });
      return;
    case 'macvlan':
    case 'sysctl':
      throw new Error(`the model knows no ${op.kind}`);
  }
}

function removeLink(state: NamespaceState, name: string): void {
  const index = state.links.find((link) => link.name === name)?.index;
  state.links = state.links.filter((link) => link.name !== name);
  for (const link of state.links) if (link.master === name) link.master = '';
  for (const key of ['addresses', 'routes', 'neighbours', 'fdb'] as const) {
    state[key] = (state[key] as { dev: number }[]).filter((entry) => entry.dev !== index) as never;
  }
}

/** Rounds as the reconciler runs them. */
function repair(state: NamespaceState): number {
  for (let round = 0; round < 5; round++) {
    const { drifts, lost } = compareOps(new StateIndex(state), OPS);
    const entries: Drift[] =
      lost.size > 0 ? [] : [...compareItems(itemsOf(state), ITEMS)].filter((d) => d !== undefined);
    const all = [...drifts, ...entries];
    if (all.length === 0) return round;
    if (lost.size > 0) for (const name of lost) removeLink(state, name);
    for (const op of lost.size > 0 ? OPS : all.flatMap((drift) => drift.repair)) {
      if (op.kind !== 'link-del') play(state, op);
    }
  }
  return -1;
}

const MUTATIONS: readonly ((state: NamespaceState, pick: number) => void)[] = [
  (state, pick) => removeLink(state, state.links[1 + (pick % (state.links.length - 1))]?.name ?? ''),
  (state, pick) => Object.assign(state.links[pick % state.links.length] ?? {}, { up: false }),
  (state, pick) => Object.assign(state.links[1 + (pick % (state.links.length - 1))] ?? {}, { mtu: 1280 + pick }),
  (state, pick) => Object.assign(state.links[pick % state.links.length] ?? {}, { master: '' }),
  (state) => Object.assign(state.links.find(({ name }) => name === 'v1') ?? {}, { hairpin: false }),
  (state, pick) => {
    for (const link of state.links) if (link.tunnel !== undefined) link.tunnel = { ...link.tunnel, vni: pick };
  },
  (state, pick) => void state.addresses.splice(pick % 3, 1),
  (state, pick) => void state.routes.splice(pick % 5, 1),
  (state) => state.routes.forEach((route) => (route.via = '10.0.0.77')),
  (state) => void state.rules.splice(0, 1),
  (state, pick) => void state.neighbours.splice(pick % 7, 1),
  (state) => state.neighbours.forEach((entry) => (entry.mac = '02:00:00:00:00:99')),
  (state, pick) => void state.fdb.splice(pick % 8, 1 + (pick % 3)),
  (state) => state.fdb.forEach((entry) => entry.self && (entry.to = '192.0.2.66')),
  (state, pick) => {
    const dev = state.links.find(({ name }) => name === VXLAN_LINK)?.index ?? 0;
    state.fdb.push({ dev, mac: `02:00:00:00:00:${10 + (pick % 80)}`, to: '192.0.2.9', self: true, master: false });
    state.neighbours.push({ dev, ip: `10.0.9.${pick}`, mac: '02:00:00:00:00:01' });
  },
];

test('whatever is done to the kernel, the comparison leads back', () => {
  const steps = fc.array(fc.tuple(fc.nat(MUTATIONS.length - 1), fc.nat(200)), { maxLength: 8 });
  fc.assert(
    fc.property(steps, (chosen) => {
      const state = empty();
      expect(repair(state)).toBeGreaterThan(0);
      expect(repair(state)).toBe(0);
      for (const [which, pick] of chosen) if (state.links.length > 1) MUTATIONS[which]?.(state, pick);
      expect(repair(state)).toBeGreaterThanOrEqual(0);
      expect(compareOps(new StateIndex(state), OPS)).toEqual({ drifts: [], lost: new Set() });
      expect(itemsOf(state)).toEqual(ITEMS);
    }),
    { numRuns: 300 },
  );
});

test('the route that came with an address is missed, of either family, unless it leads elsewhere or the link is down', () => {
  const state = empty();
  repair(state);
  const connected = ['10.0.0.0/24', 'fd00:9::/64'];
  const taken = state.routes.filter(({ to }) => connected.includes(to));
  expect(taken).toHaveLength(2);
  state.routes = state.routes.filter((route) => !taken.includes(route));
  const { drifts } = compareOps(new StateIndex(state), OPS);
  expect(drifts.map(({ what, fault }) => `${what} ${fault}`)).toEqual(connected.map((to) => `route ${to} missing`));
  expect(drifts.flatMap((drift) => drift.repair)).toEqual(connected.map((to) => ({ kind: 'route', to, dev: 'br0' })));
  for (const route of taken) state.routes.push({ ...route, dev: 50 });
  expect(compareOps(new StateIndex(state), OPS).drifts).toEqual([]);
  state.routes = [];
  Object.assign(state.links.find(({ name }) => name === 'br0') ?? {}, { up: false });
  const words = compareOps(new StateIndex(state), OPS).drifts.map(({ what }) => what);
  expect(words).toContain('link br0');
  expect(words).not.toContain('route 10.0.0.0/24');
});

test('a default route over a link of the container’s own is left alone', () => {
  const state = empty();
  repair(state);
  state.links.push({ name: 'tun0', index: 50, mtu: 1400, up: true, master: '' });
  for (const route of state.routes) if (route.table === 254) Object.assign(route, { dev: 50, via: '' });
  const own = new Set(['br0', 'v1', VXLAN_LINK]);
  expect(compareOps(new StateIndex(state), OPS, own).drifts).toEqual([]);
  expect(compareOps(new StateIndex(state), OPS).drifts.map(({ what }) => what)).toEqual([
    'route 0.0.0.0/0',
    'route ::/0',
  ]);
});

test('sysctls are compared with the last value asked for; absent ones are passed over', () => {
  const ops: Op[] = ['0', '1'].map((value) => ({ kind: 'sysctl', path: 'net/a', value }));
  expect(compareSysctls(new Map([['net/a', '1']]), ops)).toEqual([]);
  expect(compareSysctls(new Map(), ops)).toEqual([]);
  expect(compareSysctls(new Map([['net/a', '0']]), ops)).toMatchObject([{ what: 'sysctl net/a', fault: 'changed' }]);
});

test('listings are compared by part; order of elements and counters do not matter', () => {
  const listing = (elements: string, rule: string): string =>
    `table ip shoal {\n\tmap vips {\n\t\ttype ipv4_addr : verdict\n\t\telements = { ${elements} }\n\t}\n\n\tchain out {\n\t\t${rule}\n\t}\n}\n`;
  const wanted = parseListing(listing('10.0.0.2 : goto a, 10.0.0.3 : goto b', 'counter packets 1 bytes 2 accept'));
  const same = parseListing(
    listing('10.0.0.3 : goto b,\n\t\t\t     10.0.0.2 : goto a', 'counter packets 7 bytes 9 accept'),
  );
  expect(compareListings(same, wanted)).toEqual([]);
  const other = compareListings(parseListing(listing('10.0.0.2 : goto a', 'drop')), wanted);
  expect(other.map(({ what, fault }) => `${what} ${fault}`)).toEqual([
    'nft table ip shoal map vips changed',
    'nft table ip shoal chain out changed',
  ]);
  expect(compareListings(new Map(), wanted)).toMatchObject([{ what: 'nft table ip shoal', fault: 'missing' }]);
  expect(tablesOf('add table ip a\ndelete table ip a\ntable ip a {\n}\nadd table ip6 b')).toEqual(['ip a', 'ip6 b']);
});

test('strays are links and rules of this daemon alone that nobody wants', () => {
  const wiring = { hostLink: 'shabi', mark: 6 } as never;
  const state = empty();
  for (const name of ['eth0', 'shab0', 'shabi', 'shabvold', 'shabvnew', 'shacv1', 'shabw1']) {
    state.links.push({ name, index: state.links.length + 1, mtu: 1500, up: true });
  }
  state.rules.push({ mark: 6, table: 6, priority: 1 }, { mark: 9, table: 9, priority: 1 });
  const kept = { prefix: 'shab', links: new Set(['shab0', 'shabvnew']), wiring };
  const names = (ops: readonly Op[]): string[] => ops.map((op) => (op.kind === 'link-del' ? op.name : op.kind));
  expect(names(strayOps(state, { ...kept, ingress: true, secure: true }))).toEqual(['shabvold']);
  const all = names(strayOps(state, { ...kept, ingress: false, secure: false }));
  expect(new Set(all)).toEqual(new Set(['shabi', 'shabvold', 'shabw1', 'rule']));
});
