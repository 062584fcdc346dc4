import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS, type Mutant } from './mutant-list.ts';
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

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A copy of the sources with one guard taken out. @throws Error when the patch does not fit any more. */
function mutate(mutant: Mutant): string {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-mutant-'));
  for (const name of SOURCES) cpSync(join(root, name), join(directory, name), { recursive: true });
  for (const { file, find, put } of mutant.patches) {
    const path = join(directory, file);
    const source = readFileSync(path, 'utf8');
    if (source.split(find).length !== 2) {
      rmSync(directory, { recursive: true, force: true });
      throw new Error(`the patch of "${mutant.name}" does not fit ${file} any more: adapt mutant-list.ts`);
    }
    writeFileSync(
      path,
      source.replace(find, () => put),
    );
  }
  return directory;
}

interface Found {
  seed: number;
  violation: string;
  tried: number;
}

/** The first failure that the simulation finds. */
async function hunt(mutant: Mutant): Promise<Found | undefined> {
  const directory = mutate(mutant);
  let found: Found | undefined;
  let tried = 0;
  try {
    const program = await buildProgram(directory, join(root, 'node_modules'));
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
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return found;
}

let survivors = 0;
for (const mutant of MUTANTS) {
  if (values.only !== '' && !mutant.name.includes(values.only)) continue;
  const startedMs = performance.now();
  try {
    const found = await hunt(mutant);
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
    if (found === undefined) {
      survivors++;
      say(`SURVIVED  ${mutant.name}: ${values.seeds} seeds pass without it (${seconds} s)`);
    } else {
      const first = found.violation.split('\n')[0];
      say(`found     ${mutant.name}: seed ${found.seed}, the ${found.tried}. to end, after ${seconds} s: ${first}`);
    }
  } catch (error) {
    survivors++;
    say(`BROKEN    ${mutant.name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
if (survivors > 0) process.exit(1);
