import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutant-list.ts';
import { huntAll, type Found } from './mutate.ts';
import { buildProgram, runSeeds } from './pool.ts';
import type { SeedReport } from './worker.ts';

/** What a worker is built from. */
const SOURCES = ['base', 'proto', 'raft', 'manager', 'identity', 'scheduler', 'package.json', 'tsconfig.json'];
/** Seeds within which a mutant must be found. */
const SEEDS_MAX = 200;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    seeds: { type: 'string', default: String(SEEDS_MAX) },
    minutes: { type: 'string', default: '30' },
    jobs: { type: 'string', default: String(availableParallelism()) },
  },
});
const root = join(fileURLToPath(import.meta.url), '../../..');

/** The first failure that the simulation finds. */
async function run(directory: string): Promise<Found | undefined> {
  const program = await buildProgram(directory, join(root, 'node_modules'));
  let found: Found | undefined;
  let tried = 0;
  const onReport = (report: SeedReport): boolean => {
    tried++;
    if (report.kind === 'failed') found ??= { seed: report.seed, violation: report.violation, tried };
    return found === undefined;
  };
  const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i + 1);
  const durationMs = Number(values.minutes) * 60_000;
  try {
    await runSeeds({ program, seeds, durationMs, jobs: Number(values.jobs), onReport });
  } finally {
    program.remove();
  }
  return found;
}

if ((await huntAll({ root, sources: SOURCES, mutants: MUTANTS, only: values.only, run })) > 0) process.exit(1);
