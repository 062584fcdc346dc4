/**
 * What the kernel shall hold, computed from tables as data. Pure: no I/O, clock or randomness. Items are ops under a
 * key; the diff of two item maps is the batch that leads from one to the other.
 */
import type { NetworkEndpoint, NetworkTable } from '../proto/index.ts';
import { addressBits, canonicalIp, familyOf, idOfIp, macOf, type Family } from './ip.ts';
import { bareIp, contains, formatIp, formatPrefix, parseIp, parsePrefix } from './ip4.ts';
import { contains6, formatPrefix6, parseIp6, parsePrefix6 } from './ip6.ts';
import type { NamespaceState, Op } from './kernel/ops.ts';

export type Items = ReadonlyMap<string, Op>;

/**
 * This host's place in the underlay. `vtep` is of either family; hosts of the other one cannot be reached. `mtu` is that
 * of the link which holds the tunnel end point.
 */
export interface Underlay {
  vtep: string;
  dataPathPort: number;
  nodeId: string;
  mtu: number;
}

/** What is fixed for one overlay network. */
export interface OverlayFacts {
  id: string;
  name: string;
  vni: number;
  /** First IPv4 subnet. */
  subnet: string;
  gateway: string;
  /** First IPv6 subnet and its gateway; empty on a network without IPv6. */
  subnet6: string;
  gateway6: string;
  /** All other subnets, of either family. */
  moreSubnets: readonly string[];
  ingress: boolean;
  internal: boolean;
  encrypted: boolean;
}

export const VXLAN_LINK = 'vxlan0';
export const BRIDGE_LINK = 'br0';
/** The ingress namespace's end of the pair that leads to the host. */
export const HOST_LINK = 'host0';
/** Outer IPv4, UDP, VXLAN and inner Ethernet headers (RFC 7348). */
export const VXLAN_OVERHEAD_BYTES = 50;
/** The same with an outer IPv6 header. */
export const VXLAN_OVERHEAD6_BYTES = 70;
export const DEFAULT_MTU = 1500;
const VNI_OPTION = 'com.docker.network.driver.overlay.vxlanid_list';
/** Mark of connections that entered through this very host; others carry the entry's VTEP. */
export const LOCAL_ENTRY_MARK = 1;
/** Route table of replies to them. */
export const LOCAL_ENTRY_TABLE = 100;
const ENTRY_RULE_PRIORITY = 20_000;

export function overlayFacts(table: NetworkTable): OverlayFacts {
  const { network } = table;
  const configs = network?.ipam?.configs ?? [];
  const config = configs.find((candidate) => !candidate.subnet.includes(':'));
  const config6 = configs.find((candidate) => candidate.subnet.includes(':'));
  const options = network?.driver_state?.options ?? {};
  const wanted = network?.spec?.driver_config?.options ?? {};
  return {
    id: table.network_id,
    name: network?.spec?.annotations?.name ?? table.network_id,
    vni: Number((options[VNI_OPTION] ?? '').split(',')[0] || 0),
    subnet: config?.subnet ?? '',
    gateway: bareIp(config?.gateway ?? ''),
    subnet6: config6?.subnet ?? '',
    gateway6: canonicalIp(config6?.gateway ?? ''),
    moreSubnets: configs
      .filter((one) => one !== config && one !== config6 && one.subnet !== '')
      .map(({ subnet }) => cutPrefix(subnet)),
    ingress: network?.spec?.ingress ?? false,
    internal: network?.spec?.internal ?? false,
    encrypted: isEncrypted(options) || isEncrypted(wanted),
  };
}

/** Docker's `--opt encrypted`: on when it is there at all, unless its value says no. */
function isEncrypted(options: Readonly<Record<string, string>>): boolean {
  const value = options['encrypted'];
  return value !== undefined && !/^(?:false|f|0)$/i.test(value);
}

/** A subnet with nothing behind its mask. @throws ShoalError InvalidArgument */
function cutPrefix(subnet: string): string {
  return familyOf(subnet) === 6 ? formatPrefix6(parsePrefix6(subnet)) : formatPrefix(parsePrefix(subnet));
}

function holds(subnet: string, address: string): boolean {
  if (familyOf(subnet) !== familyOf(address)) return false;
  if (familyOf(subnet) === 6) return contains6(parsePrefix6(subnet), parseIp6(address));
  return contains(parsePrefix(subnet), parseIp(address));
}

/**
 * Routes of a container to its network: subnets that hold none of its addresses are on its link too. The ingress network
 * is routed, and there is no proxy of neighbour solicitations as there is one of ARP: its IPv6 leads by the gateway.
 */
