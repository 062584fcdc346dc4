import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { setImmediate as yieldLoop } from 'node:timers/promises';
import { backoffDelayMs, ShoalError, unreachable, type Clock, type Logger, type Random } from '../../base/index.ts';
import type { NetworkTable } from '../../proto/index.ts';
import type { FromThread, SandboxView, ToThread } from './thread-protocol.ts';
import { paced } from '../paced.ts';
import { changeSteps } from '../table-change.ts';
import { changeText, zoneText, type Member } from './zone.ts';

/** Lines of a zone that are put together, and read on the other side, before other work gets a turn (under 1 ms). */
const ZONE_LINES_PER_TURN = 250;
/** Waits before a thread that ended is started again. */
const RESTART = { baseMs: 50, capMs: 5000 };
/** A thread that lived this long, ms, begins with the shortest wait again. */
const LIVED_MS = 60_000;
/** Bundled beside the daemon, or, when the program runs from its sources, the module itself. */
const BUILT = './dns-thread.mjs';
const SOURCE = './thread.ts';

/** Starts the thread's program. Sources need their loader, which threads do not inherit. */
function startWorker(): Worker {
  const built = fileURLToPath(new URL(BUILT, import.meta.url));
  if (existsSync(built)) return new Worker(built);
  const source = JSON.stringify(fileURLToPath(new URL(SOURCE, import.meta.url)));
  return new Worker(`import('tsx/esm/api').then(({ register }) => { register(); return import(${source}); })`, {
    eval: true,
  });
}

export interface ResolverThreadOptions {
  clock: Clock;
  random: Random;
  log: Logger;
  /** A resolver that stood before was opened again, after the thread had ended. */
  onReopened: (id: string, port: number) => void;
  start?: () => Worker;
}

interface Sandbox {
  namespace: string;
  port: number;
  view: SandboxView;
  /** Of the first opening. */
  waiting: { resolve: (port: number) => void; reject: (error: Error) => void } | undefined;
}

interface ZoneState {
  network: string;
  /** As it shall be. */
  table: NetworkTable;
  /** As the thread knows it when all that was sent has come; undefined: it must be told whole. */
  told: NetworkTable | undefined;
  sending: boolean;
}

/**
 * The resolvers of this host's sandboxes, on a thread of their own: name queries cost the main thread nothing, and its
 * work does not delay them. The main thread keeps what the thread was told, and tells it all again when it had to be
 * started anew. The thread starts with the first sandbox.
 */
export class ResolverThread {
  readonly #o: ResolverThreadOptions;
  readonly #zones = new Map<string, ZoneState>();
  readonly #members = new Map<string, Extract<ToThread, { kind: 'member' }>>();
  readonly #sandboxes = new Map<string, Sandbox>();
  #worker: Worker | undefined;
  /** The thread knows all that it must before resolvers are opened. */
  #told = false;
  #generation = 0;
  #failures = 0;
  #startedMs = 0;
  #stopped = false;

  constructor(options: ResolverThreadOptions) {
    this.#o = options;
  }

