import type { Random } from '../../base/index.ts';
import { LOG_KEY_BYTES, type LogKey, type LogKeyRing } from '../wal/keys.ts';

/** Data keys of all members: they survive what their disks do not. */
export class SimKeys {
  readonly #random: Random;
  readonly #rings = new Map<number, LogKey[]>();
  #nextId = 1;

  constructor(random: Random) {
    this.#random = random;
  }

  #fresh(): LogKey {
    return { id: this.#nextId++, secret: this.#random.bytes(LOG_KEY_BYTES) };
  }

  /** New keys from now on. */
  rotate(): void {
    for (const keys of this.#rings.values()) keys.unshift(this.#fresh());
  }

  ringOf(id: number): LogKeyRing {
    let keys = this.#rings.get(id);
    if (keys === undefined) {
      keys = [this.#fresh()];
      this.#rings.set(id, keys);
    }
    const known = keys;
    return {
      current: () => known[0] ?? null,
      find: (key) => known.find((other) => other.id === key),
      retain: (ids) => {
        const current = known[0];
        const kept = known.filter((key) => key === current || ids.has(key.id));
        known.splice(0, known.length, ...kept);
      },
    };
  }
}
