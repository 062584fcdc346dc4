import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadMachine, storePath, usesStore } from './machine.ts';
import { simulate, SimulationFailure, type SimulationResult } from './simulate.ts';

const ROOT = join(fileURLToPath(import.meta.url), '../../..');
/** Virtual time of each seed, ms. */
const DURATION_MS = 60_000;
const FIXED = Array.from({ length: 20 }, (_, i) => i + 1);
/** Two that nobody has seen: of this moment. */
const FRESH = [Date.now() % 1_000_000_007, (Date.now() * 7 + process.pid) % 1_000_000_007];

async function run(seed: number): Promise<SimulationResult> {
  try {
    const store = usesStore(seed) ? storePath(ROOT) : undefined;
    const machine = store === undefined ? {} : { machine: await loadMachine(join(ROOT, store)) };
    return await simulate({ seed, durationMs: DURATION_MS, ...machine });
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    const command = `npm run sim -- --seed ${seed} --minutes ${DURATION_MS / 60_000}`;
    throw new Error(`${error.lines.join('\n')}\n${error.message}\nrun it again: ${command}`, { cause: error.cause });
  }
}

test.each([...FIXED, ...FRESH])('seed %i: no promise is broken, and the group recovers', async (seed) => {
  const result = await run(seed);
  expect(result.acknowledged).toBeGreaterThan(0);
  expect(result.simulatedMs).toBeGreaterThanOrEqual(DURATION_MS);
});

test('the same seed gives the same run, event by event', async () => {
  for (const seed of [99, 8]) {
    const first = await run(seed);
    expect(first).toEqual(await run(seed));
    expect(first.hash).not.toBe((await run(seed + 1)).hash);
  }
});
