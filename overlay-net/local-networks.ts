import { alreadyExists, invalidArgument, newHexId, notFound, ShoalError, type Random } from '../base/index.ts';
import { bareIp, formatPrefix, overlap, parsePrefix, prefixSize, type Prefix } from './ip4.ts';
import {
  AddressSpace,
  addressText,
  addressValue,
  inSubnet,
  parseSubnet,
  subnetsOverlap,
  subnetText,
  type Subnet,
} from './local-ipam.ts';
import type { LocalNetwork, LocalNetworkRequest } from './types.ts';

/** Where subnets of local networks are cut from: prefixes of `size` bits out of `base`. */
export interface AddressPool {
  base: string;
  size: number;
}

/** Docker's default pools. */
export const DEFAULT_POOLS: readonly AddressPool[] = [
  { base: '172.17.0.0/16', size: 16 },
  { base: '172.18.0.0/16', size: 16 },
  { base: '172.19.0.0/16', size: 16 },
  { base: '172.20.0.0/14', size: 16 },
  { base: '172.24.0.0/14', size: 16 },
  { base: '172.28.0.0/14', size: 16 },
  { base: '192.168.0.0/16', size: 20 },
];

export const GATEWAY_NETWORK = 'docker_gwbridge';
export const OPTION_ICC = 'com.docker.network.bridge.enable_icc';
export const OPTION_NAME = 'com.docker.network.bridge.name';
export const OPTION_MASQUERADE = 'com.docker.network.bridge.enable_ip_masquerade';
export const OPTION_MTU = 'com.docker.network.driver.mtu';
export const OPTION_PARENT = 'parent';
const OPTION_MACVLAN_MODE = 'macvlan_mode';
export const PREDEFINED = new Set(['bridge', 'host', 'none']);
const LINK_NAME_MAX = 15;
const ULA_SUBNET_BITS = 64;

type Family = 4 | 6;

/** The local networks of this host and who has which address on them. No kernel here. */
export class LocalNetworks {
  readonly #networks = new Map<string, LocalNetwork>();
  readonly #spaces = new Map<string, Partial<Record<Family, AddressSpace>>>();
  readonly #random: Random;
  readonly #tag: string;

  constructor(random: Random, tag: string) {
    this.#random = random;
    this.#tag = tag;
  }

