import { NodeSpec_Availability, NodeStatus_State, TaskState, type GenericResource } from '../proto/index.ts';
import type { Node, Task } from '../proto/index.ts';
import type { Columns } from './columns.ts';
import type { Kin, Kinships } from './kin.ts';
import { GenericPools, portNumberOf, portsClash, type FreeResources } from './resources.ts';

/** Whether a task holds what it reserved: from its assignment until it is seen to have ended. */
export function occupies(task: Task): boolean {
  const state = task.status?.state ?? TaskState.NEW;
  return task.node_id !== '' && state >= TaskState.ASSIGNED && state <= TaskState.RUNNING;
}

/** A task in the books: what it holds of its node. */
export interface Held {
  readonly id: string;
  readonly kin: Kin;
  readonly view: NodeView;
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  readonly generic: readonly GenericResource[];
  /** Keys of its host ports. */
  readonly ports: readonly string[];
  /** When it was created, ms; the youngest give way first. */
  readonly bornMs: number;
  /** Whether it shall stay: then it counts for spreading. */
  active: boolean;
  /** Its place in the node's list. */
  at: number;
}

/** Room that is kept for a task which waits for others to leave. */
export interface Promised {
  /** The group it belongs to; all of that group's tasks may use it. */
  groupKey: string;
  priority: number;
  nanoCpus: number;
  memoryBytes: number;
  generic: ReadonlyMap<string, number>;
  ports: readonly string[];
}

/** Who asks for room: promises to others of at least the same priority are off limits. */
export interface Asking {
  groupKey: string;
  priority: number;
}

const NOTHING_PROMISED: readonly Promised[] = [];

function isReady(node: Node): boolean {
  return node.status?.state === NodeStatus_State.READY && node.spec?.availability === NodeSpec_Availability.ACTIVE;
}

/** Removes a task from a list whose items know their place. */
function takeOut(list: Held[], held: Held): void {
  const last = list.pop() as Held;
  if (last === held) return;
  list[held.at] = last;
  last.at = held.at;
}

/** One node with everything placement asks about it, kept up to date task by task. Its numbers stand in columns. */
export class NodeView {
  readonly id: string;
  readonly row: number;
  readonly #columns: Columns;
  readonly #kinships: Kinships;
  /** Absent while tasks are known on a node that is not. */
  #node: Node | undefined;
  #pools: GenericPools | undefined;
  readonly #tasks: Held[] = [];
  /** Tasks that publish each host port, on whatever address; absent until there is one. */
  #hostPorts: Map<string, Held[]> | undefined;
  #promised = NOTHING_PROMISED;

  constructor(id: string, columns: Columns, kinships: Kinships) {
    this.id = id;
    this.#columns = columns;
    this.#kinships = kinships;
    this.row = columns.take();
    this.#setTotals();
  }

  get node(): Node {
    return this.#node as Node;
  }

  get isKnown(): boolean {
    return this.#node !== undefined;
  }

  /** What people call the node: its hostname, or its id when it has told none. */
  get name(): string {
    return this.#node?.description?.hostname || this.id;
  }

  /** What is left of its resources. */
  get free(): FreeResources {
    return {
      nanoCpus: this.#columns.freeCpus[this.row] as number,
      memoryBytes: this.#columns.freeMemory[this.row] as number,
      units: (kind) => this.units(kind),
    };
  }

  /** Tasks that hold something here, in no order. */
  get tasks(): readonly Held[] {
    return this.#tasks;
  }

  /** Tasks of all services that are here and shall stay. */
  get totalActiveTasks(): number {
    return this.#columns.active[this.row] as number;
  }

  get promises(): readonly Promised[] {
    return this.#promised;
  }

  /** Tasks of a service that are here and shall stay. */
  activeTasks(serviceId: string): number {
    return this.#kinships.ofService(serviceId).reduce((sum, kin) => sum + (kin.active.get(this) ?? 0), 0);
  }

  /** Free units of a kind of generic resource. */
  units(kind: string): number {
    return this.#pools?.units(kind) ?? 0;
  }

