import { EventEmitter } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { makePipe, posixSpawn, reapChild } from './posix-spawn.ts';

/** What a child gets as a standard descriptor: nothing, a pipe to us, or a descriptor of ours. */
export type ChildStdio = 'ignore' | 'pipe' | number;

/** The part of node's ChildProcess that programs are run with. */
export interface Child {
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** The stream of each descriptor that is a pipe. */
  readonly stdio: readonly (Readable | Writable | null | undefined)[];
  kill(signal: NodeJS.Signals): boolean;
  on(event: 'error', listener: (error: NodeJS.ErrnoException) => void): this;
  on(event: 'exit' | 'close', listener: (code: number | null, signal: string | null) => void): this;
}

export type StartChild = (
  file: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd?: string; stdio: ChildStdio[] },
) => Child;

/** Children are looked after this often in case a signal was lost, ms. The timer also keeps the process alive for them. */
const SWEEP_INTERVAL_MS = 500;
const WRITABLE = 0;

/** Reaps children of this process that node does not know. One for the process, as SIGCHLD is. */
class Reaper {
  readonly #children = new Map<number, (status: number) => void>();
  #timer: NodeJS.Timeout | undefined;
  readonly #onSignal = (): void => this.#sweep();

  add(pid: number, ended: (status: number) => void): void {
    if (this.#children.size === 0) {
      process.on('SIGCHLD', this.#onSignal);
      this.#timer = setInterval(this.#onSignal, SWEEP_INTERVAL_MS);
    }
    this.#children.set(pid, ended);
    // It may have ended before it was listed.
    this.#look(pid, ended);
  }

  #look(pid: number, ended: (status: number) => void): void {
    const status = reapChild(pid);
    if (status === undefined) return;
    this.#children.delete(pid);
    if (this.#children.size === 0) {
      clearInterval(this.#timer);
      process.off('SIGCHLD', this.#onSignal);
    }
    ended(status);
  }

  #sweep(): void {
    for (const [pid, ended] of [...this.#children]) this.#look(pid, ended);
  }
}

const reaper = new Reaper();

const SIGNAL_NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** Exit code, or the name of the signal that ended the child (wait(2)). */
function outcome(status: number): { code: number | null; signal: string | null } {
  const signal = status & 0x7f;
  if (signal === 0) return { code: (status >> 8) & 0xff, signal: null };
  return { code: null, signal: SIGNAL_NAMES.get(signal) ?? `signal ${signal}` };
}

class NativeChild extends EventEmitter implements Child {
  readonly stdio: (Socket | null)[] = [];
  #pid: number | undefined;
  /** Streams that have not closed, and one more until the child has ended. */
  #open = 1;
  #outcome: { code: number | null; signal: string | null } = { code: null, signal: null };
  #wanted: NodeJS.Signals | undefined;

  constructor(file: string, args: readonly string[], options: Parameters<StartChild>[2]) {
    super();
    /** Ends that are the child's alone. */
    const theirs: number[] = [];
    const descriptors = options.stdio.map((want, index) => {
      if (want === 'pipe') return this.#pipe(index === WRITABLE, theirs);
      this.stdio.push(null);
      if (want === 'ignore') theirs.push(openSync('/dev/null', 'r+'));
      return want === 'ignore' ? (theirs.at(-1) ?? -1) : want;
    });
    const env = Object.entries(options.env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
    posixSpawn({ file, args, env, cwd: options.cwd, descriptors })
      .finally(() => theirs.forEach((fd) => closeSync(fd)))
      .then((started) => {
        if ('pid' in started) this.#watch(started.pid);
        else this.#fail(Object.assign(new Error(`spawn ${file} ${started.code}`), { code: started.code }));
      })
      .catch((error: unknown) => this.#fail(error as Error));
  }

  get stdin(): Writable | null {
    return this.stdio[0] ?? null;
  }

  get stdout(): Readable | null {
    return this.stdio[1] ?? null;
  }

  get stderr(): Readable | null {
    return this.stdio[2] ?? null;
  }

  /** The child's end of a new pipe; ours becomes a stream. */
  #pipe(writable: boolean, theirs: number[]): number {
    const { read, write } = makePipe();
    const [ours, other] = writable ? [write, read] : [read, write];
    theirs.push(other);
    const stream = new Socket({ fd: ours, readable: !writable, writable });
    this.stdio.push(stream);
    this.#open += 1;
    // A reader of ours that is destroyed, or a child that reads no more, is no failure of the run.
    stream.on('error', () => undefined);
    stream.once('close', () => this.#closed());
    return other;
  }

  #watch(pid: number): void {
    this.#pid = pid;
    if (this.#wanted !== undefined) this.kill(this.#wanted);
    reaper.add(pid, (status) => {
      this.#pid = undefined;
      this.#outcome = outcome(status);
      this.emit('exit', this.#outcome.code, this.#outcome.signal);
      this.stdio[0]?.destroy();
      this.#closed();
    });
  }

  #fail(error: Error): void {
    for (const stream of this.stdio) stream?.destroy();
    this.emit('error', error);
  }

  #closed(): void {
    this.#open -= 1;
    if (this.#open === 0) this.emit('close', this.#outcome.code, this.#outcome.signal);
  }

  /** Before the child is there, the signal waits for it. */
  kill(signal: NodeJS.Signals): boolean {
    this.#wanted = signal;
    if (this.#pid === undefined) return false;
    try {
      // Not reaped yet, so the number is its own.
      return process.kill(this.#pid, signal);
    } catch {
      return false;
    }
  }
}

/** Starts a child by posix_spawn, without blocking the event loop; in the place of node's `spawn`. */
export const startNative: StartChild = (file, args, options) => new NativeChild(file, args, options);
