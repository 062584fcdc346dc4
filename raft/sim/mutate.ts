import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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

export interface Hunt {
  root: string;
  /** What the program is built from. */
  sources: readonly string[];
  mutants: readonly Mutant[];
  /** Part of the names of those that are asked for; empty for all. */
  only: string;
  /** Runs the simulation of a copy until it fails; undefined when it never does. */
  run(directory: string): Promise<Found | undefined>;
}

/** Runs the simulation without one guard after the other. @returns how many of them it did not miss. */
export async function huntAll(hunt: Hunt): Promise<number> {
  let survivors = 0;
  for (const mutant of hunt.mutants) {
    if (hunt.only !== '' && !mutant.name.includes(hunt.only)) continue;
    const startedMs = performance.now();
    try {
      const directory = mutate(hunt.root, hunt.sources, mutant);
      const found = await hunt.run(directory).finally(() => rmSync(directory, { recursive: true, force: true }));
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
  return survivors;
}
