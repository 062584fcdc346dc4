import { join } from 'node:path';
import {
  assert,
  errorMessage,
  isShoalError,
  notFound,
  type Clock,
  type Logger,
  type Random,
  type Spawner,
} from '../base/index.ts';
import type { NetworkCheckOrder, NetworkCheckReport, NetworkTable, Network } from '../proto/index.ts';
import { runCheck } from './check/index.ts';
import { Coalescer } from './coalescer.ts';
import { leaveForwardPolicy, passForwardPolicy } from './forward-policy.ts';
import { ingressWiring, type IngressWiring } from './ingress-wiring.ts';
import { createKernel, type Kernel, type Op } from './kernel/index.ts';
import { KeyedLocks } from './keyed-locks.ts';
import { assertUnused, LocalBridges, networkEvent } from './local-bridges.ts';
import { LocalNetworks, type AddressPool } from './local-networks.ts';
import { Loopback6 } from './loopback6.ts';
import { NameService } from './name-service.ts';
import { Overlays } from './overlays.ts';
import { DEFAULT_MTU, mtuOfVtep } from './plan.ts';
import { PortHolder } from './ports.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { NetworkRepairs, type NetworkRepair } from './reconcile/repairs.ts';
import { dropStrays, isOurs, type OwnState } from './reconcile/strays.ts';
import { waitUntilReady } from './network-wait.ts';
import { Upkeep, type Pass } from './reconcile/upkeep.ts';
import { WatchedKernel } from './reconcile/watched-kernel.ts';
import { renameEverywhere } from './renaming.ts';
import { reversePathFilter } from './reverse-path.ts';
import { Rules } from './rules.ts';
import { SandboxBuilder } from './sandboxes.ts';
import { StaleFlows } from './stale-flows.ts';
import { NetworkStore, type SandboxRecord } from './store.ts';
import type {
  EndpointSpec,
  HostNetworks,
  LocalNetwork,
  LocalNetworkRequest,
  NetworkEvent,
  SandboxResult,
  SandboxSpec,
} from './types.ts';

export interface HostNetworkOptions {
  /** Directory for namespaces and records of kernel state. */
  execRoot: string;
  /** Directory for what outlives the kernel (local networks); default: execRoot. */
  stateDir?: string;
  /** Short name of this daemon, 1 to 6 of [0-9a-z], unique among the daemons in one network namespace. */
  tag: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  /** The default bridge: gateway with mask (default 172.17.0.1/16), IPv6 subnet, and the link's name. */
  bridge?: { subnet?: string; subnet6?: string; name?: string };
  /** False: the bridges that every host has are made without IPv6. */
  ipv6?: boolean;
  addressPools?: readonly AddressPool[];
  /** False: no rules in the host's namespace (no masquerade, no published ports). */
  iptables?: boolean;
  /** MTU of local networks; default 1500. */
  mtu?: number;
  /** Is told what happens to networks of this host. */
  onEvent?: (event: NetworkEvent) => void;
  /** False: drift is not repaired, so that damage can be looked at. */
  upkeep?: boolean;
  /** Back end; default: the fastest that works. */
  kernel?: Kernel;
  /** Told of what was found changed in the kernel and set right. */
  onRepair?: (repair: NetworkRepair) => void;
}

