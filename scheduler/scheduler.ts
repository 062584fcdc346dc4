import { TaskState, type GenericResource, type Node, type Task } from '../proto/index.ts';
import { NodeView, occupies } from './node-view.ts';
import { explainFilters, explanationLine, type Explanation } from './explanation.ts';
import { filtersFor, passes } from './pipeline.ts';
import { reservationOf } from './resources.ts';
import { spreadTree } from './spread.ts';

/** Tasks of one service and spec version: they are alike, so one pass places all of them. */
export interface TaskGroup {
  tasks: readonly Task[];
}

export interface Assignment {
  taskId: string;
  nodeId: string;
  assignedGenericResources: GenericResource[];
}

export interface Unplaced {
  taskId: string;
  /** For the user, one line that begins with Docker's words: "no suitable node (…)". */
  explanation: string;
  /** The same in parts. */
  details: Explanation;
}

export interface Decisions {
  assignments: Assignment[];
  unplaced: Unplaced[];
}

/** A task that ended badly, for avoiding its node. */
export interface Failure {
  nodeId: string;
  serviceId: string;
  specVersion: number;
  /** ms since the epoch. */
  atMs: number;
}

function failureKey(serviceId: string, specVersion: number): string {
  return `${serviceId}/${specVersion}`;
}

/** Groups tasks by service and spec version, in the order of their first task. */
export function groupTasks(tasks: Iterable<Task>): TaskGroup[] {
  const groups = new Map<string, Task[]>();
  for (const task of tasks) {
    // A task without a service or a version is like no other.
    const version = task.spec_version?.index;
    const key =
      task.service_id === '' || version === undefined ? `task ${task.id}` : failureKey(task.service_id, version);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
  }
  return [...groups.values()].map((group) => ({ tasks: group }));
}

/**
 * Chooses nodes for tasks. Pure: it knows what it was told, has no clock, and its decisions depend on nothing else.
 * Decisions are entered in its own books at once; when one cannot be carried out, tell it with `addTask` (what the task
 * is now) or `removeTask`.
 */
export class Scheduler {
  readonly #nodes = new Map<string, NodeView>();
  /** Tasks that hold something, also those on nodes not known (yet). */
  readonly #tasks = new Map<string, Task>();
  readonly #tasksByNode = new Map<string, Set<string>>();

  setNode(node: Node): void {
    const view = this.#nodes.get(node.id);
    if (view !== undefined) {
      view.setNode(node);
      return;
    }
    const fresh = new NodeView(node);
    for (const id of this.#tasksByNode.get(node.id) ?? []) fresh.addTask(this.#tasks.get(id) as Task);
    this.#nodes.set(node.id, fresh);
  }

  removeNode(id: string): void {
    this.#nodes.delete(id);
  }

  /** Enters a task as it is now (also one known before). Tasks that hold nothing of a node are not kept. */
  addTask(task: Task): void {
    this.removeTask(task.id);
    if (!occupies(task)) return;
    this.#tasks.set(task.id, task);
    const onNode = this.#tasksByNode.get(task.node_id);
    if (onNode === undefined) this.#tasksByNode.set(task.node_id, new Set([task.id]));
    else onNode.add(task.id);
    this.#nodes.get(task.node_id)?.addTask(task);
  }

  removeTask(taskId: string): void {
    const task = this.#tasks.get(taskId);
    if (task === undefined) return;
    this.#tasks.delete(taskId);
    this.#nodes.get(task.node_id)?.removeTask(taskId);
    const onNode = this.#tasksByNode.get(task.node_id);
    if (onNode?.delete(taskId) === true && onNode.size === 0) this.#tasksByNode.delete(task.node_id);
  }

  addFailure({ nodeId, serviceId, specVersion, atMs }: Failure): void {
    this.#nodes.get(nodeId)?.addFailure(failureKey(serviceId, specVersion), atMs);
  }

  /** What is known of a node; for tests and explanations. */
  node(id: string): NodeView | undefined {
    return this.#nodes.get(id);
  }

  /**
   * Places every task of the groups that fits somewhere. One look at all nodes per group; per task only a heap is
   * asked.
   * @param nowMs the present, on the clock of the failures' times.
   */
  schedule(groups: readonly TaskGroup[], nowMs: number): Decisions {
    const decisions: Decisions = { assignments: [], unplaced: [] };
    for (const group of groups) this.#scheduleGroup(group, nowMs, decisions);
    return decisions;
  }

  #scheduleGroup({ tasks }: TaskGroup, nowMs: number, decisions: Decisions): void {
    const example = tasks[0];
    if (example === undefined) return;
    const filters = filtersFor(example);
    const candidates = [...this.#nodes.values()].map((view) => ({ view, suitable: passes(filters, view) }));
    let details: Explanation | undefined;
    const descriptors = (example.spec?.placement?.preferences ?? [])
      .map((preference) => preference.spread?.spread_descriptor ?? '')
      .filter((descriptor) => descriptor !== '');
    const tree = spreadTree(descriptors, candidates, {
      serviceId: example.service_id,
      failureKey: failureKey(example.service_id, example.spec_version?.index ?? 0),
      nowMs,
    });
    for (const task of tasks) {
      const placed = tree.next((view) => {
        if (!passes(filters, view)) return false;
        decisions.assignments.push(this.#assign(task, view));
        return true;
      });
      if (placed) continue;
      // The tasks are alike: what turns one away turns away all that follow.
      details ??= explainFilters(filters, this.#nodes.values());
      decisions.unplaced.push({ taskId: task.id, explanation: explanationLine(details), details });
    }
  }

  /**
   * Why a waiting task has no node, told as of now; when it fits somewhere, that is what it says. Changes nothing.
   * A task whose node is given is looked at on that node only.
   * @param nowMs the present, on the clock of the failures' times.
   */
  explain(task: Task, _nowMs: number): Explanation {
    return task.node_id === ''
      ? explainFilters(filtersFor(task), this.#nodes.values())
      : this.#explainGiven(task, this.#nodes.get(task.node_id));
  }

  #explainGiven(task: Task, view: NodeView | undefined): Explanation {
    if (view !== undefined) return explainFilters(filtersFor(task), [view]);
    return { text: 'no suitable node', excluded: [], fix: `node ${task.node_id} is not in the cluster any more` };
  }

  /** Checks a task whose node is given (a global service's). Enters it in the books when it fits. */
  confirm(task: Task): Assignment | Unplaced {
    const view = this.#nodes.get(task.node_id);
    if (view === undefined || !passes(filtersFor(task), view)) {
      const details = this.#explainGiven(task, view);
      return { taskId: task.id, explanation: explanationLine(details), details };
    }
    return this.#assign(task, view);
  }

  #assign(task: Task, view: NodeView): Assignment {
    const assignedGenericResources = view.free.choose(reservationOf(task));
    const nodeId = view.node.id;
    const status = { ...(task.status as NonNullable<Task['status']>), state: TaskState.ASSIGNED };
    this.addTask({
      ...task,
      node_id: nodeId,
      status,
      assigned_generic_resources: assignedGenericResources,
    });
    return { taskId: task.id, nodeId, assignedGenericResources };
  }
}
