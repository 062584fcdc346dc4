import { conflict } from '../../base/index.ts';
import type { ContainerSet } from '../containers/containers.ts';
import type { Parts } from '../containers/parts.ts';
import type {
  Attached,
  AttachRequest,
  ExecCreateRequest,
  ExecSession,
  LogQuery,
  OutputChunk,
  TerminalSize,
  Terminals,
} from '../types.ts';
import { parseDetachKeys } from './detach-keys.ts';
import { ExecSet } from './execs.ts';

/** Standard streams of containers and of commands run in them, by reference. */
export class EngineTerminals implements Terminals {
  readonly #parts: Parts;
  readonly #set: ContainerSet;
  readonly #execs: ExecSet;

  constructor(parts: Parts, set: ContainerSet) {
    this.#parts = parts;
    this.#set = set;
    this.#execs = new ExecSet(parts, (containerId, action, attributes) => {
      if (set.find(containerId) !== undefined) set.unit(containerId).record.event(action, attributes);
    });
  }

  async attach(reference: string, request: AttachRequest, signal: AbortSignal): Promise<Attached> {
    const unit = this.#set.unit(reference);
    const { container } = unit;
    if (container.state === 'paused') {
      throw conflict(`container ${reference} is paused, unpause the container before attach`);
    }
    if (container.state === 'restarting') {
      throw conflict(`container ${reference} is restarting, wait until the container is running`);
    }
    const keys = parseDetachKeys(request.detachKeys);
    const wants = { ...request, stdin: request.stdin && container.config.openStdin };
    // Also while it is being started: its process stands, and clients that come now are not in `begin`.
    const init = unit.record.stored.monitored?.init;
    unit.record.event('attach');
    const live = request.stream
      ? this.#parts.streams.attach(container, init, wants, keys, () => unit.record.event('detach'))
      : NOTHING;
    if (!request.logs || (!request.stdout && !request.stderr) || container.logPath === '') return live;
    // What comes from now on is live; the log's times have more digits than the clock's.
    const until = request.stream ? { untilMs: this.#parts.clock.now() + 1 } : {};
    const past = this.#past(container.id, { ...request, ...until }, signal);
    return withPast(live, past, container.config.tty);
  }

  async *#past(
    id: string,
    { stdout, stderr, untilMs }: Pick<LogQuery, 'stdout' | 'stderr' | 'untilMs'>,
    signal: AbortSignal,
  ): AsyncGenerator<readonly OutputChunk[]> {
    const query = { stdout, stderr, follow: false, ...(untilMs === undefined ? {} : { untilMs }) };
    for await (const { stream, data } of this.#set.logs(id, query, signal)) {
      yield [{ stream, data }];
    }
  }

  async resize(reference: string, size: TerminalSize): Promise<void> {
    const unit = this.#set.unit(reference);
    const { id } = unit.container;
    if (!unit.running) throw conflict(`container ${id} is not running`);
    this.#parts.runtime.resize(this.#parts.runtime.bundle(id), size.height, size.width);
    unit.record.event('resize', { height: String(size.height), width: String(size.width) });
  }

  async createExec(reference: string, request: ExecCreateRequest): Promise<string> {
    return this.#execs.create(this.#set.unit(reference).container, request);
  }

  async startExec(id: string, options: { detach: boolean; consoleSize?: TerminalSize }): Promise<Attached | undefined> {
    const { container } = this.#set.unit(this.#execs.containerOf(id));
    return this.#execs.start(id, container, options);
  }

  async resizeExec(id: string, size: TerminalSize): Promise<void> {
    await this.#execs.resize(id, size);
  }

  inspectExec(id: string): ExecSession {
    return this.#execs.inspect(id);
  }

  execIds(containerId: string): string[] {
    return this.#execs.ids(containerId);
  }
}

/** A client that asked for no live stream. */
const NOTHING: Attached = {
  tty: false,
  ended: 'process ended',
  async *output(): AsyncGenerator<readonly OutputChunk[]> {
    // Nothing comes.
  },
  write: () => Promise.resolve(),
  endInput: () => Promise.resolve(),
  close: () => undefined,
};

/** The log, then what came since. What was written in the millisecond between may come twice, but is never missed. */
function withPast(live: Attached, past: AsyncIterable<readonly OutputChunk[]>, tty: boolean): Attached {
  return {
    tty,
    get ended() {
      return live.ended;
    },
    async *output() {
      yield* past;
      yield* live.output();
    },
    write: (data) => live.write(data),
    endInput: () => live.endInput(),
    close: () => live.close(),
  };
}
