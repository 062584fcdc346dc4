import type { GenericResource, Node, Task } from '../proto/index.ts';
import { Books } from './books.ts';
import { demandOf, groupKeyOf, hasResources, presentFar, takenPorts, unmetNear, type Demand } from './demand.ts';
import { explainFilters, explanationLine, type Explanation } from './explanation.ts';
import { FixedFitsCache } from './fixed-fits.ts';
import { GroupFit } from './group-placement.ts';
import { Heap } from './heap.ts';
import { PREEMPT_LABEL, priorityAmong, type PlacementStrategy } from './hints.ts';
import type { NodeView } from './node-view.ts';
import { filtersFor } from './pipeline.ts';
import { isCheaper, planRoom, type RoomPlan } from './preemption.ts';
import { Ranking } from './ranking.ts';
import { GroupSpread } from './spread.ts';

/** Tasks that one pass may push off their nodes. */
export const VICTIMS_PER_PASS_MAX = 100;
/** Nodes on which room is planned for one group that preempts; the rest is not looked at. */
const PLANS_MAX = 500;

/** Tasks of one service and spec version: they are alike, so one pass places all of them. */
export interface TaskGroup {
  tasks: readonly Task[];
}

export interface Assignment {
  taskId: string;
  nodeId: string;
  assignedGenericResources: GenericResource[];
}

/** A task without a node. The explanation is worked out when it is first read, from the books as they are then. */
export interface Unplaced {
  taskId: string;
  /** For the user, one line that begins with Docker's words: "no suitable node (…)". */
  readonly explanation: string;
  /** The same in parts. */
  readonly details: Explanation;
}

/** A task that must leave its node, because one of higher priority needs the room and fits nowhere. */
export interface Preemption {
  /** The one that must leave. */
  taskId: string;
  /** The one that waits for the room. */
  forTaskId: string;
  nodeId: string;
}

export interface Decisions {
  assignments: Assignment[];
  unplaced: Unplaced[];
  preemptions: Preemption[];
}

/** A task that ended badly, for avoiding its node. */
export interface Failure {
  nodeId: string;
  serviceId: string;
  specVersion: number;
  /** ms since the epoch. */
  atMs: number;
}

/** Why tasks of one group have no node, worked out once and only when somebody asks. */
class Refusal {
  readonly #work: () => Explanation;
  #details: Explanation | undefined;
  #line: string | undefined;

  constructor(work: () => Explanation) {
    this.#work = work;
  }

  get details(): Explanation {
    return (this.#details ??= this.#work());
  }

  get line(): string {
    return (this.#line ??= explanationLine(this.details));
  }
}

class NotPlaced implements Unplaced {
  readonly taskId: string;
  readonly #refusal: Refusal;

  constructor(taskId: string, refusal: Refusal) {
    this.taskId = taskId;
    this.#refusal = refusal;
  }

  get explanation(): string {
    return this.#refusal.line;
  }

  get details(): Explanation {
    return this.#refusal.details;
  }
}

/** Groups tasks by service and spec version: higher priority first, then in the order of their first task. */
export function groupTasks(tasks: Iterable<Task>): TaskGroup[] {
  const groups = new Map<string, { tasks: Task[]; priority: number }>();
  for (const task of tasks) {
    const key = groupKeyOf(task);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { tasks: [task], priority: priorityOf(task) });
    else group.tasks.push(task);
  }
  return [...groups.values()].sort((a, b) => b.priority - a.priority);
}

/** The priority of a task's service, 0 to 1000. */
export function priorityOf(task: Task): number {
  return priorityAmong(task.service_annotations?.labels);
}

/**
 * Chooses nodes for tasks. Pure: it knows what it was told, has no clock, and its decisions depend on nothing else.
 * Decisions are entered in its own books at once; when one cannot be carried out, tell it with `addTask` (what the task
 * is now) or `removeTask`.
 */
export class Scheduler {
  readonly #books = new Books();
  readonly #fixed = new FixedFitsCache(this.#books.columns);
  readonly #ranking = new Ranking(this.#books.columns);
  #strategy: PlacementStrategy = 'spread';
  /** Nodes with room kept for tasks that wait for others to leave. */
  readonly #promising = new Set<NodeView>();

