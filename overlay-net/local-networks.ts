import { alreadyExists, invalidArgument, newHexId, notFound, ShoalError, type Random } from '../base/index.ts';
import {
  bareIp,
  contains,
  formatIp,
  formatPrefix,
  overlap,
  parseIp,
  parsePrefix,
  prefixSize,
  type Prefix,
} from './ip4.ts';
import type { LocalNetwork } from './types.ts';

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
const PREDEFINED = new Set(['bridge', 'host', 'none']);
const LINK_NAME_MAX = 15;

/** The local networks of this host and who has which address on them. No kernel here. */
export class LocalNetworks {
  readonly #networks = new Map<string, LocalNetwork>();
  readonly #used = new Map<string, Set<number>>();
  readonly #cursor = new Map<string, number>();
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
    const used = new Set<number>();
    if (network.driver === 'bridge') {
      const prefix = parsePrefix(network.subnet);
      used.add(prefix.base).add(prefix.base + prefixSize(prefix) - 1);
      used.add(parseIp(network.gateway));
    }
    this.#used.set(network.id, used);
  }

  remove(id: string): void {
    this.#networks.delete(id);
    this.#used.delete(id);
  }

  /** Name of a network's bridge link. */
  bridgeName(network: LocalNetwork): string {
    const wanted = network.options[OPTION_NAME] ?? '';
    if (wanted !== '') return wanted;
    if (network.name === 'bridge') return `sh${this.#tag}0`;
    if (network.name === GATEWAY_NETWORK) return `sh${this.#tag}g`;
    return `sh${this.#tag}${network.id.slice(0, 7)}`;
  }

  /** The gateway with the subnet's mask. */
  gatewayAddress(network: LocalNetwork): string {
    return `${network.gateway}/${parsePrefix(network.subnet).length}`;
  }

  /**
   * Checks a request and completes it: id, subnet and gateway.
   * @param taken prefixes that the host uses already.
   * @throws ShoalError in Docker's words.
   */
  complete(
    wanted: Pick<LocalNetwork, 'name' | 'subnet' | 'gateway' | 'internal' | 'labels' | 'options'>,
    pools: readonly AddressPool[],
    taken: readonly Prefix[],
    createdMs: number,
  ): LocalNetwork {
    if (wanted.name === '') throw invalidArgument('network name cannot be empty');
    if (this.find(wanted.name)) throw alreadyExists(`network with name ${wanted.name} already exists`);
    const linkName = wanted.options[OPTION_NAME] ?? '';
    if (linkName.length > LINK_NAME_MAX || /[\s/"]/.test(linkName)) {
      throw invalidArgument(`invalid bridge name ${linkName}: at most ${LINK_NAME_MAX} characters, no spaces`);
    }
    const own = this.bridges().map((network) => parsePrefix(network.subnet));
    const prefix = wanted.subnet === '' ? freeSubnet(pools, [...own, ...taken]) : parsePrefix(wanted.subnet);
    if (own.some((other) => overlap(other, prefix))) {
      const words = 'invalid pool request: Pool overlaps with other one on this address space';
      throw new ShoalError('PermissionDenied', words);
    }
    if (prefix.length > 30)
      throw invalidArgument(`subnet ${formatPrefix(prefix)} is too small for a gateway and a container`);
    const gateway = wanted.gateway === '' ? formatIp(prefix.base + 1) : bareIp(wanted.gateway);
    if (!contains(prefix, parseIp(gateway))) {
      throw invalidArgument(`gateway ${gateway} is not in subnet ${formatPrefix(prefix)}`);
    }
    const { name, internal, labels, options } = wanted;
    const id = newHexId(this.#random);
    return { id, name, driver: 'bridge', subnet: formatPrefix(prefix), gateway, internal, createdMs, labels, options };
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

  /** Marks an address as used; false when it is used already. @throws ShoalError when it is not of the subnet */
  take(network: LocalNetwork, address: string): boolean {
    const value = parseIp(bareIp(address));
    if (!contains(parsePrefix(network.subnet), value)) {
      throw invalidArgument(`invalid endpoint settings: no configured subnet contains IP address ${bareIp(address)}`);
    }
    const used = this.#usedOf(network);
    if (used.has(value)) return false;
    used.add(value);
    return true;
  }

  /** Takes the next free address, going round the subnet so that one just left is not given at once. */
  choose(network: LocalNetwork): string {
    const prefix = parsePrefix(network.subnet);
    const used = this.#usedOf(network);
    const size = prefixSize(prefix);
    const start = this.#cursor.get(network.id) ?? 1;
    for (let i = 0; i < size && used.size < size; i++) {
      const offset = (start + i) % size;
      const value = prefix.base + offset;
      if (used.has(value)) continue;
      used.add(value);
      this.#cursor.set(network.id, offset + 1);
      return formatIp(value);
    }
    const words = `no available IPv4 addresses on this network's address pools: ${network.name} (${network.id})`;
    throw new ShoalError('ResourceExhausted', words);
  }

  release(networkId: string, address: string): void {
    this.#used.get(networkId)?.delete(parseIp(bareIp(address)));
  }

  #usedOf(network: LocalNetwork): Set<number> {
    const used = this.#used.get(network.id);
    if (used === undefined) throw notFound(`network ${network.name} not found`);
    return used;
  }
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
