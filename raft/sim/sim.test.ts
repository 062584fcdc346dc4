import { expect, test } from 'vitest';
import { simulate } from './simulate.ts';

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);

test.each(SEEDS)('seed %i: no promise of Raft is broken and the group recovers', async (seed) => {
  const result = await simulate({ seed, durationMs: 20_000 });
  expect(result.acknowledged).toBeGreaterThan(50);
});

test('the same seed gives the same run', async () => {
  const options = { seed: 99, durationMs: 10_000 };
  expect(await simulate(options)).toEqual(await simulate(options));
});