  /** The strategy of services that choose none; `spread` at first. */
  setStrategy(strategy: PlacementStrategy): void {
    this.#strategy = strategy;
  }

  setNode(node: Node): void {
    this.#books.setNode(node);
  }

  removeNode(id: string): void {
    const view = this.#books.node(id);
    if (view !== undefined) this.#clearPromises(view);
    this.#books.removeNode(id);
  }

  /** Enters a task as it is now (also one known before). Tasks that hold nothing of a node are not kept. */
  addTask(task: Task): void {
    this.#books.addTask(task);
  }

  removeTask(taskId: string): void {
    this.#books.removeTask(taskId);
  }

  addFailure({ nodeId, serviceId, specVersion, atMs }: Failure): void {
    if (this.#books.node(nodeId) !== undefined) this.#books.failures.add(`${serviceId}/${specVersion}`, nodeId, atMs);
  }

  /** What is known of a node; for tests and explanations. */
  node(id: string): NodeView | undefined {
    return this.#books.node(id);
  }

  /**
   * A whole pass: places every task of the groups that fits somewhere, and decides who must leave for those that may
   * preempt. One look at all nodes per group; per task only a heap is asked.
   * @param nowMs the present, on the clock of the failures' times.
   */
  schedule(groups: readonly TaskGroup[], nowMs: number): Decisions {
    const decisions: Decisions = { assignments: [], unplaced: [], preemptions: [] };
    const waiting: Task[] = [];
    for (const group of groups) {
      const { assignments, unplaced } = this.place(group, nowMs);
      for (const one of assignments) decisions.assignments.push(one);
      for (const one of unplaced) decisions.unplaced.push(one);
      for (const task of group.tasks.slice(group.tasks.length - unplaced.length)) waiting.push(task);
    }
    decisions.preemptions = this.preempt(waiting);
    return decisions;
  }

  /**
   * Places the tasks of one group, the first ones first: when one fits nowhere, none of those behind it does. For
   * callers that take a pass in slices; `preempt` ends their pass.
   */
  place({ tasks }: TaskGroup, nowMs: number): { assignments: Assignment[]; unplaced: Unplaced[] } {
    const assignments: Assignment[] = [];
    while (assignments.length < tasks.length) {
      const demand = demandOf(tasks[assignments.length] as Task, this.#books.kinships, this.#strategy);
      // The first task of a group that wants to be beside itself decides where the others may go.
      const end = demand.near.some((one) => one.isOpen) ? assignments.length + 1 : tasks.length;
      if (!this.#placeUpTo(end, demand, tasks, nowMs, assignments)) break;
    }
    const unplaced: Unplaced[] = [];
    if (assignments.length < tasks.length) {
      const example = tasks[assignments.length] as Task;
      const refusal = new Refusal(() => this.explain(example, nowMs));
      for (let i = assignments.length; i < tasks.length; i++) {
        unplaced.push(new NotPlaced((tasks[i] as Task).id, refusal));
      }
    }
    return { assignments, unplaced };
  }

  /** Places tasks of a group from the first that has no node up to `end`; false when one of them fits nowhere. */
  #placeUpTo(end: number, demand: Demand, tasks: readonly Task[], nowMs: number, assignments: Assignment[]): boolean {
    const fit = this.#fit(demand, (view) => {
      assignments.push(this.#assign(tasks[assignments.length] as Task, demand, view));
    });
    const spread = this.#spread(demand, fit, end - assignments.length, nowMs);
    while (assignments.length < end) if (!spread.next()) return false;
    return true;
  }

  #fit(demand: Demand, assign: (view: NodeView) => void): GroupFit {
    const { columns, byRow } = this.#books;
    this.#books.settleOrder();
    this.#ranking.begin(demand);
    for (const kin of this.#books.kinships.ofService(demand.kin.serviceId)) {
      for (const [view, count] of kin.active) this.#ranking.addOfService(view.row, count);
    }
    const books = { columns, views: byRow, fixed: this.#fixedFits(demand), ranking: this.#ranking };
    return new GroupFit(demand, books, assign);
  }

  #fixedFits(demand: Demand): Uint8Array | undefined {
    return this.#fixed.of(demand)?.upToDate(this.#books.byRow);
  }

