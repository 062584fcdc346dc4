import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createLogger } from '../../base/index.ts';
import { bundle, runWorkers } from '../../raft/sim/pool.ts';
import { simulate, SimulationFailure } from './simulate.ts';
import { Totals } from './table.ts';
import type { SeedReport, SeedRequest } from './worker.ts';

const USAGE = `usage: npm run sim -- --only cluster [--seed N] [--seeds COUNT] [--minutes M] [--jobs J] [--verbose] [--log LEVEL]
  --seed N       the seed, or the first of them (default 1)
  --seeds COUNT  so many seeds from there on, in worker processes (default 1)
  --minutes M    virtual time with faults for each (default 5)
  --jobs J       worker processes (default: one for each core)
  --verbose      says everything that happens to one seed
  --log LEVEL    shows the logs of all programs of one seed (debug, info, warn, error)`;

const root = join(fileURLToPath(import.meta.url), '../../..');
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

interface Choice {
  seed: number;
  seeds: number;
  minutes: number;
  jobs: number;
  verbose: boolean;
  log: (typeof LEVELS)[number] | undefined;
}

function parse(): Choice | undefined {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      seeds: { type: 'string', default: '1' },
      minutes: { type: 'string', default: '5' },
      jobs: { type: 'string', default: String(availableParallelism()) },
      verbose: { type: 'boolean', default: false },
      log: { type: 'string' },
    },
  });
  const choice = {
    seed: Number(values.seed),
    seeds: Number(values.seeds),
    minutes: Number(values.minutes),
    jobs: Number(values.jobs),
    verbose: values.verbose,
    log: LEVELS.find((level) => level === values.log),
  };
  const whole = [choice.seed, choice.seeds, choice.jobs].every((value) => Number.isSafeInteger(value) && value >= 0);
  return whole && choice.seeds > 0 && choice.jobs > 0 && choice.minutes > 0 ? choice : undefined;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function sayFailure(seed: number, violation: string, stack: string, lines: readonly string[], minutes: number): void {
  say(lines.join('\n'));
  say(`\nseed ${seed} failed ${violation}`);
  if (stack !== '') say(stack.split('\n').slice(1, 8).join('\n'));
  say(`\nrun it again: npm run sim -- --only cluster --seed ${seed} --minutes ${minutes}`);
}

function saySpeed(totals: Totals, seconds: number): void {
  const times = (totals.hours * 3600) / seconds;
  say(`${seconds.toFixed(0)} s of wall time: ${times.toFixed(0)} times faster than life`);
}

/** One seed in this process, so that a debugger sees it. */
async function one({ seed, minutes, verbose, log: level }: Choice): Promise<boolean> {
  const totals = new Totals();
  const startedMs = performance.now();
  try {
    const onLine = verbose ? { onLine: say } : {};
    const log = level === undefined ? {} : { log: createLogger({ level, fd: 2 }) };
    const result = await simulate({ seed, durationMs: minutes * 60_000, ...onLine, ...log });
    totals.add(result);
    say(totals.text());
    saySpeed(totals, (performance.now() - startedMs) / 1000);
    say(`seed ${seed} passed; hash of all events ${result.hash.toString(16).padStart(8, '0')}`);
    return true;
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    const stack = error.cause instanceof Error ? (error.cause.stack ?? '') : '';
    sayFailure(seed, error.message, stack, verbose ? [] : error.lines, minutes);
    return false;
  }
}

async function many({ seed, seeds, minutes, jobs }: Choice): Promise<boolean> {
  const program = await bundle(root, join(root, 'node_modules'), { worker: 'daemon/sim/worker.ts' });
  const totals = new Totals();
  const startedMs = performance.now();
  let ended = 0;
  let failed = false;
  const onReport = (report: SeedReport): boolean => {
    ended++;
    if (report.kind === 'passed') totals.add(report.result);
    else {
      failed = true;
      sayFailure(report.seed, report.violation, report.stack, report.lines, minutes);
    }
    if (ended % 10 === 0) {
      const seconds = Math.round((performance.now() - startedMs) / 1000);
      process.stderr.write(`${ended} of ${seeds} seeds, ${totals.hours.toFixed(1)} simulated hours in ${seconds} s\n`);
    }
    return !failed;
  };
  try {
    const requests = Array.from({ length: seeds }, (_, i) => ({ seed: seed + i, durationMs: minutes * 60_000 }));
    const path = join(program.directory, 'worker.mjs');
    await runWorkers<SeedRequest, SeedReport>({ path, requests, jobs, onReport });
  } finally {
    program.remove();
  }
  say(totals.text());
  const seconds = (performance.now() - startedMs) / 1000;
  saySpeed(totals, seconds);
  say(`${failed ? 'FAILED' : 'no violation'}; ${jobs} process(es)`);
  return !failed;
}

const choice = parse();
if (choice === undefined) {
  process.stderr.write(`${USAGE}\n`);
  process.exit(2);
}
const passed = await (choice.seeds === 1 ? one(choice) : many(choice));
if (!passed) process.exit(1);
