import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runSeeds, type SeedProgram, type SeedReport } from './pool.ts';
import { MODULES, ROOT } from './runner.ts';

/** One guard taken out of a copy of the sources. */
export interface Mutant {
  name: string;
  /** What must go wrong then. */
  breaks: string;
  /** Each must stand in its file exactly once. */
  patches: { file: string; find: string; put: string }[];
}

/** The first failure that a simulation found. */
export interface Found {
  seed: number;
  violation: string;
  /** Seeds that had ended by then. */
  tried: number;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/**
 * A copy of some of the sources with one guard taken out.
 * @throws Error when the patch does not fit any more.
 */
function mutate(root: string, sources: readonly string[], mutant: Mutant): string {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-mutant-'));
  for (const name of sources) cpSync(join(root, name), join(directory, name), { recursive: true });
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

/** The search for mutants in one world. */
export interface Hunt<Request extends { seed: number }> {
  /** What the program is built from. */
  sources: readonly string[];
  mutants: readonly Mutant[];
  build(root: string, modules: string): Promise<SeedProgram<Request>>;
  /** Seeds within which a mutant must be found, unless the command line says otherwise. */
  seeds: number;
  /** Virtual time of each, minutes. */
  minutes: number;
}

function options({ seeds, minutes }: { seeds: number; minutes: number }) {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      seeds: { type: 'string', default: String(seeds) },
      minutes: { type: 'string', default: String(minutes) },
      jobs: { type: 'string', default: String(availableParallelism()) },
    },
  });
  return {
    /** Part of the names of those that are asked for; empty for all. */
    only: values.only,
    run: { count: Number(values.seeds), durationMs: Number(values.minutes) * 60_000, jobs: Number(values.jobs) },
  };
}

/** Runs the simulation of a copy until it fails; undefined when it never does. */
async function firstFailure<Request extends { seed: number }>(
  program: SeedProgram<Request>,
  run: ReturnType<typeof options>['run'],
): Promise<Found | undefined> {
  let found: Found | undefined;
  let tried = 0;
  const onReport = (report: SeedReport<unknown>): boolean => {
    tried++;
    if (report.kind === 'failed') found ??= { seed: report.seed, violation: report.violation, tried };
    return found === undefined;
  };
  try {
    await runSeeds({ program, first: 1, ...run, onReport });
  } finally {
    program.remove();
  }
  return found;
}

/**
 * The program of `npm run sim:mutants`: runs the simulation without one guard after the other, and ends this process with
 * 1 when it did not miss one of them.
 */
export async function huntAll<Request extends { seed: number }>(hunt: Hunt<Request>): Promise<void> {
  const { only, run } = options(hunt);
  let survivors = 0;
  for (const mutant of hunt.mutants) {
    if (only !== '' && !mutant.name.includes(only)) continue;
    const startedMs = performance.now();
    try {
      const directory = mutate(ROOT, hunt.sources, mutant);
      const program = hunt.build(directory, MODULES).finally(() => rmSync(directory, { recursive: true, force: true }));
      const found = await firstFailure(await program, run);
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
      if (found === undefined) {
        survivors++;
        say(`SURVIVED  ${mutant.name}: all seeds pass without it (${seconds} s)`);
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
}
