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

/** Bundles programs of a copy of the sources into a directory. @param modules its node_modules. */
export async function bundle(
  root: string,
  modules: string,
  entryPoints: Record<string, string>,
): Promise<{ directory: string; remove(): void }> {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-sim-'));
  symlinkSync(modules, join(directory, 'node_modules'));
  await build({
    absWorkingDir: root,
    nodePaths: [modules],
    entryPoints,
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'linked',
    // Native add-ons; nothing of them is used here.
    external: ['koffi', 'level'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/**
 * Builds worker.ts of a copy of the sources. @param root holds raft/, base/, proto/.
 * @param modules its node_modules.
 */
export async function buildProgram(root: string, modules: string): Promise<SeedProgram> {
  const store = storePath(root);
  const entryPoints = { worker: 'raft/sim/worker.ts', ...(store === undefined ? {} : { store }) };
  const { directory, remove } = await bundle(root, modules, entryPoints);
  return {
    path: join(directory, 'worker.mjs'),
    store: store === undefined ? undefined : join(directory, 'store.mjs'),
    remove,
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
  const { program, seeds, jobs, onReport } = run;
  const requests = seeds.map((seed) => request(run, seed));
  await runWorkers<SeedRequest, SeedReport>({ path: program.path, requests, jobs, onReport });
}

function request({ program, durationMs }: SeedRun, seed: number): SeedRequest {
  const machine = usesStore(seed) && program.store !== undefined ? { machine: program.store } : {};
  return { seed, durationMs, ...machine };
}

export interface WorkerRun<Request, Report> {
  /** Program that answers each message with one. */
  path: string;
  requests: readonly Request[];
  /** Processes at once. */
  jobs: number;
  /** Called with each answer, in any order; false gives up those that are left. */
  onReport(report: Report): boolean;
}

/** Has requests answered by worker processes. */
export async function runWorkers<Request extends { seed: number }, Report>(
  run: WorkerRun<Request, Report>,
): Promise<void> {
  const waiting = [...run.requests];
  const workers = Array.from({ length: Math.min(run.jobs, waiting.length) }, () => work(run, waiting));
  await Promise.all(workers);
}

function work<Request extends { seed: number }, Report>(
  run: WorkerRun<Request, Report>,
  waiting: Request[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(run.path, [], {
      execArgv: ['--enable-source-maps', `--max-old-space-size=${WORKER_MB}`],
    });
    let current: Request | undefined;
    const next = (): void => {
      current = waiting.shift();
      if (current === undefined) end(child, resolve);
      else child.send(current);
    };
    child.on('message', (message) => {
      if (!run.onReport(message as Report)) waiting.length = 0;
      next();
    });
    child.on('error', reject);
    child.on('exit', (code) => {
      if (current !== undefined) reject(new Error(`the worker of seed ${current.seed} ended with ${code}`));
    });
    next();
  });
}

function end(child: ChildProcess, resolve: () => void): void {
  child.once('exit', () => resolve());
  child.disconnect();
}
