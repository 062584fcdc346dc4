import {
  timestampToMs,
  NodeSpec_Availability,
  NodeStatus_State,
  TaskState,
  UpdateConfig_UpdateOrder,
  type Service,
  type Task,
} from '../../proto/index.ts';
import type { Change, ReadView } from '../../manager/index.ts';
import { observed, taskText } from './words.ts';
import { Violation } from './violation.ts';
import type { Stage } from './stage.ts';

/** How long a successor waits for the old task at the least, unless that is seen to have stopped, ms. */
const OLD_TASK_WAIT_MS = 60_000;
/** Clocks of managers differ. */
const CLOCK_MARGIN_MS = 1_000;
/** A declared overlap counts for so long after it was declared no more: tasks that it began may still be there, ms. */
const OVERLAP_MEMORY_MS = 120_000;

/** Why tasks are created that take over from one that still runs. */
const MOVES: ReadonlySet<string> = new Set(['node-drained', 'rebalance']);

function isSuccessor(task: Task): boolean {
  return MOVES.has(task.created_for?.code ?? '');
}

function isNodeBound(service: Service | undefined): boolean {
  return service?.spec?.global !== undefined || service?.spec?.global_job !== undefined;
}

/** What tasks of one slot have in common; runs of a job may go on side by side. */
function slotKey(task: Task, view: ReadView): string {
  const place = isNodeBound(view.get('service', task.service_id)) ? task.node_id : task.slot;
  return `${task.service_id} ${place} ${task.job_iteration?.index}`;
}

/** Meant to be at work: not only prepared, not called off, not over. */
function isAtWork(task: Task): boolean {
  const { desired_state: desired } = task;
  return desired >= TaskState.RUNNING && desired <= TaskState.COMPLETE && observed(task) <= TaskState.RUNNING;
}

function startsFirst(service: Service): boolean {
  const { START_FIRST } = UpdateConfig_UpdateOrder;
  const specs = [service.spec, service.previous_spec];
  return specs.some((spec) => spec?.update?.order === START_FIRST || spec?.rollback?.order === START_FIRST);
}

/** No slot has two tasks at work, and a successor waits for the old one, unless the service declares an overlap. */
export class SlotCheck {
  readonly #world: Stage;
  /** When a service last allowed two tasks of one slot; virtual time, ms. */
  readonly #overlapAt = new Map<string, number>();
  /** When a node was last known to be drained; virtual time, ms. */
  readonly #drainedAt = new Map<string, number>();

  constructor(world: Stage) {
    this.#world = world;
  }

  look(changes: readonly Change[], touched: ReadonlyMap<string, Task>, view: ReadView): void {
    for (const change of changes) {
      if (change.kind === 'node' && change.old?.spec?.availability === NodeSpec_Availability.DRAIN) {
        this.#drainedAt.set(change.object.id, this.#world.now);
      }
      if (change.kind !== 'service') continue;
      if (startsFirst(change.object) || (change.old !== undefined && startsFirst(change.old))) {
        this.#overlapAt.set(change.object.id, this.#world.now);
      }
    }
    for (const task of touched.values()) this.#checkSlot(this.#slotOf(task, view), view);
    // An entry joins several decisions: a node may have been Down when the first was taken.
    const changedNodes = new Set(changes.filter(({ kind }) => kind === 'node').map(({ object }) => object.id));
    for (const change of changes) {
      if (change.kind !== 'task' || change.action === 'remove') continue;
      const began = isAtWork(change.object) && (change.old === undefined || !isAtWork(change.old));
      if (began) this.#checkSuccessor(change.object, view, changedNodes);
    }
  }

  #slotOf(task: Task, view: ReadView): Task[] {
    const service = view.get('service', task.service_id);
    // Tasks of a removed service are on their way out.
    if (service === undefined) return [];
    const all = isNodeBound(service) ? view.tasksByNode(task.node_id) : view.tasksBySlot(task.service_id, task.slot);
    // Runs of a job may go on side by side.
    const run = task.job_iteration?.index;
    return all.filter((other) => other.service_id === task.service_id && other.job_iteration?.index === run);
  }

  #overlaps(serviceId: string, view: ReadView): boolean {
    const service = view.get('service', serviceId);
    if (service === undefined || startsFirst(service)) return true;
    const at = this.#overlapAt.get(serviceId);
    return at !== undefined && this.#world.now - at < OVERLAP_MEMORY_MS;
  }

  #checkSlot(slot: readonly Task[], view: ReadView): void {
    const atWork = slot.filter(isAtWork);
    if (atWork.length <= this.#most(atWork, view)) return;
    throw new Violation('one task for each slot', `${atWork.length} are at work: ${atWork.map(taskText).join('; ')}`);
  }

  /** How many of these tasks of one slot may be at work at the same time. */
  #most(tasks: readonly Task[], view: ReadView): number {
    const [first] = tasks;
    if (first === undefined || tasks.length < 2) return 1;
    const isMove = this.#isLeaving(tasks, view) || tasks.some(isSuccessor);
    return isMove || this.#overlaps(first.service_id, view) ? 2 : 1;
  }

  /**
   * A container began to run.
   * @param running tasks whose containers run on nodes that have been reached for a while. @throws Violation
   */
  started(task: Task, running: Iterable<Task>, view: ReadView): void {
    // Tasks of a removed service are on their way out.
    if (view.get('service', task.service_id) === undefined) return;
    const key = slotKey(task, view);
    const slot = [task];
    for (const other of running) if (other.id !== task.id && slotKey(other, view) === key) slot.push(other);
    if (slot.length <= this.#most(slot, view)) return;
    throw new Violation('one container for each slot', `${slot.length} run: ${slot.map(taskText).join('; ')}`);
  }

  /** A drained node keeps a task until its successor runs; it may be called active again meanwhile. */
  #isLeaving(tasks: readonly Task[], view: ReadView): boolean {
    return tasks.some(({ node_id: nodeId }) => {
      const isDrained = view.get('node', nodeId)?.spec?.availability === NodeSpec_Availability.DRAIN;
      const at = this.#drainedAt.get(nodeId);
      return isDrained || (at !== undefined && this.#world.now - at < OVERLAP_MEMORY_MS);
    });
  }

  /** A task may go to work: what was called off in its slot has stopped, or was waited for long enough. */
  #checkSuccessor(task: Task, view: ReadView, changedNodes: ReadonlySet<string>): void {
    if (this.#overlaps(task.service_id, view) || task.created_for?.code === 'rebalance') return;
    for (const old of this.#slotOf(task, view)) {
      const state = observed(old);
      if (old.id === task.id || old.desired_state < TaskState.SHUTDOWN) continue;
      if (state < TaskState.ASSIGNED || state > TaskState.RUNNING) continue;
      const node = view.get('node', old.node_id);
      if (node === undefined || node.status?.state === NodeStatus_State.DOWN || changedNodes.has(node.id)) continue;
      const waitedMs = this.#world.wallMs - createdAtMs(task);
      if (waitedMs >= OLD_TASK_WAIT_MS - CLOCK_MARGIN_MS) continue;
      const what = `${taskText(task)} may run after ${Math.round(waitedMs)} ms though there is still ${taskText(old)}`;
      throw new Violation('successors wait', what);
    }
  }
}

function createdAtMs(task: Task): number {
  return timestampToMs(task.meta?.created_at);
}
