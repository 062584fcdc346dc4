import type { Clock } from '../../base/index.ts';

/** A lease that nobody has used for this time has ended: its holder hangs, or has forgotten it, ms. */
export const LEASE_IDLE_MAX_MS = 2 * 3_600_000;

/** A set that tells when something is added. */
class WatchedSet extends Set<string> {
  readonly #onAdd: () => void;

  constructor(onAdd: () => void) {
    super();
    this.#onAdd = onAdd;
  }

  override add(value: string): this {
    this.#onAdd();
    return super.add(value);
  }
}

/**
 * Keeps blobs and layers that no image names yet from being collected, while something under way needs them. It ends with
 * `release`, with the daemon (leases are only in memory), or when it was not renewed for `LEASE_IDLE_MAX_MS`.
 */
export class Lease {
  readonly blobs: Set<string>;
  readonly layers: Set<string>;
  readonly #clock: Clock;
  #usedMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#usedMs = clock.monotonic();
    this.blobs = new WatchedSet(() => this.renew());
    this.layers = new WatchedSet(() => this.renew());
  }

  /** Its holder is alive: bytes arrive, a layer was unpacked. Naming something more renews it too. */
  renew(): void {
    this.#usedMs = this.#clock.monotonic();
  }

  get ended(): boolean {
    return this.#clock.monotonic() - this.#usedMs > LEASE_IDLE_MAX_MS;
  }
}
