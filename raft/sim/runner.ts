import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runSeeds, type SeedProgram, type SeedReport } from './pool.ts';

/** Root of the sources. */
export const ROOT = join(fileURLToPath(import.meta.url), '../../..');
export const MODULES = join(ROOT, 'node_modules');
const MINUTES_DEFAULT = 5;

/** How one seed is run and watched in this process. */
export interface OneSeed {
  seed: number;
  durationMs: number;
  onLine: ((line: string) => void) | undefined;
  /** Which logs of the simulated programs are to be shown; undefined for none, or where a world has no logs. */
  logLevel: string | undefined;
}

/** A simulated world, as a program for people runs it. */
export interface RunnableWorld<Request extends { seed: number }, Result extends { hash: number }> {
  /** The command that people start it with. */
  command: string;
  /** Levels of the logs that it can show. */
  logLevels: readonly string[];
  runHere(one: OneSeed): Promise<SeedReport<Result>>;
  build(root: string, modules: string): Promise<SeedProgram<Request>>;
  /** Adds up what seeds did, for people. */
  totals(): { add(result: Result): void; text(): string; readonly hours: number };
}

interface Choice {
  seed: number;
  seeds: number;
  minutes: number;
  jobs: number;
  verbose: boolean;
  logLevel: string | undefined;
}

function usage(command: string, logLevels: readonly string[]): string {
  const hasLogs = logLevels.length > 0;
  const lines = [
    `usage: ${command} [--seed N] [--seeds COUNT] [--minutes M] [--jobs J] [--verbose]${hasLogs ? ' [--log LEVEL]' : ''}`,
    '  --seed N       the seed, or the first of them (default 1)',
    '  --seeds COUNT  so many seeds from there on, in worker processes (default 1)',
    `  --minutes M    virtual time with faults for each (default ${MINUTES_DEFAULT})`,
    '  --jobs J       worker processes (default: one for each core)',
    '  --verbose      says everything that happens to one seed',
  ];
  if (hasLogs) lines.push(`  --log LEVEL    shows the logs of all programs of one seed (${logLevels.join(', ')})`);
  return lines.join('\n');
}

function parse(logLevels: readonly string[]): Choice | undefined {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      seeds: { type: 'string', default: '1' },
      minutes: { type: 'string', default: String(MINUTES_DEFAULT) },
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
    logLevel: values.log,
  };
  const whole = [choice.seed, choice.seeds, choice.jobs].every((value) => Number.isSafeInteger(value) && value >= 0);
  const positive = choice.seeds > 0 && choice.jobs > 0 && choice.minutes > 0;
  const known = values.log === undefined || logLevels.includes(values.log);
  return whole && positive && known ? choice : undefined;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Runs seeds of a world as the command line asks for. */
class Runner<Request extends { seed: number }, Result extends { hash: number }> {
  readonly #world: RunnableWorld<Request, Result>;
  readonly #choice: Choice;
  readonly #startedMs = performance.now();

  constructor(world: RunnableWorld<Request, Result>, choice: Choice) {
    this.#world = world;
    this.#choice = choice;
  }

  get #seconds(): number {
    return (performance.now() - this.#startedMs) / 1000;
  }

  #sayFailure(report: SeedReport<Result> & { kind: 'failed' }, lines: readonly string[]): void {
    const { seed, violation, stack } = report;
    say(lines.join('\n'));
    say(`\nseed ${seed} failed: ${violation}`);
    if (stack !== '') say(stack.split('\n').slice(1, 8).join('\n'));
    say(`\nrun it again: ${this.#world.command} --seed ${seed} --minutes ${this.#choice.minutes}`);
  }

  #sayTotals(totals: { text(): string; readonly hours: number }): void {
    const seconds = this.#seconds;
    const times = (totals.hours * 3600) / seconds;
    say(`${totals.text()}\n${seconds.toFixed(0)} s of wall time: ${times.toFixed(0)} times faster than life`);
  }

  /** One seed in this process, so that a debugger sees it. @returns whether it passed. */
  async one(): Promise<boolean> {
    const { seed, minutes, verbose, logLevel } = this.#choice;
    const totals = this.#world.totals();
    const onLine = verbose ? say : undefined;
    const report = await this.#world.runHere({ seed, durationMs: minutes * 60_000, onLine, logLevel });
    if (report.kind === 'failed') {
      this.#sayFailure(report, verbose ? [] : report.lines);
      return false;
    }
    totals.add(report.result);
    this.#sayTotals(totals);
    say(`seed ${seed} passed; hash of all events ${report.result.hash.toString(16).padStart(8, '0')}`);
    return true;
  }

  /** Many seeds in worker processes, until one fails. @returns whether all passed. */
  async many(): Promise<boolean> {
    const { seed: first, seeds: count, minutes, jobs } = this.#choice;
    const totals = this.#world.totals();
    let ended = 0;
    let failed = false;
    const onReport = (report: SeedReport<Result>): boolean => {
      ended++;
      if (report.kind === 'passed') totals.add(report.result);
      else {
        failed = true;
        this.#sayFailure(report, report.lines);
      }
      if (ended % 10 === 0) {
        const done = `${ended} of ${count} seeds, ${totals.hours.toFixed(1)} simulated hours`;
        process.stderr.write(`${done} in ${Math.round(this.#seconds)} s\n`);
      }
      return !failed;
    };
    const program = await this.#world.build(ROOT, MODULES);
    try {
      await runSeeds<Request, Result>({ program, first, count, durationMs: minutes * 60_000, jobs, onReport });
    } finally {
      program.remove();
    }
    this.#sayTotals(totals);
    say(`${failed ? 'FAILED' : 'no violation'}; ${jobs} process(es)`);
    return !failed;
  }
}

/** The program of `npm run sim`: ends this process with 1 when a seed failed, with 2 when nobody understands what is asked. */
export async function runWorld<Request extends { seed: number }, Result extends { hash: number }>(
  world: RunnableWorld<Request, Result>,
): Promise<void> {
  const choice = parse(world.logLevels);
  if (choice === undefined) {
    process.stderr.write(`${usage(world.command, world.logLevels)}\n`);
    process.exit(2);
  }
  const runner = new Runner(world, choice);
  if (!(await (choice.seeds === 1 ? runner.one() : runner.many()))) process.exit(1);
}
