import { ShoalError, type Clock, type Random } from '../base/index.ts';
import { forwarding6Ops, hostHasIp6 } from './forwarding6.ts';
import { ip6Switches, loopback6Op } from './ip6-switches.ts';
import { bareIp, formatPrefix, macOf, overlap, parsePrefix, type Prefix } from './ip4.ts';
import type { Kernel, Op } from './kernel/index.ts';
import {
  assertParent,
  DEFAULT_POOLS,
  freeSubnet,
  GATEWAY_NETWORK,
  OPTION_ICC,
  OPTION_NAME,
  OPTION_PARENT,
  type AddressPool,
  type LocalNetworks,
} from './local-networks.ts';
import type { Overlays } from './overlays.ts';
import { isOurs } from './reconcile/strays.ts';
import type { NetworkStore, SandboxRecord } from './store.ts';
import type { LocalNetwork, LocalNetworkRequest, NetworkEvent } from './types.ts';

const DEFAULT_BRIDGE = '172.17.0.1/16';

export interface LocalBridgesOptions {
  kernel: Kernel;
  store: NetworkStore;
  locals: LocalNetworks;
  clock: Clock;
  random: Random;
  tag: string;
  /** The default bridge: gateway with mask, IPv6 subnet, and the link's name. */
  bridge?: { subnet?: string; subnet6?: string; name?: string };
  /** False: the bridges that every host has are made without IPv6. */
  ipv6?: boolean;
  addressPools?: readonly AddressPool[];
}

/** The kernel side of local networks: their bridges, addresses and switches. */
export class LocalBridges {
  readonly #o: LocalBridgesOptions;

  constructor(options: LocalBridgesOptions) {
    this.#o = options;
  }

