import { assert } from '../../base/index.ts';

/** Bits per chunk. Chunks exist only where bits are set, so a huge range costs nothing. */
const CHUNK_BITS = 4096;
const WORD_BITS = 32;

/**
 * A set of whole numbers that hands out free ones serially: each time the next free number after the last one handed
 * out, round and round. A number that was given back is thus used again late, when nobody remembers it.
 */
export class SerialSet {
  readonly #low: number;
  readonly #high: number;
  readonly #chunks = new Map<number, { words: Uint32Array; count: number }>();
  #inRange = 0;
  #cursor: number;

  /** @param low,high range that `take` draws from, both inclusive; `add` takes numbers beyond it, too. */
  constructor(low: number, high: number) {
    assert(Number.isSafeInteger(low) && Number.isSafeInteger(high) && low >= 0 && low <= high, 'a range of numbers');
    this.#low = low;
    this.#high = high;
    this.#cursor = low - 1;
  }

  /** Free numbers of the range. */
  get freeCount(): number {
    return this.#high - this.#low + 1 - this.#inRange;
  }

  /** Numbers that the range has. */
  get capacity(): number {
    return this.#high - this.#low + 1;
  }

  has(number: number): boolean {
    const chunk = this.#chunks.get(Math.floor(number / CHUNK_BITS));
    if (chunk === undefined) return false;
    const bit = number % CHUNK_BITS;
    return (((chunk.words[Math.floor(bit / WORD_BITS)] as number) >>> (bit % WORD_BITS)) & 1) === 1;
  }

  /** Marks a number as used; false when it was already. */
  add(number: number): boolean {
    assert(Number.isSafeInteger(number) && number >= 0, 'a whole number');
    if (this.has(number)) return false;
    const at = Math.floor(number / CHUNK_BITS);
    let chunk = this.#chunks.get(at);
    if (chunk === undefined)
      this.#chunks.set(at, (chunk = { words: new Uint32Array(CHUNK_BITS / WORD_BITS), count: 0 }));
    const bit = number % CHUNK_BITS;
    const word = Math.floor(bit / WORD_BITS);
    chunk.words[word] = (chunk.words[word] as number) | (1 << (bit % WORD_BITS));
    chunk.count++;
    if (number >= this.#low && number <= this.#high) this.#inRange++;
    return true;
  }

  /** Gives a number back; false when it was not in use. */
  delete(number: number): boolean {
    if (!this.has(number)) return false;
    const at = Math.floor(number / CHUNK_BITS);
    const chunk = this.#chunks.get(at)!;
    const bit = number % CHUNK_BITS;
    const word = Math.floor(bit / WORD_BITS);
    chunk.words[word] = (chunk.words[word] as number) & ~(1 << (bit % WORD_BITS));
    chunk.count--;
    if (chunk.count === 0) this.#chunks.delete(at);
    if (number >= this.#low && number <= this.#high) this.#inRange--;
    return true;
  }

  /** Takes the next free number; undefined when there is none. */
  take(): number | undefined {
    if (this.freeCount === 0) return undefined;
    const found = this.#free(this.#cursor + 1, this.#high) ?? this.#free(this.#low, this.#cursor);
    assert(found !== undefined, 'a range that is not full has a free number');
    this.add(found);
    this.#cursor = found;
    return found;
  }

  /** Goes on after this number; for a rebuilt set, so that numbers given back lately are not the first to be reused. */
  continueAfter(number: number): void {
    if (number >= this.#low && number <= this.#high) this.#cursor = Math.max(this.#cursor, number);
  }

  /** Numbers in use, in ascending order. */
  *values(): Generator<number, void, void> {
    for (const at of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      for (let bit = 0; bit < CHUNK_BITS; bit++) if (this.has(at * CHUNK_BITS + bit)) yield at * CHUNK_BITS + bit;
    }
  }

  #free(from: number, to: number): number | undefined {
    let number = Math.max(from, this.#low);
    while (number <= to) {
      const at = Math.floor(number / CHUNK_BITS);
      const chunk = this.#chunks.get(at);
      if (chunk === undefined) return number;
      if (chunk.count === CHUNK_BITS) {
        number = (at + 1) * CHUNK_BITS;
        continue;
      }
      const bit = number % CHUNK_BITS;
      const rest = (chunk.words[Math.floor(bit / WORD_BITS)] as number) >>> (bit % WORD_BITS);
      if ((rest & 1) === 0) return number;
      // The lowest zero of `rest`; all ones up to the end of the word go on with the next word.
      const ones = 31 - Math.clz32(~rest & -~rest);
      number += ones < 0 ? WORD_BITS - (bit % WORD_BITS) : Math.min(ones, WORD_BITS - (bit % WORD_BITS));
    }
    return undefined;
  }
}
