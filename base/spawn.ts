import { fork, type ChildProcess } from 'node:child_process';
import { must } from './assert.ts';
import { ShoalError } from './errors.ts';
import { runProgram } from './spawn-run.ts';
import type { SpawnRequest, SpawnResult } from './spawn-types.ts';

export * from './spawn-types.ts';

/** Runs programs. The daemon's implementation is a small helper process; see `startSpawnHelper`. */
export interface Spawner {
  /** Runs to the end. Rejects only when the program could not be started (NotFound when it does not exist). */
  run(request: SpawnRequest): Promise<SpawnResult>;
  close(): void;
}

/** Runs programs as children of this very process: for small processes (client, lab, tests). */
export const directSpawner: Spawner = {
  run: runProgram,
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

export type HelperMessage = { id: number; request: SpawnRequest };
export type HelperReply = { id: number; result?: SpawnResult; error?: string; missing?: boolean };

/** Programs that may run or wait in the helper at once; more are refused with ResourceExhausted. */
const HELPER_PENDING_MAX = 4096;

class HelperSpawner implements Spawner {
  /** Undefined after the helper has ended, until the next request. */
  #child: ChildProcess | undefined;
  #next = 1;
  #pending = new Map<number, { resolve: (r: SpawnResult) => void; reject: (e: Error) => void }>();
  #closed = false;
  readonly #start: () => ChildProcess;

  constructor(start: () => ChildProcess) {
    this.#start = start;
    this.#child = this.#attach();
  }

  #attach(): ChildProcess {
    const child = this.#start();
    child.on('message', (message) => this.#onReply(message as HelperReply));
    child.on('error', (error) => this.#onEnd(child, `could not be started: ${error.message}`));
    child.on('exit', () => this.#onEnd(child, 'ended; the request was not finished'));
    child.unref();
    child.channel?.unref();
    return child;
  }

  /** A new helper is started by the next request, so that one that cannot live is not started over and over. */
  #onEnd(child: ChildProcess, why: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    for (const { reject } of this.#pending.values()) {
      reject(new ShoalError('Internal', `the helper that runs programs ${why}`));
    }
    this.#pending.clear();
  }

  #onReply(reply: HelperReply): void {
    const waiting = this.#pending.get(reply.id);
    if (waiting === undefined) return;
    this.#pending.delete(reply.id);
    if (this.#pending.size === 0) this.#child?.channel?.unref();
    if (reply.error === undefined) {
      const result = must(reply.result, 'result of a program');
      // Advanced serialisation turns a Buffer into a Uint8Array.
      waiting.resolve({ ...result, stdout: Buffer.from(result.stdout), stderr: Buffer.from(result.stderr) });
    } else {
      waiting.reject(new ShoalError(reply.missing === true ? 'NotFound' : 'Internal', reply.error));
    }
  }

  run(request: SpawnRequest): Promise<SpawnResult> {
    if (this.#closed) return Promise.reject(new ShoalError('Unavailable', 'the daemon is stopping'));
    if (this.#pending.size >= HELPER_PENDING_MAX) {
      return Promise.reject(new ShoalError('ResourceExhausted', `${HELPER_PENDING_MAX} programs are already waiting`));
    }
    const id = this.#next++;
    const child = (this.#child ??= this.#attach());
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      child.channel?.ref();
      const message: HelperMessage = { id, request };
      child.send(message, (error) => {
        if (error === null || !this.#pending.delete(id)) return;
        reject(new ShoalError('Internal', `cannot reach the helper that runs programs: ${error.message}`));
      });
    });
  }

  close(): void {
    this.#closed = true;
    if (this.#child?.connected === true) this.#child.disconnect();
  }
}

/**
 * Starts the helper process (`modulePath` is the built `spawn-helper`). Spawning from a large daemon stalls its event
 * loop in proportion to its memory (35 ms at 0.9 GB); the helper stays small. If it dies, the next request starts it again.
 */
export function startSpawnHelper(modulePath: string): Spawner {
  return new HelperSpawner(() =>
    fork(modulePath, [], { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv: [] }),
  );
}
