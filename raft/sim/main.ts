import { parseArgs } from 'node:util';
import { simulate } from './simulate.ts';

/** `npm run sim -- --seed N [--minutes M] [--count C]`: runs seeds N, N+1, …; a failure prints how to run it again. */
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '1' },
    count: { type: 'string', default: '1' },
  },
});
const firstSeed = Number(values.seed);
const minutes = Number(values.minutes);
const count = Number(values.count);
if (!Number.isSafeInteger(firstSeed) || firstSeed < 0 || !(minutes > 0) || !Number.isSafeInteger(count) || count < 1) {
  process.stderr.write('usage: npm run sim -- --seed N [--minutes M] [--count C]\n');
  process.exit(2);
}
let simulatedMs = 0;
for (let seed = firstSeed; seed < firstSeed + count; seed++) {
  try {
    const result = await simulate({ seed, durationMs: minutes * 60_000 });
    simulatedMs += result.simulatedMs;
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } catch (error) {
    process.stderr.write(`seed ${seed} failed: ${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
    process.stderr.write(`run it again: npm run sim -- --seed ${seed} --minutes ${minutes}\n`);
    process.exit(1);
  }
}
process.stdout.write(`simulated ${(simulatedMs / 1000).toFixed(1)} s in ${count} run(s), no violation\n`);
