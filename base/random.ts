import { randomFillSync } from 'node:crypto';
import { assert } from './assert.ts';

/** Randomness as a port. */
export interface Random {
  /** `length` random bytes. */
  bytes(length: number): Uint8Array;
  /** A uniform integer in [0, bound). */
  int(bound: number): number;
  /** A uniform number in [0, 1). */
  float(): number;
}

const POOL_BYTES = 8192;

/** The operating system's randomness, drawn in pools (one system call for many ids). */
class SystemRandom implements Random {
  #pool = new Uint8Array(POOL_BYTES);
  #used = POOL_BYTES;

  bytes(length: number): Uint8Array {
    assert(length >= 0, 'a length is not negative');
    if (length > POOL_BYTES) return randomFillSync(new Uint8Array(length));
    if (this.#used + length > POOL_BYTES) {
      randomFillSync(this.#pool);
      this.#used = 0;
    }
    const out = this.#pool.slice(this.#used, this.#used + length);
    this.#pool.fill(0, this.#used, this.#used + length);
    this.#used += length;
    return out;
  }

  int(bound: number): number {
    assert(Number.isSafeInteger(bound) && bound > 0, 'a bound is a positive integer');
    return Math.floor(this.float() * bound);
  }

  float(): number {
    const b = this.bytes(7);
    // 53 random bits, the precision of a double.
    let value = (b[0] as number) & 0x1f;
    for (let i = 1; i < 7; i++) value = value * 256 + (b[i] as number);
    return value / 2 ** 53;
  }
}

export const systemRandom: Random = new SystemRandom();

/** A small repeatable generator (splitmix32 seeding xoshiro128**, Blackman and Vigna 2018). Not for secrets. */
export class SeededRandom implements Random {
  #s: Uint32Array;

  constructor(seed: number) {
    this.#s = new Uint32Array(4);
    let state = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.#s[i] = (z ^ (z >>> 15)) >>> 0;
    }
  }

  /** 32 random bits. */
  uint32(): number {
    const s = this.#s;
    const [s0, s1, s2, s3] = [s[0] as number, s[1] as number, s[2] as number, s[3] as number];
    const scrambled = Math.imul(s1, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const t = s1 << 9;
    const n2 = s2 ^ s0;
    const n3 = s3 ^ s1;
    s[1] = s1 ^ n2;
    s[0] = s0 ^ n3;
    s[2] = n2 ^ t;
    s[3] = (n3 << 11) | (n3 >>> 21);
    return result;
  }

  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = this.uint32() & 0xff;
    return out;
  }

  int(bound: number): number {
    assert(Number.isSafeInteger(bound) && bound > 0, 'a bound is a positive integer');
    return Math.floor(this.float() * bound);
  }

  float(): number {
    return (this.uint32() * 2 ** 21 + (this.uint32() >>> 11)) / 2 ** 53;
  }
}
