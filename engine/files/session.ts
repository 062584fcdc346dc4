import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newHexId, ShoalError, type Random, type Spawner } from '../../base/index.ts';
import type { IdMapping } from '../types.ts';
import type { Job, Reply, Task, View } from './words.ts';

/** Time one job may take, ms: an archive may be large and its reader slow. */
const JOB_TIMEOUT_MS = 6 * 3600_000;
/** Bundled beside the daemon, or, when the program runs from its sources, the module itself. */
const BUILT = './file-helper.mjs';
const SOURCE = './helper.ts';
/** Longest path of a unix socket (unix(7)), bytes. */
const SOCKET_PATH_MAX_BYTES = 107;
/** Longest first line of an answer, bytes. */
const LINE_MAX_BYTES = 1024 * 1024;

/** Arguments for Node that run the helper. Sources need their loader. */
function helperArguments(given: string | undefined): string[] {
  const built = given ?? fileURLToPath(new URL(BUILT, import.meta.url));
  if (existsSync(built)) return [built];
  const source = JSON.stringify(fileURLToPath(new URL(SOURCE, import.meta.url)));
  return ['-e', `import('tsx/esm/api').then(({ register }) => { register(); return import(${source}); })`];
}

/** A job under way. Whoever began it reads or writes `socket`, then asks `finished`. */
export interface Session {
  /** The archive: both directions end on their own. */
  socket: Socket;
  /** Resolves when the job is done. @throws ShoalError with what went wrong */
  finished: Promise<void>;
}

export interface SessionOptions {
  spawner: Spawner;
  random: Random;
  /** The built helper; default: beside the daemon's program. */
  helper?: string | undefined;
  /** A directory of this boot that only root may enter. */
  directory: string;
  view: View;
  task: Task;
  /** What users in archives are on the host. */
  ids?: IdMapping | undefined;
  signal?: AbortSignal | undefined;
}

function replyOf(stdout: string, stderr: string): Reply {
  try {
    return JSON.parse(stdout) as Reply;
  } catch {
    return { ok: false, code: 'Internal', message: `the file helper ended: ${stderr.trim().slice(-500) || 'no word'}` };
  }
}

/** Begins a job in a process of its own. @throws ShoalError when it cannot be begun */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { spawner, directory, view, task, signal } = options;
  const path = join(directory, `${newHexId(options.random).slice(0, 16)}.sock`);
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX_BYTES) {
    throw new ShoalError('FailedPrecondition', `the path ${path} is too long for a socket: use a shorter exec root`);
  }
  signal?.throwIfAborted();
  const server = createServer({ allowHalfOpen: true });
  try {
    server.listen(path);
    await once(server, 'listening');
    const job: Job = { socket: path, view, task, ...(options.ids === undefined ? {} : { ids: options.ids }) };
    const finished = spawner
      .run({
        file: process.execPath,
        args: helperArguments(options.helper),
        stdin: JSON.stringify(job),
        timeoutMs: JOB_TIMEOUT_MS,
      })
      .then(({ stdout, stderr }) => {
        const reply = replyOf(stdout.toString('utf8'), stderr.toString('utf8'));
        if (!reply.ok) throw new ShoalError(reply.code, reply.message);
      });
    // It is asked for after the socket; until then nobody listens to its failure.
    finished.catch(() => undefined);
    const socket = await connected(server, finished);
    // Errors of the socket tell less than the helper's reply.
    socket.on('error', () => undefined);
    const onAbort = (): void => void socket.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    void finished.catch(() => undefined).then(() => signal?.removeEventListener('abort', onAbort));
    return { socket, finished };
  } finally {
    server.close();
  }
}

async function connected(server: Server, finished: Promise<void>): Promise<Socket> {
  const socket = await Promise.race([
    once(server, 'connection').then(([one]) => one as Socket),
    finished.then(() => undefined),
  ]);
  if (socket !== undefined) return socket;
  throw new ShoalError('Internal', 'the file helper ended before it began');
}

function readableOrDone(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const names = ['readable', 'end', 'close'] as const;
    const done = (): void => {
      for (const name of names) socket.off(name, done);
      resolve();
    };
    for (const name of names) socket.on(name, done);
  });
}

/** Reads the first line of an answer; what follows stays in the socket. @throws ShoalError with the helper's words */
export async function firstLine({ socket, finished }: Session): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (socket.readableEnded || socket.destroyed) break;
      await readableOrDone(socket);
      continue;
    }
    const end = chunk.indexOf(0x0a);
    if (end !== -1) {
      socket.unshift(chunk.subarray(end + 1));
      return Buffer.concat([...chunks, chunk.subarray(0, end)]).toString('utf8');
    }
    chunks.push(chunk);
    size += chunk.length;
    if (size > LINE_MAX_BYTES) break;
  }
  socket.destroy();
  await finished;
  throw new ShoalError('Internal', 'the file helper gave no answer');
}

/** All that a job answers, `maxBytes` at the most. @throws ShoalError with the helper's words */
export async function wholeAnswer({ socket, finished }: Session, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      socket.destroy();
      throw new ShoalError('ResourceExhausted', `an answer about files is larger than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  await finished;
  return Buffer.concat(chunks);
}

/** The rest of an answer as it comes; ends with an error when the job fails. `release` is called in any case. */
export async function* answerStream(
  { socket, finished }: Session,
  release: () => Promise<void>,
): AsyncGenerator<Uint8Array, void> {
  try {
    for await (const chunk of socket as AsyncIterable<Buffer>) yield chunk;
    await finished;
  } finally {
    socket.destroy();
    await release();
  }
}