  /** Takes over stored networks and makes what every host has: bridge, docker_gwbridge, host, none. */
  async start(): Promise<void> {
    const { locals, store, clock, random } = this.#o;
    for (const network of store.loadNetworks()) locals.add(network);
    const taken = await this.#hostPrefixes();
    const ipv6 = (this.#o.ipv6 ?? true) && hostHasIp6();
    if (locals.find('bridge') === undefined) this.#addDefaultBridge(taken, ipv6);
    if (locals.find(GATEWAY_NETWORK) === undefined) {
      const options = { [OPTION_ICC]: 'false' };
      const wanted = { name: GATEWAY_NETWORK, subnet: '', gateway: '', internal: false, labels: {}, options, ipv6 };
      locals.add(locals.complete(wanted, this.#pools, taken, clock.now()));
    }
    for (const [name, driver] of [
      ['host', 'host'],
      ['none', 'null'],
    ] as const) {
      if (locals.find(name) !== undefined) continue;
      const id = Buffer.from(random.bytes(32)).toString('hex');
      const addresses = { subnet: '', gateway: '', subnet6: '', gateway6: '', ipRange: '', ipRange6: '' };
      const rest = { auxAddresses: {}, userSubnet: false, attachable: false, internal: false, labels: {}, options: {} };
      locals.add({ id, name, driver, createdMs: clock.now(), ...addresses, ...rest });
    }
    // Those of an earlier version have IPv4 only.
    if (ipv6) {
      locals.addIp6('bridge', this.#o.bridge?.subnet6);
      locals.addIp6(GATEWAY_NETWORK);
    }
    store.saveNetworks(locals.all());
    for (const network of locals.bridges()) await this.ensure(network);
  }

  get #pools(): readonly AddressPool[] {
    return this.#o.addressPools ?? DEFAULT_POOLS;
  }

  #addDefaultBridge(taken: readonly Prefix[], ipv6: boolean): void {
    const { locals, bridge, clock } = this.#o;
    const usual = parsePrefix(DEFAULT_BRIDGE);
    const clash = taken.some((other) => overlap(other, usual));
    const address = bridge?.subnet ?? (clash ? formatPrefix(freeSubnet(this.#pools, taken)) : DEFAULT_BRIDGE);
    const options = bridge?.name === undefined ? {} : { [OPTION_NAME]: bridge.name };
    const bare = bareIp(address);
    // The network's own address as gateway means its first host address.
    const gateway = parsePrefix(address).base === parsePrefix(`${bare}/32`).base ? '' : bare;
    const subnet6 = ipv6 ? (bridge?.subnet6 ?? '') : '';
    const more = { subnet6, ipv6, labels: {}, options };
    const wanted = { name: 'bridge', internal: false, ...more, subnet: address, gateway };
    const made = locals.complete(wanted, this.#pools, taken, clock.now());
    locals.add({ ...made, userSubnet: false });
  }

  /** Subnets that links of the host have, our own left out. */
  async #hostPrefixes(): Promise<Prefix[]> {
    const state = await this.#o.kernel.state(null);
    const prefix = `sh${this.#o.tag}`;
    const own = new Set(state.links.filter(({ name }) => isOurs(name, prefix)).map(({ index }) => index));
    const isIp4 = (text: string): boolean => !text.includes(':');
    const addresses = state.addresses.filter(({ dev, address }) => !own.has(dev) && isIp4(address));
    const routes = state.routes.filter(({ dev, to }) => !own.has(dev) && to !== '0.0.0.0/0' && isIp4(to));
    return [...addresses.map(({ address }) => parsePrefix(address)), ...routes.map(({ to }) => parsePrefix(to))];
  }

  /** Makes a bridge network's link as it shall be; equal parts stay untouched. */
  async ensure(network: LocalNetwork): Promise<void> {
    await this.#o.kernel.apply(null, this.ops(network));
  }

  /** What makes a bridge network's link. */
  ops(network: LocalNetwork): Op[] {
    const { locals } = this.#o;
    const name = locals.bridgeName(network);
    const address6 = locals.gatewayAddress6(network);
    const ops: Op[] = [
      { kind: 'bridge', name, mac: macOf(network.gateway) },
      { kind: 'addr', dev: name, address: locals.gatewayAddress(network) },
      // Clients on 127.0.0.1 of published ports are masqueraded behind this link.
      { kind: 'sysctl', path: `net/ipv4/conf/${name}/route_localnet`, value: '1' },
    ];
    if (address6 !== undefined) {
      ops.push(
        ...forwarding6Ops(),
        ...ip6Switches(name),
        { kind: 'addr', dev: name, address: address6 },
        loopback6Op(name),
      );
    }
    return ops;
  }

  /** Checks and completes a request, and makes the link. @throws ShoalError in Docker's words; then nothing is left */
  async create(wanted: LocalNetworkRequest): Promise<LocalNetwork> {
    const { kernel, locals, clock } = this.#o;
    const taken = wanted.subnet === '' ? await this.#hostPrefixes() : [];
    const network = locals.complete(wanted, this.#pools, taken, clock.now());
    if (network.driver === 'macvlan') {
      const { links } = await kernel.state(null);
      const present = links.map(({ name }) => name);
      assertParent(network.options[OPTION_PARENT] ?? '', present, locals.all());
    }
    locals.add(network);
    if (network.driver === 'bridge') {
      try {
        await this.ensure(network);
      } catch (error) {
        locals.remove(network.id);
        throw error;
      }
    }
    return network;
  }
}

/** @throws ShoalError PermissionDenied in Docker's words while a container is on the network */
export function assertUnused(network: LocalNetwork, sandboxes: Iterable<SandboxRecord>): void {
  const users = [...sandboxes].filter(({ legs }) => legs.some(({ networkId }) => networkId === network.id));
  if (users.length === 0) return;
  const names = users.map(({ spec }) => `name:"${spec.names[0] ?? ''}" id:"${spec.id.slice(0, 12)}"`).join(', ');
  const words = `network ${network.name} id ${network.id} has active endpoints (${names})`;
  throw new ShoalError('PermissionDenied', `error while removing network: ${words}`);
}

/** What happened to a network, with its name and driver; overlays are known by their tables. */
export function networkEvent(
  action: NetworkEvent['action'],
  networkId: string,
  containerId: string | undefined,
  locals: LocalNetworks,
  overlays: Overlays,
): NetworkEvent {
  const local = locals.find(networkId);
  const networkName = local?.name ?? overlays.get(networkId)?.facts.name ?? networkId;
  const event = { action, networkId: local?.id ?? networkId, networkName, driver: local?.driver ?? 'overlay' };
  return { ...event, ...(containerId === undefined ? {} : { containerId }) };
}
