import type { Clock, Logger } from '../../base/index.ts';
import type { SandboxRecord } from '../store.ts';
import { DRIFT_KINDS, type Drift, type DriftKind, type Fault } from './compare.ts';

/** What was repaired belongs to a network, a container, or the host itself. */
export interface RepairPlace {
  /** Id of the network or container; empty for the host. */
  id: string;
  /** Its name. */
  name: string;
  /** In words: "on network front", "in container web", "on the host". */
  where: string;
}

/** What all encrypted networks of the host run over. */
export const SECURE: RepairPlace = { id: '', name: '', where: 'of encrypted networks' };

/** A container as the place of a repair. */
export function containerPlace({ spec }: SandboxRecord): RepairPlace {
  const name = spec.names[0] ?? spec.id.slice(0, 12);
  return { id: spec.id, name, where: `in container ${name}` };
}

/** A container's resolver did not answer, or its sockets had failed. */
export const RESOLVER_DRIFT: Drift = { kind: 'resolver', what: 'resolver', fault: 'missing', repair: [] };

/** One thing that was found wrong and set right. */
export interface NetworkRepair extends RepairPlace {
  kind: DriftKind;
  fault: Fault;
  what: string;
  /** The whole sentence. */
  message: string;
}

const FAULT_WORDS: Readonly<Record<Fault, string>> = {
  missing: 'was missing',
  changed: 'was changed',
  foreign: 'did not belong there',
};

/** Repairs told by name in a minute; all others are only counted. */
const NAMED_PER_MINUTE_MAX = 240;
/** Repairs of one place told by name at once. */
const NAMED_AT_ONCE_MAX = 16;
const MINUTE_MS = 60_000;
/** Places with failed repairs that are remembered; each is told once a minute. */
const FAILING_MAX = 256;

/** Counts what was repaired, by kind, and tells of it. */
export class NetworkRepairs {
  readonly #counts = new Map<DriftKind, number>(DRIFT_KINDS.map((kind) => [kind, 0]));
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #tell: (repair: NetworkRepair) => void;
  #failed = 0;
  /** Places whose repair failed, and when that was last told. */
  readonly #failing = new Map<string, number>();
  #minuteBegan = -Infinity;
  #named = 0;

  constructor(clock: Clock, log: Logger, tell: (repair: NetworkRepair) => void) {
    this.#clock = clock;
    this.#log = log;
    this.#tell = tell;
  }

  /** Repairs so far, by kind; every kind is there. */
  counts(): ReadonlyMap<DriftKind, number> {
    return this.#counts;
  }

  /** Repairs that did not succeed (they are tried again with the next pass). */
  get failed(): number {
    return this.#failed;
  }

  /** What encrypted networks run over had to be set right. */
  secure(what: string, fault: Fault): void {
    this.done(SECURE, [{ kind: 'link', what, fault, repair: [] }]);
  }

  /** A container's resolver was opened again. */
  resolver(record: SandboxRecord): void {
    this.done(containerPlace(record), [RESOLVER_DRIFT]);
  }

  done(place: RepairPlace, drifts: readonly Drift[]): void {
    for (const { kind } of drifts) this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
    const told = drifts.slice(0, this.#grant(Math.min(drifts.length, NAMED_AT_ONCE_MAX)));
    for (const { kind, what, fault } of told) {
      const message = `network repaired: ${what} ${place.where} ${FAULT_WORDS[fault]}`;
      this.#log.warn(message);
      this.#tell({ ...place, kind, fault, what, message });
    }
    const rest = drifts.length - told.length;
    if (rest > 0) this.#log.warn(`network repaired: ${rest} more ${place.where}`);
  }

  failure(place: RepairPlace, drifts: readonly Drift[], error: unknown): void {
    this.#failed += Math.max(1, drifts.length);
    const now = this.#clock.monotonic();
    if (now - (this.#failing.get(place.where) ?? -Infinity) < MINUTE_MS) return;
    if (this.#failing.size >= FAILING_MAX) this.#failing.clear();
    this.#failing.set(place.where, now);
    const what = drifts
      .slice(0, NAMED_AT_ONCE_MAX)
      .map((drift) => drift.what)
      .join(', ');
    this.#log.error(`the network ${place.where} cannot be repaired and is tried again`, { what, error });
  }

  /** How many of `count` may be named now. */
  #grant(count: number): number {
    const now = this.#clock.monotonic();
    if (now - this.#minuteBegan >= MINUTE_MS) {
      this.#minuteBegan = now;
      this.#named = 0;
    }
    const granted = Math.min(count, NAMED_PER_MINUTE_MAX - this.#named);
    this.#named += granted;
    return granted;
  }
}
