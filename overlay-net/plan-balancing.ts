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

/** Where the place that was drawn becomes an address. */
export const TURN_CHAIN = 'turn';

/** nft's names for what differs between the families. */
const FAMILY = {
  4: { table: 'ip', type: 'ipv4_addr', daddr: 'ip daddr' },
  6: { table: 'ip6', type: 'ipv6_addr', daddr: 'ip6 daddr' },
} as const;

/** Name of the chain of a virtual address. */
export function chainOf(vip: string): string {
  return `v_${vip.replaceAll(/[.:]/g, '_')}`;
}

/** Backends of one virtual address in the order of this sandbox. */
type Turns = readonly string[];

/** With one backend the rule names it; several are places in a map, chosen in turn. */
function turnsRule(turns: Turns): string {
  return turns.length === 1 ? `dnat to ${turns[0]}` : `meta mark set numgen inc mod ${turns.length} goto ${TURN_CHAIN}`;
}

/** Key of a place in the map `backends`, and what it holds. */
function places(vip: string, turns: Turns): [key: string, address: string][] {
  return turns.length === 1 ? [] : turns.map((address, i) => [`${vip} . ${i}`, address]);
}

/**
 * All backends of all virtual addresses stand in one map that one rule looks into, by the place that the address's own
 * rule has drawn. The kernel walks all sets of a table for each set that is made or named, and all elements of a map for
 * each rule that is bound to it: a map, or a look-up, per virtual address would cost the square of their number. The
 * mark is that of a connection's first packet alone, and ends with this namespace.
 */
function backendsMap(family: Family, elements: readonly string[]): string[] {
  const { type, daddr } = FAMILY[family];
  return [
    '  map backends {',
    `    type ${type} . mark : ${type}`,
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    ...chain(TURN_CHAIN, [`dnat to ${daddr} . meta mark map @backends`]),
  ];
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
  const turns = alive.map(([vip, backends]) => [vip, rotate(backends, seed)] as const);
  const held = turns.flatMap(([vip, list]) => places(vip, list).map(([key, address]) => `${key} : ${address}`));
  const body = [
    ...backendsMap(family, held),
    '  map vips {',
    `    type ${type} : verdict`,
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    '  set dead {',
    `    type ${type}`,
    ...(dead.length === 0 ? [] : [`    elements = { ${dead.join(', ')} }`]),
    '  }',
    ...turns.flatMap(([vip, list]) => chain(chainOf(vip), [turnsRule(list)])),
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
  const steps = { 4: new FamilySteps(4), 6: new FamilySteps(6) };
  const turnsOf = (backends: readonly string[] | undefined): Turns => rotate(backends ?? [], seed);
  for (const [vip, backends] of before) {
    const now = after.get(vip);
    if (backends.length === 0 && (now === undefined || now.length > 0)) steps[familyOf(vip)].revive(vip);
    if (backends.length > 0 && (now === undefined || now.length === 0)) {
      steps[familyOf(vip)].remove(vip, turnsOf(backends));
    }
  }
  for (const [vip, backends] of after) {
    const old = before.get(vip);
    if (backends.length === 0) {
      if (old === undefined || old.length > 0) steps[familyOf(vip)].kill(vip);
    } else if (old === undefined || old.length === 0) {
      steps[familyOf(vip)].add(vip, turnsOf(backends));
    } else if (old !== backends && old.join() !== backends.join()) {
      steps[familyOf(vip)].change(vip, turnsOf(old), turnsOf(backends));
    }
  }
  return `${steps[4].text()}${steps[6].text()}`;
}

/** Commands for one family's table, gathered in an order in which nothing is named that is not there. */
class FamilySteps {
  readonly #table: string;
  readonly #gone: Record<'dead' | 'vips' | 'backends', string[]> = { dead: [], vips: [], backends: [] };
  readonly #chains: string[] = [];
  readonly #come: Record<'dead' | 'vips' | 'backends', string[]> = { backends: [], vips: [], dead: [] };

  constructor(family: Family) {
    this.#table = `${FAMILY[family].table} ${INNER_TABLE}`;
  }

  kill(vip: string): void {
    this.#come.dead.push(vip);
  }

  revive(vip: string): void {
    this.#gone.dead.push(vip);
  }

  add(vip: string, turns: Turns): void {
    const name = chainOf(vip);
    this.#chains.push(`add chain ${this.#table} ${name}`);
    this.#chains.push(`add rule ${this.#table} ${name} ${turnsRule(turns)}`);
    this.#come.vips.push(`${vip} : goto ${name}`);
    this.#places(vip, [], turns);
  }

  remove(vip: string, turns: Turns): void {
    const name = chainOf(vip);
    this.#gone.vips.push(`${vip} : goto ${name}`);
    this.#chains.push(`flush chain ${this.#table} ${name}`, `delete chain ${this.#table} ${name}`);
    this.#places(vip, turns, []);
  }

  change(vip: string, old: Turns, now: Turns): void {
    const rule = turnsRule(now);
    if (rule !== turnsRule(old)) {
      const name = chainOf(vip);
      this.#chains.push(`flush chain ${this.#table} ${name}`, `add rule ${this.#table} ${name} ${rule}`);
    }
    this.#places(vip, old, now);
  }

  /** Only places that hold another backend than before are touched. */
  #places(vip: string, old: Turns, now: Turns): void {
    const [before, after] = [new Map(places(vip, old)), new Map(places(vip, now))];
    for (const [key, address] of before) if (after.get(key) !== address) this.#gone.backends.push(key);
    for (const [key, address] of after) {
      if (before.get(key) !== address) this.#come.backends.push(`${key} : ${address}`);
    }
  }

  text(): string {
    const lines = (verb: 'add' | 'delete', sets: Record<string, string[]>): string[] =>
      Object.entries(sets)
        .filter(([, elements]) => elements.length > 0)
        .map(([set, elements]) => `${verb} element ${this.#table} ${set} { ${elements.join(', ')} }`);
    const all = [...lines('delete', this.#gone), ...this.#chains, ...lines('add', this.#come)];
    return all.length === 0 ? '' : `${all.join('\n')}\n`;
  }
}
