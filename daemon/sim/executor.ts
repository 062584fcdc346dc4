import { abortReason, ShoalError } from '../../base/index.ts';
import { durationToMs, type NodeDescription, type Task } from '../../proto/index.ts';
import type { SimProcess } from '../../raft/sim/index.ts';
import type {
  Executor,
  TaskController,
  TaskDependencies,
  TaskExit,
  TaskLogLine,
  TaskObservation,
  TaskUse,
} from '../../worker/index.ts';
import { SimContainer, type ContainerHost } from './container.ts';
import { around, behaviourOf, type Behaviour } from './image.ts';

/** Docker's grace between the stop signal and SIGKILL, ms. */
const STOP_GRACE_DEFAULT_MS = 10_000;

/** The executor of one run of a worker's daemon: its containers outlive it. */
export class SimExecutor implements Executor {
  readonly #host: ContainerHost;
  readonly #process: SimProcess;

  constructor(host: ContainerHost, process: SimProcess) {
    this.#host = host;
    this.#process = process;
  }

  describe(): Promise<NodeDescription> {
    return Promise.resolve(this.#host.description());
  }

  controller(task: Task, dependencies: TaskDependencies): TaskController {
    return new SimController(this.#host, this.#process, task, dependencies);
  }

  announceNetworkTable(): void {
    // Nothing has names here.
  }

  setNetworkTable(): Promise<void> {
    return this.#process.sleep(1 + around(this.#host.random, 5));
  }

  removeNetworkTable(): Promise<void> {
    return this.#process.sleep(1 + around(this.#host.random, 5));
  }

  async removeOrphans(taskIds: ReadonlySet<string>): Promise<void> {
    for (const id of [...this.#host.containers.keys()]) if (!taskIds.has(id)) this.#host.remove(id);
  }
}

class SimController implements TaskController {
  readonly #host: ContainerHost;
  readonly #process: SimProcess;
  readonly #task: Task;
  readonly #dependencies: TaskDependencies;
  readonly #behaviour: Behaviour;

  constructor(host: ContainerHost, process: SimProcess, task: Task, dependencies: TaskDependencies) {
    this.#host = host;
    this.#process = process;
    this.#task = task;
    this.#dependencies = dependencies;
    this.#behaviour = behaviourOf(task);
  }

  get #container(): SimContainer | undefined {
    return this.#host.containers.get(this.#task.id);
  }

  #happens(share: number): boolean {
    return share > 0 && !this.#host.calm && this.#host.random.float() < share;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { prepareMs, rejectShare, unavailableShare } = this.#behaviour;
    await this.#process.sleep(5 + around(this.#host.random, prepareMs), signal);
    if (signal.aborted) throw abortReason(signal);
    if (rejectShare > 0) throw new ShoalError('NotFound', 'No such image');
    if (this.#happens(unavailableShare)) throw new ShoalError('Unavailable', 'the registry does not answer');
    for (const { secret_id: id } of this.#task.spec?.container?.secrets ?? []) {
      if (this.#dependencies.secret(id) === undefined) throw new ShoalError('NotFound', `no such secret: ${id}`);
    }
    this.#host.create(this.#task);
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#process.sleep(2 + around(this.#host.random, this.#behaviour.startMs), signal);
    if (signal.aborted) throw abortReason(signal);
    const container = this.#container;
    if (container === undefined) throw new ShoalError('NotFound', 'no such container');
    if (this.#happens(this.#behaviour.failStartShare)) throw new ShoalError('Unknown', 'the runtime failed');
    if (container.state !== 'created') return;
    this.#host.launch(container);
  }

  observe(): Promise<TaskObservation> {
    const container = this.#container;
    if (container === undefined) return Promise.resolve({ state: 'absent' });
    const { state, exit } = container;
    return Promise.resolve(exit === undefined ? { state } : { state, exit });
  }

  wait(signal: AbortSignal): Promise<TaskExit> {
    return new Promise((resolve, reject) => {
      const container = this.#container;
      if (container === undefined) return reject(new ShoalError('NotFound', 'no such container'));
      if (signal.aborted) return reject(abortReason(signal));
      const onAbort = (): void => reject(abortReason(signal));
      signal.addEventListener('abort', onAbort, { once: true });
      container.onEnd((exit) =>
        this.#process.run(() => {
          signal.removeEventListener('abort', onAbort);
          resolve(exit);
        }),
      );
    });
  }

  shutdown(): Promise<void> {
    const container = this.#container;
    if (container?.state !== 'running') return Promise.resolve();
    const grace = durationToMs(this.#task.spec?.container?.stop_grace_period, STOP_GRACE_DEFAULT_MS);
    this.#host.stop(container, Math.min(grace, 10 + around(this.#host.random, this.#behaviour.stopMs)));
    return new Promise((resolve) => {
      container.onEnd(() => this.#process.run(resolve));
    });
  }

  async remove(): Promise<void> {
    await this.#process.sleep(1 + around(this.#host.random, 20));
    this.#host.remove(this.#task.id);
  }

  runtimeStatus(): Promise<{
    container: { container_id: string; pid: number; exit_code: number } | undefined;
    port_status: null;
  }> {
    const container = this.#container;
    if (container === undefined) return Promise.resolve({ container: undefined, port_status: null });
    const pid = container.state === 'running' ? 4242 : 0;
    const status = { container_id: `c-${this.#task.id}`, pid, exit_code: container.exit?.exitCode ?? 0 };
    return Promise.resolve({ container: status, port_status: null });
  }

  /** Each container uses a share of a CPU of its own. */
  usage(): TaskUse | undefined {
    const container = this.#container;
    if (container?.state !== 'running') return undefined;
    const ranMs = this.#host.now - container.startedAt;
    return { cpuNs: Math.round(ranMs * container.cpuShare * 1e6), memoryBytes: 64e6, atMs: this.#process.monotonic() };
  }

  // oxlint-disable-next-line require-yield -- these containers write nothing
  async *logs(): AsyncGenerator<TaskLogLine, void> {
    await Promise.resolve();
  }
}
