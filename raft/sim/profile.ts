import type { Random } from '../../base/index.ts';
import { GOOD_DISK, type DiskTemper } from './disk.ts';
import { GOOD_LINKS, type LinkTemper } from './network.ts';

/** Names of the nemeses: see nemesis/. */
export const STYLES = [
  'chaos',
  'leader-hunt',
  'write-edge',
  'vote-edge',
  'comeback',
  'figure-8',
  'blackout',
  'churn',
  'rot',
  'storm',
  'duel',
  'stale-leader',
  'laggard',
  'lies',
  'sleep',
  'amnesia',
  'schism',
  'orphan',
] as const;

export type Style = (typeof STYLES)[number];

/** What a seed is like: a random part of all faults, sizes and limits ("swarm testing", Groce et al. 2012). */
export interface Profile {
  /** Voters that the operator keeps. */
  voters: number;
  styles: Style[];
  tickMs: number;
  electionTicks: number;
  heartbeatTicks: number;
  snapshotEntries: number;
  keepEntries: number;
  maxAppendBytes: number;
  maxInflightMessages: number;
  segmentBytes: number;
  /** Clocks go this much faster or slower at the most: 0.1 is ten percent. */
  drift: number;
  /** Cost of a turn of a program, at the most, ms. */
  turnMs: number;
  /** Messages pass through the wire format. */
  encodes: boolean;
  /** The logs are encrypted. */
  sealed: boolean;
  links: LinkTemper;
  disk: DiskTemper;
  clients: number;
  keys: number;
  /** Mean time between two operations of a client, ms. */
  thinkMs: number;
  readShare: number;
  /** Bytes of a command beyond the least, at the most. */
  fillerBytes: number;
  snapshotFillerBytes: number;
  /** Mean time until a program that ended is started again, ms. */
  restartMs: number;
}

function pick<T>(random: Random, ...choices: [T, ...T[]]): T {
  return choices[random.int(choices.length)] as T;
}

function stylesOf(random: Random): Style[] {
  // A few at a time: all at once hide each other.
  const count = 2 + random.int(5);
  const styles = new Set<Style>();
  while (styles.size < count) styles.add(STYLES[random.int(STYLES.length)] as Style);
  return [...styles];
}

/** Draws the profile of a seed. */
export function profileOf(random: Random): Profile {
  const styles = stylesOf(random);
  const tiny = styles.includes('figure-8') || random.int(4) === 0;
  const slowDisk = random.int(6) === 0;
  const slowLinks = random.int(6) === 0;
  return {
    voters: pick(random, 3, 3, 3, 3, 5, 5, 5, 4, 7),
    styles,
    tickMs: 50,
    electionTicks: pick(random, 10, 10, 10, 20),
    heartbeatTicks: pick(random, 2, 2, 1, 4),
    snapshotEntries: pick(random, 15, 50, 200, 200, 1000),
    keepEntries: pick(random, 5, 20, 100),
    maxAppendBytes: tiny ? 1 : pick(random, 1000, 256 * 1024, 256 * 1024),
    maxInflightMessages: random.int(5) === 0 ? pick(random, 1, 2, 3) : pick(random, 8, 256),
    segmentBytes: pick(random, 16, 64, 64, 128) * 1024,
    drift: pick(random, 0, 0.02, 0.04, 0.1, 0.1, 0.5),
    turnMs: pick(random, 0, 0, 0.5),
    encodes: random.int(10) === 0,
    sealed: random.int(10) === 0,
    links: {
      ...GOOD_LINKS,
      meanMs: slowLinks ? 15 : pick(random, 0.3, 0.6, 2),
      ordered: tiny || random.int(4) > 0,
    },
    disk: {
      ...GOOD_DISK,
      meanMs: slowDisk ? 12 : pick(random, 0.1, 0.3, 2),
      tailShare: pick(random, 0, 0.002, 0.01),
    },
    clients: 2 + random.int(6),
    keys: 3 + random.int(5),
    thinkMs: pick(random, 100, 200, 400),
    readShare: pick(random, 0.2, 0.4, 0.6),
    fillerBytes: pick(random, 0, 60, 200, 900),
    snapshotFillerBytes: pick(random, 0, 1000, 8000),
    restartMs: pick(random, 200, 1000, 3000),
  };
}