export function subnetRoutes(facts: OverlayFacts, addresses: readonly string[], dev: string): Op[] {
  const all = [facts.subnet, facts.subnet6].filter((subnet) => subnet !== '').map(cutPrefix);
  const present = [...all, ...facts.moreSubnets].filter((subnet) =>
    addresses.some((address) => familyOf(address) === familyOf(subnet)),
  );
  const routed = (subnet: string): boolean => facts.ingress && familyOf(subnet) === 6;
  const onLink = present.filter((subnet) => !routed(subnet) && !addresses.some((address) => holds(subnet, address)));
  const byGateway = present.filter(routed).map((to): Op => ({ kind: 'route', to, via: facts.gateway6, dev }));
  const gateway: Op[] = byGateway.length === 0 ? [] : [{ kind: 'route', to: `${facts.gateway6}/128`, dev }];
  return [...onLink.map((to): Op => ({ kind: 'route', to, dev })), ...gateway, ...byGateway];
}

/** A container's own IPv6 address as its link has it: of the routed ingress network without a subnet on the link. */
export function linkAddress6(facts: OverlayFacts, address6: string): string {
  return facts.ingress ? `${canonicalIp(address6)}/128` : address6;
}

/** Bytes that a tunnelled frame adds to a packet of the overlay. */
export function tunnelOverheadBytes(underlay: Pick<Underlay, 'vtep'> | undefined): number {
  return familyOf(underlay?.vtep ?? '') === 6 ? VXLAN_OVERHEAD6_BYTES : VXLAN_OVERHEAD_BYTES;
}

/** MTU of the link that holds a tunnel end point. */
export function mtuOfVtep(state: NamespaceState, vtep: string): number {
  const holder = state.addresses.find(({ address }) => canonicalIp(address) === canonicalIp(vtep));
  return state.links.find(({ index }) => index === holder?.dev)?.mtu ?? DEFAULT_MTU;
}

/** VTEP of an endpoint when it is on another host; undefined when it is here, not known yet or of another family. */
function remoteVtep(endpoint: { node_id: string; vtep: string }, underlay: Underlay): string | undefined {
  const vtep = canonicalIp(endpoint.vtep);
  if (endpoint.node_id === underlay.nodeId || vtep === canonicalIp(underlay.vtep)) return undefined;
  return vtep === '' || familyOf(vtep) !== familyOf(underlay.vtep) ? undefined : vtep;
}

/** Addresses of an endpoint, IPv4 first. */
export function addressesOf(endpoint: { address: string; address6: string }): string[] {
  return [canonicalIp(endpoint.address), canonicalIp(endpoint.address6)].filter((address) => address !== '');
}

/** Neighbours and forwarding entries of a task on a bridged overlay: nothing is flooded, so each remote task has both. */
export function overlayItems(endpoint: NetworkEndpoint, underlay: Underlay): [string, Op][] {
  const vtep = remoteVtep(endpoint, underlay);
  const addresses = addressesOf(endpoint);
  const [first] = addresses;
  if (vtep === undefined || first === undefined) return [];
  const mac = endpoint.mac.toLowerCase() || macOf(first);
  const items = addresses.map((ip): [string, Op] => [`neigh ${ip}`, { kind: 'neigh', dev: VXLAN_LINK, ip, mac }]);
  items.push([`fdb ${mac}`, { kind: 'fdb', dev: VXLAN_LINK, mac, to: vtep, self: true, master: true }]);
  return items;
}

/** VTEPs of all other hosts on a network that this one can reach. */
export function peersOf(table: NetworkTable, underlay: Underlay | undefined): string[] {
  const peers = new Set<string>();
  for (const peer of table.peers) if (peer.node_id !== underlay?.nodeId) peers.add(canonicalIp(peer.vtep));
  for (const { node_id, vtep } of table.endpoints) if (node_id !== underlay?.nodeId) peers.add(canonicalIp(vtep));
  peers.delete('');
  if (underlay === undefined) return [...peers].sort();
  peers.delete(canonicalIp(underlay.vtep));
  return [...peers].filter((vtep) => familyOf(vtep) === familyOf(underlay.vtep)).sort();
}

/**
 * What stands for another host as next hop inside the ingress network: its VTEP when that is IPv4, else an address of
 * the reserved block 240.0.0.0/4, which no other route can hold; for IPv6 always a link-local address.
 */
export function nextHopOf(vtep: string, family: Family): string {
  const id = idOfIp(vtep);
  if (family === 6) return canonicalIp(`fe80::${(id >>> 16).toString(16)}:${(id & 0xffff).toString(16)}`);
  return familyOf(vtep) === 4 ? vtep : formatIp((0xf0000000 | (id & 0x0fffffff)) >>> 0);
}

/** Families of the routed ingress network. */
export function ingressFamilies(facts: OverlayFacts): readonly Family[] {
  return facts.subnet6 === '' ? [4] : [4, 6];
}

/** What leads replies to clients of this very host back. */
export function localEntryItems(families: readonly Family[]): Map<string, Op> {
  const items = new Map<string, Op>();
  for (const family of families) entryRule(items, family, LOCAL_ENTRY_MARK, LOCAL_ENTRY_TABLE);
  return items;
}

