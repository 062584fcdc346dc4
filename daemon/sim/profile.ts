import type { Random } from '../../base/index.ts';
import { GOOD_DISK, GOOD_LINKS, type DiskTemper, type LinkTemper } from '../../raft/sim/index.ts';
import { GOOD_WIRE, type WireTemper } from './links.ts';

/** What a seed is like. */
export interface Profile {
  managers: number;
  workers: number;
  /** Entries between snapshots, and kept before one: small, so that managers that were away need snapshots. */
  snapshotEntries: number;
  keepEntries: number;
  /** Wall clocks are off by so much at the most, ms. */
  skewMs: number;
  /** Mean time between two acts of users, ms. */
  userMs: number;
  /** Mean time between two faults, ms. */
  faultMs: number;
  /** Services that there are at the most. */
  services: number;
  /** Messages of consensus pass through the wire format. */
  encodes: boolean;
  links: LinkTemper;
  wire: WireTemper;
  disk: DiskTemper;
}

function pick<T>(random: Random, ...choices: [T, ...T[]]): T {
  return choices[random.int(choices.length)] as T;
}

export function profileOf(random: Random): Profile {
  const slow = random.int(6) === 0;
  return {
    managers: pick(random, 3, 3, 3, 5),
    workers: 4 + random.int(5),
    snapshotEntries: pick(random, 50, 200, 1000),
    keepEntries: pick(random, 20, 100),
    skewMs: pick(random, 0, 20, 200),
    userMs: pick(random, 600, 1_500, 4_000),
    faultMs: pick(random, 4_000, 8_000, 15_000),
    services: 4 + random.int(8),
    encodes: random.int(4) === 0,
    links: { ...GOOD_LINKS, meanMs: slow ? 15 : pick(random, 0.3, 0.6, 2) },
    wire: { ...GOOD_WIRE, meanMs: slow ? 15 : pick(random, 0.3, 0.6, 2) },
    disk: { ...GOOD_DISK, meanMs: pick(random, 0.1, 0.3, 2), tailShare: pick(random, 0, 0.002) },
  };
}
