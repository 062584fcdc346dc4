import { systemRandom, type Random } from './random.ts';

/** Characters in an object id. */
export const ID_LENGTH = 25;

/**
 * A new object id: 17 random bytes with the top bit forced, in base 36, characters 1 to 25; always 25 of `[0-9a-z]`
 * (SwarmKit's form, so that ids look alike to Docker's tools).
 */
export function newId(random: Random = systemRandom): string {
  const bytes = random.bytes(17);
  bytes[0] = (bytes[0] as number) | 0x80;
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value.toString(36).slice(1, 1 + ID_LENGTH);
}

/** A new 64-digit hexadecimal id, the form of container, layer and endpoint ids. */
export function newHexId(random: Random = systemRandom): string {
  return Buffer.from(random.bytes(32)).toString('hex');
}
