import { failedPrecondition, type Random } from '../../base/index.ts';

/** Random bytes of a join token's secret. */
const SECRET_BYTES = 16;
/** Base-36 digits of a join token's secret, padded with zeros. */
const SECRET_DIGITS = 25;

/** A new secret for a join token: 16 random bytes in base 36, padded to 25 digits (swarmkit.md §1.2). */
export function newTokenSecret(random: Random): string {
  let value = 0n;
  for (const byte of random.bytes(SECRET_BYTES)) value = (value << 8n) | BigInt(byte);
  return value.toString(36).padStart(SECRET_DIGITS, '0');
}

/**
 * The token with a new secret: prefix, version and the digest of the root certificate stay.
 * @throws ShoalError FailedPrecondition when there is no token to rotate.
 */
export function rotateToken(token: string, random: Random): string {
  const parts = token.split('-');
  if (parts[0] !== 'SWMTKN' || parts.length < 4) {
    throw failedPrecondition('the cluster has no join token to rotate: its certificate authority is not set up');
  }
  return [...parts.slice(0, -1), newTokenSecret(random)].join('-');
}
