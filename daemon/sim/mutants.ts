import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { huntAll, type Found } from '../../raft/sim/mutate.ts';
import { bundle, runWorkers } from '../../raft/sim/pool.ts';
import { MUTANTS } from './mutant-list.ts';
import type { SeedReport, SeedRequest } from './worker.ts';

/** What a worker is built from. */
const SOURCES = [
  ...['base', 'proto', 'raft', 'manager', 'identity', 'scheduler', 'worker', 'daemon'],
  ...['package.json', 'tsconfig.json'],
];
/** Seeds within which a mutant must be found. */
const SEEDS_MAX = 60;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    seeds: { type: 'string', default: String(SEEDS_MAX) },
    minutes: { type: 'string', default: '5' },
    jobs: { type: 'string', default: String(availableParallelism()) },
  },
});
const root = join(fileURLToPath(import.meta.url), '../../..');

/** The first failure that the simulation finds. */
async function run(directory: string): Promise<Found | undefined> {
  const program = await bundle(directory, join(root, 'node_modules'), { worker: 'daemon/sim/worker.ts' });
  let found: Found | undefined;
  let tried = 0;
  const onReport = (report: SeedReport): boolean => {
    tried++;
    if (report.kind === 'failed') found ??= { seed: report.seed, violation: report.violation, tried };
    return found === undefined;
  };
  const durationMs = Number(values.minutes) * 60_000;
  const requests = Array.from({ length: Number(values.seeds) }, (_, i) => ({ seed: i + 1, durationMs }));
  const path = join(program.directory, 'worker.mjs');
  try {
    await runWorkers<SeedRequest, SeedReport>({ path, requests, jobs: Number(values.jobs), onReport });
  } finally {
    program.remove();
  }
  return found;
}

if ((await huntAll({ root, sources: SOURCES, mutants: MUTANTS, only: values.only, run })) > 0) process.exit(1);
