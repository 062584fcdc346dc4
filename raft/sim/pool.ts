import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { storePath, usesStore } from './machine.ts';
import type { SeedReport, SeedRequest } from './worker.ts';

/** Memory that a worker's old objects may take, MB: a seed needs far less. */
const WORKER_MB = 1024;

/** A program that runs seeds, built from one state of the sources. */
export interface SeedProgram {
  path: string;
  /** The built module of the managers' store, if the sources have it. */
  store: string | undefined;
  remove(): void;
}

/**
 * Builds worker.ts of a copy of the sources. @param root holds raft/, base/, proto/.
 * @param modules its node_modules.
 */
export async function buildProgram(root: string, modules: string): Promise<SeedProgram> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-sim-'));
  symlinkSync(modules, join(directory, 'node_modules'));
  const store = storePath(root);
  await build({
    absWorkingDir: root,
    nodePaths: [modules],
    entryPoints: { worker: 'raft/sim/worker.ts', ...(store === undefined ? {} : { store }) },
    outdir: directory,
    outExtension: { '.js': '.mjs' },
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
  return {
    path: join(directory, 'worker.mjs'),
    store: store === undefined ? undefined : join(directory, 'store.mjs'),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
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

function request({ program, durationMs }: SeedRun, seed: number): SeedRequest {
  const machine = usesStore(seed) && program.store !== undefined ? { machine: program.store } : {};
  return { seed, durationMs, ...machine };
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
      else child.send(request(run, current));
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
