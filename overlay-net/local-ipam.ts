import { invalidArgument } from '../base/index.ts';
import { isAddress } from './ip.ts';
import { formatIp, parseIp } from './ip4.ts';
import { formatIp6, parseIp6 } from './ip6.ts';

/** A subnet of either family; addresses are plain numbers of 32 or 128 bits. */
export interface Subnet {
  base: bigint;
  length: number;
  /** 32 or 128. */
  bits: number;
}

/** An address of either family as a number. @throws ShoalError InvalidArgument */
export function addressValue(text: string): bigint {
  if (!isAddress(text)) throw invalidArgument(`invalid IP address: ${text}`);
  return text.includes(':') ? parseIp6(text) : BigInt(parseIp(text));
}

/** The address in its usual form (IPv6: RFC 5952). */
export function addressText(value: bigint, bits: number): string {
  return bits === 32 ? formatIp(Number(value)) : formatIp6(value);
}

/** `address/length` of either family; what lies below the mask is kept in `host`. @throws ShoalError InvalidArgument */
export function parseSubnet(text: string, what = 'subnet'): Subnet & { host: bigint } {
  const [address = '', digits = ''] = text.split('/');
  const bits = address.includes(':') ? 128 : 32;
  const length = Number(digits);
  if (!/^\d{1,3}$/.test(digits) || length > bits || !isAddress(address)) {
    throw invalidArgument(`invalid ${what} ${text}: invalid CIDR block notation`);
  }
  const value = addressValue(address);
  const rest = BigInt(bits - length);
  const base = (value >> rest) << rest;
  return { base, length, bits, host: value - base };
}

export function subnetText(subnet: Subnet): string {
  return `${addressText(subnet.base, subnet.bits)}/${subnet.length}`;
}

export function subnetSize(subnet: Subnet): bigint {
  return 1n << BigInt(subnet.bits - subnet.length);
}

export function inSubnet(subnet: Subnet, value: bigint, bits: number): boolean {
  return bits === subnet.bits && value >= subnet.base && value < subnet.base + subnetSize(subnet);
}

export function subnetsOverlap(a: Subnet, b: Subnet): boolean {
  return a.length <= b.length ? inSubnet(a, b.base, b.bits) : inSubnet(b, a.base, a.bits);
}

/** Who has which address of one subnet. */
export class AddressSpace {
  readonly subnet: Subnet;
  /** Where addresses are chosen. */
  readonly #range: Subnet;
  readonly #used = new Set<bigint>();
  #cursor: bigint;

  /** @param range part of the subnet that `choose` keeps to; empty: all of it. */
  constructor(subnet: string, range: string) {
    this.subnet = parseSubnet(subnet);
    this.#range = range === '' ? this.subnet : parseSubnet(range);
    this.#cursor = this.#range.base;
    this.#used.add(this.subnet.base);
    // The last address of an IPv4 subnet is its broadcast; IPv6 has none.
    if (this.subnet.bits === 32) this.#used.add(this.subnet.base + subnetSize(this.subnet) - 1n);
  }

  /** False when it is not of this subnet. */
  has(address: string): boolean {
    return inSubnet(this.subnet, addressValue(address), address.includes(':') ? 128 : 32);
  }

  /** Marks an address as used; false when it is already. */
  take(address: string): boolean {
    const value = addressValue(address);
    if (this.#used.has(value)) return false;
    this.#used.add(value);
    return true;
  }

  /** The next free address, going round so that one just left is not given at once; undefined when all are taken. */
  choose(): string | undefined {
    const { base, bits } = this.#range;
    const size = subnetSize(this.#range);
    // One more try than addresses are taken finds a free one if there is any.
    const tries = size < BigInt(this.#used.size + 1) ? size : BigInt(this.#used.size + 1);
    for (let i = 0n; i < tries; i++) {
      const value = base + ((this.#cursor - base + i) % size);
      if (this.#used.has(value)) continue;
      this.#used.add(value);
      this.#cursor = base + ((value - base + 1n) % size);
      return addressText(value, bits);
    }
    return undefined;
  }

  release(address: string): void {
    this.#used.delete(addressValue(address));
  }
}