/** Rules follow tables at most this often, ms. */
const RULES_INTERVAL_MS = 50;
/** What makes a host a router. */
const HOST_OPS: readonly Op[] = [{ kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' }];

/** Networks of one host. See README.md for the design. */
export class HostNetwork implements HostNetworks {
  readonly #o: HostNetworkOptions;
  readonly #log: Logger;
  readonly #kernel: WatchedKernel;
  readonly #store: NetworkStore;
  readonly #locals: LocalNetworks;
  readonly #overlays: Overlays;
  readonly #bridges: LocalBridges;
  readonly #builder: SandboxBuilder;
  readonly #rules: Rules;
  readonly #ports: PortHolder;
  readonly #flows: StaleFlows;
  readonly #names: NameService;
  readonly #wiring: IngressWiring;
  readonly #loopback6: Loopback6;
  readonly #updates: Coalescer;
  readonly #reconciler: Reconciler;
  readonly #upkeep: Upkeep;
  readonly #own: OwnState;
  /** What was repaired, for metrics. */
  readonly repairs: NetworkRepairs;
  readonly #sandboxes = new Map<string, SandboxRecord>();
  /** Overlay networks that are removed with their last container. */
  readonly #leaving = new Set<string>();
  readonly #locks = new KeyedLocks();

  constructor(options: HostNetworkOptions) {
    assert(/^[0-9a-z]{1,6}$/.test(options.tag), 'a network tag is 1 to 6 of [0-9a-z]');
    this.#o = options;
    this.#log = options.log.with({ component: 'overlay-net' });
    this.#kernel = new WatchedKernel(options.kernel ?? createKernel(options.spawner, this.#log));
    this.#store = new NetworkStore(options.execRoot, options.stateDir ?? options.execRoot, this.#log);
    this.#locals = new LocalNetworks(options.random, options.tag);
    this.#wiring = ingressWiring(options.tag);
    const common = { kernel: this.#kernel, store: this.#store, log: this.#log };
    const secured = {
      onSecureRepair: (...repair: Parameters<NetworkRepairs['secure']>) => this.repairs.secure(...repair),
    };
    this.#overlays = new Overlays({ ...options, ...common, ...secured, wiring: this.#wiring });
    const parts = { ...common, locals: this.#locals, overlays: this.#overlays, tag: options.tag };
    this.#bridges = new LocalBridges({ ...options, kernel: this.#kernel, store: this.#store, locals: this.#locals });
    this.#builder = new SandboxBuilder({ ...parts, mtu: options.mtu ?? DEFAULT_MTU });
    const hostRules = options.iptables ?? true;
    this.#loopback6 = new Loopback6({ ...parts, hostRules });
    this.#ports = new PortHolder(options.random, this.#log);
    this.#own = { ...parts, sandboxes: this.#sandboxes, wiring: this.#wiring, loopback6: this.#loopback6 };
    this.#rules = new Rules({ ...parts, ...this.#own, ports: this.#ports, hostRules });
    this.#flows = new StaleFlows({ ...parts, sandboxes: this.#sandboxes, clock: options.clock });
    this.#names = new NameService({
      ...parts,
      sandboxes: this.#sandboxes,
      clock: options.clock,
      random: options.random,
      onReopened: (record) => this.repairs.resolver(record),
    });
    this.#updates = new Coalescer(
      options.clock,
      RULES_INTERVAL_MS,
      () => this.#update(),
      (error) => {
        this.#log.error('cannot bring the network rules up to date', { error });
      },
    );
    this.repairs = new NetworkRepairs(options.clock, this.#log, options.onRepair ?? (() => undefined));
    this.#upkeep = new Upkeep(options.clock, this.#log, (pass) => this.#pass(pass));
    this.#reconciler = new Reconciler({
      ...{ ...this.#own, ...parts },
      repairs: this.repairs,
      builder: this.#builder,
      rules: this.#rules,
      names: this.#names,
      bridgeOps: (network) => this.#bridges.ops(network),
      hostOps: HOST_OPS,
      update: () => this.#updates.now(),
      strict: reversePathFilter,
      locked: (lock, job) => this.#locks.run(lock, job),
      scratch: join(this.#store.namespaces, 'scratch'),
    });
  }

  async start(): Promise<void> {
    await this.#kernel.apply(null, HOST_OPS);
    await this.#bridges.start();
    this.#overlays.load();
    for (const { table } of this.#overlays.all()) this.#names.setTable(table);
    for (const { facts } of this.#overlays.all()) await this.#ensureOverlay(facts.id, reversePathFilter());
    await this.#adoptSandboxes();
    await this.#loopback6.start();
    await dropStrays(this.#own);
    await this.#passPolicy();
    await this.#update();
    if (this.#o.upkeep ?? true) this.#upkeep.start();
  }

  async stop(): Promise<void> {
    await this.#upkeep.stop();
    await this.#overlays.secure.stop();
    await this.#updates.close();
    await this.#flows.close();
    await this.#names.stop();
    this.#ports.close();
    this.#kernel.close();
  }

  async destroy(): Promise<void> {
    await this.stop();
    for (const record of this.#sandboxes.values()) await this.#builder.remove(record);
    this.#sandboxes.clear();
    for (const { facts } of this.#overlays.all()) await this.#overlays.remove(facts.id);
    await this.#overlays.secure.destroy();
    await this.#loopback6.remove();
    const bridges = this.#locals.bridges().map((network) => this.#locals.bridgeName(network));
    const { links } = await this.#kernel.state(null);
    const prefix = `sh${this.#o.tag}`;
    const ours = links.filter(({ name }) => bridges.includes(name) || isOurs(name, prefix));
    const deletions = ours.map(({ name }): Op => ({ kind: 'link-del', name }));
    await this.#kernel.apply(null, deletions);
    if (this.#o.iptables ?? true) {
      await this.#rules.removeHost();
      await leaveForwardPolicy(this.#o.spawner, this.#kernel, this.#locals.linkPatterns());
    }
    for (const name of this.#store.namespaceNames()) this.#kernel.removeNamespace(join(this.#store.namespaces, name));
    this.#store.clear();
  }

  // --- local networks -------------------------------------------------------------------------------------------

  localNetworks(): LocalNetwork[] {
    return this.#locals.all();
  }

  async createLocalNetwork(wanted: LocalNetworkRequest): Promise<LocalNetwork> {
    const network = await this.#bridges.create(wanted);
    try {
      await this.#passPolicy();
      await this.#updates.now();
    } catch (error) {
      this.#locals.remove(network.id);
      throw error;
    }
    this.#store.saveNetworks(this.#locals.all());
    this.#event('create', network.id);
    return network;
  }

  async removeLocalNetwork(id: string): Promise<void> {
    const network = this.#locals.assertRemovable(id);
    assertUnused(network, this.#sandboxes.values());
    this.#event('destroy', network.id);
    const name = this.#locals.bridgeName(network);
    this.#locals.remove(network.id);
    this.#store.saveNetworks(this.#locals.all());
    await this.#updates.now();
    if (network.driver === 'bridge') await this.#kernel.apply(null, [{ kind: 'link-del', name }]);
  }

  /** Tells of a network; `containerId` with connect and disconnect. */
  #event(action: NetworkEvent['action'], networkId: string, containerId?: string): void {
    this.#o.onEvent?.(networkEvent(action, networkId, containerId, this.#locals, this.#overlays));
  }

  // --- sandboxes ------------------------------------------------------------------------------------------------

  createSandbox(spec: SandboxSpec, existing?: string): Promise<SandboxResult> {
    return this.#locks.run(spec.id, async () => {
      const known = this.#sandboxes.get(spec.id);
      if (known !== undefined && this.#builder.alive(known)) return known.result;
      if (known !== undefined) await this.#remove(known);
      const ports = this.#ports.hold(spec.names[0] ?? spec.id.slice(0, 12), [...spec.ports], spec.id);
      let record: SandboxRecord | undefined;
      try {
        record = await this.#builder.build(spec, ports, existing);
        this.#sandboxes.set(spec.id, record);
        await this.#names.open(record);
        await this.#rules.applyOne(record);
        if (ports.length > 0) await this.#rules.applyHost();
        this.#store.saveSandbox(record);
        for (const { networkId } of record.result.endpoints) this.#event('connect', networkId, spec.id);
        return record.result;
      } catch (error) {
        if (record !== undefined) await this.#remove(record);
        this.#ports.release(spec.id);
        throw error;
      }
    });
  }

  async drainSandbox(id: string): Promise<void> {
    const record = this.#sandboxes.get(id);
    if (record === undefined || record.drained) return;
    record.drained = true;
    this.#store.saveSandbox(record);
    await this.#updates.now();
  }

  removeSandbox(id: string): Promise<void> {
    return this.#locks.run(id, async () => {
      const record = this.#sandboxes.get(id);
      if (record === undefined) return;
      await this.#remove(record);
      for (const { networkId } of record.result.endpoints) this.#event('disconnect', networkId, id);
    });
  }

  connectSandbox(id: string, endpoint: EndpointSpec): Promise<SandboxResult> {
    return this.#locks.run(id, async () => {
      const record = this.#living(id);
      const { networkId } = await this.#builder.plug(record, endpoint);
      await this.#changed(record);
      this.#event('connect', networkId, id);
      return record.result;
    });
  }

  disconnectSandbox(id: string, key: string): Promise<SandboxResult> {
    return this.#locks.run(id, async () => {
      const record = this.#living(id);
      const networkId = this.#locals.find(key)?.id ?? key;
      await this.#builder.unplug(record, networkId);
      await this.#changed(record);
      if (this.#leaving.has(networkId) && !this.#attached(networkId)) await this.removeTable(networkId);
      this.#event('disconnect', networkId, id);
      return record.result;
    });
  }

  async renameSandbox(id: string, oldName: string, name: string): Promise<void> {
    renameEverywhere(this.#sandboxes.values(), { id, oldName, name }, this.#names, this.#store);
  }

  #living(id: string): SandboxRecord {
    const record = this.#sandboxes.get(id);
    if (record !== undefined && this.#builder.alive(record)) return record;
    throw notFound(`no network sandbox of container ${id}`);
  }

  /** Names, rules and record follow a sandbox whose legs have changed. */
  async #changed(record: SandboxRecord): Promise<void> {
    this.#names.refresh(record);
    this.#store.saveSandbox(record);
    await this.#updates.now();
  }

  async #remove(record: SandboxRecord): Promise<void> {
    const { id } = record.spec;
    this.#sandboxes.delete(id);
    this.#rules.forget(id);
    this.#names.close(id);
    this.#ports.release(id);
    await this.#builder.remove(record);
    this.#store.removeSandbox(id);
    for (const { networkId } of record.legs) {
      if (this.#leaving.has(networkId) && !this.#attached(networkId)) await this.removeTable(networkId);
    }
    this.#updates.request();
  }

  #attached(networkId: string): boolean {
    return [...this.#sandboxes.values()].some((record) => this.#isOn(record, networkId));
  }

  #isOn(record: SandboxRecord, networkId: string): boolean {
    return record.legs.some((leg) => leg.networkId === networkId);
  }

  async keepSandboxes(ids: ReadonlySet<string>): Promise<void> {
    for (const id of [...this.#sandboxes.keys()]) if (!ids.has(id)) await this.removeSandbox(id);
  }

  /** Takes over what an earlier life left; records whose namespace is gone (the host restarted) are dropped. */
  async #adoptSandboxes(): Promise<void> {
    for (const record of this.#store.loadSandboxes()) {
      const { id } = record.spec;
      if (!this.#builder.alive(record)) {
        this.#store.removeSandbox(id);
        continue;
      }
      this.#sandboxes.set(id, record);
      try {
        this.#builder.reserve(record);
        this.#ports.hold(id, record.result.ports, id);
        await this.#names.open(record);
      } catch (error) {
        this.#log.warn('a container was taken over with a part missing', { id, error: errorMessage(error) });
      }
    }
  }

  // --- overlays -------------------------------------------------------------------------------------------------

  async setUnderlay(underlay: { vtep: string; dataPathPort: number; nodeId: string }): Promise<void> {
    const state = await this.#kernel.state(null);
    const { vtep, dataPathPort, nodeId } = underlay;
    const mtu = mtuOfVtep(state, vtep);
    // An address on the loopback link carries tunnels between daemons of one host only; its MTU would be too large.
    if (!this.#overlays.setUnderlay({ vtep, dataPathPort, nodeId, mtu: Math.min(mtu, 9000) })) return;
    for (const { facts } of this.#overlays.all()) await this.#ensureOverlay(facts.id, reversePathFilter());
    await this.#updates.now();
  }

  async leaveUnderlay(): Promise<void> {
    for (const { facts } of this.#overlays.all()) await this.removeTable(facts.id);
    await this.#overlays.clearUnderlay();
    await this.#updates.now();
  }

  wireguardKey = (): Uint8Array => this.#overlays.secure.publicKey();
  setNetworkKeys: HostNetworks['setNetworkKeys'] = (keys) => this.#overlays.secure.setNetworkKeys(keys);

  meshClashes: HostNetworks['meshClashes'] = () => this.#ports.meshClashes;
  overlayNetworks = (): Network[] => this.#overlays.all().flatMap(({ table }) => table.network ?? []);

  announceTable(table: NetworkTable): void {
    this.#names.setTable(table);
  }

  async setTable(table: NetworkTable): Promise<void> {
    this.announceTable(table);
    await this.#locks.run(table.network_id, async () => {
      this.#leaving.delete(table.network_id);
      if (!(await this.#overlays.accept(table))) return;
      await this.#overlays.ensure(table.network_id, reversePathFilter());
    });
    this.#updates.request();
  }

  removeTable(networkId: string): Promise<void> {
    return this.#locks.run(networkId, async () => {
      // Containers that still stop keep their network to the end.
      if (this.#attached(networkId)) {
        this.#leaving.add(networkId);
        return;
      }
      this.#leaving.delete(networkId);
      await this.#overlays.remove(networkId);
      this.#names.removeTable(networkId);
      this.#updates.request();
    });
  }

  async waitForNetwork(networkId: string, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const standing = (): boolean => {
      if (this.#locals.find(networkId) !== undefined) return true;
      const overlay = this.#overlays.get(networkId);
      // What only the host's owner can mend is told at once.
      if (overlay?.standing !== true && isShoalError(overlay?.fault, 'FailedPrecondition')) throw overlay.fault;
      return overlay?.standing === true;
    };
    await waitUntilReady(networkId, standing, timeoutMs, this.#o.clock, signal);
  }

  async #ensureOverlay(networkId: string, strict: boolean): Promise<void> {
    try {
      await this.#locks.run(networkId, () => this.#overlays.ensure(networkId, strict));
    } catch (error) {
      this.#log.error('cannot set up an overlay network', { network: networkId, error });
    }
  }

  // --- upkeep ---------------------------------------------------------------------------------------------------

  async #update(): Promise<void> {
    await this.#loopback6.ensure();
    await this.#rules.applyHost();
    await this.#rules.applySandboxes();
    this.#flows.note(this.#rules.ports);
  }

  /** Compares all of the kernel with the plan and repairs what drifted. */
  reconcile(): Promise<void> {
    return this.#upkeep.run({ deep: true, all: true });
  }

  async #pass({ deep, all }: Pass): Promise<void> {
    if (deep) {
      this.#overlays.refuseUnencrypted();
      for (const { facts } of this.#overlays.all()) await this.#ensureOverlay(facts.id, reversePathFilter());
    }
    await this.#reconciler.pass(deep, all);
    // A WireGuard process that hangs keeps nothing else from its repair.
    const kept = deep ? this.#overlays.secure.upkeep() : undefined;
    if (all) await kept;
    if (deep) await this.#passPolicy();
    const news = deep && ((await this.#loopback6.ensure()) || this.#ports.meshClashes.length > 0);
    if (this.#rules.behind || news) await this.#updates.now();
  }

  async #passPolicy(): Promise<void> {
    if (this.#o.iptables ?? true) await passForwardPolicy(this.#kernel, this.#locals.linkPatterns(), this.#log);
  }

  checkNetworks(order: NetworkCheckOrder): Promise<NetworkCheckReport> {
    return runCheck(order, { ...this.#o, kernel: this.#kernel, overlays: this.#overlays, sandboxes: this.#sandboxes });
  }
}
