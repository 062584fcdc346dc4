import type { SeedReport } from '../../raft/sim/pool.ts';
import { simulate, SimulationFailure, type SimulationOptions, type SimulationResult } from './simulate.ts';

/** What a worker process is asked for. */
export interface SeedRequest {
  seed: number;
  durationMs: number;
}

/** Runs one seed and says how it went. @param watch what is told of it meanwhile. */
export async function runSeed(
  { seed, durationMs }: SeedRequest,
  watch: Pick<SimulationOptions, 'onLine' | 'log'> = {},
): Promise<SeedReport<SimulationResult>> {
  try {
    return { kind: 'passed', seed, result: await simulate({ seed, durationMs, ...watch }) };
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

// Only as a worker process of raft/sim/pool.ts.
if (process.send !== undefined) process.on('message', (request) => answer(request as SeedRequest));