  #spread(demand: Demand, takers: GroupFit, tasks: number, nowMs: number): GroupSpread {
    for (const nodeId of this.#books.failures.failingNodes(demand.groupKey, nowMs)) {
      const view = this.#books.node(nodeId);
      if (view !== undefined) this.#ranking.setFailing(view.row);
    }
    const topology = this.#books.topology(demand.preferences);
    const counts = new Int32Array(topology.leaves);
    if (topology.leaves > 1) {
      for (const kin of this.#books.kinships.ofService(demand.kin.serviceId)) {
        for (const [view, count] of kin.active) {
          if (!view.isKnown) continue;
          const leaf = topology.leafOf[view.row] as number;
          counts[leaf] = (counts[leaf] as number) + count;
        }
      }
    }
    return new GroupSpread(topology, counts, { ranking: this.#ranking, takers, tasks });
  }

  /** Checks a task whose node is given (a global service's). Enters it in the books when it fits. */
  confirm(task: Task): Assignment | Unplaced {
    const view = this.#books.node(task.node_id);
    const demand = demandOf(task, this.#books.kinships, this.#strategy);
    // A container's place on a network: the container is there already, whatever its node takes otherwise.
    const isPlace = task.spec?.attachment !== undefined;
    if (view !== undefined && (isPlace || this.#fitsGiven(view, demand))) return this.#assign(task, demand, view);
    return new NotPlaced(task.id, new Refusal(() => this.explain(task, 0)));
  }

  /** What `GroupFit` answers, for one node alone. */
  #fitsGiven(view: NodeView, demand: Demand): boolean {
    if (this.#books.columns.ready[view.row] === 0 || this.#fixedFits(demand)?.[view.row] === 0) return false;
    if (demand.most > 0 && view.activeTasks(demand.kin.serviceId) >= demand.most) return false;
    return hasResources(view, demand) && takenPorts(view, demand).length === 0 && this.#isAmongFriends(view, demand);
  }

  #isAmongFriends(view: NodeView, demand: Demand): boolean {
    return unmetNear(view, demand).length === 0 && presentFar(view, demand).length === 0;
  }

  #assign(task: Task, demand: Demand, view: NodeView): Assignment {
    const assignedGenericResources = this.#books.assign(task, demand, view);
    if (view.promises.length > 0) view.keepPromise(demand.groupKey);
    return { taskId: task.id, nodeId: view.id, assignedGenericResources };
  }

  /**
   * Why a waiting task has no node, told as of now; when it fits somewhere, that is what it says. Changes nothing.
   * A task whose node is given is looked at on that node only.
   * @param nowMs the present, on the clock of the failures' times.
   */
  explain(task: Task, _nowMs: number): Explanation {
    const demand = demandOf(task, this.#books.kinships, this.#strategy);
    const given = task.node_id === '' ? undefined : this.#books.node(task.node_id);
    if (task.node_id !== '' && given === undefined) {
      return { text: 'no suitable node', excluded: [], fix: `node ${task.node_id} is not in the cluster any more` };
    }
    const told = explainFilters(filtersFor(demand), given === undefined ? this.#books.known : [given]);
    const promising = [...this.#promising].find((view) =>
      view.promises.some((one) => one.groupKey === demand.groupKey),
    );
    if (promising === undefined || told.fix === '') return told;
    const lacks = 'makes room: tasks are leaving';
    const nearest = { nodeId: promising.id, name: promising.name, filter: 'resource' as const, lacks };
    return { ...told, nearest, fix: 'wait, the task starts there once they have left' };
  }

  /** Ends what is promised to groups that are not waiting any more. Call it before a pass that goes in slices. */
  forgetPromises(isWaiting: (groupKey: string) => boolean): void {
    for (const view of this.#promising) {
      if (!view.promises.every((one) => isWaiting(one.groupKey))) this.#clearPromises(view);
    }
  }

  /** Places that are kept at present. */
  get promises(): number {
    let count = 0;
    for (const view of this.#promising) count += view.promises.length;
    return count;
  }

  #clearPromises(view: NodeView): void {
    view.clearPromises();
    this.#promising.delete(view);
  }

  /**
   * Decides who must leave for tasks that fit nowhere and may preempt: as few as can be, of lower priority only, so that
   * no two tasks can push each other off for ever. Room that is coming free anyway counts. The victims stay in the books
   * with all they hold until they are seen to have ended; the room is kept for the group meanwhile.
   * @param waiting all tasks that this pass could not place; the promises of the pass before end.
   * @param most victims at the most; what is left is decided in the next pass.
   */
  preempt(waiting: readonly Task[], most = VICTIMS_PER_PASS_MAX): Preemption[] {
    for (const view of this.#promising) this.#clearPromises(view);
    const decided: Preemption[] = [];
    for (const group of preemptingGroups(waiting, (task) => this.#mayPreempt(task))) {
      this.#preemptFor(group.tasks, most, decided);
    }
    return decided;
  }

  #mayPreempt(task: Task): boolean {
    // Hints are read only where there are labels at all: few tasks preempt.
    const labels = task.service_annotations?.labels;
    return labels !== undefined && labels[PREEMPT_LABEL] === 'true' && this.#books.kinships.of(task).hints.preempt;
  }

  #preemptFor(tasks: readonly Task[], most: number, decided: Preemption[]): void {
    const example = tasks[0] as Task;
    const demand = demandOf(example, this.#books.kinships, this.#strategy);
    const plans = new Heap<RoomPlan>(this.#roomPlans(example, demand), isCheaper);
    for (const task of tasks) {
      const plan = plans.peek();
      if (plan === undefined || decided.length + plan.victims.length > most) return;
      plans.pop();
      for (const victim of plan.victims) {
        plan.view.setActive(victim, false);
        decided.push({ taskId: victim.id, forTaskId: task.id, nodeId: plan.view.id });
      }
      const { nanoCpus, memoryBytes, generic } = demand.wanted;
      const { groupKey, priority, ports } = demand;
      plan.view.promise({ groupKey, priority, nanoCpus, memoryBytes, generic, ports });
      this.#promising.add(plan.view);
      const again = planRoom(plan.view, demand);
      if (again !== undefined) plans.push(again);
    }
  }

  #roomPlans(task: Task, demand: Demand): RoomPlan[] {
    const given = task.node_id === '' ? undefined : this.#books.node(task.node_id);
    const views = task.node_id === '' ? this.#books.known : given === undefined ? [] : [given];
    const fixed = this.#fixedFits(demand);
    const plans: RoomPlan[] = [];
    for (const view of views) {
      if (this.#books.columns.ready[view.row] === 0 || fixed?.[view.row] === 0) continue;
      if (!this.#isAmongFriends(view, demand)) continue;
      const plan = planRoom(view, demand);
      if (plan !== undefined) plans.push(plan);
      if (plans.length >= PLANS_MAX) break;
    }
    return plans;
  }
}

/** Groups of tasks that may preempt; tasks whose node is given stand alone. */
function preemptingGroups(waiting: readonly Task[], mayPreempt: (task: Task) => boolean): TaskGroup[] {
  const preempting = waiting.filter(mayPreempt);
  const given = preempting.filter((task) => task.node_id !== '').map((task) => ({ tasks: [task] }));
  const free = groupTasks(preempting.filter((task) => task.node_id === ''));
  return [...given, ...free].sort((a, b) => priorityOf(b.tasks[0] as Task) - priorityOf(a.tasks[0] as Task));
}
