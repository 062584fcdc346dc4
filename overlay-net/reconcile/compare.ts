/**
 * What the kernel holds against what it shall hold, as data. Pure: no I/O, clock or randomness. What is wanted are the
 * very ops that make it (kernel/ops.ts), so nothing is said twice.
 */
import { addressBits, familyOf, maskLength, subnetOf } from '../ip.ts';
import { bareIp } from '../ip4.ts';
import type { LinkInfo, NamespaceState, Op, RouteInfo } from '../kernel/ops.ts';
import { sameOp, undo, type Items } from '../plan.ts';

export const DRIFT_KINDS = [
  'link',
  'address',
  'route',
  'rule',
  'neighbour',
  'fdb',
  'sysctl',
  'nft',
  'resolver',
] as const;
export type DriftKind = (typeof DRIFT_KINDS)[number];

/** `foreign`: it stands where only ours may, and nothing wants it. */
export type Fault = 'missing' | 'changed' | 'foreign';

/** One difference, and the ops that end it. */
export interface Drift {
  kind: DriftKind;
  /** The thing in words, without its network: "fdb entry 02:42:0a:00:00:05". */
  what: string;
  fault: Fault;
  repair: readonly Op[];
}

export interface Comparison {
  drifts: Drift[];
  /** Links that are gone (or are other devices under their names); all that was on them went too and is not listed. */
  lost: Set<string>;
}

const MAIN_TABLE = 254;

type Of<K extends Op['kind']> = Extract<Op, { kind: K }>;

/** A state by the keys that ops name. */
export class StateIndex {
  readonly links = new Map<string, LinkInfo>();
  readonly #addresses = new Set<string>();
  readonly #routes = new Map<string, RouteInfo[]>();
  readonly #rules = new Set<string>();
  readonly #neighbours = new Map<string, string>();
  readonly #fdb = new Map<string, string>();

  constructor(state: NamespaceState) {
    for (const link of state.links) this.links.set(link.name, link);
    for (const { dev, address } of state.addresses) this.#addresses.add(`${dev} ${address}`);
    for (const route of state.routes) {
      const key = `${route.table} ${route.to}`;
      const list = this.#routes.get(key);
      if (list === undefined) this.#routes.set(key, [route]);
      else list.push(route);
    }
    for (const { family, mark, table, priority } of state.rules)
      this.#rules.add(`${family ?? 4} ${mark} ${table} ${priority}`);
    for (const { dev, ip, mac } of state.neighbours) this.#neighbours.set(`${dev} ${ip}`, mac);
    for (const { dev, mac, to, self } of state.fdb) this.#fdb.set(`${dev} ${mac} ${self ? 'self' : 'master'}`, to);
  }

  nameOf(dev: number): string | undefined {
    for (const link of this.links.values()) if (link.index === dev) return link.name;
    return undefined;
  }

  hasAddress(dev: number, address: string): boolean {
    return this.#addresses.has(`${dev} ${address}`);
  }

  routes(op: Of<'route'>): readonly RouteInfo[] {
    return this.#routes.get(`${op.table ?? MAIN_TABLE} ${op.to}`) ?? [];
  }

  hasRule(op: Of<'rule'>): boolean {
    return this.#rules.has(`${op.family ?? 4} ${op.mark} ${op.table} ${op.priority}`);
  }

  neighbour(dev: number, ip: string): string | undefined {
    return this.#neighbours.get(`${dev} ${ip}`);
  }

  fdb(dev: number, mac: string, at: 'self' | 'master'): string | undefined {
    return this.#fdb.get(`${dev} ${mac} ${at}`);
  }
}

/** An op's thing in words. */
export function describeOp(op: Op): string {
  switch (op.kind) {
    case 'bridge':
    case 'veth':
    case 'vxlan':
    case 'macvlan':
    case 'link':
    case 'link-del':
      return `link ${op.name}`;
    case 'addr':
      return `address ${op.address} of ${op.dev}`;
    case 'route':
      return `route ${op.to}${op.table === undefined ? '' : ` in table ${op.table}`}`;
    case 'rule':
      return `rule for mark ${op.mark}`;
    case 'neigh':
      return `neighbour ${op.ip}`;
    case 'fdb':
      return `fdb entry ${op.mac}`;
    case 'sysctl':
      return `sysctl ${op.path}`;
  }
}

