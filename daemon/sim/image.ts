import type { Random } from '../../base/index.ts';
import type { Task } from '../../proto/index.ts';

/** How containers of an image behave. The image's name says it: `<kind>:<version>`. */
export interface Behaviour {
  /** Mean time to make the container, and to bring it up, ms. */
  prepareMs: number;
  startMs: number;
  /** Mean time it takes to stop, ms; longer than its grace it is killed. */
  stopMs: number;
  /** Share of tries to prepare that fail for good, and for now. */
  rejectShare: number;
  unavailableShare: number;
  /** Share of starts that fail. */
  failStartShare: number;
  /** Mean life until it ends by itself, ms; undefined: it does not. */
  lifeMs: number | undefined;
  /** Share of ends by itself that are failures. */
  failShare: number;
}

const WEB: Behaviour = {
  prepareMs: 150,
  startMs: 60,
  stopMs: 120,
  rejectShare: 0,
  unavailableShare: 0,
  failStartShare: 0,
  lifeMs: undefined,
  failShare: 1,
};

/** Kinds whose tasks come up and stay when nothing disturbs, those of jobs, and those that never will. */
export const IMAGES: Readonly<Record<string, Behaviour>> = {
  web: WEB,
  /** Slow to come and to go. */
  heavy: { ...WEB, prepareMs: 3_000, startMs: 2_000, stopMs: 6_000 },
  /** Ends now and then, in a while of hours in calm times. */
  flaky: { ...WEB, lifeMs: 40_000, unavailableShare: 0.1, failStartShare: 0.05 },
  /** A release that does not work. */
  broken: { ...WEB, lifeMs: 800 },
  missing: { ...WEB, rejectShare: 1 },
  job: { ...WEB, lifeMs: 4_000, failShare: 0 },
  'flaky-job': { ...WEB, lifeMs: 3_000, failShare: 0.3, unavailableShare: 0.05 },
};

/** Kinds that must come to run (or to complete) in the end. */
export const SOUND_IMAGES: ReadonlySet<string> = new Set(['web', 'heavy', 'flaky', 'job', 'flaky-job']);

export function imageKind(task: Pick<Task, 'spec'>): string {
  return (task.spec?.container?.image ?? '').split(':')[0] ?? '';
}

export function behaviourOf(task: Task): Behaviour {
  return IMAGES[imageKind(task)] ?? WEB;
}

/** A time that is exponentially distributed, ms. */
export function around(random: Random, meanMs: number): number {
  return -Math.log(1 - random.float()) * meanMs;
}
