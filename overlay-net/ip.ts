/** Addresses of either family. Text with a colon is IPv6; all text that leaves here is in one form per address. */
import { bareIp, formatIp, isIp, macOf as macOf4, parseIp } from './ip4.ts';
import { bytesOfIp6, formatIp6Bytes, IP6_BYTES, isIp6 } from './ip6.ts';

export type Family = 4 | 6;

export function familyOf(address: string): Family {
  return address.includes(':') ? 6 : 4;
}

/** Bits of a whole address. */
export function addressBits(family: Family): number {
  return family === 6 ? 128 : 32;
}

export function isAddress(text: string): boolean {
  return isIp(text) || isIp6(text);
}

/** Bytes of an address (a mask is left out). @throws ShoalError InvalidArgument */
export function ipBytes(address: string): Uint8Array {
  const bare = bareIp(address);
  if (familyOf(bare) === 6) return bytesOfIp6(bare);
  const value = parseIp(bare);
  return Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}

/** Four or sixteen bytes as an address; empty for any other number of bytes. */
export function formatBytes(bytes: Uint8Array): string {
  if (bytes.length === IP6_BYTES) return formatIp6Bytes(bytes);
  if (bytes.length !== 4) return '';
  return formatIp(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0));
}

/**
 * The address without its mask, as the kernel writes it, so that equal addresses are equal text. What is no address
 * stays as it is.
 */
export function canonicalIp(address: string): string {
  const bare = bareIp(address);
  return isIp6(bare) ? formatIp6Bytes(bytesOfIp6(bare)) : bare;
}

/** Length of the mask in `address`; without one, that of a single host. */
export function maskLength(address: string): number {
  const at = address.indexOf('/');
  return at < 0 ? addressBits(familyOf(address)) : Number(address.slice(at + 1));
}

/** The subnet of an address with mask, as the kernel writes it: 10.0.0.5/24 is in 10.0.0.0/24. @throws ShoalError */
export function subnetOf(address: string): string {
  const bytes = ipBytes(address);
  const length = maskLength(address);
  for (let i = 0; i < bytes.length; i++) {
    const kept = Math.min(8, Math.max(0, length - i * 8));
    bytes[i] = (bytes[i] ?? 0) & (0xff << (8 - kept));
  }
  return `${formatBytes(bytes)}/${length}`;
}

/** FNV-1a over bytes, 32 bits. */
export function hashBytes(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** A number of 32 bits for an address: an IPv4 address itself, a hash of an IPv6 address. Never 0 in practice. */
export function idOfIp(address: string): number {
  return familyOf(address) === 6 ? hashBytes(ipBytes(address)) : parseIp(bareIp(address));
}

/** Swarm's MAC for an IPv4 address (02:42 and its bytes); for IPv6, 02:42 and a hash of it. */
export function macOf(address: string): string {
  return familyOf(address) === 6 ? macOf4(formatIp(hashBytes(ipBytes(address)))) : macOf4(address);
}
