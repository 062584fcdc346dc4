import { join } from 'node:path';
import { errorMessage, failedPrecondition, invalidArgument } from '../base/index.ts';
import type { NetworkTable } from '../proto/index.ts';
import { SecureTunnel, WIREGUARD_OVERHEAD_BYTES, type SecureTunnelOptions } from './encryption/index.ts';
import { forwarding6Ops } from './forwarding6.ts';
import { hostOps, innerOps, undoHostOps, type IngressWiring } from './ingress-wiring.ts';
import { canonicalIp, macOf } from './ip.ts';
import { ip6Switches } from './ip6-switches.ts';
import type { Kernel, NamespaceState, Op } from './kernel/ops.ts';
import { LivePlan } from './live-plan.ts';
import {
  BRIDGE_LINK,
  DEFAULT_MTU,
  diffItems,
  itemsOf,
  overlayFacts,
  tunnelOverheadBytes,
  VXLAN_LINK,
  type Items,
  type OverlayFacts,
  type Underlay,
} from './plan.ts';
import { ingressTable } from './plan-nft.ts';
import type { NetworkStore } from './store.ts';
import { paced } from './paced.ts';
import { changeSteps, deltaOf, type TableChange } from './table-change.ts';

/** One overlay network on this host. */
export interface Overlay {
  facts: OverlayFacts;
  table: NetworkTable;
  namespace: string;
  mtu: number;
  /** What the kernel shall hold of it; it follows the table with the kernel. */
  plan: Pick<LivePlan, 'peers'>;
  /** Its namespace and links stand. */
  standing: boolean;
  /** Why the last attempt to make it stand failed. */
  fault?: unknown;
}

interface Entry extends Overlay {
  /** What the kernel holds, as far as is known: `plan.items` when it followed; undefined: it must be read. */
  applied: Items | undefined;
  plan: LivePlan;
  /** Parameters of the tunnel device that exists; empty when there is none. */
  vxlan: string;
  /** The ingress table as last applied. */
  rules: string;
  /** The table, or this host's place, changed since the kernel last followed. */
  behind: boolean;
}

/** What the kernel shall hold of one overlay: in the host's namespace, in the overlay's, and as items of its plan. */
export interface OverlayWanted {
  overlay: Overlay;
  host: readonly Op[];
  inner: readonly Op[];
  items: Items;
  /** nft text of its namespace as last applied; empty when there is none. */
  rules: string;
}

/** A change of a table with more members is written with the whole table, piece by piece. */
const DELTA_MEMBERS_MAX = 500;

export interface OverlaysOptions extends Omit<SecureTunnelOptions, 'namespace' | 'stateDir'> {
  store: NetworkStore;
  wiring: IngressWiring;
  stateDir?: string;
}

/** Namespaces, tunnels and peers of the overlay networks, made from tables. */
export class Overlays {
  readonly #kernel: Kernel;
  readonly #store: NetworkStore;
  readonly #wiring: IngressWiring;
  /** What encrypted networks run over. */
  readonly secure: SecureTunnel;
  readonly #entries = new Map<string, Entry>();
  #underlay: Underlay | undefined;

  constructor(options: OverlaysOptions) {
    this.#kernel = options.kernel;
    this.#store = options.store;
    this.#wiring = options.wiring;
    const namespace = join(options.store.namespaces, 'secure');
    this.secure = new SecureTunnel({ ...options, stateDir: options.stateDir ?? options.execRoot, namespace });
  }

  get underlay(): Underlay | undefined {
    return this.#underlay;
  }

