import type { Random } from '../../base/index.ts';
import { NodeDescription, Task, type Partially } from '../../proto/index.ts';
import type { Scheduler } from '../../raft/sim/index.ts';
import type { TaskExit } from '../../worker/index.ts';
import { around, behaviourOf } from './image.ts';

/** Life of a container that ends by itself, in calm times, ms: longer than any wait for calm. */
const CALM_LIFE_MS = 24 * 3_600_000;

/** CPUs that one container keeps busy at the most. */
const CPU_SHARE_MAX = 1;

/** A container on a host: it lives on when the daemon ends. */
export class SimContainer {
  readonly task: Task;
  state: 'created' | 'running' | 'exited' = 'created';
  exit: TaskExit | undefined;
  /** When it began to run; virtual time, ms. */
  startedAt = 0;
  stopping = false;
  /** CPUs that it keeps busy. */
  cpuShare = 0;
  #waiting: ((exit: TaskExit) => void)[] = [];

  constructor(task: Task) {
    this.task = task;
  }

  onEnd(done: (exit: TaskExit) => void): void {
    if (this.exit === undefined) this.#waiting.push(done);
    else done(this.exit);
  }

  end(exit: TaskExit): void {
    if (this.exit !== undefined) return;
    this.state = 'exited';
    this.exit = exit;
    for (const done of this.#waiting.splice(0)) done(exit);
  }
}

/** Told of what containers do. */
export interface ContainerWatch {
  started(host: ContainerHost, container: SimContainer): void;
}

/** What a worker's machine is and holds, whatever its daemon does. */
export class ContainerHost {
  readonly id: number;
  readonly nodeId: string;
  readonly name: string;
  readonly random: Random;
  readonly containers = new Map<string, SimContainer>();
  /** Nothing fails by itself. */
  calm = false;
  resources: Partially<NonNullable<NodeDescription['resources']>>;
  engineLabels: Record<string, string>;
  readonly #scheduler: Scheduler;
  readonly #watch: ContainerWatch;

  constructor(
    scheduler: Scheduler,
    random: Random,
    watch: ContainerWatch,
    what: {
      id: number;
      nodeId: string;
      resources: ContainerHost['resources'];
      engineLabels: Record<string, string>;
    },
  ) {
    this.#scheduler = scheduler;
    this.random = random;
    this.#watch = watch;
    this.id = what.id;
    this.nodeId = what.nodeId;
    this.name = `worker-${what.id}`;
    this.resources = what.resources;
    this.engineLabels = what.engineLabels;
  }

  /** Virtual time, ms. */
  get now(): number {
    return this.#scheduler.now;
  }

  description(): NodeDescription {
    const plugins = ['overlay', 'host', 'bridge'].map((name) => ({ type: 'Network', name }));
    return NodeDescription.create({
      hostname: this.name,
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: this.resources,
      engine: { engine_version: 'sim', labels: this.engineLabels, plugins },
      data_path_addr: `10.1.0.${this.id % 250}`,
    });
  }

  create(task: Task): void {
    if (!this.containers.has(task.id)) this.containers.set(task.id, new SimContainer(task));
  }

  launch(container: SimContainer): void {
    const { lifeMs, failShare } = behaviourOf(container.task);
    container.state = 'running';
    container.startedAt = this.#scheduler.now;
    container.cpuShare = this.random.float() * CPU_SHARE_MAX;
    this.#watch.started(this, container);
    if (lifeMs === undefined) return;
    const fails = this.random.float() < failShare;
    // Services that end now and then leave the cluster alone when it shall come to rest; jobs and broken ones do not.
    const restful = this.calm && fails && lifeMs > 10_000;
    const ms = restful ? CALM_LIFE_MS : 20 + around(this.random, lifeMs);
    const calmJob = this.calm && lifeMs < 10_000 && failShare < 1;
    this.#scheduler.after(ms, () => this.#end(container, fails && !calmJob ? 1 + this.random.int(3) : 0));
  }

  #end(container: SimContainer, exitCode: number): void {
    if (container.state === 'running') container.end({ exitCode });
  }

  /** SIGTERM, or SIGKILL in the end. */
  stop(container: SimContainer, afterMs: number): void {
    if (container.stopping) return;
    container.stopping = true;
    this.#scheduler.after(afterMs, () => this.#end(container, 143));
  }

  remove(taskId: string): void {
    const container = this.containers.get(taskId);
    if (container === undefined) return;
    container.end({ exitCode: 137 });
    this.containers.delete(taskId);
  }

  /** The machine lost its power: containers exist after it, but none runs. */
  crash(): void {
    for (const container of this.containers.values())
      if (container.state === 'running') container.end({ exitCode: 255 });
  }

  /** An end by accident (out of memory, a bug). */
  killOne(): boolean {
    const running = [...this.containers.values()].filter(({ state }) => state === 'running');
    const victim = running[this.random.int(Math.max(1, running.length))];
    victim?.end({ exitCode: 137, error: 'OOM killed' });
    return victim !== undefined;
  }
}
