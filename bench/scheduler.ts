import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { median } from './measure.ts';
import type { LoadResult, LoadRun, LoadSettings } from './scheduler-load.ts';
import { resultsFile, storedResult, storeResult } from './results.ts';

const BENCH = dirname(fileURLToPath(import.meta.url));
/** Heap of the measured process, MiB: the promise is less than 4 GB of memory in all. */
const HEAP_MIB = 3800;
const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;
const MIB = 1024 * 1024;

export const SIZES = {
  small: { nodes: 1_000, tasks: 100_000 },
  large: { nodes: 10_000, tasks: 1_000_000 },
} as const;
export type Size = keyof typeof SIZES;

const LOADS: Readonly<Record<LoadSettings['load'], string>> = {
  'small-services': 'services of 100 replicas',
  'big-services': '5 big services',
  constraints: '100 replicas, 3 constraints, 2 preferences',
  reservations: '100 replicas, CPU and memory reserved, 80 % full',
};

export interface SchedulerBenchOptions {
  runs: number;
  sizes: readonly Size[];
  signal: AbortSignal;
}

/** One load on one size. */
interface Cell extends LoadResult {
  load: LoadSettings['load'];
  nodes: number;
  tasks: number;
  date: string;
  /** Load average of the last minute before: what else ran on the machine. */
  loadBefore: number;
  medianMs: number;
  medianCpuMs: number;
  medianPlacementsPerSecond: number;
}

interface Stored {
  benchmark: 'scheduler';
  machine: { cpu: string; cpus: number; memoryBytes: number; kernel: string; node: string };
  what: string;
  remark: string;
  cells: Cell[];
}

const WHAT =
  'one pass of the Scheduler class over all tasks in one process, grouping included; real Node and Task objects, each ' +
  'task with a spec of its own; every run checks that all tasks were placed; medians of the runs; memory with all objects';
const REMARK =
  "Not measured here: SwarmKit's own in-memory benchmark of its scheduler gives 8,000 to 11,000 placements per second on " +
  'such a machine.';

function oneOf(values: readonly LoadRun[], what: (run: LoadRun) => number): number {
  return median(values.map(what));
}

async function measure(program: string, settings: LoadSettings, signal: AbortSignal): Promise<Cell> {
  const loadBefore = loadavg()[0] ?? 0;
  const args = ['--expose-gc', `--max-old-space-size=${HEAP_MIB}`, program, JSON.stringify(settings)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { signal, maxBuffer: OUTPUT_MAX_BYTES });
  const result = JSON.parse(stdout) as LoadResult;
  const { load, nodes, tasks } = settings;
  return {
    load,
    nodes,
    tasks,
    date: new Date().toISOString(),
    loadBefore,
    medianMs: oneOf(result.runs, (run) => run.ms),
    medianCpuMs: oneOf(result.runs, (run) => run.cpuMs),
    medianPlacementsPerSecond: oneOf(result.runs, (run) => run.placementsPerSecond),
    ...result,
  };
}

/** What an earlier run stored; a size that is not asked for keeps its figures. */
function kept(sizes: readonly Size[]): Cell[] {
  const cells = (storedResult('scheduler') as Stored | undefined)?.cells ?? [];
  return cells.filter((cell) => !sizes.some((size) => SIZES[size].nodes === cell.nodes));
}

function print(cells: readonly Cell[]): void {
  const head = ['nodes', 'tasks', 'load', 'per second', 'ms', 'CPU ms', 'peak RSS MiB', 'machine load'];
  const rows = cells.map((cell) => [
    String(cell.nodes),
    String(cell.tasks),
    LOADS[cell.load],
    cell.medianPlacementsPerSecond.toFixed(0),
    cell.medianMs.toFixed(0),
    cell.medianCpuMs.toFixed(0),
    (cell.peakRssBytes / MIB).toFixed(0),
    cell.loadBefore.toFixed(1),
  ]);
  const widths = head.map((text, i) => Math.max(text.length, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of [head, ...rows]) {
    console.log(
      row.map((text, i) => (i === 2 ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0))).join('  '),
    );
  }
}

/** Measures the scheduler alone, prints the table and stores the figures. */
export async function schedulerBench({ runs, sizes, signal }: SchedulerBenchOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  try {
    const program = join(scratch, 'load.mjs');
    await build({
      entryPoints: [join(BENCH, 'scheduler-load.ts')],
      outfile: program,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20',
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
      logLevel: 'warning',
    });
    const cells = kept(sizes);
    for (const size of sizes) {
      for (const load of Object.keys(LOADS) as LoadSettings['load'][]) {
        const cell = await measure(program, { ...SIZES[size], load, runs }, signal);
        console.log(`${LOADS[load]} on ${cell.nodes} nodes: ${cell.medianPlacementsPerSecond.toFixed(0)} per second`);
        cells.push(cell);
      }
    }
    cells.sort((a, b) => a.nodes - b.nodes);
    const machine = {
      cpu: cpus()[0]?.model ?? 'unknown',
      cpus: cpus().length,
      memoryBytes: totalmem(),
      kernel: release(),
      node: process.version,
    };
    const stored: Stored = { benchmark: 'scheduler', machine, what: WHAT, remark: REMARK, cells };
    storeResult('scheduler', stored);
    console.log('');
    print(cells);
    console.log(`\n${REMARK}\nStored in ${resultsFile('scheduler')}`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
