import { invalidArgument } from '../../base/index.ts';
import {
  contains,
  formatAddress,
  formatSubnet,
  overlaps,
  parseAddress,
  parseSubnet,
  subnetSize,
  withoutPrefix,
  type Address,
  type Subnet,
} from './address.ts';
import { SerialSet } from './serial-set.ts';

/** Longest prefix of an IPv4 subnet: network, gateway, broadcast and one address for use. */
const IPV4_PREFIX_MAX = 30;
/** The same for IPv6, rounded up to a hexadecimal digit: 14 addresses for use. */
const IPV6_PREFIX_MAX = 124;
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

/** @throws ShoalError InvalidArgument for a subnet that has no room for a gateway and an endpoint. */
function checkSize(subnet: Subnet): void {
  const most = subnet.bits === 32 ? IPV4_PREFIX_MAX : IPV6_PREFIX_MAX;
  if (subnet.prefix <= most) return;
  throw invalidArgument(`subnet ${formatSubnet(subnet)} is too small: use a prefix of at most ${most}`);
}

/**
 * The addresses of one subnet. Network, broadcast (IPv4) and gateway addresses are never handed out, nor is the
 * subnet-router anycast address of IPv6 (RFC 4291 §2.6.1).
 */
export class AddressPool {
  readonly subnet: Subnet;
  /** The gateway's address, without prefix. */
  readonly gateway: string;
  /** Addresses that endpoints can have: all of the range but network, broadcast, gateway and reserved ones. */
  readonly usable: number;
  /** First address that is handed out, and how many there are. */
  readonly #first: bigint;
  readonly #count: number;
  /** Used addresses of the range, as distance from its first. */
  readonly #used: SerialSet;
  /** Used addresses outside of the range. */
  readonly #outside = new Set<bigint>();

  /** @throws ShoalError InvalidArgument, in Docker's words, when the parts do not fit together. */
  constructor(config: PoolConfig) {
    const subnet = parseSubnet(config.subnet);
    checkSize(subnet);
    this.subnet = subnet;
    const range = config.range === '' ? subnet : parseSubnet(config.range);
    if (!contains(subnet, { bits: range.bits, value: range.base }) || range.prefix < subnet.prefix) {
      throw invalidArgument(`range ${config.range} is not inside of subnet ${config.subnet}`);
    }
    const size = subnetSize(range);
    this.#first = range.base;
    this.#count = size > BigInt(POOL_ADDRESSES_MAX) ? POOL_ADDRESSES_MAX : Number(size);
    this.#used = new SerialSet(0, this.#count - 1);
    this.#add(subnet.base);
    if (subnet.bits === 32) this.#add(subnet.base + subnetSize(subnet) - 1n);
    const gateway =
      config.gateway === ''
        ? { bits: subnet.bits, value: subnet.base + 1n }
        : addressIn(subnet, config.gateway, 'gateway');
    this.gateway = formatAddress(gateway);
    this.#add(gateway.value);
    for (const text of Object.values(config.reserved)) {
      this.#add(addressIn(subnet, text, 'auxiliary address').value);
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
    return offset === undefined ? undefined : this.#format(this.#first + BigInt(offset));
  }

  /** Marks an address (with or without prefix) as used; false when it is not of this subnet or in use. */
  reserve(text: string): boolean {
    const value = this.#find(text);
    return value !== undefined && this.#add(value);
  }

  /** As `reserve`, for state that is read back: serial allocation goes on behind it. */
  restore(text: string): boolean {
    const value = this.#find(text);
    if (value === undefined) return false;
    const offset = this.#offset(value);
    if (offset !== undefined) this.#used.continueAfter(offset);
    return this.#add(value);
  }

  /** Gives an address back; false when it was not in use here. */
  release(text: string): boolean {
    const value = this.#find(text);
    if (value === undefined) return false;
    const offset = this.#offset(value);
    return offset === undefined ? this.#outside.delete(value) : this.#used.delete(offset);
  }

  has(text: string): boolean {
    const value = this.#find(text);
    if (value === undefined) return false;
    const offset = this.#offset(value);
    return offset === undefined ? this.#outside.has(value) : this.#used.has(offset);
  }

  /** Whether an address (with or without prefix) is of this subnet. */
  covers(text: string): boolean {
    return this.#find(text) !== undefined;
  }

  /** An address of this subnet in canonical form, `address/prefix`; undefined when it is of none. */
  canonical(text: string): string | undefined {
    const value = this.#find(text);
    return value === undefined ? undefined : this.#format(value);
  }

  /** Addresses in use (gateway, network and broadcast included), without prefix. */
  used(): string[] {
    const inside = [...this.#used.values()].map((offset) => this.#first + BigInt(offset));
    return [...inside, ...this.#outside].map((value) => withoutPrefix(this.#format(value)));
  }

  #add(value: bigint): boolean {
    const offset = this.#offset(value);
    if (offset !== undefined) return this.#used.add(offset);
    if (this.#outside.has(value)) return false;
    this.#outside.add(value);
    return true;
  }

  /** Distance from the range's first address; undefined outside of the range (a /48 has more than numbers can say). */
  #offset(value: bigint): number | undefined {
    const distance = value - this.#first;
    return distance < 0n || distance >= BigInt(this.#count) ? undefined : Number(distance);
  }

  #find(text: string): bigint | undefined {
    const address = parseAddress(withoutPrefix(text));
    return address === undefined || !contains(this.subnet, address) ? undefined : address.value;
  }

  #format(value: bigint): string {
    const { bits, prefix } = this.subnet;
    return `${formatAddress({ bits, value })}/${prefix}`;
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
