import { expect, test } from 'vitest';
import { simulate, SimulationFailure, type SimulationResult } from './simulate.ts';

/** Virtual time of each seed, ms. */
const DURATION_MS = 90_000;
const FIXED = [1, 2, 3, 4, 5, 6];
/** A seed takes some seconds of one processor; a busy machine may give a part of one. */
const SEED_TIMEOUT_MS = 180_000;

async function run(seed: number, durationMs = DURATION_MS): Promise<SimulationResult> {
  try {
    return await simulate({ seed, durationMs });
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    const command = `npm run sim -- --only cluster --seed ${seed} --minutes ${durationMs / 60_000}`;
    throw new Error(`${error.lines.join('\n')}\n${error.message}\nrun it again: ${command}`, { cause: error.cause });
  }
}

test.each(FIXED)(
  'seed %i: the cluster keeps its promises, and comes to rest',
  async (seed) => {
    const result = await run(seed);
    expect(result.simulatedMs).toBeGreaterThanOrEqual(DURATION_MS);
    expect(result.counts['entries']).toBeGreaterThan(0);
  },
  SEED_TIMEOUT_MS,
);

test(
  'the same seed gives the same run, event by event',
  async () => {
    const first = await run(99, 60_000);
    expect(first).toEqual(await run(99, 60_000));
    expect(first.hash).not.toBe((await run(100, 60_000)).hash);
  },
  SEED_TIMEOUT_MS,
);
