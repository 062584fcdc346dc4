import type { Random } from '../base/index.ts';

const NONCE_BYTES = 8;

/**
 * Names of reads on the wire: a random part of this run of the process and a counter. An answer to a read of an earlier
 * run must not confirm a read of this one.
 */
export class ReadContexts {
  readonly #nonce: Uint8Array;

  constructor(random: Random) {
    this.#nonce = random.bytes(NONCE_BYTES);
  }

  encode(key: number): Uint8Array {
    const out = Buffer.alloc(NONCE_BYTES + 8);
    out.set(this.#nonce);
    out.writeDoubleBE(key, NONCE_BYTES);
    return out;
  }

  /** The key, or undefined when the context is not of this run. */
  decode(context: Uint8Array): number | undefined {
    const bytes = Buffer.from(context.buffer, context.byteOffset, context.byteLength);
    if (bytes.length !== NONCE_BYTES + 8 || !bytes.subarray(0, NONCE_BYTES).equals(this.#nonce)) return undefined;
    return bytes.readDoubleBE(NONCE_BYTES);
  }
}
