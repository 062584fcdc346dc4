import { invalidArgument } from '../base/index.ts';

/** An IPv4 prefix; `base` is the network's first address as a number. */
export interface Prefix {
  base: number;
  length: number;
}

/** An IPv4 address as an unsigned number. @throws ShoalError InvalidArgument */
export function parseIp(text: string): number {
  const parts = text.split('.');
  let value = 0;
  for (const part of parts) {
    const byte = Number(part);
    if (!/^\d{1,3}$/.test(part) || byte > 255) throw invalidArgument(`invalid IPv4 address: ${text}`);
    value = value * 256 + byte;
  }
  if (parts.length !== 4) throw invalidArgument(`invalid IPv4 address: ${text}`);
  return value;
}

export function isIp(text: string): boolean {
  return /^(\d{1,3}\.){3}\d{1,3}$/.test(text) && text.split('.').every((part) => Number(part) <= 255);
}

export function formatIp(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.');
}

/** `a.b.c.d/n`, cut to its network. @throws ShoalError InvalidArgument */
export function parsePrefix(text: string): Prefix {
  const [address = '', bits = ''] = text.split('/');
  const length = Number(bits);
  if (!/^\d{1,2}$/.test(bits) || length > 32) throw invalidArgument(`invalid subnet: ${text}`);
  return { base: maskOf(parseIp(address), length), length };
}

function maskOf(value: number, length: number): number {
  return length === 0 ? 0 : (value & (0xffffffff << (32 - length))) >>> 0;
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatIp(prefix.base)}/${prefix.length}`;
}

export function prefixSize(prefix: Prefix): number {
  return 2 ** (32 - prefix.length);
}

export function contains(prefix: Prefix, address: number): boolean {
  return maskOf(address, prefix.length) === prefix.base;
}

export function overlap(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? contains(a, b.base) : contains(b, a.base);
}

/** The address without its mask. */
export function bareIp(address: string): string {
  const at = address.indexOf('/');
  return at < 0 ? address : address.slice(0, at);
}

/** Swarm's MAC for an IPv4 address: 02:42 and the four bytes. */
export function macOf(address: string): string {
  const value = parseIp(bareIp(address));
  const bytes = [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  return `02:42:${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
}
