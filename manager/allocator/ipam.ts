import { invalidArgument } from '../../base/index.ts';
import {
  contains,
  formatAddress,
  overlaps,
  parseAddress,
  parseSubnet,
  subnetSize,
  withoutPrefix,
  type Address,
  type Subnet,
} from './address.ts';
import { SerialSet } from './serial-set.ts';

/** Docker's default address pool for overlay networks, and the prefix length of what is cut from it. */
export const DEFAULT_ADDRESS_POOL = '10.0.0.0/8';
export const DEFAULT_SUBNET_PREFIX = 24;
/** Longest prefix of an IPv4 subnet: network, gateway, broadcast and one address for use. */
const IPV4_PREFIX_MAX = 30;
/** Addresses of a subnet that are ever handed out; beyond it (IPv6) the rest lies idle. */
const POOL_ADDRESSES_MAX = 2 ** 32;
/** Candidate subnets looked at before the search for a free one is given up. */
const SUBNET_CANDIDATES_MAX = 1 << 20;

/** One subnet of a network as the store has it. */
export interface PoolConfig {
  subnet: string;
  /** Subnet of `subnet` that addresses are handed out from; '' means all of it. */
  range: string;
  /** '' means the first address. */
  gateway: string;
  /** Addresses that are in use elsewhere, by name. */
  reserved: Readonly<Record<string, string>>;
}

function addressIn(subnet: Subnet, text: string, what: string): Address {
  const address = parseAddress(withoutPrefix(text));
  if (address === undefined) throw invalidArgument(`invalid ${what} ${text}: not an IP address`);
  if (!contains(subnet, address)) throw invalidArgument(`no matching subnet for ${what} ${text}`);
  return address;
}

/** The addresses of one subnet. Network, broadcast and gateway addresses are never handed out. */
export class AddressPool {
  readonly subnet: Subnet;
  /** The gateway's address, without prefix. */
  readonly gateway: string;
  /** Addresses that endpoints can have: all of the range but network, broadcast, gateway and reserved ones. */
  readonly usable: number;
  readonly #used: SerialSet;

  /** @throws ShoalError InvalidArgument, in Docker's words, when the parts do not fit together. */
  constructor(config: PoolConfig) {
    const subnet = parseSubnet(config.subnet);
    if (subnet.bits === 32 && subnet.prefix > IPV4_PREFIX_MAX) {
      throw invalidArgument(`subnet ${config.subnet} is too small: use a prefix of at most ${IPV4_PREFIX_MAX}`);
    }
    this.subnet = subnet;
    const range = config.range === '' ? subnet : parseSubnet(config.range);
    if (!contains(subnet, { bits: range.bits, value: range.base }) || range.prefix < subnet.prefix) {
      throw invalidArgument(`range ${config.range} is not inside of subnet ${config.subnet}`);
    }
    const low = Number(range.base - subnet.base);
    const size = subnetSize(range);
    const count = size > BigInt(POOL_ADDRESSES_MAX) ? POOL_ADDRESSES_MAX : Number(size);
    this.#used = new SerialSet(low, low + count - 1);
    this.#used.add(0);
    if (subnet.bits === 32) this.#used.add(Number(subnetSize(subnet)) - 1);
    const gateway =
      config.gateway === ''
        ? { bits: subnet.bits, value: subnet.base + 1n }
        : addressIn(subnet, config.gateway, 'gateway');
    this.gateway = formatAddress(gateway);
    this.#used.add(this.#offset(gateway));
    for (const text of Object.values(config.reserved)) {
      this.#used.add(this.#offset(addressIn(subnet, text, 'auxiliary address')));
    }
    this.usable = this.#used.freeCount;
  }

  /** Addresses that can still be handed out. */
  get freeCount(): number {
    return this.#used.freeCount;
  }

  /** The next free address, `address/prefix`; undefined when all are in use. */
  allocate(): string | undefined {
    const offset = this.#used.take();
    return offset === undefined ? undefined : this.#format(offset);
  }

  /** Marks an address (with or without prefix) as used; false when it is not of this subnet or in use. */
  reserve(text: string): boolean {
    const offset = this.#find(text);
    return offset !== undefined && this.#used.add(offset);
  }

  /** As `reserve`, for state that is read back: serial allocation goes on behind it. */
  restore(text: string): boolean {
    const offset = this.#find(text);
    if (offset === undefined) return false;
    this.#used.continueAfter(offset);
    return this.#used.add(offset);
  }

  /** Gives an address back; false when it was not in use here. */
  release(text: string): boolean {
    const offset = this.#find(text);
    return offset !== undefined && this.#used.delete(offset);
  }

  has(text: string): boolean {
    const offset = this.#find(text);
    return offset !== undefined && this.#used.has(offset);
  }

  /** Whether an address (with or without prefix) is of this subnet. */
  covers(text: string): boolean {
    return this.#find(text) !== undefined;
  }

  /** Addresses in use (gateway, network and broadcast included), without prefix. */
  used(): string[] {
    return [...this.#used.values()].map((offset) => withoutPrefix(this.#format(offset)));
  }

  #offset(address: Address): number {
    return Number(address.value - this.subnet.base);
  }

  #find(text: string): number | undefined {
    const address = parseAddress(withoutPrefix(text));
    return address === undefined || !contains(this.subnet, address) ? undefined : this.#offset(address);
  }

  #format(offset: number): string {
    const { bits, base, prefix } = this.subnet;
    return `${formatAddress({ bits, value: base + BigInt(offset) })}/${prefix}`;
  }
}

/**
 * The first subnet of the pools that is free.
 * @param avoid subnets in use: of other networks, and of the hosts.
 */
export function chooseSubnet(pools: readonly string[], prefix: number, avoid: readonly Subnet[]): Subnet | undefined {
  let candidates = 0;
  for (const text of pools) {
    const pool = parseSubnet(text);
    const cut = Math.max(prefix, pool.prefix);
    const end = pool.base + subnetSize(pool);
    let candidate: Subnet = { bits: pool.bits, base: pool.base, prefix: cut };
    while (candidate.base < end && candidates++ < SUBNET_CANDIDATES_MAX) {
      const rival = avoid.find((other) => overlaps(candidate, other));
      if (rival === undefined) return candidate;
      // Straight to the first candidate behind whatever is in the way.
      const size = subnetSize(candidate);
      const behind = rival.base + subnetSize(rival);
      const steps = (behind - pool.base + size - 1n) / size;
      const next = pool.base + steps * size;
      candidate = { ...candidate, base: next > candidate.base ? next : candidate.base + size };
    }
  }
  return undefined;
}
