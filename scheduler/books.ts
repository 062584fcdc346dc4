import type { GenericResource, Node, Task } from '../proto/index.ts';
import { TaskState, timestampToMs } from '../proto/index.ts';
import { Columns } from './columns.ts';
import type { Demand } from './demand.ts';
import { Failures } from './failures.ts';
import { Kinships } from './kin.ts';
import { NodeView, occupies, type Held } from './node-view.ts';
import { hostPortsOf, reservationOf } from './resources.ts';
import { TopologyCache, type Topology } from './topology.ts';

function sameEntries(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, i) => one === b[i]);
}

function sameGeneric(a: readonly GenericResource[], b: readonly GenericResource[]): boolean {
  if (a === b || (a.length === 0 && b.length === 0)) return true;
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Whether preferences divide two versions of a node differently. */
function labelsDiffer(a: Node, b: Node): boolean {
  return (
    !sameEntries(a.spec?.annotations?.labels ?? {}, b.spec?.annotations?.labels ?? {}) ||
    !sameEntries(a.description?.engine?.labels ?? {}, b.description?.engine?.labels ?? {})
  );
}

function shallStay(task: Task): boolean {
  return task.desired_state <= TaskState.COMPLETE;
}

/** What is known of nodes, of the tasks that hold something there, and of failures; kept up to date change by change. */
export class Books {
  readonly columns = new Columns();
  readonly kinships = new Kinships();
  readonly failures = new Failures();
  readonly #views = new Map<string, NodeView>();
  readonly #byRow: (NodeView | undefined)[] = [];
  readonly #tasks = new Map<string, Held>();
  readonly #topologies = new TopologyCache();
  /** Known nodes by id; undefined when it must be made anew. */
  #sorted: NodeView[] | undefined;

  /** Views by row. */
  get byRow(): readonly (NodeView | undefined)[] {
    return this.#byRow;
  }

  /** All known nodes in the order of their ids. */
  get known(): readonly NodeView[] {
    if (this.#sorted !== undefined) return this.#sorted;
    const sorted = [...this.#views.values()].filter((view) => view.isKnown).sort((a, b) => (a.id < b.id ? -1 : 1));
    for (const [rank, view] of sorted.entries()) this.columns.rank[view.row] = rank;
    this.#topologies.clear();
    this.#sorted = sorted;
    return sorted;
  }

  /** Brings the order of ids up to date, by which nodes are compared in the end. */
  settleOrder(): void {
    if (this.#sorted === undefined) void this.known;
  }

  node(id: string): NodeView | undefined {
    const view = this.#views.get(id);
    return view?.isKnown === true ? view : undefined;
  }

  held(taskId: string): Held | undefined {
    return this.#tasks.get(taskId);
  }

  topology(descriptors: readonly string[]): Topology {
    return this.#topologies.of(descriptors, this.known, this.columns.capacity);
  }

  setNode(node: Node): void {
    const view = this.#view(node.id);
    if (!view.isKnown) this.#sorted = undefined;
    else if (labelsDiffer(view.node, node)) this.#topologies.clear();
    view.setNode(node);
  }

  removeNode(id: string): void {
    const view = this.#views.get(id);
    if (view === undefined) return;
    this.#sorted = undefined;
    view.setNode(undefined);
    this.failures.forgetNode(id);
    this.#dropIfEmpty(view);
  }

  /** The view of a node, which may not be known (yet): tasks may be told of before their node is. */
  #view(id: string): NodeView {
    const known = this.#views.get(id);
    if (known !== undefined) return known;
    const view = new NodeView(id, this.columns, this.kinships);
    this.#views.set(id, view);
    this.#byRow[view.row] = view;
    return view;
  }

  #dropIfEmpty(view: NodeView): void {
    if (view.isKnown || view.tasks.length > 0) return;
    this.#views.delete(view.id);
    this.#byRow[view.row] = undefined;
    this.columns.giveBack(view.row);
  }

  /** Enters a task as it is now (also one known before). Tasks that hold nothing of a node are not kept. */
  addTask(task: Task): void {
    const former = this.#tasks.get(task.id);
    if (!occupies(task)) {
      if (former !== undefined) this.#remove(former);
      return;
    }
    const { nanoCpus, memoryBytes } = reservationOf(task);
    const kin = this.kinships.of(task);
    const ports = hostPortsOf(task);
    const generic = task.assigned_generic_resources;
    if (former !== undefined) {
      const same = former.view.id === task.node_id && former.kin === kin && sameList(former.ports, ports);
      const equal = former.nanoCpus === nanoCpus && former.memoryBytes === memoryBytes;
      if (same && equal && sameGeneric(former.generic, generic)) {
        former.view.setActive(former, shallStay(task));
        return;
      }
      this.#remove(former);
    }
    const view = this.#view(task.node_id);
    const bornMs = timestampToMs(task.meta?.created_at);
    this.#enter({
      id: task.id,
      kin,
      view,
      nanoCpus,
      memoryBytes,
      generic,
      ports,
      bornMs,
      active: shallStay(task),
      at: 0,
    });
  }

  /** Enters a task of a group on a node; what it reserves is the group's. */
  assign(task: Task, demand: Demand, view: NodeView): GenericResource[] {
    const former = this.#tasks.get(task.id);
    if (former !== undefined) this.#remove(former);
    const { wanted, kin, ports } = demand;
    const generic = view.choose(wanted.generic);
    this.#enter({
      id: task.id,
      kin,
      view,
      nanoCpus: wanted.nanoCpus,
      memoryBytes: wanted.memoryBytes,
      generic,
      ports,
      bornMs: timestampToMs(task.meta?.created_at),
      active: shallStay(task),
      at: 0,
    });
    return generic;
  }

  #enter(held: Held): void {
    this.kinships.hold(held.kin);
    this.#tasks.set(held.id, held);
    held.view.addTask(held);
  }

  removeTask(taskId: string): void {
    const held = this.#tasks.get(taskId);
    if (held !== undefined) this.#remove(held);
  }

  #remove(held: Held): void {
    this.#tasks.delete(held.id);
    held.view.removeTask(held);
    this.kinships.release(held.kin);
    this.#dropIfEmpty(held.view);
  }
}