  all(): Overlay[] {
    return [...this.#entries.values()];
  }

  get(networkId: string): Overlay | undefined {
    return this.#entries.get(networkId);
  }

  ingress(): Overlay | undefined {
    return this.all().find((overlay) => overlay.facts.ingress);
  }

  /** Takes up what an earlier life stored; the kernel is read and repaired by `ensure`. */
  load(): void {
    this.#underlay = this.#store.loadUnderlay();
    for (const { table, vxlan } of this.#store.loadTables()) this.#put(table).vxlan = vxlan;
  }

  setUnderlay(wanted: Underlay): boolean {
    const underlay = { ...wanted, vtep: canonicalIp(wanted.vtep) };
    if (JSON.stringify(underlay) === JSON.stringify(this.#underlay)) return false;
    this.#underlay = underlay;
    this.#store.saveUnderlay(underlay);
    for (const entry of this.#entries.values()) entry.behind = true;
    return true;
  }

  async clearUnderlay(): Promise<void> {
    await this.secure.destroy();
    this.#underlay = undefined;
    this.#store.removeUnderlay();
  }

  /** Takes a table; false when it is older than or the same as the one that is known. */
  async accept(table: NetworkTable): Promise<boolean> {
    const known = this.#entries.get(table.network_id);
    if (known !== undefined && table.version < known.table.version) return false;
    const change = await paced(changeSteps(known?.table, table));
    if (table.version === known?.table.version && isNothing(change)) return false;
    const facts = overlayFacts(table);
    if (facts.vni === 0 || facts.subnet === '') {
      throw invalidArgument(`the table of network ${facts.name} names no VXLAN id or no IPv4 subnet`);
    }
    const small = change.endpoints.length + change.services.length <= DELTA_MEMBERS_MAX;
    const delta = known === undefined || !small ? undefined : deltaOf(known.table, change);
    const entry = this.#put(change.table);
    entry.behind = true;
    if (delta === undefined || !this.#store.saveTableDelta(delta)) await this.#save(entry);
    return true;
  }

  #put(table: NetworkTable): Entry {
    const facts = overlayFacts(table);
    const known = this.#entries.get(table.network_id);
    const mtu = this.#mtu(facts);
    if (known !== undefined) return Object.assign(known, { facts, table, mtu });
    const name = facts.ingress ? 'ingress' : `ov-${facts.id.slice(0, 12)}`;
    const namespace = join(this.#store.namespaces, name);
    const plan = new LivePlan(facts.ingress);
    const fresh = { applied: undefined, plan, vxlan: '', rules: '', standing: false, behind: true };
    const entry: Entry = { facts, table, namespace, mtu, ...fresh };
    this.#entries.set(table.network_id, entry);
    return entry;
  }

  #mtu(facts: OverlayFacts): number {
    const encryption = facts.encrypted ? WIREGUARD_OVERHEAD_BYTES : 0;
    return (this.#underlay?.mtu ?? DEFAULT_MTU) - tunnelOverheadBytes(this.#underlay) - encryption;
  }

  /** Paths of all namespaces that these networks need. */
  namespaces(): string[] {
    return [...this.all().map((overlay) => overlay.namespace), ...(this.secure.inUse ? [this.secure.namespace] : [])];
  }

  /** Lets the encryption follow the tables; with the last encrypted network it goes. */
  #syncSecure(): Promise<void> {
    const tables = this.all().filter(({ facts }) => facts.encrypted);
    return this.secure.sync(
      tables.map(({ table }) => table),
      this.#underlay,
    );
  }

  #save(entry: Entry): Promise<void> {
    return this.#store.saveTable({ table: entry.table, vxlan: entry.vxlan });
  }

  /** Makes the kernel follow one network's table. @param strict whether the host filters by reverse path. */
  async ensure(networkId: string, strict: boolean): Promise<void> {
    const entry = this.#entries.get(networkId);
    if (entry === undefined || !entry.behind) return;
    try {
      await this.#stand(entry, strict);
      delete entry.fault;
    } catch (error) {
      entry.fault = error;
      throw error;
    }
  }

  async #stand(entry: Entry, strict: boolean): Promise<void> {
    entry.mtu = this.#mtu(entry.facts);
    if (entry.applied === undefined) await this.#adopt(entry, strict);
    await this.#ensureTunnel(entry);
    const underlay = this.#underlay;
    await this.#follow(entry, underlay);
    if (entry.facts.ingress) await this.#ensureRules(entry);
    entry.standing = true;
    entry.behind = this.#underlay !== underlay;
  }

  /** Brings the kernel from what it holds to the plan; a change of the table costs what changed. */
  async #follow(entry: Entry, underlay: Underlay | undefined): Promise<void> {
    const { plan, applied } = entry;
    const changed = await paced(plan.steps(entry.table, underlay));
    const ops = applied === plan.items ? changed : diffItems(applied ?? new Map(), plan.items);
    // Of a batch that fails it is not known how far it went: then the kernel is read again.
    entry.applied = undefined;
    await this.#kernel.apply(entry.namespace, ops);
    entry.applied = plan.items;
  }

  /** Ops of the host's namespace and of the overlay's own, all but the tunnel's. */
  #baseOps(entry: Entry, strict: boolean): { host: Op[]; inner: Op[] } {
    const { namespace, facts, mtu } = entry;
    const common: Op[] = [
      ...quietIp6(facts),
      // Bridged frames need no pass through the rules for packets.
      { kind: 'sysctl', path: 'net/bridge/bridge-nf-call-iptables', value: '0' },
      { kind: 'sysctl', path: 'net/bridge/bridge-nf-call-ip6tables', value: '0' },
      { kind: 'link', name: 'lo', up: true },
    ];
    if (!facts.ingress) return { host: [], inner: [...common, { kind: 'bridge', name: BRIDGE_LINK, mtu }] };
    const six = facts.subnet6 !== '';
    const wired = hostOps(this.#wiring, namespace, DEFAULT_MTU, strict, six);
    return {
      host: [...(six ? forwarding6Ops() : []), ...wired],
      inner: [...common, ...innerOps(facts, this.#wiring, mtu)],
    };
  }

  /** Namespace and bridge; then what is in it becomes the state that the plan is compared with. */
  async #adopt(entry: Entry, strict: boolean): Promise<void> {
    const { namespace } = entry;
    await this.#kernel.createNamespace(namespace);
    const { host, inner } = this.#baseOps(entry, strict);
    await this.#kernel.apply(null, host);
    await this.#kernel.apply(namespace, inner);
    const state = await this.#kernel.state(namespace);
    if (!hasLink(state, VXLAN_LINK)) entry.vxlan = '';
    entry.applied = itemsOf(state);
  }

  /** The kernel takes a VXLAN id once per port and network namespace. */
  async #makeTunnel(facts: OverlayFacts, vxlan: Op, port: number): Promise<void> {
    try {
      // The tunnel's socket is in the namespace where the device is born: that of an encrypted network leads to WireGuard
      // and nowhere else.
      await this.#kernel.apply(facts.encrypted ? this.secure.namespace : null, [vxlan]);
    } catch (error) {
      if (!/EEXIST|File exists|already exists/.test(errorMessage(error))) throw error;
      throw failedPrecondition(
        `network ${facts.name}: VXLAN id ${facts.vni} on port ${port} is already in use in this host's network ` +
          'namespace, by another daemon or program; daemons that share overlay networks need a namespace each',
      );
    }
  }

  /** The tunnel device, and what follows in its namespace. */
  #tunnelOps({ facts, namespace, mtu }: Entry, underlay: Underlay): { vxlan: Op; inner: Op[] } {
    const vxlan: Op = {
      kind: 'vxlan',
      name: VXLAN_LINK,
      namespace,
      vni: facts.vni,
      local: underlay.vtep,
      port: underlay.dataPathPort,
      mtu,
      proxy: !facts.ingress,
      ...(facts.ingress ? { mac: macOf(underlay.vtep) } : {}),
    };
    const master = facts.ingress ? {} : { master: BRIDGE_LINK };
    // The kernel keeps neighbours of a family only where it is on.
    const switches = facts.subnet6 === '' ? [] : ip6Switches(VXLAN_LINK, false);
    return { vxlan, inner: [...switches, { kind: 'link', name: VXLAN_LINK, up: true, ...master }] };
  }

  async #ensureTunnel(entry: Entry): Promise<void> {
    const underlay = this.#underlay;
    if (underlay === undefined) return;
    const { facts, namespace } = entry;
    if (facts.encrypted) await this.#syncSecure();
    const { vxlan, inner } = this.#tunnelOps(entry, underlay);
    const wanted = JSON.stringify(vxlan);
    if (entry.vxlan === wanted) return;
    await this.#kernel.apply(namespace, [{ kind: 'link-del', name: VXLAN_LINK }]);
    // With the device go its routes, neighbours and forwarding entries.
    entry.applied = new Map([...(entry.applied ?? [])].filter(([, op]) => op.kind === 'rule'));
    await this.#makeTunnel(facts, vxlan, underlay.dataPathPort);
    await this.#kernel.apply(namespace, inner);
    entry.vxlan = wanted;
    await this.#save(entry);
  }

