import { join } from 'node:path';
import { alreadyExists, invalidArgument, notFound, readFileIfExists, unavailable, type Logger } from '../base/index.ts';
import { bareIp, macOf, parsePrefix } from './ip4.ts';
import { GATEWAY_NETWORK, OPTION_ICC, OPTION_MTU, type LocalNetworks } from './local-networks.ts';
import { hash32 } from './ingress-wiring.ts';
import { isNamespace, type Kernel, type Op } from './kernel/index.ts';
import type { Overlays } from './overlays.ts';
import { BRIDGE_LINK, DEFAULT_MTU } from './plan.ts';
import type { Leg, LegOps, NetworkStore, SandboxRecord } from './store.ts';
import type { EndpointResult, EndpointSpec, LocalNetwork, PublishedPort, SandboxSpec } from './types.ts';

export interface SandboxBuilderOptions {
  kernel: Kernel;
  store: NetworkStore;
  locals: LocalNetworks;
  overlays: Overlays;
  tag: string;
  /** MTU of local networks that name none. */
  mtu: number;
  log: Logger;
}

interface PlannedLeg {
  leg: Leg;
  result: EndpointResult;
  /** Where the bridge is: a namespace, or null for the host's. */
  bridgeNamespace: string | null;
  bridge: string;
  mtu: number;
  isolated: boolean;
  /** Next hop of the default route when this leg may carry it. */
  gateway: string;
  prefixLength: number;
}

/** Length of a sandbox's short id in paths and names. */
const SHORT_ID = 12;

/** Makes and removes the kernel side of sandboxes. Name service, balancing and ports are the caller's. */
export class SandboxBuilder {
  readonly #o: SandboxBuilderOptions;

  constructor(options: SandboxBuilderOptions) {
    this.#o = options;
  }

  namespaceOf(id: string): string {
    return join(this.#o.store.namespaces, id.slice(0, SHORT_ID));
  }

  alive(record: SandboxRecord): boolean {
    return isNamespace(record.result.namespacePath);
  }

  /** Makes namespace, links, addresses and default route. What was made is removed again when a step fails. */
  async build(spec: SandboxSpec, ports: PublishedPort[]): Promise<SandboxRecord> {
    const namespace = this.namespaceOf(spec.id);
    const planned: PlannedLeg[] = [];
    try {
      for (const endpoint of spec.endpoints) planned.push(this.#planLeg(spec, endpoint, planned.length));
      const carrier = this.#carrier(spec, planned);
      await this.#o.kernel.createNamespace(namespace);
      await this.#o.kernel.apply(namespace, [
        { kind: 'sysctl', path: 'net/ipv6/conf/default/disable_ipv6', value: '1' },
        { kind: 'link', name: 'lo', up: true },
      ]);
      for (const leg of planned) await this.#connect(namespace, leg);
      const routes: Op[] =
        carrier === undefined
          ? []
          : [{ kind: 'route', to: '0.0.0.0/0', via: carrier.gateway, dev: carrier.result.interfaceName }];
      await this.#o.kernel.apply(namespace, routes);
      const endpoints = planned.filter(({ leg }) => leg.kind !== 'gateway').map(({ result }) => result);
      return {
        spec,
        result: { namespacePath: namespace, endpoints, ports },
        legs: planned.map(({ leg }) => leg),
        defaultAddress: carrier?.leg.address ?? '',
        routes,
        drained: false,
      };
    } catch (error) {
      this.release(planned.map(({ leg }) => leg));
      this.#o.kernel.removeNamespace(namespace);
      throw error;
    }
  }

  /** Gives back the addresses of local networks. */
  release(legs: readonly Leg[]): void {
    for (const leg of legs) {
      if (leg.kind === 'local' || leg.kind === 'gateway') this.#o.locals.release(leg.networkId, leg.address);
    }
  }

  /** Marks the addresses of a sandbox that was taken over as used. */
  reserve(record: SandboxRecord): void {
    for (const leg of record.legs) {
      const network = this.#o.locals.find(leg.networkId);
      if (network !== undefined && network.driver === 'bridge') this.#o.locals.take(network, leg.address);
    }
  }

  /** Removes the bridges' ends at once (the same addresses may be used elsewhere now), then the namespace. */
  async remove(record: SandboxRecord): Promise<void> {
    this.release(record.legs);
    this.#o.kernel.removeNamespace(record.result.namespacePath);
  }

