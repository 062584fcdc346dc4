import { join } from 'node:path';
import { invalidArgument, notFound, readFileIfExists, ShoalError, unavailable, type Logger } from '../base/index.ts';
import { chooseCarrier } from './carrier.ts';
import { canonicalIp, maskLength } from './ip.ts';
import { bareIp, macOf, parsePrefix } from './ip4.ts';
import { GATEWAY_NETWORK, OPTION_ICC, OPTION_MTU, OPTION_PARENT, type LocalNetworks } from './local-networks.ts';
import { hash32 } from './ingress-wiring.ts';
import { ip6Switches } from './ip6-switches.ts';
import { isNamespace, type Kernel, type Op } from './kernel/index.ts';
import type { Overlays } from './overlays.ts';
import { BRIDGE_LINK, DEFAULT_MTU, linkAddress6, subnetRoutes, type OverlayFacts } from './plan.ts';
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
  /** IPv6 address and mask of its link where these are not those of the result. */
  linkAddress6?: string;
  /** Routes to the rest of its network. */
  routes: readonly Op[];
  /** Link of the host that a macvlan hangs on; empty for a pair with a bridge. */
  parent: string;
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
  async build(spec: SandboxSpec, ports: PublishedPort[], existing?: string): Promise<SandboxRecord> {
    const namespace = this.namespaceOf(spec.id);
    const planned: PlannedLeg[] = [];
    try {
      for (const endpoint of spec.endpoints) planned.push(this.#planLeg(spec, endpoint, planned.length));
      await this.#o.kernel.createNamespace(namespace, existing);
      await this.#o.kernel.apply(namespace, [
        { kind: 'sysctl', path: 'net/ipv6/conf/default/disable_ipv6', value: '1' },
        { kind: 'link', name: 'lo', up: true },
      ]);
      for (const leg of planned) await this.#connect(namespace, leg);
      const record: SandboxRecord = {
        spec,
        result: { namespacePath: namespace, endpoints: planned.map(({ result }) => result), ports },
        legs: planned.map(({ leg }) => leg),
        defaultAddress: '',
        drained: false,
      };
      await this.#route(record, planned);
      return record;
    } catch (error) {
      this.release(planned.map(({ leg }) => leg));
      this.#o.kernel.removeNamespace(namespace);
      throw error;
    }
  }

  /** Adds a leg to a living sandbox, with the next free interface name. What was made is removed when a step fails. */
  async plug(record: SandboxRecord, endpoint: EndpointSpec): Promise<EndpointResult> {
    const used = record.legs.map((leg) => Number((leg.interfaceName ?? '').replace(/^\D+/, '')));
    const planned = this.#planLeg(record.spec, endpoint, Math.max(-1, ...used) + 1);
    const before = { spec: record.spec, legs: record.legs, endpoints: record.result.endpoints };
    try {
      await this.#connect(record.result.namespacePath, planned);
      record.legs = [...record.legs, planned.leg];
      record.result.endpoints = [...record.result.endpoints, planned.result];
      record.spec = { ...record.spec, endpoints: [...record.spec.endpoints, endpoint] };
      await this.#route(record, []);
      return planned.result;
    } catch (error) {
      record.spec = before.spec;
      record.legs = before.legs;
      record.result.endpoints = before.endpoints;
      await this.#cut(record, planned.leg);
      throw error;
    }
  }

  /** Takes a leg out of a living sandbox. @throws ShoalError NotFound when it has none on the network */
  async unplug(record: SandboxRecord, networkId: string): Promise<void> {
    const leg = record.legs.find((candidate) => candidate.networkId === networkId && candidate.kind !== 'gateway');
    if (leg === undefined) throw notFound(`container ${record.spec.id} is not connected to network ${networkId}`);
    record.legs = record.legs.filter((other) => other !== leg);
    record.result.endpoints = record.result.endpoints.filter((endpoint) => endpoint.networkId !== networkId);
    const endpoints = record.spec.endpoints.filter(({ networkId: key }) => {
      return key !== networkId && this.#o.locals.find(key)?.id !== networkId;
    });
    record.spec = { ...record.spec, endpoints };
    await this.#cut(record, leg);
    await this.#route(record, []);
  }

  /** Removes a leg's link and gives its addresses back. */
  async #cut(record: SandboxRecord, leg: Leg): Promise<void> {
    const { kernel, overlays } = this.#o;
    this.release([leg]);
    const bridge = leg.kind === 'local' || leg.kind === 'gateway' ? null : overlays.get(leg.networkId)?.namespace;
    const [where, name] =
      leg.hostLink === '' ? [record.result.namespacePath, leg.interfaceName] : [bridge, leg.hostLink];
    if (where === undefined || name === undefined) return;
    await kernel.apply(where, [{ kind: 'link-del', name }]);
  }

  /**
   * Makes the default routes those of the legs that shall carry them. A sandbox that has overlays only gets a leg on the
   * gateway network, and loses it when another leads outward. @param planned is given the leg that was made.
   */
  async #route(record: SandboxRecord, planned: PlannedLeg[]): Promise<void> {
    const { kernel, locals, overlays } = this.#o;
    const namespace = record.result.namespacePath;
    let carrier = this.#carrier(record, 4);
    const spare = record.legs.find((leg) => leg.kind === 'gateway');
    if (spare !== undefined && carrier !== undefined && carrier !== spare) {
      record.legs = record.legs.filter((leg) => leg !== spare);
      await this.#cut(record, spare);
    }
    const outward = record.legs.some((leg) => {
      return leg.kind === 'overlay' && overlays.get(leg.networkId)?.facts.internal === false;
    });
    const network = locals.find(GATEWAY_NETWORK);
    if (carrier === undefined && outward && network !== undefined) {
      const endpoint = { networkId: network.id, address: '', mac: '', aliases: [] };
      const used = record.legs.map((leg) => Number((leg.interfaceName ?? '').replace(/^\D+/, '')));
      const made = this.#localLeg(record.spec, endpoint, network, Math.max(-1, ...used) + 1);
      made.leg.kind = 'gateway';
      planned.push(made);
      await this.#connect(namespace, made);
      record.legs = [...record.legs, made.leg];
      carrier = made.leg;
    }
    const carrier6 = this.#carrier(record, 6);
    const ops: Op[] = [];
    if (carrier?.interfaceName !== undefined && carrier.gateway) {
      ops.push({ kind: 'route', to: '0.0.0.0/0', via: carrier.gateway, dev: carrier.interfaceName });
    }
    if (carrier6?.interfaceName !== undefined && carrier6.gateway6) {
      ops.push({ kind: 'route', to: '::/0', via: carrier6.gateway6, dev: carrier6.interfaceName });
    }
    record.routes = ops;
    if (ops.length > 0) await kernel.apply(namespace, ops);
    record.defaultAddress = carrier?.address ?? '';
    if (carrier6?.address6 === undefined) delete record.defaultAddress6;
    else record.defaultAddress6 = carrier6.address6;
  }

  #carrier(record: SandboxRecord, family: 4 | 6): Leg | undefined {
    const { locals, overlays } = this.#o;
    const keyOf = (endpoint: EndpointSpec): string => locals.find(endpoint.networkId)?.id ?? endpoint.networkId;
    const legs = record.legs.map((leg) => ({
      ...{ leg, kind: leg.kind, gateway: leg.gateway ?? '', gateway6: leg.gateway6 ?? '' },
      networkName: locals.find(leg.networkId)?.name ?? overlays.get(leg.networkId)?.facts.name ?? '',
      gwPriority: record.spec.endpoints.find((endpoint) => keyOf(endpoint) === leg.networkId)?.gwPriority ?? 0,
    }));
    return chooseCarrier(legs, family)?.leg;
  }

  /** Gives back the addresses of local networks. */
  release(legs: readonly Leg[]): void {
    for (const leg of legs) {
      if (leg.kind !== 'local' && leg.kind !== 'gateway') continue;
      this.#o.locals.release(leg.networkId, leg.address);
      if (leg.address6 !== undefined) this.#o.locals.release(leg.networkId, leg.address6);
    }
  }

  /** Marks the addresses of a sandbox that was taken over as used, and completes the record of an earlier version. */
  reserve(record: SandboxRecord): void {
    for (const [index, leg] of record.legs.entries()) {
      const network = this.#o.locals.find(leg.networkId);
      const made = record.result.endpoints.find((endpoint) => endpoint.networkId === leg.networkId);
      leg.interfaceName ??= made?.interfaceName ?? `eth${index}`;
      leg.gateway ??= leg.kind === 'gateway' ? (network?.gateway ?? '') : (made?.gateway ?? '');
      if (network === undefined) continue;
      this.#o.locals.take(network, leg.address);
      if (leg.address6 !== undefined) this.#o.locals.take(network, leg.address6);
    }
  }

  /** Removes the bridges' ends at once (the same addresses may be used elsewhere now), then the namespace. */
  async remove(record: SandboxRecord): Promise<void> {
    this.release(record.legs);
    this.#o.kernel.removeNamespace(record.result.namespacePath);
  }

  #planLeg(spec: SandboxSpec, endpoint: EndpointSpec, index: number): PlannedLeg {
    const local = this.#o.locals.find(endpoint.networkId);
    if (local !== undefined) {
      if (local.driver !== 'bridge' && local.driver !== 'macvlan') {
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
    const interfaceName = `eth${index}`;
    const gateway = facts.ingress ? facts.gateway : '';
    const hostLink = linkName('v', spec.id, index);
    const { leg6, result6 } = this.#overlayAddress6(endpoint.address6 ?? '', facts);
    return {
      leg: { networkId: facts.id, kind, address, ...leg6, mac, hostLink, interfaceName, gateway },
      result: {
        networkId: facts.id,
        networkName: facts.name,
        interfaceName,
        address: `${address}/${prefixLength}`,
        gateway,
        ...result6,
        mac,
      },
      bridgeNamespace: overlay.namespace,
      bridge: BRIDGE_LINK,
      mtu: overlay.mtu,
      isolated: false,
      ...(result6.address6 === undefined ? {} : { linkAddress6: linkAddress6(facts, result6.address6) }),
      routes: subnetRoutes(facts, leg6.address6 === undefined ? [address] : [address, leg6.address6], interfaceName),
      parent: '',
    };
  }

  /** The IPv6 part of a leg on an overlay; empty when there is none. */
  #overlayAddress6(
    wanted: string,
    facts: OverlayFacts,
  ): { leg6: Pick<Leg, 'address6' | 'gateway6'>; result6: Pick<EndpointResult, 'address6' | 'gateway6'> } {
    if (wanted === '') return { leg6: {}, result6: {} };
    const address6 = canonicalIp(wanted);
    const length = maskLength(wanted.includes('/') ? wanted : facts.subnet6);
    const gateway6 = facts.ingress ? facts.gateway6 : '';
    return { leg6: { address6, gateway6 }, result6: { address6: `${address6}/${length}`, gateway6 } };
  }

  #localLeg(spec: SandboxSpec, endpoint: EndpointSpec, network: LocalNetwork, index: number): PlannedLeg {
    const { locals, tag } = this.#o;
    const address = this.#localAddress(network, endpoint.address, 4);
    let address6: string | undefined;
    try {
      if (network.subnet6 !== '') address6 = this.#localAddress(network, endpoint.address6 ?? '', 6);
    } catch (error) {
      locals.release(network.id, address);
      throw error;
    }
    const mac = (endpoint.mac || macOf(address)).toLowerCase();
    const gateway = network.internal ? '' : network.gateway;
    const gateway6 = network.internal ? '' : network.gateway6;
    const mask6 = network.subnet6.split('/')[1] ?? '';
    const interfaceName = `eth${index}`;
    const macvlan = network.driver === 'macvlan';
    const hostLink = macvlan ? '' : linkName(`sh${tag}v`, spec.id, index);
    const more6 = address6 === undefined ? {} : { gateway6 };
    return {
      leg: {
        ...{ networkId: network.id, kind: 'local', address, mac, hostLink, interfaceName, gateway, ...more6 },
        ...(address6 === undefined ? {} : { address6 }),
      },
      result: {
        networkId: network.id,
        networkName: network.name,
        interfaceName,
        address: `${address}/${parsePrefix(network.subnet).length}`,
        gateway,
        ...(address6 === undefined ? {} : { address6: `${address6}/${mask6}`, gateway6 }),
        mac,
      },
      bridgeNamespace: null,
      bridge: locals.bridgeName(network),
      mtu: Number(network.options[OPTION_MTU] ?? this.#o.mtu) || DEFAULT_MTU,
      // Where the bridge calls netfilter, the host's rules do it, and spare translated connections.
      isolated: network.options[OPTION_ICC] === 'false' && !bridgeCallsNetfilter(),
      routes: [],
      parent: macvlan ? (network.options[OPTION_PARENT] ?? '') : '',
    };
  }

  #localAddress(network: LocalNetwork, wanted: string, family: 4 | 6): string {
    const address = bareIp(wanted);
    if (address === '') return this.#o.locals.choose(network, family);
    if (!this.#o.locals.take(network, address)) throw new ShoalError('PermissionDenied', 'Address already in use');
    return address;
  }

  async #connect(namespace: string, planned: PlannedLeg): Promise<void> {
    const { leg, result, bridge, mtu, isolated, parent, bridgeNamespace } = planned;
    const { interfaceName: name } = result;
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
        peer: { name, mac: leg.mac, namespace },
      },
    ];
    if (leg.kind === 'overlay' || leg.kind === 'ingress') {
      outer.push({ kind: 'fdb', dev: leg.hostLink, mac: leg.mac, self: false, master: true });
    }
    const single: Op[] = [{ kind: 'macvlan', name, parent, namespace, mac: leg.mac }];
    const inner: Op[] = [
      { kind: 'link', name, up: true },
      { kind: 'addr', dev: name, address: result.address },
    ];
    if (result.address6 !== undefined) {
      inner.unshift(...ip6Switches(name));
      inner.push({ kind: 'addr', dev: name, address: planned.linkAddress6 ?? result.address6 });
    }
    inner.push(...planned.routes);
    // Set before, so that a leg half made is known too.
    leg.made = { bridgeNamespace, outer: parent === '' ? outer : single, inner };
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

/** Whether bridged frames pass the host's rules (br_netfilter), in both families. */
function bridgeCallsNetfilter(): boolean {
  const on = (name: string): boolean => (readFileIfExists(`/proc/sys/net/bridge/${name}`) ?? '').trim() === '1';
  return on('bridge-nf-call-iptables') && on('bridge-nf-call-ip6tables');
}

/** A link name of at most 15 characters that belongs to one leg of one sandbox. */
function linkName(prefix: string, id: string, index: number): string {
  const rest = 15 - prefix.length;
  return prefix + hash32(`${id}/${index}`).toString(36).padStart(7, '0').slice(-rest);
}
