import { TaskState, type Node, type Task } from '../proto/index.ts';
import { FreeResources, hostPortsOf, reservationOf } from './resources.ts';

/** Failures after which a node is avoided by a service for a while. */
export const FAILURES_MAX = 5;
/** How long a failure counts, ms. */
export const FAILURE_WINDOW_MS = 5 * 60 * 1000;
/** Services whose failures are remembered for one node. */
const FAILING_SERVICES_MAX = 1000;

/** Whether a task holds what it reserved: from its assignment until it is seen to have ended. */
export function occupies(task: Task): boolean {
  const state = task.status?.state ?? TaskState.NEW;
  return task.node_id !== '' && state >= TaskState.ASSIGNED && state <= TaskState.RUNNING;
}

/** Whether a task counts for spreading: it is there and shall stay. */
function isActive(task: Task): boolean {
  return task.desired_state <= TaskState.COMPLETE;
}

function add(counts: Map<string, number>, key: string, by: number): void {
  const sum = (counts.get(key) ?? 0) + by;
  if (sum === 0) counts.delete(key);
  else counts.set(key, sum);
}

/** One node with everything placement asks about it, kept up to date task by task. */
export class NodeView {
  #node: Node;
  #free: FreeResources;
  readonly #tasks = new Map<string, Task>();
  readonly #activeByService = new Map<string, number>();
  readonly #hostPorts = new Map<string, number>();
  /** Times (ms) of the latest failures, by service and spec version; never more than FAILURES_MAX each. */
  readonly #failures = new Map<string, number[]>();
  #active = 0;

  constructor(node: Node) {
    this.#node = node;
    this.#free = new FreeResources(node.description?.resources);
  }

  get node(): Node {
    return this.#node;
  }

  get free(): FreeResources {
    return this.#free;
  }

  /** Tasks of all services that are here and shall stay. */
  get totalActiveTasks(): number {
    return this.#active;
  }

  activeTasks(serviceId: string): number {
    return this.#activeByService.get(serviceId) ?? 0;
  }

  /** What people call the node: its hostname, or its id when it has told none. */
  get name(): string {
    return this.#node.description?.hostname || this.#node.id;
  }

  hasHostPort(port: string): boolean {
    return this.#hostPorts.has(port);
  }

  /** Who publishes a port here in host mode, in words. */
  holderOfPort(port: string): string {
    for (const task of this.#tasks.values()) {
      if (!hostPortsOf(task).includes(port)) continue;
      const service = task.service_annotations?.name ?? '';
      return service === '' ? `task ${task.id}` : `a task of service ${service}`;
    }
    return 'nobody';
  }

  /** Replaces what is known of the node; its tasks stay. */
  setNode(node: Node): void {
    this.#node = node;
    this.#rebuildFree();
  }

  #rebuildFree(): void {
    this.#free = new FreeResources(this.#node.description?.resources);
    for (const task of this.#tasks.values()) this.#take(task);
  }

  #take(task: Task): void {
    this.#free.take(reservationOf(task), task.assigned_generic_resources);
  }

  #count(task: Task, by: 1 | -1): void {
    for (const port of hostPortsOf(task)) add(this.#hostPorts, port, by);
    if (!isActive(task)) return;
    this.#active += by;
    add(this.#activeByService, task.service_id, by);
  }

  addTask(task: Task): void {
    this.removeTask(task.id);
    this.#tasks.set(task.id, task);
    this.#count(task, 1);
    this.#take(task);
  }

  removeTask(taskId: string): void {
    const task = this.#tasks.get(taskId);
    if (task === undefined) return;
    this.#tasks.delete(taskId);
    this.#count(task, -1);
    const generic = task.assigned_generic_resources;
    const { nanoCpus, memoryBytes } = reservationOf(task);
    if (generic.length > 0) this.#rebuildFree();
    else this.#free.take({ nanoCpus: -nanoCpus, memoryBytes: -memoryBytes, generic: new Map() }, []);
  }

  /** @param key service and spec version; @param atMs time of the failure. */
  addFailure(key: string, atMs: number): void {
    const times = [...(this.#failures.get(key) ?? []), atMs].toSorted((a, b) => a - b).slice(-FAILURES_MAX);
    this.#failures.delete(key);
    this.#failures.set(key, times);
    if (this.#failures.size <= FAILING_SERVICES_MAX) return;
    const oldest = this.#failures.keys().next();
    if (oldest.done !== true) this.#failures.delete(oldest.value);
  }

  /** Whether the service failed here too often of late. */
  isFailing(key: string, nowMs: number): boolean {
    const times = this.#failures.get(key) ?? [];
    return times.filter((at) => nowMs - at < FAILURE_WINDOW_MS).length >= FAILURES_MAX;
  }
}