  /** The leg that carries the default route: ingress first, then a local network, then the gateway network. */
  #carrier(spec: SandboxSpec, planned: PlannedLeg[]): PlannedLeg | undefined {
    const open = planned.filter((leg) => leg.gateway !== '');
    const found = open.find((leg) => leg.leg.kind === 'ingress') ?? open.find((leg) => leg.leg.kind === 'local');
    if (found !== undefined) return found;
    const outward = planned.some(({ leg }) => {
      return leg.kind === 'overlay' && this.#o.overlays.get(leg.networkId)?.facts.internal === false;
    });
    if (!outward) return undefined;
    const network = this.#o.locals.find(GATEWAY_NETWORK);
    if (network === undefined) return undefined;
    const endpoint = { networkId: network.id, address: '', mac: '', aliases: [] };
    const leg = this.#localLeg(spec, endpoint, network, planned.length);
    leg.leg.kind = 'gateway';
    planned.push(leg);
    return leg;
  }

  #planLeg(spec: SandboxSpec, endpoint: EndpointSpec, index: number): PlannedLeg {
    const local = this.#o.locals.find(endpoint.networkId);
    if (local !== undefined) {
      if (local.driver !== 'bridge') {
        throw invalidArgument(`network ${local.name} gives a container no interface; it needs no sandbox on it`);
      }
      return this.#localLeg(spec, endpoint, local, index);
    }
    const overlay = this.#o.overlays.get(endpoint.networkId);
    if (overlay === undefined) throw notFound(`network ${endpoint.networkId} not found`);
    if (!overlay.standing) throw unavailable(`network ${overlay.facts.name} is not ready on this host`);
    if (endpoint.address === '') throw invalidArgument(`an address is needed on network ${overlay.facts.name}`);
    const { facts } = overlay;
    const address = bareIp(endpoint.address);
    const prefixLength = Number(endpoint.address.split('/')[1] ?? parsePrefix(facts.subnet).length);
    const mac = (endpoint.mac || macOf(address)).toLowerCase();
    const kind = facts.ingress ? 'ingress' : 'overlay';
    return {
      leg: { networkId: facts.id, kind, address, mac, hostLink: linkName('v', spec.id, index) },
      result: {
        networkId: facts.id,
        networkName: facts.name,
        interfaceName: `eth${index}`,
        address: `${address}/${prefixLength}`,
        gateway: facts.ingress ? facts.gateway : '',
        mac,
      },
      bridgeNamespace: overlay.namespace,
      bridge: BRIDGE_LINK,
      mtu: overlay.mtu,
      isolated: false,
      gateway: facts.ingress ? facts.gateway : '',
      prefixLength,
    };
  }

  #localLeg(spec: SandboxSpec, endpoint: EndpointSpec, network: LocalNetwork, index: number): PlannedLeg {
    const { locals, tag } = this.#o;
    let address = bareIp(endpoint.address);
    if (address === '') address = locals.choose(network);
    else if (!locals.take(network, address))
      throw alreadyExists(`Address already in use: ${address} on ${network.name}`);
    const mac = (endpoint.mac || macOf(address)).toLowerCase();
    const prefixLength = parsePrefix(network.subnet).length;
    const gateway = network.internal ? '' : network.gateway;
    return {
      leg: { networkId: network.id, kind: 'local', address, mac, hostLink: linkName(`sh${tag}v`, spec.id, index) },
      result: {
        networkId: network.id,
        networkName: network.name,
        interfaceName: `eth${index}`,
        address: `${address}/${prefixLength}`,
        gateway,
        mac,
      },
      bridgeNamespace: null,
      bridge: locals.bridgeName(network),
      mtu: Number(network.options[OPTION_MTU] ?? this.#o.mtu) || DEFAULT_MTU,
      // Where the bridge calls netfilter, the host's rules do it, and spare translated connections.
      isolated: network.options[OPTION_ICC] === 'false' && !bridgeCallsNetfilter(),
      gateway,
      prefixLength,
    };
  }

  async #connect(namespace: string, planned: PlannedLeg): Promise<void> {
    const { leg, result, bridge, mtu, isolated, bridgeNamespace } = planned;
    const outer: Op[] = [
      // A former life's link of this name would lead nowhere.
      { kind: 'link-del', name: leg.hostLink },
      {
        kind: 'veth',
        name: leg.hostLink,
        mtu,
        master: bridge,
        isolated,
        // A container may reach itself by a published port; where bridges call netfilter, that never leaves the port.
        hairpin: leg.kind === 'local' || leg.kind === 'gateway',
        peer: { name: result.interfaceName, mac: leg.mac, namespace },
      },
    ];
    if (leg.kind === 'overlay' || leg.kind === 'ingress') {
      outer.push({ kind: 'fdb', dev: leg.hostLink, mac: leg.mac, self: false, master: true });
    }
    const inner: Op[] = [
      { kind: 'link', name: result.interfaceName, up: true },
      { kind: 'addr', dev: result.interfaceName, address: result.address },
    ];
    // Set before, so that a leg half made is known too.
    leg.made = { bridgeNamespace, outer, inner };
    await this.#make(namespace, leg.made);
  }

  /** Makes a leg (again). */
  async #make(namespace: string, { bridgeNamespace, outer, inner }: LegOps): Promise<void> {
    await this.#o.kernel.apply(bridgeNamespace, outer);
    await this.#o.kernel.apply(namespace, inner);
  }

  /** Makes a leg of a living sandbox again, after its link was lost, and the routes that went with it. */
  async remake(record: SandboxRecord, leg: Leg): Promise<void> {
    if (leg.made === undefined) return;
    const { namespacePath } = record.result;
    await this.#make(namespacePath, leg.made);
    await this.#o.kernel.apply(namespacePath, record.routes ?? []);
  }
}

/** Whether bridged frames pass the host's IPv4 rules (br_netfilter). */
function bridgeCallsNetfilter(): boolean {
  return (readFileIfExists('/proc/sys/net/bridge/bridge-nf-call-iptables') ?? '').trim() === '1';
}

/** A link name of at most 15 characters that belongs to one leg of one sandbox. */
function linkName(prefix: string, id: string, index: number): string {
  const rest = 15 - prefix.length;
  return prefix + hash32(`${id}/${index}`).toString(36).padStart(7, '0').slice(-rest);
}
