/** How connections to virtual addresses are spread: from tables to the nft text of a sandbox. Pure, as plan.ts. */
import type { NetworkEndpoint } from '../proto/index.ts';
import { familyOf, type Family } from './ip.ts';
import { addressesOf, rotate } from './plan.ts';
import { chain, INNER_TABLE, wholeTable } from './plan-nft.ts';

/**
 * Serving addresses by virtual address, of both families. A backend stands in its list as often as its weight says;
 * its place in turn is the place in the list.
 */
export type Balancing = ReadonlyMap<string, readonly string[]>;

/** Places of one virtual address that weights may fill (each backend has at least one, however many there are). */
export const WEIGHT_PLACES_MAX = 1024;

interface Backend {
  address: string;
  weight: number;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/** Each backend by its weight, evenly mixed; equal weights give each one once. */
function placesOf(backends: readonly Backend[]): string[] {
  const sorted = [...backends].sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  const common = sorted.reduce((known, { weight }) => divisor(known, weight), 0);
  if (sorted.every(({ weight }) => weight === common)) return sorted.map(({ address }) => address);
  const total = sorted.reduce((sum, { weight }) => sum + weight / common, 0);
  const scale = Math.min(1, WEIGHT_PLACES_MAX / total) / common;
  const places: { address: string; at: number }[] = [];
  for (const { address, weight } of sorted) {
    const count = Math.max(1, Math.floor(weight * scale));
    for (let i = 0; i < count; i++) places.push({ address, at: (i + 0.5) / count });
  }
  // The sort is stable: among equals the order of addresses stays.
  return places.sort((a, b) => a.at - b.at).map(({ address }) => address);
}

/** The places of a virtual address, from the serving endpoints of its service; `drained` addresses are left out. */
export function placesOfVip(vip: string, tasks: Iterable<NetworkEndpoint>, drained: ReadonlySet<string>): string[] {
  const family = familyOf(vip);
  const backends: Backend[] = [];
  for (const endpoint of tasks) {
    if (!endpoint.serving) continue;
    const addresses = addressesOf(endpoint);
    if (drained.size > 0 && addresses.some((address) => drained.has(address))) continue;
    const weight = Math.max(1, endpoint.weight);
    for (const address of addresses) if (familyOf(address) === family) backends.push({ address, weight });
  }
  return placesOf(backends);
}

/** nft's names for what differs between the families. */
const FAMILY = {
  4: { table: 'ip', type: 'ipv4_addr', daddr: 'ip daddr' },
  6: { table: 'ip6', type: 'ipv6_addr', daddr: 'ip6 daddr' },
} as const;

/** Name of the chain of a virtual address. */
export function chainOf(vip: string): string {
  return `v_${vip.replaceAll(/[.:]/g, '_')}`;
}

function balancingRule(backends: readonly string[], seed: number): string {
  const turned = rotate(backends, seed);
  if (turned.length === 1) return `dnat to ${turned[0]}`;
  return `dnat to numgen inc mod ${turned.length} map { ${turned.map((ip, i) => `${i} : ${ip}`).join(', ')} }`;
}

/**
 * A sandbox's tables, one for each family that it has addresses of. The look-up of a virtual address costs the same for
 * one service and for thousands. @param fresh the namespace holds none yet.
 */
export function balancingTable(
  balancing: Balancing,
  seed: number,
  fresh: boolean,
  families: readonly Family[] = [4],
): string {
  return families.map((family) => familyTable(balancing, seed, fresh, family)).join('');
}

function familyTable(balancing: Balancing, seed: number, fresh: boolean, family: Family): string {
  const { table, type, daddr } = FAMILY[family];
  const own = [...balancing].filter(([vip]) => familyOf(vip) === family);
  const alive = own.filter(([, backends]) => backends.length > 0);
  const dead = own.filter(([, backends]) => backends.length === 0).map(([vip]) => vip);
  const elements = alive.map(([vip]) => `${vip} : goto ${chainOf(vip)}`);
  const body = [
    '  map vips {',
    `    type ${type} : verdict`,
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    '  set dead {',
    `    type ${type}`,
    ...(dead.length === 0 ? [] : [`    elements = { ${dead.join(', ')} }`]),
    '  }',
    ...alive.flatMap(([vip, backends]) => chain(chainOf(vip), [balancingRule(backends, seed)])),
    ...chain('output', ['type nat hook output priority -100; policy accept;', `${daddr} vmap @vips`]),
    ...chain('refuse', [
      'type filter hook output priority filter; policy accept;',
      // This rule also keeps conntrack at work: with the last `dnat` rule the kernel would stop translating, and reset,
      // the connections that still go on.
      'ct state established,related accept',
      `${daddr} @dead meta l4proto tcp reject with tcp reset`,
      `${daddr} @dead reject`,
    ]),
  ];
  return wholeTable(INNER_TABLE, body, fresh, table);
}

/** Commands that lead a sandbox's tables from `before` to `after`; empty when they are alike. */
export function balancingDiff(before: Balancing, after: Balancing, seed: number): string {
  const lines: string[] = [];
  const tableOf = (vip: string): string => `${FAMILY[familyOf(vip)].table} ${INNER_TABLE}`;
  for (const [vip, backends] of before) {
    const now = after.get(vip);
    const name = chainOf(vip);
    const table = tableOf(vip);
    if (backends.length === 0 && (now === undefined || now.length > 0))
      lines.push(`delete element ${table} dead { ${vip} }`);
    if (backends.length > 0 && (now === undefined || now.length === 0)) {
      lines.push(`delete element ${table} vips { ${vip} : goto ${name} }`);
      lines.push(`flush chain ${table} ${name}`, `delete chain ${table} ${name}`);
    }
  }
  for (const [vip, backends] of after) {
    const old = before.get(vip);
    const name = chainOf(vip);
    const table = tableOf(vip);
    if (backends.length === 0) {
      if (old === undefined || old.length > 0) lines.push(`add element ${table} dead { ${vip} }`);
    } else if (old === undefined || old.length === 0) {
      lines.push(`add chain ${table} ${name}`, `add rule ${table} ${name} ${balancingRule(backends, seed)}`);
      lines.push(`add element ${table} vips { ${vip} : goto ${name} }`);
    } else if (old !== backends && old.join() !== backends.join()) {
      lines.push(`flush chain ${table} ${name}`, `add rule ${table} ${name} ${balancingRule(backends, seed)}`);
    }
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
