import { invalidArgument } from '../../base/index.ts';

/** An IP address: its width in bits and its value. */
export interface Address {
  bits: 32 | 128;
  value: bigint;
}

/** A subnet in canonical form: `base` has no host bits set. */
export interface Subnet {
  bits: 32 | 128;
  base: bigint;
  prefix: number;
}

function parseIpv4(text: string): bigint | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

/** Groups of one side of `::`. */
function parseGroups(text: string): bigint[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  return parts.every((part) => /^[0-9a-f]{1,4}$/i.test(part)) ? parts.map((part) => BigInt(`0x${part}`)) : undefined;
}

function parseIpv6(text: string): bigint | undefined {
  const sides = text.split('::');
  if (sides.length > 2) return undefined;
  const head = parseGroups(sides[0] ?? '');
  const tail = parseGroups(sides[1] ?? '');
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (sides.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...Array<bigint>(missing).fill(0n), ...tail];
  return groups.reduce((value, group) => (value << 16n) | group, 0n);
}

/** An address in dotted (or RFC 4291 §2.2 colon) form; undefined when it is neither. */
export function parseAddress(text: string): Address | undefined {
  const v4 = parseIpv4(text);
  if (v4 !== undefined) return { bits: 32, value: v4 };
  const v6 = text.includes(':') ? parseIpv6(text) : undefined;
  return v6 === undefined ? undefined : { bits: 128, value: v6 };
}

/** The longest run of two or more zero groups (the first of equals) as `::`, RFC 5952 §4.2. */
function compressed(groups: readonly string[]): string {
  let best = { at: 0, length: 1 };
  for (let at = 0; at < groups.length; at++) {
    let length = 0;
    while (groups[at + length] === '0') length++;
    if (length > best.length) best = { at, length };
  }
  if (best.length < 2) return groups.join(':');
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`;
}

/** Dotted, or in the canonical form of RFC 5952. */
export function formatAddress({ bits, value }: Address): string {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.');
  return compressed(Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16)));
}

/** Address family of a text that is an address or a subnet, by its look. */
export function bitsOf(text: string): 32 | 128 {
  return text.includes(':') ? 128 : 32;
}

/** The address part of `address` or `address/prefix`. */
export function withoutPrefix(text: string): string {
  const slash = text.indexOf('/');
  return slash < 0 ? text : text.slice(0, slash);
}

export function subnetSize(subnet: Subnet): bigint {
  return 1n << BigInt(subnet.bits - subnet.prefix);
}

export function formatSubnet({ bits, base, prefix }: Subnet): string {
  return `${formatAddress({ bits, value: base })}/${prefix}`;
}

/**
 * A subnet in CIDR form; host bits are cut off.
 * @throws ShoalError InvalidArgument when it is none.
 */
export function parseSubnet(text: string): Subnet {
  const slash = text.indexOf('/');
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash));
  const prefix = Number(text.slice(slash + 1));
  if (address === undefined || !/^\d+$/.test(text.slice(slash + 1)) || prefix > address.bits) {
    throw invalidArgument(`invalid subnet ${text}: invalid CIDR block notation`);
  }
  const hostBits = BigInt(address.bits - prefix);
  return { bits: address.bits, base: (address.value >> hostBits) << hostBits, prefix };
}

export function contains(subnet: Subnet, address: Address): boolean {
  return (
    subnet.bits === address.bits && address.value >= subnet.base && address.value < subnet.base + subnetSize(subnet)
  );
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.bits === b.bits && a.base < b.base + subnetSize(b) && b.base < a.base + subnetSize(a);
}

/** The MAC address of an endpoint: 02:42 and the four bytes of its IPv4 address (given with or without prefix). */
export function macForAddress(address: string): string {
  const value = parseIpv4(withoutPrefix(address));
  if (value === undefined) throw invalidArgument(`${address} is no IPv4 address`);
  const bytes = [24n, 16n, 8n, 0n].map((shift) => Number((value >> shift) & 0xffn));
  return ['02', '42', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