  /** Replaces the names of an overlay: what is new is sent at once, or piece by piece when it is much. */
  setZone(id: string, network: string, table: NetworkTable): void {
    const known = this.#zones.get(id);
    const state: ZoneState = known?.network === network ? known : { network, table, told: undefined, sending: false };
    state.table = table;
    this.#zones.set(id, state);
    if (this.#worker !== undefined && !state.sending) void this.#sendZone(id, state);
  }

  dropZone(id: string): void {
    this.#zones.delete(id);
    this.#tell({ kind: 'zone-gone', id });
  }

  setMember(id: string, key: string, member: Member): void {
    const message = { kind: 'member' as const, id, key, member };
    this.#members.set(`${id} ${key}`, message);
    this.#tell(message);
  }

  dropMember(id: string, key: string): void {
    this.#members.delete(`${id} ${key}`);
    this.#tell({ kind: 'member-gone', id, key });
  }

  /** Opens (anew) a sandbox's resolver and returns its port. @param port tried first; 0: any. @throws ShoalError */
  async open(id: string, namespace: string, port: number, view: SandboxView): Promise<number> {
    this.#sandboxes.get(id)?.waiting?.reject(new ShoalError('Unavailable', 'the resolver is opened anew'));
    return new Promise((resolve, reject) => {
      this.#sandboxes.set(id, { namespace, port, view, waiting: { resolve, reject } });
      if (this.#worker === undefined) this.#start();
      else if (this.#told) this.#tell({ kind: 'open', id, namespace, port, view });
    });
  }

  /** Changes what a sandbox's resolver sees. */
  setView(id: string, view: SandboxView): void {
    const sandbox = this.#sandboxes.get(id);
    if (sandbox === undefined) return;
    sandbox.view = view;
    this.#tell({ kind: 'view', id, view });
  }

  close(id: string): void {
    const sandbox = this.#sandboxes.get(id);
    if (sandbox === undefined) return;
    this.#sandboxes.delete(id);
    sandbox.waiting?.reject(new ShoalError('Unavailable', 'the resolver was closed'));
    this.#tell({ kind: 'close', id });
  }

  /** Ends the thread and its sockets. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const id of [...this.#sandboxes.keys()]) this.close(id);
    await this.#worker?.terminate();
  }

  #tell(message: ToThread): void {
    this.#worker?.postMessage(message);
  }

  /** Tells the thread of a zone until it knows the newest. */
  async #sendZone(id: string, state: ZoneState): Promise<void> {
    const worker = this.#worker;
    const current = (): boolean => this.#zones.get(id) === state && this.#worker === worker;
    state.sending = true;
    while (current() && state.told !== state.table) {
      const { table, told } = state;
      const change = told === undefined ? undefined : await paced(changeSteps(told, table));
      if (!current()) return;
      const texts =
        change === undefined ? zoneText(table, ZONE_LINES_PER_TURN) : changeText(change, ZONE_LINES_PER_TURN);
      const tell = this.#teller(id, state, told === undefined);
      for (let piece = texts.next(), text = piece.value ?? ''; ; text = piece.value ?? '') {
        piece = texts.next();
        tell(text, piece.done === true);
        if (piece.done === true) break;
        await yieldLoop();
        // Told anew, to a new thread or as another network; who does that has its own turn.
        if (!current()) return;
      }
      // What is alike in both tables is held once.
      state.told = change?.table ?? table;
      if (state.table === table) state.table = state.told;
    }
    state.sending = false;
  }

  #teller(id: string, { network }: ZoneState, whole: boolean): (text: string, last: boolean) => void {
    const generation = ++this.#generation;
    if (whole) return (text, last) => this.#tell({ kind: 'zone', id, network, generation, text, last });
    return (text) => {
      if (text !== '') this.#tell({ kind: 'zone-change', id, text });
    };
  }

  #start(): void {
    if (this.#worker !== undefined || this.#stopped) return;
    const worker = (this.#o.start ?? startWorker)();
    this.#worker = worker;
    this.#startedMs = this.#o.clock.monotonic();
    worker.unref();
    worker.on('message', (message: FromThread) => this.#hear(message));
    worker.on('error', (error) => this.#o.log.error('the name service failed', { error }));
    worker.on('exit', (code) => this.#onExit(worker, code));
    void this.#tellAll(worker);
  }

  /** Names first, so that no resolver takes one of them for unknown. */
  async #tellAll(worker: Worker): Promise<void> {
    this.#told = false;
    for (const message of this.#members.values()) this.#tell(message);
    const zones = [...this.#zones].map(([id, { network, table }]): [string, ZoneState] => {
      return [id, { network, table, told: undefined, sending: false }];
    });
    for (const [id, state] of zones) this.#zones.set(id, state);
    await Promise.all(zones.map(([id, state]) => this.#sendZone(id, state)));
    if (this.#worker !== worker) return;
    this.#told = true;
    for (const [id, { namespace, port, view }] of this.#sandboxes) {
      this.#tell({ kind: 'open', id, namespace, port, view });
    }
  }

  #onExit(worker: Worker, code: number): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    if (this.#stopped) return;
    const { clock, random, log } = this.#o;
    if (clock.monotonic() - this.#startedMs >= LIVED_MS) this.#failures = 0;
    const waitMs = backoffDelayMs(this.#failures++, RESTART, random);
    log.error('the name service ended and is started again', { code, sandboxes: this.#sandboxes.size, waitMs });
    clock.after(waitMs, () => this.#start());
  }

  #hear(message: FromThread): void {
    switch (message.kind) {
      case 'opened': {
        const sandbox = this.#sandboxes.get(message.id);
        if (sandbox === undefined) return;
        const { waiting } = sandbox;
        sandbox.port = message.port;
        sandbox.waiting = undefined;
        if (waiting === undefined) this.#o.onReopened(message.id, message.port);
        else waiting.resolve(message.port);
        return;
      }
      case 'failed': {
        const waiting = this.#sandboxes.get(message.id)?.waiting;
        if (waiting === undefined) {
          this.#o.log.error('the resolver of a container cannot be opened', { id: message.id, error: message.error });
          return;
        }
        this.#sandboxes.delete(message.id);
        waiting.reject(new ShoalError('Internal', `cannot open the container's resolver: ${message.error}`));
        return;
      }
      case 'log':
        this.#o.log[message.level === 'fatal' ? 'error' : message.level](message.message, message.fields);
        return;
      default:
        return unreachable(message);
    }
  }
}
