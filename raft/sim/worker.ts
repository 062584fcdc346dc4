import { loadMachine } from './machine.ts';
import type { SeedReport } from './pool.ts';
import { simulate, SimulationFailure, type SimulationResult } from './simulate.ts';

/** What a worker process is asked for. */
export interface SeedRequest {
  seed: number;
  durationMs: number;
  /** Module of the replicated state instead of the simulation's own: see machine.ts. */
  machine?: string;
}

/** Runs one seed and says how it went. @param onLine called with each line of the journal. */
export async function runSeed(
  request: SeedRequest,
  onLine?: (line: string) => void,
): Promise<SeedReport<SimulationResult>> {
  const { seed, durationMs } = request;
  const machine = request.machine === undefined ? {} : { machine: await loadMachine(request.machine) };
  const watch = onLine === undefined ? {} : { onLine };
  try {
    return { kind: 'passed', seed, result: await simulate({ seed, durationMs, ...machine, ...watch }) };
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    const stack = error.cause instanceof Error ? (error.cause.stack ?? '') : '';
    return { kind: 'failed', seed, violation: error.message, stack, lines: error.lines };
  }
}

function answer(request: SeedRequest): void {
  runSeed(request).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      process.exit(3);
    },
  );
}

// Only as a worker process of pool.ts.
if (process.send !== undefined) process.on('message', (request) => answer(request as SeedRequest));
