import { invalidArgument } from '../../base/index.ts';
import type { KeyLock } from '../../identity/index.ts';
import { EncryptionKey, EncryptionKey_Algorithm, type Cluster } from '../../proto/index.ts';

/** Bytes of the key that unlocks managers. */
export const UNLOCK_KEY_BYTES = 32;
/** Subsystem of that key among `Cluster.unlock_keys` (swarmkit.md §2.6). */
const SUBSYSTEM = 'swarm-manager';
const PREFIX = 'SWMKEY-1-';

/** An unlock key as users see it: `SWMKEY-1-` and base64 without padding. */
export function formatUnlockKey(secret: Uint8Array): string {
  return `${PREFIX}${Buffer.from(secret).toString('base64').replace(/=+$/, '')}`;
}

/** @throws ShoalError InvalidArgument when the text has not the form of an unlock key */
export function parseUnlockKey(text: string): Uint8Array {
  const encoded = text.startsWith(PREFIX) ? text.slice(PREFIX.length) : '';
  if (!/^[A-Za-z0-9+/]+$/.test(encoded)) {
    throw invalidArgument(`invalid key string: an unlock key begins with ${PREFIX}`);
  }
  return Buffer.from(encoded, 'base64');
}

/** The entry of `Cluster.unlock_keys` for a key. */
export function unlockKeyEntry(secret: Uint8Array): EncryptionKey {
  return EncryptionKey.create({
    subsystem: SUBSYSTEM,
    algorithm: EncryptionKey_Algorithm.AES_128_GCM,
    key: secret,
  });
}

/** The lock that a cluster wants on its managers' secrets. */
export function lockOf(cluster: Cluster): KeyLock {
  const key = cluster.unlock_keys.find((one) => one.subsystem === SUBSYSTEM)?.key;
  return { secret: key === undefined || key.length === 0 ? null : key, version: cluster.meta?.version?.index ?? 0 };
}
