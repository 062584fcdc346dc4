import { createCipheriv, createDecipheriv } from 'node:crypto';
import { must, ShoalError } from '../../base/index.ts';
import type { LogKey, LogKeyRing } from './keys.ts';

/**
 * Encryption at rest: AES-256-GCM (NIST SP 800-38D). A nonce must never come back under the same key.
 *
 * Frames: 48 random bits drawn at each opening of the log, then 48 bits of the frame's sequence number. Sequence numbers
 * never come back while a log is open. They can after a crash (a frame that was torn is written anew under its number),
 * after a repair, and when a copied disk runs twice: in all of these the log was opened in between, so that a nonce comes
 * back only if, besides, two openings drew the same 48 bits. Random 96 bits for each frame would allow no more than 2^32
 * frames for a key (§8.3), a few weeks of a busy manager.
 *
 * Snapshots: 96 random bits; there are few.
 */
export const SEAL_SALT_BYTES = 6;
export const SEAL_NONCE_BYTES = 12;
export const SEAL_TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';

/** Bytes of a frame's payload on the disk: salt, cipher text and tag when it is sealed. */
export function payloadBytesOnDisk(recordBytes: number, sealed: boolean): number {
  return sealed ? SEAL_SALT_BYTES + recordBytes + SEAL_TAG_BYTES : recordBytes;
}

function frameNonce(salt: Uint8Array, sequence: number): Buffer {
  const nonce = Buffer.alloc(SEAL_NONCE_BYTES);
  nonce.set(salt, 0);
  nonce.writeUIntLE(sequence % 2 ** 48, SEAL_SALT_BYTES, 6);
  return nonce;
}

/** Seals `plain` into `target` at `at`; `bound` is authenticated with it. */
export function sealPayload(
  target: Buffer,
  at: number,
  plain: Buffer,
  sequence: number,
  seal: { key: LogKey; salt: Uint8Array },
  bound: Uint8Array,
): void {
  const cipher = createCipheriv(CIPHER, seal.key.secret, frameNonce(seal.salt, sequence));
  cipher.setAAD(bound);
  target.set(seal.salt, at);
  cipher.update(plain).copy(target, at + SEAL_SALT_BYTES);
  cipher.final();
  cipher.getAuthTag().copy(target, at + SEAL_SALT_BYTES + plain.length);
}

/** The key that `what` was written under. @throws ShoalError FailedPrecondition when it is not known. */
export function findKey(keys: LogKeyRing | null, id: number, what: string): LogKey {
  const key = keys?.find(id);
  if (key !== undefined) return key;
  throw new ShoalError(
    'FailedPrecondition',
    keys === null
      ? `${what} is encrypted (key ${id}) and no keys were given; unlock this manager`
      : `${what} is encrypted with key ${id}, which is not among the keys of this manager; restore its key file`,
  );
}

function wrongKey(id: number, what: string, cause: unknown): ShoalError {
  const message = `${what}: what is called key ${id} here is not the key it was encrypted with; restore the key file`;
  return new ShoalError('FailedPrecondition', message, { cause });
}

/** The records of a sealed payload whose checksum was found right. @throws ShoalError FailedPrecondition */
export function openPayload(payload: Buffer, sequence: number, key: LogKey, bound: Uint8Array, what: string): Buffer {
  const tagAt = payload.length - SEAL_TAG_BYTES;
  const nonce = frameNonce(payload.subarray(0, SEAL_SALT_BYTES), sequence);
  return open(key, nonce, bound, payload.subarray(SEAL_SALT_BYTES, tagAt), payload.subarray(tagAt), what);
}

/** @throws ShoalError FailedPrecondition when it is the wrong key. */
function open(key: LogKey, nonce: Uint8Array, bound: Uint8Array, text: Buffer, tag: Buffer, what: string): Buffer {
  const decipher = createDecipheriv(CIPHER, key.secret, nonce);
  decipher.setAAD(bound);
  decipher.setAuthTag(tag);
  const plain = decipher.update(text);
  try {
    decipher.final();
  } catch (error) {
    throw wrongKey(key.id, what, error);
  }
  return plain;
}

/** Seals the parts of a snapshot. @returns cipher text and tag. */
export function sealSnapshot(
  parts: readonly Uint8Array[],
  key: LogKey,
  nonce: Uint8Array,
  bound: Uint8Array,
): Uint8Array[] {
  const cipher = createCipheriv(CIPHER, key.secret, nonce);
  cipher.setAAD(bound);
  const out: Uint8Array[] = parts.map((part) => cipher.update(part));
  cipher.final();
  out.push(cipher.getAuthTag());
  return out;
}

export function openSnapshot(body: Buffer, key: LogKey, nonce: Uint8Array, bound: Uint8Array, what: string): Buffer {
  const tagAt = must(body.length >= SEAL_TAG_BYTES ? body.length - SEAL_TAG_BYTES : null, 'tag of a snapshot');
  return open(key, nonce, bound, body.subarray(0, tagAt), body.subarray(tagAt), what);
}
