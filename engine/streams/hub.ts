import type { Clock, Logger, Timer } from '../../base/index.ts';
import type { Attached, OutputChunk, StreamEnd } from '../types.ts';
import { CLIENT_BUFFER_MAX_BYTES, ClientQueue, type ClientWants } from './client.ts';
import { DetachFilter } from './detach-keys.ts';
import { PacketSocket, type OutputStream } from './packet-socket.ts';

/**
 * A client that takes nothing for this long, while the process waits for it, is cut off. Not the client that attached
 * before the start and is alone: `docker run … | less` may wait as long as any pipe.
 */
export const STUCK_CLIENT_MS = 60_000;
/** While clients are too slow it is looked this often whether the process has ended or a client is stuck. */
const SLOW_CHECK_MS = 250;
/**
 * What an ended process leaves in its pipes is taken for slow clients too, so that its end waits for nobody: two pipes of
 * at most 1 MiB (pipe(7)). More comes only from processes that it left behind; clients too slow for that are cut off.
 */
export const LEFT_BEHIND_MAX_BYTES = 4 * 1024 * 1024;
/** Clients of one container at once. */
export const CLIENTS_MAX = 1000;

/** What the hub must know of the process. */
export interface HubProcess {
  tty: boolean;
  /** The end of a client's input ends the process' input. */
  stdinOnce: boolean;
  alive: () => boolean;
}

export interface HubOptions {
  clock: Clock;
  log: Logger;
  /** Called when all output is there and before clients are told of the end. The connection then stays without clients. */
  beforeEnd?: () => Promise<void>;
  /** Nobody is attached, and nothing is held for anybody. */
  onIdle?: () => void;
  /** A client left while the process goes on. */
  onDetach?: () => void;
  stuckClientMs?: number;
}

/**
 * Joins any number of clients to one process through one connection to its conmon. conmon waits for whoever reads its
 * socket, so a full client makes the process wait, like a full pipe; what it may not do is to hold up others for ever.
 */
export class StreamHub {
  readonly #options: HubOptions;
  readonly #clients = new Set<ClientQueue>();
  #socket: PacketSocket | undefined;
  #process: HubProcess | undefined;
  #connected: Promise<void>;
  #onConnected: () => void = () => undefined;
  #paused = false;
  #inputEnded = false;
  /** Bytes taken beyond clients' bounds after the end of the process. */
  #leftBehind = 0;
  #slowTimer: Timer | undefined;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#connected = new Promise((resolve) => (this.#onConnected = resolve));
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  get idle(): boolean {
    return this.#clients.size === 0 && this.#socket === undefined;
  }

  get clientCount(): number {
    return this.#clients.size;
  }

  /**
   * Connects to the conmon whose files stand in `directory`.
   * @throws SystemCallError when it does not listen (yet, or any more).
   */
  connect(directory: string, process: HubProcess): void {
    const socket = new PacketSocket(directory, {
      onData: (stream, data) => this.#onData(stream, data),
      onEnd: () => void this.#onEnd(),
    });
    this.#socket = socket;
    this.#process = process;
    this.#inputEnded = false;
    this.#leftBehind = 0;
    this.#onConnected();
  }

  /** Joins a client. It may come before the process: its input then waits, and nothing of the output is missed. */
  attach(wants: ClientWants, tty: boolean, detachKeys: Uint8Array): Attached {
    const first = this.#socket === undefined;
    const { clock } = this.#options;
    const queue = new ClientQueue(wants, first, clock.monotonic(), () => {
      queue.takenMs = clock.monotonic();
      this.#resumeIfRoom();
    });
    this.#clients.add(queue);
    const filter = tty && detachKeys.length > 0 ? new DetachFilter(detachKeys) : undefined;
    return {
      tty,
      output: () => queue.batches(),
      write: (data) => this.#input(queue, filter, data),
      endInput: () => this.#endInput(queue, tty),
      close: () => this.#close(queue, tty),
      get ended(): StreamEnd | undefined {
        return queue.ended;
      },
    };
  }

