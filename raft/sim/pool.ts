import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';

/** Memory that a worker's old objects may take, MB: a seed needs far less. */
const WORKER_MB = 1024;

/** What a worker process says of one seed. */
export type SeedReport<Result> =
  | { kind: 'passed'; seed: number; result: Result }
  | { kind: 'failed'; seed: number; violation: string; stack: string; lines: readonly string[] };

/** A program that runs seeds, built from one state of the sources. */
export interface SeedProgram<Request> {
  /** It answers each request with a `SeedReport`. */
  path: string;
  request(seed: number, durationMs: number): Request;
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

export interface SeedRun<Request, Result> {
  program: SeedProgram<Request>;
  /** The first seed, and how many from there on. */
  first: number;
  count: number;
  durationMs: number;
  /** Worker processes at once. */
  jobs: number;
  /** Called as each seed ends, in any order; false gives up those that are left. */
  onReport(report: SeedReport<Result>): boolean;
}

/** Runs seeds in worker processes. */
export async function runSeeds<Request extends { seed: number }, Result>(run: SeedRun<Request, Result>): Promise<void> {
  const { program, first, count, durationMs, jobs, onReport } = run;
  const requests = Array.from({ length: count }, (_, i) => program.request(first + i, durationMs));
  await runWorkers<Request, SeedReport<Result>>({ path: program.path, requests, jobs, onReport });
}

interface WorkerRun<Request, Report> {
  /** Program that answers each message with one. */
  path: string;
  requests: readonly Request[];
  /** Processes at once. */
  jobs: number;
  /** Called with each answer, in any order; false gives up those that are left. */
  onReport(report: Report): boolean;
}

/** Has requests answered by worker processes. */
async function runWorkers<Request extends { seed: number }, Report>(run: WorkerRun<Request, Report>): Promise<void> {
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
