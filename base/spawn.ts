import { ShoalError } from './errors.ts';
import { startNative } from './native-child.ts';
import { runProgram } from './spawn-run.ts';
import type { SpawnRequest, SpawnResult } from './spawn-types.ts';

export * from './spawn-types.ts';

/** Runs programs. The daemon's is `nativeSpawner`. */
export interface Spawner {
  /** Runs to the end. Rejects only when the program could not be started (NotFound when it does not exist). */
  run(request: SpawnRequest): Promise<SpawnResult>;
  close(): void;
}

/** Runs programs as children of this very process: for small processes (client, lab, tests). */
export const directSpawner: Spawner = {
  run: (request) => runProgram(request),
  close: () => undefined,
};

/** Thrown by `runChecked`: says which program failed and with which words. */
export class ProgramFailed extends ShoalError {
  readonly result: SpawnResult;
  constructor(request: SpawnRequest, result: SpawnResult) {
    const words = result.stderr.toString('utf8').trim() || result.stdout.toString('utf8').trim();
    const end = result.timedOut ? 'timed out' : result.signal === null ? `exit ${result.code}` : result.signal;
    super('Internal', `${request.file}: ${words || end}`);
    this.result = result;
  }
}

/** Runs a program and returns its standard output. @throws ProgramFailed unless it exits with 0. */
export async function runChecked(spawner: Spawner, request: SpawnRequest): Promise<string> {
  const result = await spawner.run(request);
  if (result.code !== 0) throw new ProgramFailed(request, result);
  return result.stdout.toString('utf8');
}

/** Programs that may run at once; more are refused with ResourceExhausted. */
const RUNNING_MAX = 4096;

/**
 * Runs programs as children of a large daemon: by posix_spawn, which copies nothing of it. node's own `spawn` forks, and
 * stalls the event loop in proportion to the process's memory (35 ms at 0.9 GB). See docs/adr/0011.
 */
export function nativeSpawner(): Spawner {
  let running = 0;
  let closed = false;
  return {
    async run(request) {
      if (closed) throw new ShoalError('Unavailable', 'the daemon is stopping');
      if (running >= RUNNING_MAX) {
        throw new ShoalError('ResourceExhausted', `${RUNNING_MAX} programs are already running`);
      }
      running += 1;
      try {
        return await runProgram(request, startNative);
      } finally {
        running -= 1;
      }
    },
    close: () => {
      closed = true;
    },
  };
}