  /** Output that does not come from the process: words about why it could not start. */
  tell(text: string): void {
    for (const client of this.#clients) client.push({ stream: 'stdout', data: Buffer.from(text) });
  }

  /** No process comes, or none any more: clients are told of the end. */
  end(): void {
    for (const client of this.#clients) client.end('process ended');
    this.#clients.clear();
    this.#slowTimer?.cancel();
    this.#slowTimer = undefined;
    // Input that waits for a process is dropped with its client.
    this.#onConnected();
    this.#connected = new Promise((resolve) => (this.#onConnected = resolve));
    const socket = this.#socket;
    this.#socket = undefined;
    this.#process = undefined;
    this.#paused = false;
    socket?.destroy();
    this.#options.onIdle?.();
  }

  #onData(stream: OutputStream, data: Uint8Array): boolean {
    if (this.#clients.size === 0) return true;
    const chunk: OutputChunk = { stream, data: Uint8Array.prototype.slice.call(data) };
    let full = false;
    for (const client of this.#clients) {
      client.push(chunk);
      full ||= client.full;
    }
    if (!full) return true;
    if (this.#process?.alive() === false) {
      this.#leftBehind += data.length;
      if (this.#leftBehind > LEFT_BEHIND_MAX_BYTES) this.#cutOff((client) => client.full);
      return true;
    }
    this.#paused = true;
    this.#watchSlow();
    return false;
  }

  #resumeIfRoom(): void {
    if (!this.#paused) return;
    for (const client of this.#clients) if (client.size > CLIENT_BUFFER_MAX_BYTES / 2) return;
    this.#resume();
  }

  #resume(): void {
    this.#paused = false;
    this.#slowTimer?.cancel();
    this.#slowTimer = undefined;
    this.#socket?.resume();
  }

  #watchSlow(): void {
    this.#slowTimer ??= this.#options.clock.after(SLOW_CHECK_MS, () => {
      this.#slowTimer = undefined;
      if (!this.#paused) return;
      if (this.#process?.alive() === false) return this.#resume();
      this.#cutStuck();
      this.#resumeIfRoom();
      if (this.#paused) this.#watchSlow();
    });
  }

  #cutStuck(): void {
    const { clock, stuckClientMs = STUCK_CLIENT_MS } = this.#options;
    this.#cutOff((client) => {
      if (client.first && this.#clients.size === 1) return false;
      return client.size > CLIENT_BUFFER_MAX_BYTES / 2 && clock.monotonic() - client.takenMs >= stuckClientMs;
    });
  }

  #cutOff(whom: (client: ClientQueue) => boolean): void {
    for (const client of [...this.#clients].filter(whom)) {
      this.#options.log.warn('an attached client is cut off: it takes no output and holds up the container');
      client.end('stuck');
      this.#clients.delete(client);
    }
  }

  async #onEnd(): Promise<void> {
    this.#socket = undefined;
    await this.#options.beforeEnd?.().catch((error: unknown) => {
      this.#options.log.error('the end of a process could not be recorded', { error });
    });
    this.end();
  }

  async #input(client: ClientQueue, filter: DetachFilter | undefined, data: Uint8Array): Promise<void> {
    if (!client.wants.stdin || client.ended !== undefined) return;
    await this.#connected;
    const { data: rest, detached } = filter?.feed(data) ?? { data, detached: false };
    if (rest.length > 0 && !this.#inputEnded && client.ended === undefined) await this.#socket?.write(rest);
    if (detached) this.#leave(client, 'detached');
  }

  /** By Docker's rules: a pipe that is held for one client closes with it; any other client has left with its input. */
  async #endInput(client: ClientQueue, tty: boolean): Promise<void> {
    if (!client.wants.stdin || client.ended !== undefined) return;
    await this.#connected;
    if (client.ended !== undefined) return;
    if (this.#process?.stdinOnce === true && !tty) this.#closeStdin();
    else this.#leave(client, 'input ended');
  }

  #closeStdin(): void {
    if (this.#inputEnded) return;
    this.#inputEnded = true;
    this.#socket?.endInput();
  }

  #close(client: ClientQueue, tty: boolean): void {
    const gone = client.ended !== undefined;
    if (!gone && client.wants.stdin && !tty && this.#process?.stdinOnce === true) this.#closeStdin();
    this.#leave(client, 'client left');
  }

  #leave(client: ClientQueue, why: StreamEnd): void {
    const left = client.ended === undefined;
    client.end(why);
    if (!this.#clients.delete(client)) return;
    if (left && this.#process?.tty === true && this.#socket !== undefined) this.#options.onDetach?.();
    this.#resumeIfRoom();
    this.#letGo();
  }

  /** Nobody listens any more: conmon need not send. A connection whose end would end the process' input stays. */
  #letGo(): void {
    if (this.#clients.size > 0 || this.#options.beforeEnd !== undefined) return;
    if (this.#process?.stdinOnce === true && !this.#inputEnded) return;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket !== undefined) this.#connected = new Promise((resolve) => (this.#onConnected = resolve));
    socket?.destroy();
    this.#options.onIdle?.();
  }
}
