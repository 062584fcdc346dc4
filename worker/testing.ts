import { ShoalError } from '../base/index.ts';
import { NodeDescription, type NetworkTable, type Task, type TaskStatus } from '../proto/index.ts';
import type {
  Executor,
  TaskController,
  TaskDependencies,
  TaskExit,
  TaskLogLine,
  TaskLogOptions,
  TaskObservation,
  TaskUse,
} from './executor.ts';

/** Lines that a fake container keeps. */
const LINES_MAX = 100_000;

/** One container that exists in memory only. Tests move it with `exit`, `write` and the `fail…` fields. */
export class FakeContainer {
  readonly taskId: string;
  observation: TaskObservation = { state: 'absent' };
  /** Verbs called so far, in order. */
  readonly calls: string[] = [];
  readonly lines: TaskLogLine[] = [];
  /** Thrown by the next prepare or start; cleared by it. */
  failPrepare: ShoalError | undefined;
  failStart: ShoalError | undefined;
  /** What the container says that it uses; undefined: it does not say. */
  use: TaskUse | undefined;
  #changed: (() => void)[] = [];

  constructor(taskId: string) {
    this.taskId = taskId;
  }

  /** The container ends. */
  exit(exit: TaskExit): void {
    this.become({ state: 'exited', exit });
  }

  /** The container writes a line. */
  write(line: TaskLogLine): void {
    if (this.lines.length < LINES_MAX) this.lines.push(line);
    this.#wake();
  }

  become(observation: TaskObservation): void {
    this.observation = observation;
    this.#wake();
  }

  /** Resolves at the next change, or when `signal` aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
      this.#changed.push(resolve);
    });
  }

  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

function fail(signal: AbortSignal): void {
  if (signal.aborted) throw signal.reason;
}

class FakeController implements TaskController {
  readonly #container: FakeContainer;

  constructor(container: FakeContainer) {
    this.#container = container;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const container = this.#container;
    container.calls.push('prepare');
    fail(signal);
    const failure = container.failPrepare;
    container.failPrepare = undefined;
    if (failure !== undefined) throw failure;
    if (container.observation.state === 'absent') container.become({ state: 'created' });
  }

  async start(signal: AbortSignal): Promise<void> {
    const container = this.#container;
    container.calls.push('start');
    fail(signal);
    const failure = container.failStart;
    container.failStart = undefined;
    if (failure !== undefined) throw failure;
    if (container.observation.state === 'absent') throw new ShoalError('NotFound', 'no such container');
    if (container.observation.state === 'created') container.become({ state: 'running' });
  }

  async observe(): Promise<TaskObservation> {
    return this.#container.observation;
  }

  async wait(signal: AbortSignal): Promise<TaskExit> {
    this.#container.calls.push('wait');
    for (;;) {
      fail(signal);
      const { state, exit } = this.#container.observation;
      if (state === 'exited' && exit !== undefined) return exit;
      if (state === 'absent') throw new ShoalError('NotFound', 'no such container');
      await this.#container.changed(signal);
    }
  }

  async shutdown(): Promise<void> {
    this.#container.calls.push('shutdown');
    if (this.#container.observation.state === 'running') this.#container.exit({ exitCode: 143 });
  }

  async remove(): Promise<void> {
    this.#container.calls.push('remove');
    this.#container.become({ state: 'absent' });
  }

  async runtimeStatus(): Promise<Pick<TaskStatus, 'container' | 'port_status'>> {
    const { state, exit } = this.#container.observation;
    if (state === 'absent') return { container: undefined, port_status: null };
    const pid = state === 'running' ? 4242 : 0;
    const container = { container_id: `container-${this.#container.taskId}`, pid, exit_code: exit?.exitCode ?? 0 };
    return { container, port_status: null };
  }

  usage(): TaskUse | undefined {
    return this.#container.use;
  }

  async *logs(options: TaskLogOptions, signal: AbortSignal): AsyncGenerator<TaskLogLine, void> {
    const wanted = (line: TaskLogLine): boolean => options[line.stream] && line.timestampMs >= (options.sinceMs ?? 0);
    const { lines } = this.#container;
    let next = lines.length;
    const old = lines.filter(wanted);
    yield* options.tail === undefined ? old : options.tail === 0 ? [] : old.slice(-options.tail);
    while (options.follow && !signal.aborted) {
      for (; next < lines.length; next++) {
        const line = lines[next] as TaskLogLine;
        if (wanted(line)) yield line;
      }
      if (this.#container.observation.state === 'exited') return;
      await this.#container.changed(signal);
    }
  }
}

/** An executor whose containers exist in memory; keep it across agents to play a daemon's restart. */
export class FakeExecutor implements Executor {
  readonly containers = new Map<string, FakeContainer>();
  readonly tables = new Map<string, NetworkTable>();
  /** Tables as they came. */
  readonly announced: NetworkTable[] = [];
  /** Tasks with what was assigned with them, by task id. */
  readonly dependencies = new Map<string, TaskDependencies>();
  /** Everything asked of the host, in order: `table <id> <version>`, `untable <id>`, `orphans`. */
  readonly calls: string[] = [];
  description: NodeDescription;

  constructor(hostname: string) {
    this.description = NodeDescription.create({
      hostname,
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: { nano_cpus: 2e9, memory_bytes: 2 ** 31 },
      engine: { engine_version: 'fake' },
    });
  }

  async describe(): Promise<NodeDescription> {
    return NodeDescription.clone(this.description);
  }

  /** The container of a task; made (absent) when there is none yet. */
  container(taskId: string): FakeContainer {
    let container = this.containers.get(taskId);
    if (container === undefined) {
      container = new FakeContainer(taskId);
      this.containers.set(taskId, container);
    }
    return container;
  }

  controller(task: Task, dependencies: TaskDependencies): TaskController {
    this.dependencies.set(task.id, dependencies);
    return new FakeController(this.container(task.id));
  }

  announceNetworkTable(table: NetworkTable): void {
    this.announced.push(table);
  }

  async setNetworkTable(table: NetworkTable): Promise<void> {
    this.calls.push(`table ${table.network_id} ${table.version}`);
    this.tables.set(table.network_id, table);
  }

  async removeNetworkTable(networkId: string): Promise<void> {
    this.calls.push(`untable ${networkId}`);
    this.tables.delete(networkId);
  }

  async removeOrphans(taskIds: ReadonlySet<string>): Promise<void> {
    this.calls.push('orphans');
    for (const [id, container] of this.containers) {
      if (!taskIds.has(id)) container.become({ state: 'absent' });
    }
  }
}
