import { createHash, timingSafeEqual } from 'node:crypto';
import { ShoalError, systemRandom, type Random } from '../base/index.ts';

const DIGEST_LENGTH = 50;
const SECRET_LENGTH = 25;
const SECRET_BYTES = 16;
const VERSION = 'SWMTKN-1';

/** The parts of a join token, `SWMTKN-1-<digest of the root certificates>-<secret>`. */
export interface JoinToken {
  digest: string;
  secret: string;
}

function base36(bytes: Uint8Array, length: number): string {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value.toString(36).padStart(length, '0');
}

/** SHA-256 over the exact bytes of the root bundle, base 36, 50 characters. */
export function rootDigest(rootPem: string | Uint8Array): string {
  return base36(createHash('sha256').update(rootPem).digest(), DIGEST_LENGTH);
}

/** A new token for a root bundle; the secret has 128 random bits. */
export function makeJoinToken(rootPem: string | Uint8Array, random: Random = systemRandom): string {
  return `${VERSION}-${rootDigest(rootPem)}-${base36(random.bytes(SECRET_BYTES), SECRET_LENGTH)}`;
}

/** @throws ShoalError InvalidArgument "invalid join token". */
export function parseJoinToken(text: string): JoinToken {
  const parts = text.split('-');
  const [prefix, version, digest, secret] = parts;
  const wellFormed =
    parts.length === 4 &&
    `${prefix}-${version}` === VERSION &&
    digest?.length === DIGEST_LENGTH &&
    secret?.length === SECRET_LENGTH;
  if (!wellFormed) throw new ShoalError('InvalidArgument', 'invalid join token');
  return { digest, secret };
}

/**
 * Checks downloaded root certificates against a token.
 * @throws ShoalError FailedPrecondition "remote CA does not match fingerprint. Expected: …".
 */
export function checkRootDigest(rootPem: string | Uint8Array, token: JoinToken): void {
  if (!sameToken(rootDigest(rootPem), token.digest)) {
    throw new ShoalError('FailedPrecondition', `remote CA does not match fingerprint. Expected: ${token.digest}`);
  }
}

/** Compares two tokens in a time that does not depend on where they differ. An empty one matches nothing. */
export function sameToken(a: string, b: string): boolean {
  if (a === '' || b === '') return false;
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
