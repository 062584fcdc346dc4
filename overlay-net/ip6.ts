import { invalidArgument } from '../base/index.ts';
import { isIp, parseIp } from './ip4.ts';

/** Bytes of an IPv6 address. */
export const IP6_BYTES = 16;

/** An IPv6 prefix; `base` is the network's first address as a number. */
export interface Prefix6 {
  base: bigint;
  length: number;
}

const BITS = 128n;
const ALL = (1n << BITS) - 1n;

function groupsOf(part: string): number[] | undefined {
  if (part === '') return [];
  const groups: number[] = [];
  const words = part.split(':');
  for (const [at, word] of words.entries()) {
    if (word.includes('.')) {
      if (at !== words.length - 1 || !isIp(word)) return undefined;
      const value = parseIp(word);
      groups.push(value >>> 16, value & 0xffff);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(word)) return undefined;
      groups.push(parseInt(word, 16));
    }
  }
  return groups;
}

function groups6(text: string): number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groupsOf(halves[0] ?? '');
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 8 ? head : undefined;
  const tail = groupsOf(halves[1] ?? '');
  if (tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  return missing < 1 ? undefined : [...head, ...Array.from({ length: missing }, () => 0), ...tail];
}

export function isIp6(text: string): boolean {
  return text.includes(':') && groups6(text) !== undefined;
}

/** The address's sixteen bytes (RFC 4291 2.2; no zone). @throws ShoalError InvalidArgument */
export function bytesOfIp6(text: string): Uint8Array {
  const groups = groups6(text);
  if (groups === undefined) throw invalidArgument(`invalid IPv6 address: ${text}`);
  return Uint8Array.from(groups.flatMap((group) => [group >>> 8, group & 255]));
}

/** An IPv6 address as a number of 128 bits. @throws ShoalError InvalidArgument */
export function parseIp6(text: string): bigint {
  let value = 0n;
  for (const byte of bytesOfIp6(text)) value = (value << 8n) | BigInt(byte);
  return value;
}

/** Sixteen bytes as text in the one form of RFC 5952 (lower case, the longest run of zero groups as `::`). */
export function formatIp6Bytes(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < IP6_BYTES; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let start = -1;
  let longest = 1;
  for (let i = 0; i < groups.length; i++) {
    let end = i;
    while (groups[end] === 0) end++;
    if (end - i > longest) {
      start = i;
      longest = end - i;
    }
    i = Math.max(i, end);
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  // The kernel's own form of mapped addresses.
  const mapped = start === 0 && longest === 5 && groups[5] === 0xffff;
  if (mapped) return `::ffff:${[...bytes.subarray(12)].join('.')}`;
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + longest))}`;
}

export function formatIp6(value: bigint): string {
  const bytes = new Uint8Array(IP6_BYTES);
  for (let i = IP6_BYTES - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return formatIp6Bytes(bytes);
}

function mask6(value: bigint, length: number): bigint {
  const host = BITS - BigInt(length);
  return value & (ALL ^ ((1n << host) - 1n));
}

/** `address/length`, cut to its network. @throws ShoalError InvalidArgument */
export function parsePrefix6(text: string): Prefix6 {
  const [address = '', bits = ''] = text.split('/');
  const length = Number(bits);
  if (!/^\d{1,3}$/.test(bits) || length > 128) throw invalidArgument(`invalid subnet: ${text}`);
  return { base: mask6(parseIp6(address), length), length };
}

export function formatPrefix6(prefix: Prefix6): string {
  return `${formatIp6(prefix.base)}/${prefix.length}`;
}

export function contains6(prefix: Prefix6, address: bigint): boolean {
  return mask6(address, prefix.length) === prefix.base;
}

export function overlap6(a: Prefix6, b: Prefix6): boolean {
  return a.length <= b.length ? contains6(a, b.base) : contains6(b, a.base);
}