export function kindOf(op: Op): DriftKind {
  switch (op.kind) {
    case 'bridge':
    case 'veth':
    case 'vxlan':
    case 'macvlan':
    case 'link':
    case 'link-del':
      return 'link';
    case 'addr':
      return 'address';
    case 'neigh':
      return 'neighbour';
    case 'route':
    case 'rule':
    case 'fdb':
    case 'sysctl':
      return op.kind;
  }
}

/** The ops that give a link back what a making op gave it; none when nothing differs. */
function linkRepair(link: LinkInfo, wanted: Of<'link'>): Op[] {
  const { name } = link;
  const fix: Of<'link'> = { kind: 'link', name };
  if (wanted.up === true && !link.up) fix.up = true;
  if (wanted.mtu !== undefined && link.mtu !== wanted.mtu) fix.mtu = wanted.mtu;
  if (wanted.mac !== undefined && link.mac !== undefined && link.mac !== wanted.mac) fix.mac = wanted.mac;
  if (wanted.master !== undefined && link.master !== undefined && link.master !== wanted.master) {
    fix.master = wanted.master;
  }
  // A link just put into a bridge has a bridge's defaults; only then can its port be set up, by a request of its own.
  const held = fix.master === undefined ? link : { hairpin: false, isolated: false };
  const port: Of<'link'> = { kind: 'link', name };
  for (const key of ['hairpin', 'isolated'] as const) {
    const value = wanted[key];
    if (value !== undefined && (held[key] ?? value) !== value) port[key] = value;
  }
  return [fix, port].filter((op) => Object.keys(op).length > 2);
}

/** What a link of ours shall be like, of the ops that make or change one. */
function linkWanted(op: Of<'bridge'> | Of<'veth'> | Of<'vxlan'> | Of<'link'>): Of<'link'> {
  switch (op.kind) {
    case 'link':
      return op;
    case 'bridge': {
      const { name, mac, mtu } = op;
      return { kind: 'link', name, up: true, ...(mac && { mac }), ...(mtu && { mtu }) };
    }
    case 'veth': {
      const { name, mtu, master } = op;
      const port = { hairpin: op.hairpin ?? false, isolated: op.isolated ?? false };
      return { kind: 'link', name, up: true, mtu, ...(master && { master, ...port }) };
    }
    case 'vxlan': {
      const { name, mtu, mac } = op;
      return { kind: 'link', name, mtu, ...(mac && { mac }) };
    }
  }
}

function isOtherTunnel(link: LinkInfo, op: Op): boolean {
  if (op.kind !== 'vxlan' || link.tunnel === undefined) return false;
  const { vni, local, port } = link.tunnel;
  return vni !== op.vni || local !== op.local || port !== op.port;
}

/** Whether a route, rule, address, neighbour or forwarding entry is there as wanted. */
function entryFault(
  index: StateIndex,
  op: Of<'addr'> | Of<'route'> | Of<'rule'> | Of<'neigh'> | Of<'fdb'>,
  own: ReadonlySet<string> | undefined,
): Fault | undefined {
  if (op.kind === 'rule') return index.hasRule(op) ? undefined : 'missing';
  const dev = index.links.get(op.dev)?.index ?? -1;
  switch (op.kind) {
    case 'addr':
      return index.hasAddress(dev, op.address) ? undefined : 'missing';
    case 'route': {
      const found = index.routes(op);
      if (found.some((route) => route.dev === dev && route.via === (op.via ?? ''))) return undefined;
      if (found.length === 0) return 'missing';
      // A container that may change its network can lead this way over a link of its own (a VPN).
      if (own !== undefined && found.some((route) => !own.has(index.nameOf(route.dev) ?? ''))) return undefined;
      return 'changed';
    }
    case 'neigh': {
      const mac = index.neighbour(dev, bareIp(op.ip));
      return mac === undefined ? 'missing' : mac === op.mac ? undefined : 'changed';
    }
    case 'fdb': {
      if (op.master && index.fdb(dev, op.mac, 'master') === undefined) return 'missing';
      if (!op.self) return undefined;
      const to = index.fdb(dev, op.mac, 'self');
      return to === undefined ? 'missing' : to === (op.to ?? '') ? undefined : 'changed';
    }
  }
}

