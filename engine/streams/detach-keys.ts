import { invalidArgument } from '../../base/index.ts';

const DEFAULT_KEYS = Uint8Array.of(0x10, 0x11);
const DETACH_KEYS_MAX = 64;

function keyByte(word: string): number | undefined {
  if (word.length === 1) {
    const code = word.charCodeAt(0);
    return code < 0x80 ? code : undefined;
  }
  const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(word)?.[1];
  if (control === undefined) return undefined;
  return control.toUpperCase().charCodeAt(0) - 0x40;
}

/**
 * Reads a key sequence: words between commas, each a character or `ctrl-` with a letter or one of `@ [ \ ] ^ _`.
 * Empty gives the default, ctrl-p ctrl-q. @throws ShoalError InvalidArgument
 */
export function parseDetachKeys(text: string): Uint8Array {
  if (text === '') return DEFAULT_KEYS;
  const bytes = text.split(',').map(keyByte);
  if (bytes.length > DETACH_KEYS_MAX || bytes.includes(undefined)) {
    throw invalidArgument(`Invalid detach keys (${text}) provided`);
  }
  return Uint8Array.from(bytes as number[]);
}

/** Finds a key sequence in input that comes in pieces; a beginning of it is held back until it is clear what it is. */
export class DetachFilter {
  readonly #keys: Uint8Array;
  /** For each length of a match: the longest shorter beginning that it ends with (Knuth, Morris, Pratt). */
  readonly #fallback: number[];
  #matched = 0;

  constructor(keys: Uint8Array) {
    this.#keys = keys;
    this.#fallback = [0];
    for (let i = 1, length = 0; i < keys.length; i++) {
      while (length > 0 && keys[i] !== keys[length]) length = this.#fallback[length - 1] ?? 0;
      if (keys[i] === keys[length]) length++;
      this.#fallback.push(length);
    }
  }

  /** What is to be passed on, and whether the sequence is complete; what follows it is dropped. */
  feed(input: Uint8Array): { data: Uint8Array; detached: boolean } {
    const out: number[] = [];
    for (const byte of input) {
      while (this.#matched > 0 && byte !== this.#keys[this.#matched]) {
        const shorter = this.#fallback[this.#matched - 1] ?? 0;
        // The beginning turned out to be plain input, but for what a shorter match keeps.
        for (let i = 0; i < this.#matched - shorter; i++) out.push(this.#keys[i] ?? 0);
        this.#matched = shorter;
      }
      if (byte === this.#keys[this.#matched]) this.#matched++;
      else out.push(byte);
      if (this.#matched === this.#keys.length) {
        this.#matched = 0;
        return { data: Uint8Array.from(out), detached: true };
      }
    }
    return { data: Uint8Array.from(out), detached: false };
  }
}