  async #ensureRules(entry: Entry): Promise<void> {
    const rules = ingressTable(entry.plan.peers, entry.facts.subnet6 !== '');
    if (rules === entry.rules) return;
    await this.#kernel.nft(entry.namespace, rules);
    entry.rules = rules;
  }

  /** What cannot be encrypted is refused: new containers are told why, until `ensure` succeeds again. */
  refuseUnencrypted(): void {
    if (this.secure.fault === undefined) return;
    for (const entry of this.#entries.values()) {
      if (!entry.facts.encrypted) continue;
      entry.standing = false;
      entry.behind = true;
    }
  }

  /** What the kernel shall hold of a network that stands and is up to date; undefined of any other. */
  wanted(networkId: string, strict: boolean): OverlayWanted | undefined {
    const entry = this.#entries.get(networkId);
    if (entry === undefined || entry.behind || entry.applied === undefined) return undefined;
    const { host, inner } = this.#baseOps(entry, strict);
    const underlay = this.#underlay;
    const tunnel = underlay === undefined ? undefined : this.#tunnelOps(entry, underlay);
    const all = tunnel === undefined ? inner : [...inner, tunnel.vxlan, ...tunnel.inner];
    return { overlay: entry, host, inner: all, items: entry.applied, rules: entry.rules };
  }

  /** Makes a network's links anew where they are gone. @param tunnel whether its tunnel device is gone or another */
  async remake(networkId: string, strict: boolean, tunnel: boolean): Promise<void> {
    const entry = this.#entries.get(networkId);
    if (entry === undefined) return;
    entry.behind = true;
    entry.applied = undefined;
    if (tunnel) entry.vxlan = '';
    await this.ensure(networkId, strict);
  }

  /** Puts a network's nft table in place again, whatever stands there. */
  async renewRules(networkId: string, strict: boolean): Promise<void> {
    const entry = this.#entries.get(networkId);
    if (entry === undefined) return;
    entry.rules = '';
    entry.behind = true;
    await this.ensure(networkId, strict);
  }

  async remove(networkId: string): Promise<void> {
    const entry = this.#entries.get(networkId);
    if (entry === undefined) return;
    this.#entries.delete(networkId);
    this.#store.removeTable(networkId);
    if (entry.applied !== undefined || entry.standing) {
      // At once, so that the same network may come back while the old namespace still ends.
      await this.#kernel.apply(entry.namespace, [{ kind: 'link-del', name: VXLAN_LINK }]);
    }
    if (entry.facts.ingress) await this.#kernel.apply(null, undoHostOps(this.#wiring, entry.facts.subnet6 !== ''));
    this.#kernel.removeNamespace(entry.namespace);
    if (entry.facts.encrypted) await this.#syncSecure();
  }
}

function isNothing({ endpoints, services, peers, network }: TableChange): boolean {
  return endpoints.length === 0 && services.length === 0 && peers.length === 0 && !network;
}

function hasLink(state: NamespaceState, name: string): boolean {
  return state.links.some((link) => link.name === name);
}

/**
 * The links of an overlay's namespace speak no IPv6 of their own, whatever their ports do. Where the network has IPv6,
 * links that need it are switched on as they are made, and must not be switched off (and flushed) by the next life.
 */
function quietIp6(facts: OverlayFacts): Op[] {
  const off: Op[] = [{ kind: 'sysctl', path: 'net/ipv6/conf/default/disable_ipv6', value: '1' }];
  if (facts.subnet6 !== '') return off;
  return [{ kind: 'sysctl', path: 'net/ipv6/conf/all/disable_ipv6', value: '1' }, ...off];
}