/**
 * The route to its subnet that the kernel made with an address and nobody wants by an op of its own. Only missed when
 * nothing leads there: who leads it elsewhere may have reasons.
 */
function connectedRoute(index: StateIndex, { dev, address }: Of<'addr'>): Drift[] {
  if (index.links.get(dev)?.up !== true || maskLength(address) === addressBits(familyOf(address))) return [];
  const route: Of<'route'> = { kind: 'route', to: subnetOf(address), dev };
  if (index.routes(route).length > 0) return [];
  return [{ kind: 'route', what: describeOp(route), fault: 'missing', repair: [route] }];
}

/**
 * Compares a state with ops that shall have been done, in their order. Deleting ops and sysctls are passed over.
 * @param own when given, a route that leads over a link not named here is taken as its owner's choice.
 */
export function compareOps(index: StateIndex, ops: readonly Op[], own?: ReadonlySet<string>): Comparison {
  const drifts: Drift[] = [];
  const lost = new Set<string>();
  for (const op of ops) {
    switch (op.kind) {
      // A macvlan link is born in the other namespace, where a link op looks for it.
      case 'macvlan':
      case 'link-del':
      case 'sysctl':
        break;
      case 'bridge':
      case 'veth':
      case 'vxlan':
      case 'link': {
        const link = index.links.get(op.name);
        if (lost.has(op.name)) break;
        if (link === undefined || isOtherTunnel(link, op)) {
          lost.add(op.name);
          const fault = link === undefined ? 'missing' : 'changed';
          drifts.push({ kind: 'link', what: describeOp(op), fault, repair: [op] });
          break;
        }
        const repair = linkRepair(link, linkWanted(op));
        if (repair.length > 0) drifts.push({ kind: 'link', what: describeOp(op), fault: 'changed', repair });
        break;
      }
      case 'addr':
      case 'fdb':
      case 'neigh':
      case 'route':
      case 'rule': {
        if ('del' in op && op.del === true) break;
        if (op.kind !== 'rule' && lost.has(op.dev)) break;
        const fault = entryFault(index, op, own);
        if (fault !== undefined) drifts.push({ kind: kindOf(op), what: describeOp(op), fault, repair: [op] });
        else if (op.kind === 'addr') drifts.push(...connectedRoute(index, op));
      }
    }
  }
  return { drifts, lost };
}

/** Differences of items under keys. Yields after each look, so that a caller may give way in between. */
export function* compareItems(actual: Items, wanted: Items): Generator<Drift | undefined> {
  for (const [key, op] of actual) {
    yield wanted.has(key)
      ? undefined
      : { kind: kindOf(op), what: describeOp(op), fault: 'foreign', repair: [undo(op)] };
  }
  for (const [key, op] of wanted) {
    const held = actual.get(key);
    if (held !== undefined && sameOp(held, op)) {
      yield undefined;
      continue;
    }
    const fault = held === undefined ? 'missing' : 'changed';
    yield { kind: kindOf(op), what: describeOp(op), fault, repair: [op] };
  }
}

/** The sysctls among ops whose value differs. @param values by path; an absent one is not offered by this kernel. */
export function compareSysctls(values: ReadonlyMap<string, string>, ops: readonly Op[]): Drift[] {
  const drifts: Drift[] = [];
  const last = new Map<string, Op & { kind: 'sysctl' }>();
  for (const op of ops) if (op.kind === 'sysctl') last.set(op.path, op);
  for (const op of last.values()) {
    const value = values.get(op.path);
    if (value === undefined || value === op.value) continue;
    drifts.push({ kind: 'sysctl', what: describeOp(op), fault: 'changed', repair: [op] });
  }
  return drifts;
}
