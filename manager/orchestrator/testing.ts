import { newId, SeededRandom, silentLogger, TaskGroup, VirtualClock, type Logger } from '../../base/index.ts';
import {
  Cluster,
  NodeStatus_State,
  TaskState,
  timestampFromMs,
  type Node,
  type NodeSpec_Availability,
  type Service,
  type ServiceSpec,
  type Task,
} from '../../proto/index.ts';
import { createMemoryStore, type MemoryStore } from '../store/testing.ts';
import type { LeaderDuty, Transaction } from '../store/types.ts';
import type { OrchestratorDeps } from './driver.ts';

/** Virtual time between two looks of the pretended workers, ms. */
const STEP_MS = 50;

/** What the pretended workers do with a task that is to go on from a state; undefined leaves it there. */
export type Behaviour = (task: Task) => { state: TaskState; err?: string } | undefined;

/** Runs tasks at once, and stops them when told to. */
export const obedient: Behaviour = (task) => {
  const state = task.status?.state ?? TaskState.NEW;
  if (state > TaskState.RUNNING) return undefined;
  if (task.desired_state > TaskState.COMPLETE) {
    return state >= TaskState.ASSIGNED ? { state: TaskState.SHUTDOWN } : undefined;
  }
  if (state < TaskState.READY) return { state: TaskState.READY };
  return state < TaskState.RUNNING && task.desired_state >= TaskState.RUNNING
    ? { state: TaskState.RUNNING }
    : undefined;
};

/**
 * A cluster in virtual time around a memory store: pretended scheduler (the emptiest ready node) and workers, real
 * orchestrators.
 */
export class TestCluster {
  readonly clock = new VirtualClock(1_700_000_000_000);
  readonly random = new SeededRandom(7);
  readonly store: MemoryStore = createMemoryStore({ clock: this.clock });
  readonly #duties: (deps: OrchestratorDeps) => LeaderDuty[];
  readonly #log: Logger;
  #group: TaskGroup;
  behaviour: Behaviour = obedient;

  constructor(duties: (deps: OrchestratorDeps) => LeaderDuty[], log: Logger = silentLogger) {
    this.#duties = duties;
    this.#log = log;
    this.#group = new TaskGroup(log);
  }

  lead(): void {
    this.#group = new TaskGroup(this.#log);
    const { store, clock, random } = this;
    for (const duty of this.#duties({ store, clock, random, log: this.#log })) {
      this.#group.start(duty.name, (signal) => duty.run(signal));
    }
  }

  /** Ends the leader's term and begins another's, which knows nothing but the store. */
  async changeLeader(): Promise<void> {
    await this.stop();
    this.lead();
  }

  async stop(): Promise<void> {
    await this.#group.stop();
  }

  /** Lets time pass; the workers look at their tasks every 50 ms. */
  async run(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      await this.#settle();
      await this.#work();
      await this.#settle();
      await this.clock.advanceAsync(STEP_MS);
    }
    await this.#settle();
  }

  async #settle(): Promise<void> {
    for (let i = 0; i < 6; i++) await this.clock.advanceAsync(0);
  }

  /** The workers' reports; one that a test made the store lose is simply sent again at the next look. */
  async #work(): Promise<void> {
    await this.store.update((tx) => this.#report(tx)).catch(() => undefined);
  }

  #report(tx: Transaction): void {
    for (const task of tx.list('task')) {
      if (task.node_id === '' && task.desired_state <= TaskState.COMPLETE) {
        const node = this.#emptiest(tx.list('node'), tx.list('task'));
        if (node === undefined) continue;
        const status = { ...task.status!, state: TaskState.ASSIGNED, timestamp: timestampFromMs(this.clock.now()) };
        tx.update('task', { ...task, node_id: node.id, status });
        continue;
      }
      const node = tx.get('node', task.node_id);
      if (node === undefined || node.status?.state === NodeStatus_State.DOWN) continue;
      const next = this.behaviour(task);
      if (next === undefined || next.state <= task.status!.state) continue;
      const timestamp = timestampFromMs(this.clock.now());
      const status = { ...task.status!, state: next.state, err: next.err ?? '', timestamp };
      tx.update('task', {
        ...task,
        status,
        started_at: next.state === TaskState.RUNNING ? timestamp : task.started_at,
      });
    }
  }

  #emptiest(nodes: Node[], tasks: Task[]): Node | undefined {
    const load = (node: Node): number =>
      tasks.filter((t) => t.node_id === node.id && t.desired_state <= TaskState.COMPLETE).length;
    return nodes
      .filter((n) => n.status?.state === NodeStatus_State.READY && n.spec?.availability === 0)
      .sort((a, b) => load(a) - load(b) || (a.id < b.id ? -1 : 1))[0];
  }

  async setNode(id: string, change: { state?: NodeStatus_State; availability?: NodeSpec_Availability }): Promise<void> {
    await this.store.update((tx) => {
      const node = tx.get('node', id)!;
      const status = { ...node.status!, state: change.state ?? node.status!.state };
      const spec = { ...node.spec!, availability: change.availability ?? node.spec!.availability };
      tx.update('node', { ...node, status, spec });
    });
  }

  /** Changes a service as control does: keeps the former spec, resets the update's status. */
  async updateService(id: string, change: (spec: ServiceSpec) => ServiceSpec): Promise<void> {
    await this.store.update((tx) => {
      const service = tx.get('service', id)!;
      tx.update('service', {
        ...service,
        spec: change(service.spec!),
        spec_version: { index: service.spec_version!.index + 1 },
        previous_spec: service.spec,
        previous_spec_version: service.spec_version,
        update_status: null,
      });
    });
  }

  async setHistoryLimit(limit: number): Promise<void> {
    await this.store.seed({
      cluster: [Cluster.create({ id: 'c', spec: { orchestration: { task_history_retention_limit: limit } } })],
    });
  }

  service(id: string): Service {
    return this.store.view().get('service', id)!;
  }

  tasks(serviceId: string): Task[] {
    return this.store.view().tasksByService(serviceId);
  }

  /** Tasks that are meant to run, by slot. */
  wanted(serviceId: string): Task[] {
    return this.tasks(serviceId)
      .filter((task) => task.desired_state <= TaskState.COMPLETE)
      .sort((a, b) => a.slot - b.slot);
  }

  running(serviceId: string): Task[] {
    return this.wanted(serviceId).filter((task) => task.status?.state === TaskState.RUNNING);
  }

  newId(): string {
    return newId(this.random);
  }
}

/** A spec with another image, the usual way to make every task of a service out of date. */
export function withImage(image: string): (spec: ServiceSpec) => ServiceSpec {
  return (spec) => ({ ...spec, task: { ...spec.task!, container: { ...spec.task!.container!, image } } });
}