  all(): LocalNetwork[] {
    return [...this.#networks.values()];
  }

  bridges(): LocalNetwork[] {
    return this.all().filter((network) => network.driver === 'bridge');
  }

  /** By id or name. */
  find(key: string): LocalNetwork | undefined {
    return this.#networks.get(key) ?? this.all().find((network) => network.name === key);
  }

  add(network: LocalNetwork): void {
    this.#networks.set(network.id, network);
    const spaces: Partial<Record<Family, AddressSpace>> = {};
    if (network.subnet !== '') spaces[4] = new AddressSpace(network.subnet, network.ipRange);
    if (network.subnet6 !== '') spaces[6] = new AddressSpace(network.subnet6, network.ipRange6);
    for (const address of [network.gateway, network.gateway6, ...Object.values(network.auxAddresses)]) {
      if (address !== '') spaces[address.includes(':') ? 6 : 4]?.take(bareIp(address));
    }
    this.#spaces.set(network.id, spaces);
  }

  /**
   * Gives a network of one family a subnet of IPv6 too; containers get addresses of it when they are made or plugged.
   * @param wanted the subnet; empty: a unique local one. @throws ShoalError in Docker's words
   */
  addIp6(name: string, wanted = ''): void {
    const network = this.find(name);
    if (network === undefined || network.subnet6 !== '') return;
    const subnet6 = this.#checkSubnets({ subnet: '', subnet6: wanted }).subnet6 ?? this.#freeUla();
    const gateway6 = addressText(subnet6.base + 1n, 128);
    this.add({ ...network, subnet6: subnetText(subnet6), gateway6 });
  }

  remove(id: string): void {
    this.#networks.delete(id);
    this.#spaces.delete(id);
  }

  /** Name of a network's bridge link. */
  bridgeName(network: LocalNetwork): string {
    const wanted = network.options[OPTION_NAME] ?? '';
    if (wanted !== '') return wanted;
    if (network.name === 'bridge') return `sh${this.#tag}0`;
    if (network.name === GATEWAY_NETWORK) return `sh${this.#tag}g`;
    return `sh${this.#tag}${network.id.slice(0, 7)}`;
  }

  /** Names of this daemon's links as the host's forward chain shall know them. */
  linkPatterns(): string[] {
    const prefix = `sh${this.#tag}`;
    const names = this.bridges().map((network) => this.bridgeName(network));
    return [`${prefix}*`, ...names.filter((name) => !name.startsWith(prefix))];
  }

  /** The gateway with the subnet's mask. */
  gatewayAddress(network: LocalNetwork): string {
    return `${network.gateway}/${parsePrefix(network.subnet).length}`;
  }

  /** The IPv6 gateway with the subnet's mask; undefined when the network has no IPv6. */
  gatewayAddress6(network: LocalNetwork): string | undefined {
    return network.subnet6 === '' ? undefined : `${network.gateway6}/${parseSubnet(network.subnet6).length}`;
  }

  /**
   * Checks a request and completes it: id, subnets and gateways.
   * @param taken prefixes that the host uses already.
   * @throws ShoalError in Docker's words.
   */
  complete(
    wanted: LocalNetworkRequest,
    pools: readonly AddressPool[],
    taken: readonly Prefix[],
    createdMs: number,
  ): LocalNetwork {
    const { name, internal, labels, options } = wanted;
    if (name === '') throw invalidArgument('network name cannot be empty');
    if (this.find(name)) throw alreadyExists(`network with name ${name} already exists`);
    const driver = wanted.driver ?? 'bridge';
    if (driver === 'ipvlan') {
      const words = 'network driver ipvlan is not supported by Shoal: use macvlan (--driver macvlan --opt parent=LINK)';
      throw new ShoalError('FailedPrecondition', words);
    }
    this.#checkOptions(driver, options);
    const checked = this.#checkSubnets(wanted);
    const subnet = checked.subnet ?? parseSubnet(subnetOfPools(pools, this.#subnets4(), taken));
    const subnet6 = checked.subnet6 ?? (wanted.ipv6 === true ? this.#freeUla() : undefined);
    const gateway = wanted.gateway === '' ? addressText(subnet.base + 1n, 32) : bareIp(wanted.gateway);
    const network: LocalNetwork = {
      ...{ id: newHexId(this.#random), name, driver, subnet: subnetText(subnet), gateway },
      subnet6: subnet6 === undefined ? '' : subnetText(subnet6),
      gateway6: subnet6 === undefined ? '' : bareIp(wanted.gateway6 ?? '') || addressText(subnet6.base + 1n, 128),
      ipRange: wanted.ipRange ?? '',
      ipRange6: subnet6 === undefined ? '' : (wanted.ipRange6 ?? ''),
      auxAddresses: { ...wanted.auxAddresses },
      userSubnet: wanted.subnet !== '',
      ...{ attachable: wanted.attachable ?? false, internal, createdMs, labels, options },
    };
    this.#checkAddresses(network, subnet, subnet6);
    return network;
  }

  #checkOptions(driver: 'bridge' | 'macvlan', options: LocalNetwork['options']): void {
    const linkName = options[OPTION_NAME] ?? '';
    if (linkName.length > LINK_NAME_MAX || /[\s/"]/.test(linkName)) {
      throw invalidArgument(`invalid bridge name ${linkName}: at most ${LINK_NAME_MAX} characters, no spaces`);
    }
    const other = driver === 'bridge' && linkName !== '' ? this.bridges() : [];
    const holder = other.find((network) => this.bridgeName(network) === linkName);
    if (holder !== undefined) {
      const words = `network ${holder.id} (${holder.name}) uses the same bridge name ${linkName}`;
      throw new ShoalError('PermissionDenied', `cannot create network with bridge ${linkName}: ${words}`);
    }
    const mtu = options[OPTION_MTU];
    if (mtu !== undefined && !(/^\d+$/.test(mtu) && (mtu === '0' || Number(mtu) >= 68) && Number(mtu) <= 65_535)) {
      throw invalidArgument(`invalid value for MTU: ${mtu}: a number of bytes from 68 to 65535 is needed`);
    }
    const mode = options[OPTION_MACVLAN_MODE];
    if (driver !== 'macvlan' || mode === undefined || mode === 'bridge') return;
    throw invalidArgument(`requested macvlan mode '${mode}' is not valid, 'bridge' mode is the macvlan driver default`);
  }

  /** The subnets a user gave, checked against themselves and all other networks. */
  #checkSubnets(wanted: Pick<LocalNetworkRequest, 'subnet' | 'subnet6'>): {
    subnet: Subnet | undefined;
    subnet6: Subnet | undefined;
  } {
    const one = (text: string, bits: number): Subnet | undefined => {
      if (text === '') return undefined;
      const subnet = parseSubnet(text);
      if (subnet.bits !== bits) throw invalidArgument(`invalid subnet ${text}: not of IPv${bits === 32 ? 4 : 6}`);
      if (subnet.length > bits - 2) {
        throw invalidArgument(`subnet ${text} is too small for a gateway and a container`);
      }
      const others = this.all().flatMap((network) => [network.subnet, network.subnet6].filter((own) => own !== ''));
      if (others.some((other) => subnetsOverlap(parseSubnet(other), subnet))) {
        const words = 'invalid pool request: Pool overlaps with other one on this address space';
        throw new ShoalError('PermissionDenied', words);
      }
      return subnet;
    };
    return { subnet: one(wanted.subnet, 32), subnet6: one(wanted.subnet6 ?? '', 128) };
  }

  /** Gateways, ranges and taken addresses must lie in the subnets. */
  #checkAddresses(network: LocalNetwork, subnet: Subnet, subnet6: Subnet | undefined): void {
    const faults: string[] = [];
    const inside = (text: string): boolean => {
      const of = text.includes(':') ? subnet6 : subnet;
      return of !== undefined && inSubnet(of, addressValue(text), of.bits);
    };
    const parent = (text: string): string => (text.includes(':') ? network.subnet6 : network.subnet);
    for (const gateway of [network.gateway, network.gateway6]) {
      if (gateway === '' || inside(gateway)) continue;
      faults.push(`invalid gateway ${gateway}: parent subnet ${parent(gateway)} doesn't contain this address`);
    }
    for (const aux of Object.values(network.auxAddresses)) {
      if (inside(aux)) continue;
      faults.push(`invalid auxiliary address ${aux}: parent subnet ${parent(aux)} doesn't contain this address`);
    }
    for (const range of [network.ipRange, network.ipRange6]) {
      if (range === '') continue;
      const { length, bits, base } = parseSubnet(range, 'ip-range');
      const of = bits === 128 ? subnet6 : subnet;
      if (of !== undefined && length >= of.length && inSubnet(of, base, bits)) continue;
      faults.push(`invalid ip-range ${range}: parent subnet ${parent(range)} doesn't contain ip-range`);
    }
    if (faults.length > 0) throw invalidArgument(`invalid network config:\n${faults.join('\n')}`);
  }

  #subnets4(): Prefix[] {
    return this.all()
      .filter((network) => network.subnet !== '')
      .map((network) => parsePrefix(network.subnet));
  }

  /** A subnet of the unique local range (RFC 4193): random, so that networks of several hosts may be joined. */
  #freeUla(): Subnet {
    const others = this.all().flatMap((network) => (network.subnet6 === '' ? [] : [parseSubnet(network.subnet6)]));
    for (;;) {
      const unique = [...this.#random.bytes(7)].reduce((value, byte) => (value << 8n) | BigInt(byte), 0xfdn);
      const subnet = { base: unique << 64n, length: ULA_SUBNET_BITS, bits: 128 };
      if (!others.some((other) => subnetsOverlap(other, subnet))) return subnet;
    }
  }

  /** Networks that exist on every host and cannot be removed. */
  assertRemovable(id: string): LocalNetwork {
    const network = this.find(id);
    if (network === undefined) throw notFound(`network ${id} not found`);
    if (PREDEFINED.has(network.name)) {
      throw new ShoalError('PermissionDenied', `${network.name} is a pre-defined network and cannot be removed`);
    }
    return network;
  }

  /** Marks an address as used; false when it is used already. @throws ShoalError when it is not of the subnets */
  take(network: LocalNetwork, address: string): boolean {
    const bare = bareIp(address);
    const space = this.#space(network, bare.includes(':') ? 6 : 4);
    if (space?.has(bare) !== true) {
      throw invalidArgument(`invalid endpoint settings: no configured subnet contains IP address ${bare}`);
    }
    return space.take(bare);
  }

  /** Takes the next free address. @throws ShoalError ResourceExhausted */
  choose(network: LocalNetwork, family: Family = 4): string {
    const found = this.#space(network, family)?.choose();
    if (found !== undefined) return found;
    const words = `no available IPv${family} addresses on this network's address pools: ${network.name} (${network.id})`;
    throw new ShoalError('ResourceExhausted', words);
  }

  release(networkId: string, address: string): void {
    const bare = bareIp(address);
    this.#spaces.get(networkId)?.[bare.includes(':') ? 6 : 4]?.release(bare);
  }

  #space(network: LocalNetwork, family: Family): AddressSpace | undefined {
    const spaces = this.#spaces.get(network.id);
    if (spaces === undefined) throw notFound(`network ${network.name} not found`);
    return spaces[family];
  }
}

function subnetOfPools(pools: readonly AddressPool[], own: readonly Prefix[], taken: readonly Prefix[]): string {
  return formatPrefix(freeSubnet(pools, [...own, ...taken]));
}

/** The first subnet of the pools that touches none of `taken`. @throws ShoalError when all are taken */
export function freeSubnet(pools: readonly AddressPool[], taken: readonly Prefix[]): Prefix {
  for (const pool of pools) {
    const base = parsePrefix(pool.base);
    const step = 2 ** (32 - pool.size);
    for (let at = base.base; at < base.base + prefixSize(base); at += step) {
      const candidate: Prefix = { base: at, length: pool.size };
      if (!taken.some((other) => overlap(other, candidate))) return candidate;
    }
  }
  const words =
    'could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network';
  throw new ShoalError('InvalidArgument', `${words}; give --subnet or more default-address-pools`);
}

/**
 * The parent of a macvlan network must be a link of the host that no other such network uses.
 * @throws ShoalError in Docker's words.
 */
export function assertParent(parent: string, links: readonly string[], networks: readonly LocalNetwork[]): void {
  if (parent === '') {
    throw invalidArgument('a macvlan network needs the link it hangs on: give it with --opt parent=LINK');
  }
  if (!links.includes(parent)) {
    if (!parent.includes('.')) {
      throw invalidArgument(`invalid subinterface vlan name ${parent}, example formatting is eth0.10`);
    }
    const words = `could not find parent interface ${parent}: make the VLAN link first`;
    throw invalidArgument(`${words} (ip link add link LINK name ${parent} type vlan id N)`);
  }
  const holder = networks.find((other) => other.driver === 'macvlan' && other.options[OPTION_PARENT] === parent);
  if (holder === undefined) return;
  const words = `network dm-${holder.id.slice(0, 12)} is already using parent interface ${parent}`;
  throw new ShoalError('PermissionDenied', words);
}
