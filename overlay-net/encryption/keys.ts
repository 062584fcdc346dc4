import { createPrivateKey, createPublicKey, hkdfSync } from 'node:crypto';
import type { Random } from '../../base/index.ts';

/** Length of WireGuard's private, public and pre-shared keys, bytes. */
export const KEY_BYTES = 32;
/** DER header of a PKCS #8 X25519 private key (RFC 8410); the key's bytes follow. */
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** A key of the cluster that managers give out and rotate. */
export interface NetworkKey {
  /** Hexadecimal. */
  key: string;
  lamportTime: number;
}

/** A private key as WireGuard clamps it (RFC 7748 §5), hexadecimal. */
export function newPrivateKey(random: Random): string {
  const bytes = Buffer.from(random.bytes(KEY_BYTES));
  bytes[0] = (bytes[0] ?? 0) & 248;
  bytes[31] = ((bytes[31] ?? 0) & 127) | 64;
  return bytes.toString('hex');
}

/** Public key of a private one, both hexadecimal. */
export function publicKeyOf(privateKey: string): string {
  const der = Buffer.concat([PKCS8_X25519, Buffer.from(privateKey, 'hex')]);
  const publicKey = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
  return publicKey.export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES).toString('hex');
}

/**
 * The cluster key that is in use: of those given, the one before the newest (as Docker's agents choose theirs). Managers
 * add a new key long before it comes into use, so both ends of a pair change to it with nothing missing.
 */
export function keyInUse(keys: readonly NetworkKey[]): NetworkKey | undefined {
  const sorted = [...keys].sort((a, b) => b.lamportTime - a.lamportTime);
  return sorted[1] ?? sorted[0];
}

/**
 * The pre-shared key of a pair of nodes, hexadecimal: alike on both, another for each pair and each cluster key
 * (HKDF-SHA256, RFC 5869). Public keys are hexadecimal.
 */
export function presharedKey(clusterKey: NetworkKey, one: string, other: string): string {
  const pair = [one, other].sort();
  const info = Buffer.concat([Buffer.from('shoal wireguard psk 1'), ...pair.map((key) => Buffer.from(key, 'hex'))]);
  const salt = Buffer.from(String(clusterKey.lamportTime));
  return Buffer.from(hkdfSync('sha256', Buffer.from(clusterKey.key, 'hex'), salt, info, KEY_BYTES)).toString('hex');
}