/** The way to another host of the routed ingress network, and the way back to it as an entry. */
export function entryItems(vtep: string, families: readonly Family[]): Map<string, Op> {
  const items = new Map<string, Op>();
  const mac = macOf(vtep);
  const entry = idOfIp(vtep);
  items.set(`fdb ${mac}`, { kind: 'fdb', dev: VXLAN_LINK, mac, to: vtep, self: true, master: false });
  for (const family of families) {
    const via = nextHopOf(vtep, family);
    items.set(`neigh ${via}`, { kind: 'neigh', dev: VXLAN_LINK, ip: via, mac });
    const back = { to: family === 6 ? '::/0' : '0.0.0.0/0', via, dev: VXLAN_LINK, onlink: true, table: entry };
    items.set(`route ${entry} ${back.to}`, { kind: 'route', ...back });
    entryRule(items, family, entry, entry);
  }
  return items;
}

/** Routes of the ingress network to a remote task. */
export function ingressItems(
  endpoint: NetworkEndpoint,
  underlay: Underlay,
  families: readonly Family[],
): [string, Op][] {
  const vtep = remoteVtep(endpoint, underlay);
  if (vtep === undefined) return [];
  const own = addressesOf(endpoint).filter((address) => families.includes(familyOf(address)));
  return own.map((address) => {
    const to = `${address}/${addressBits(familyOf(address))}`;
    const via = nextHopOf(vtep, familyOf(address));
    return [`route main ${to}`, { kind: 'route', to, via, dev: VXLAN_LINK, onlink: true }];
  });
}

function entryRule(items: Map<string, Op>, family: Family, mark: number, table: number): void {
  const rule = { ...(family === 6 ? { family } : {}), mark, table, priority: ENTRY_RULE_PRIORITY };
  items.set(ruleKey(rule), { kind: 'rule', ...rule });
}

function ruleKey(rule: { family?: 6; mark: number }): string {
  return `rule${rule.family ?? ''} ${rule.mark}`;
}

/** The op that takes an item away. */
export function undo(op: Op): Op {
  switch (op.kind) {
    case 'addr':
    case 'route':
    case 'rule':
    case 'neigh':
    case 'fdb':
      return { ...op, del: true };
    case 'bridge':
    case 'veth':
    case 'vxlan':
    case 'macvlan':
    case 'link':
    case 'link-del':
      return { kind: 'link-del', name: op.name };
    case 'sysctl':
      return op;
  }
}

/** Whether two ops say the same. */
export function sameOp(a: Op, b: Op): boolean {
  if (a === b) return true;
  const [one, other] = [a as Record<string, unknown>, b as Record<string, unknown>];
  for (const key in one) if (one[key] !== other[key]) return false;
  for (const key in other) if (one[key] !== other[key]) return false;
  return true;
}

/** The batch that leads from `applied` to `desired`: removals first, then what is new or differs. */
export function diffItems(applied: Items, desired: Items): Op[] {
  const ops: Op[] = [];
  for (const [key, op] of applied) if (!desired.has(key)) ops.push(undo(op));
  for (const [key, op] of desired) {
    const before = applied.get(key);
    if (before === undefined || !sameOp(before, op)) ops.push(op);
  }
  return ops;
}

/** What a namespace of an overlay holds, as items with the keys of the plans. */
export function itemsOf(state: NamespaceState): Items {
  const items = new Map<string, Op>();
  const vxlan = state.links.find((link) => link.name === VXLAN_LINK)?.index;
  const inBridge = new Set(state.fdb.filter((entry) => entry.dev === vxlan && entry.master).map((entry) => entry.mac));
  for (const { dev, ip, mac } of state.neighbours) {
    if (dev === vxlan) items.set(`neigh ${ip}`, { kind: 'neigh', dev: VXLAN_LINK, ip, mac });
  }
  for (const { dev, mac, to, self } of state.fdb) {
    if (dev !== vxlan || !self || to === '') continue;
    items.set(`fdb ${mac}`, { kind: 'fdb', dev: VXLAN_LINK, mac, to, self: true, master: inBridge.has(mac) });
  }
  for (const { dev, to, via, table } of state.routes) {
    if (dev !== vxlan || via === '') continue;
    const main = table === 254;
    const key = main ? `route main ${to}` : `route ${table} ${to}`;
    items.set(key, { kind: 'route', to, via, dev: VXLAN_LINK, onlink: true, ...(main ? {} : { table }) });
  }
  for (const rule of state.rules) {
    if (rule.priority === ENTRY_RULE_PRIORITY) items.set(ruleKey(rule), { kind: 'rule', ...rule });
  }
  return items;
}

/** Turns a list, so that several clients with counters of their own do not all begin at the same backend. */
export function rotate<T>(list: readonly T[], seed: number): T[] {
  if (list.length === 0) return [];
  const start = seed % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
