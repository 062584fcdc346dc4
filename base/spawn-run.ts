import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { ShoalError } from './errors.ts';
import type { Child, ChildStdio, StartChild } from './native-child.ts';
import { SPAWN_OUTPUT_MAX_BYTES, type SpawnRequest, type SpawnResult } from './spawn-types.ts';

const DEFAULT_TIMEOUT_MS = 120_000;

class Collector {
  #chunks: Buffer[] = [];
  #size = 0;
  truncated = false;

  add(chunk: Buffer): void {
    const room = SPAWN_OUTPUT_MAX_BYTES - this.#size;
    if (chunk.length > room) this.truncated = true;
    if (room <= 0) return;
    const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
    this.#chunks.push(kept);
    this.#size += kept.length;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

function startError({ file, cwd }: SpawnRequest, error: NodeJS.ErrnoException): ShoalError {
  if (error.code === 'ENOENT' && cwd !== undefined && !existsSync(cwd)) {
    return new ShoalError('Internal', `cannot start ${file}: its directory ${cwd} is not there`);
  }
  if (error.code === 'ENOENT') return new ShoalError('NotFound', `${file}: program not found; install it or fix PATH`);
  return new ShoalError('Internal', `cannot start ${file}: ${error.message}`);
}

/** Keeps the files that `work` opens until it has ended. */
async function withFiles<T>(work: (open: typeof openSync) => Promise<T>): Promise<T> {
  const opened: number[] = [];
  try {
    return await work((path, flags, mode) => {
      const fd = openSync(path, flags, mode);
      opened.push(fd);
      return fd;
    });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Runs a program up to its status line. See `SpawnRequest.statusLine`. */
async function runForStatus(
  request: SpawnRequest,
  start: StartChild,
  { stderrFile, files = [] }: NonNullable<SpawnRequest['statusLine']>,
  open: typeof openSync,
): Promise<SpawnResult> {
  const errors = open(stderrFile, 'w', 0o600);
  const more = files.map(({ path, flags }) => open(path, flags));
  return new Promise<SpawnResult>((resolve, reject) => {
    const child = startChild(start, request, ['ignore', 'ignore', errors, 'pipe', ...more]);
    const status = child.stdio[3] as Readable;
    const collected = new Collector();
    let timedOut = false;
    let exit: { code: number | null; signal: string | null } | undefined;
    let told = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
      told = true;
      settle();
    }, request.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const settle = (): void => {
      if (exit === undefined || !told) return;
      clearTimeout(timer);
      status.destroy();
      const [line = ''] = collected.bytes().toString('utf8').split('\n');
      const none = Buffer.alloc(0);
      resolve({ ...exit, stdout: Buffer.from(line), stderr: none, truncated: collected.truncated, timedOut });
    };
    const onTold = (): void => {
      told = true;
      settle();
    };
    status.on('data', (chunk: Buffer) => {
      collected.add(chunk);
      if (chunk.includes('\n')) onTold();
    });
    status.on('end', onTold);
    status.on('error', onTold);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(startError(request, error));
    });
    child.on('exit', (code, signal) => {
      exit = { code, signal };
      settle();
    });
  });
}

function startChild(start: StartChild, request: SpawnRequest, stdio: ChildStdio[]): Child {
  const { file, args, cwd } = request;
  return start(file, args, { env: request.env ?? process.env, ...(cwd === undefined ? {} : { cwd }), stdio });
}

/** Node's own way to start a child: a fork, whose cost grows with the memory of this process. */
const startForked: StartChild = (file, args, options) => spawn(file, args, options);

/** Runs one program as a child of this process. See `Spawner.run`. */
export function runProgram(request: SpawnRequest, start: StartChild = startForked): Promise<SpawnResult> {
  const { statusLine } = request;
  return withFiles((open) =>
    statusLine === undefined ? runToEnd(request, start, open) : runForStatus(request, start, statusLine, open),
  );
}

/** Runs a program until it and its output have ended. */
async function runToEnd(request: SpawnRequest, start: StartChild, open: typeof openSync): Promise<SpawnResult> {
  return new Promise<SpawnResult>((resolve, reject) => {
    const given = request.stdin === undefined ? 'ignore' : 'pipe';
    const child = startChild(start, request, [
      request.stdinFile === undefined ? given : open(request.stdinFile, 'r'),
      request.stdoutFile === undefined ? 'pipe' : open(request.stdoutFile, 'w'),
      'pipe',
    ]);
    const stdout = new Collector();
    const stderr = new Collector();
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, request.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    child.stdout?.on('data', (chunk: Buffer) => stdout.add(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.add(chunk));
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(startError(request, error));
    });
    const ended = (code: number | null, signal: string | null): void => {
      clearTimeout(timer);
      const truncated = stdout.truncated || stderr.truncated;
      resolve({ code, signal, stdout: stdout.bytes(), stderr: stderr.bytes(), truncated, timedOut });
    };
    if (request.leavesDaemon === true) {
      child.on('exit', (code, signal) => {
        // What it wrote is in the pipes, and may not be read yet: a whole turn of the loop reads it.
        setImmediate(() =>
          setImmediate(() => {
            child.stdout?.destroy();
            child.stderr?.destroy();
            ended(code, signal);
          }),
        );
      });
    } else child.on('close', ended);
    // A program may end before it has read its input.
    child.stdin?.on('error', () => undefined);
    if (request.stdin !== undefined) child.stdin?.end(request.stdin);
  });
}
