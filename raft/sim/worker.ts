import { loadMachine } from './machine.ts';
import { simulate, SimulationFailure, type SimulationResult } from './simulate.ts';

/** What a worker process is asked for. */
export interface SeedRequest {
  seed: number;
  durationMs: number;
  /** Module of the replicated state instead of the simulation's own: see machine.ts. */
  machine?: string;
}

export type SeedReport =
  | { kind: 'passed'; seed: number; result: SimulationResult }
  | { kind: 'failed'; seed: number; violation: string; stack: string; lines: readonly string[] };

/** Runs one seed and says how it went. */
export async function runSeed(request: SeedRequest): Promise<SeedReport> {
  const { seed, durationMs } = request;
  const machine = request.machine === undefined ? {} : { machine: await loadMachine(request.machine) };
  try {
    return { kind: 'passed', seed, result: await simulate({ seed, durationMs, ...machine }) };
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    const cause = error.cause instanceof Error ? error.cause : error;
    return { kind: 'failed', seed, violation: cause.message, stack: cause.stack ?? '', lines: error.lines };
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