  /** Which generic resources a task would get. */
  choose(wanted: ReadonlyMap<string, number>): GenericResource[] {
    return wanted.size === 0 ? [] : (this.#pools?.choose(wanted) ?? []);
  }

  hasHostPort(port: string): boolean {
    return this.#hostPorts !== undefined && this.holdersOfPort(port).length > 0;
  }

  /** Who publishes a port here in host mode, on an address that is in the way. */
  holdersOfPort(port: string): readonly Held[] {
    const holders = this.#hostPorts?.get(portNumberOf(port)) ?? [];
    return holders.filter((held) => held.ports.some((own) => portsClash(own, port)));
  }

  /** Keeps room; `clearPromises` ends it. */
  promise(room: Promised): void {
    this.#promised = [...this.#promised, room];
    this.#columns.promised[this.row] = 1;
  }

  clearPromises(): void {
    this.#promised = NOTHING_PROMISED;
    this.#columns.promised[this.row] = 0;
  }

  /** One of the group's tasks has taken its room. */
  keepPromise(groupKey: string): void {
    const at = this.#promised.findIndex((one) => one.groupKey === groupKey);
    if (at < 0) return;
    this.#promised = this.#promised.toSpliced(at, 1);
    this.#columns.promised[this.row] = this.#promised.length > 0 ? 1 : 0;
  }

  /** Promises that a group must respect. */
  promisesTo({ groupKey, priority }: Asking): readonly Promised[] {
    if (this.#promised.length === 0) return NOTHING_PROMISED;
    return this.#promised.filter((one) => one.groupKey !== groupKey && one.priority >= priority);
  }

  /** Replaces what is known of the node; its tasks stay. Undefined: the node is gone. */
  setNode(node: Node | undefined): void {
    this.#node = node;
    this.#setTotals();
    this.#columns.ready[this.row] = node !== undefined && isReady(node) ? 1 : 0;
  }

  #setTotals(): void {
    const { row } = this;
    const columns = this.#columns;
    const resources = this.#node?.description?.resources;
    columns.setTotals(row, resources?.nano_cpus ?? 0, resources?.memory_bytes ?? 0);
    columns.changed(row);
    for (const held of this.#tasks) columns.reserve(row, held.nanoCpus, held.memoryBytes);
    this.#setPools();
  }

  /** Counted anew: a name that a task held may not be the node's any more. */
  #setPools(): void {
    const total = this.#node?.description?.resources?.generic ?? [];
    this.#pools = total.length === 0 ? undefined : new GenericPools(total);
    for (const { generic } of this.#tasks) this.#takeGeneric(generic);
  }

  #takeGeneric(generic: readonly GenericResource[]): void {
    if (generic.length === 0) return;
    this.#pools ??= new GenericPools([]);
    this.#pools.take(generic);
  }

  addTask(held: Held): void {
    held.at = this.#tasks.push(held) - 1;
    this.#columns.reserve(this.row, held.nanoCpus, held.memoryBytes);
    this.#takeGeneric(held.generic);
    for (const port of held.ports) this.#addPort(port, held);
    if (held.active) this.#count(held.kin, 1);
  }

  #addPort(port: string, held: Held): void {
    this.#hostPorts ??= new Map();
    const number = portNumberOf(port);
    const holders = this.#hostPorts.get(number) ?? [];
    if (!holders.includes(held)) this.#hostPorts.set(number, [...holders, held]);
  }

  removeTask(held: Held): void {
    takeOut(this.#tasks, held);
    this.#columns.reserve(this.row, -held.nanoCpus, -held.memoryBytes);
    if (held.generic.length > 0) this.#setPools();
    for (const port of held.ports) {
      const number = portNumberOf(port);
      const left = (this.#hostPorts?.get(number) ?? []).filter((one) => one !== held);
      if (left.length === 0) this.#hostPorts?.delete(number);
      else this.#hostPorts?.set(number, left);
    }
    if (held.active) this.#count(held.kin, -1);
  }

  /** A task that was to stay shall go, or the other way round. It keeps what it holds. */
  setActive(held: Held, active: boolean): void {
    if (held.active === active) return;
    held.active = active;
    this.#count(held.kin, active ? 1 : -1);
  }

  #count(kin: Kin, by: 1 | -1): void {
    this.#columns.active[this.row] = (this.#columns.active[this.row] as number) + by;
    const count = (kin.active.get(this) ?? 0) + by;
    if (count === 0) kin.active.delete(this);
    else kin.active.set(this, count);
  }
}
