/** One attached stream: standard input to the process, its output to here, with a terminal or without. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import type { Context, Output } from './context.ts';
import { DetachFilter } from './detach-keys.ts';
import { frames } from './frames.ts';
import { rawTerminal } from './terminal.ts';

/** What is attached. */
export interface SessionOptions {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** The process has a terminal: output is one stream, input is raw. */
  tty: boolean;
  /** `--detach-keys`; empty for the default. */
  detachKeys: string;
}

/** How a session ended. */
export type SessionEnd = 'closed' | 'detached';

export interface Session {
  /** The end. @throws Error when a frame is broken or carries the daemon's own fault */
  readonly ended: Promise<SessionEnd>;
  /** Lets go of the stream and of standard input at once. */
  close(): void;
}

async function write(output: Output, data: Uint8Array): Promise<void> {
  output.write(data);
  await output.drained?.();
}

async function pumpOutput(context: Context, socket: Duplex, options: SessionOptions): Promise<void> {
  const source = socket as AsyncIterable<Uint8Array>;
  try {
    if (options.tty && options.stdout) {
      for await (const chunk of source) await write(context.out, chunk);
      return;
    }
    for await (const { stream, data } of frames(source)) {
      const wanted = stream === 'stderr' ? options.stderr : options.stdout;
      if (wanted) await write(stream === 'stderr' ? context.err : context.out, data);
    }
  } catch (error) {
    // A daemon that went away, or a session that was closed here, is an end like another.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ECONNRESET' && code !== 'ERR_STREAM_PREMATURE_CLOSE' && code !== 'EPIPE') throw error;
  }
}

/** Sends standard input until it ends, then half-closes. `detached` when the user typed the keys for it. */
async function pumpInput(context: Context, socket: Duplex, options: SessionOptions): Promise<SessionEnd> {
  const keys = options.tty ? new DetachFilter(options.detachKeys) : undefined;
  try {
    // The stream stays open when the loop is left: a terminal must still be given back through it.
    const typed = context.input.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    for await (const chunk of typed) {
      const { send, detached } = keys === undefined ? { send: chunk, detached: false } : keys.filter(chunk);
      if (send.length > 0 && !socket.write(send) && !socket.destroyed) await drain(socket);
      if (detached) return 'detached';
      if (socket.destroyed) return 'closed';
    }
    const rest = keys?.rest() ?? Buffer.alloc(0);
    if (rest.length > 0) socket.write(rest);
  } catch {
    // Input that cannot be read any more (its terminal is gone, or the session ended) is at its end.
  }
  if (!socket.destroyed) socket.end();
  return 'closed';
}

async function drain(socket: Duplex): Promise<void> {
  const stop = new AbortController();
  try {
    await Promise.race([
      once(socket, 'drain', { signal: stop.signal }),
      once(socket, 'close', { signal: stop.signal }),
    ]);
  } finally {
    stop.abort();
  }
}

/** Begins to copy between the client's streams and an attached connection. */
export function startSession(context: Context, socket: Duplex, options: SessionOptions): Session {
  const restore = options.stdin && options.tty ? rawTerminal(context) : () => undefined;
  const close = (): void => {
    restore();
    if (options.stdin) context.input.destroy();
    socket.destroy();
  };
  // Errors of the connection show themselves where it is read; without a listener they would end the client.
  socket.on('error', () => undefined);
  const input = options.stdin ? pumpInput(context, socket, options) : undefined;
  const hasOutput = options.stdout || options.stderr;
  if (!hasOutput) socket.resume();
  const output = hasOutput ? pumpOutput(context, socket, options).then(() => 'closed' as const) : undefined;
  const ended = async (): Promise<SessionEnd> => {
    try {
      const typed = input?.then((end) => (end === 'detached' || output === undefined ? end : (output ?? end)));
      const ends = [typed, output].filter((one) => one !== undefined);
      return ends.length === 0 ? 'closed' : await Promise.race(ends);
    } finally {
      close();
    }
  };
  const end = ended();
  // Whoever waits for the end hears of an error; until somebody does, it is none.
  end.catch(() => undefined);
  return { ended: end, close };
}
