import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import type { SeedReport, SeedRequest } from './worker.ts';

/** Memory that a worker's old objects may take, MB: a seed needs far less. */
const WORKER_MB = 1024;

/** A program that runs seeds, built from one state of the sources. */
export interface SeedProgram {
  path: string;
  remove(): void;
}

/**
 * Builds worker.ts of a copy of the sources. @param root holds raft/, base/, proto/.
 * @param modules its node_modules.
 */
export async function buildProgram(root: string, modules: string): Promise<SeedProgram> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-sim-'));
  symlinkSync(modules, join(directory, 'node_modules'));
  const path = join(directory, 'worker.mjs');
  await build({
    absWorkingDir: root,
    nodePaths: [modules],
    entryPoints: ['raft/sim/worker.ts'],
    outfile: path,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'linked',
    // A native add-on; nothing of it is used here.
    external: ['koffi'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  return { path, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

export interface SeedRun {
  program: SeedProgram;
  seeds: readonly number[];
  durationMs: number;
  /** Worker processes at once. */
  jobs: number;
  /** Called as each seed ends, in any order; false gives up those that are left. */
  onReport(report: SeedReport): boolean;
}

/** Runs seeds in worker processes. */
export async function runSeeds(run: SeedRun): Promise<void> {
  const waiting = [...run.seeds];
  const workers = Array.from({ length: Math.min(run.jobs, waiting.length) }, () => work(run, waiting));
  await Promise.all(workers);
}

function work(run: SeedRun, waiting: number[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(run.program.path, [], {
      execArgv: ['--enable-source-maps', `--max-old-space-size=${WORKER_MB}`],
    });
    let current: number | undefined;
    const next = (): void => {
      current = waiting.shift();
      if (current === undefined) end(child, resolve);
      else child.send({ seed: current, durationMs: run.durationMs } satisfies SeedRequest);
    };
    child.on('message', (message) => {
      if (!run.onReport(message as SeedReport)) waiting.length = 0;
      next();
    });
    child.on('error', reject);
    child.on('exit', (code) => {
      if (current !== undefined) reject(new Error(`the worker of seed ${current} ended with ${code}`));
    });
    next();
  });
}

function end(child: ChildProcess, resolve: () => void): void {
  child.once('exit', () => resolve());
  child.disconnect();
}
