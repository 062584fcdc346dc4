import { isShoalError, type Clock } from '../base/index.ts';
import { TaskState, timestampToMs, type Cluster, type Task } from '../proto/index.ts';
import {
  CLUSTER_STRATEGY_LABEL,
  groupKeyOf,
  occupies,
  parseStrategy,
  priorityOf,
  Scheduler,
  type Preemption,
  type Unplaced,
} from '../scheduler/index.ts';
import { isPending, writeOne, type Write } from './placement-writes.ts';
import type { Change, Commit, Store } from './store/types.ts';

/** Tasks in one transaction. The store puts several into one raft entry. */
const TASKS_PER_TRANSACTION = 200;
/** Transactions under way; a pass waits when there are more. */
const TRANSACTIONS_MAX = 50;
/** Tasks of one group that are placed in one go. */
const TASKS_PER_SLICE = 1000;
/** Others get their turn after a pass has worked this long, ms. */
const SLICE_MS = 15;
/** An explanation that stands is written anew, when it has changed, after this time, ms… */
export const TELL_AGAIN_MS = 5_000;
/** …and this much for every task that waits, ms: so 50 such writes per second at the most, however many wait. */
const TELL_AGAIN_PER_TASK_MS = 20;

/** Waiting tasks that are alike. */
interface WaitingGroup {
  readonly key: string;
  readonly priority: number;
  readonly tasks: Map<string, Task>;
  /** When explanations of the group were last compared with those that stand, ms. */
  toldAtMs: number;
}

/** A group with tasks that got no node in a pass. */
interface Refused {
  group: WaitingGroup;
  whyOf: (task: Task) => Unplaced | undefined;
}

function hasFailed(task: Task): boolean {
  const state = task.status?.state;
  return task.node_id !== '' && (state === TaskState.FAILED || state === TaskState.REJECTED);
}

/** Whether a task's change can make another decision right: it waits now, or it gives something back. */
function mayMatter(old: Task | undefined, now: Task | undefined): boolean {
  if (now !== undefined && isPending(now) && !(old !== undefined && isPending(old))) return true;
  if (old === undefined || !occupies(old)) return false;
  if (now === undefined || !occupies(now)) return true;
  return old.desired_state <= TaskState.COMPLETE && now.desired_state > TaskState.COMPLETE;
}

/** Whether a task joins a service others may want to be beside (or wait to be rid of). */
function arrives(old: Task | undefined, now: Task | undefined): boolean {
  return now !== undefined && occupies(now) && !(old !== undefined && occupies(old));
}

function versionOf(task: Task): number {
  return task.meta?.version?.index ?? 0;
}

/** The scheduler's view of the store and the tasks that wait for a node, from a full load to a reset. */
export class PlacementPass {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #scheduler = new Scheduler();
  readonly #groups = new Map<string, WaitingGroup>();
  /** The group of each waiting task. */
  readonly #groupOf = new Map<string, WaitingGroup>();
  /** Tasks whose decision is being written: what the store says of them is looked at afterwards. */
  readonly #writing = new Set<string>();
  readonly #writes = new Set<Promise<void>>();
  #batch: Write[] = [];
  /** Number of changes so far that can alter a decision. */
  news = 0;
  /** `news` at the latest pass. */
  newsSeen = -1;
  /** When an explanation is due to be compared again, ms; undefined: none is. */
  wakeAtMs: number | undefined;
  /** Whether a write has failed since the last look: another pass is due after a while. */
  hasFailedWrites = false;
  /** Called when the outcome of a write makes another pass due. */
  onDue: (() => void) | undefined;
  /** A defect met while writing. */
  #defect: unknown;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /**
   * Reads the whole store; others get their turn meanwhile, so commits must be taken in (`absorb`) from before on.
   * Every object is read as it is when its turn comes, so it makes no difference which of the two comes first.
   */
  async load(signal: AbortSignal): Promise<void> {
    const view = this.#store.view();
    for (const cluster of view.list('cluster')) this.#setCluster(cluster);
    for (const node of view.list('node')) this.#scheduler.setNode(node);
    let sliceEndMs = this.#clock.monotonic() + SLICE_MS;
    for (const [i, { id }] of view.list('task').entries()) {
      if (i % TASKS_PER_TRANSACTION === 0 && this.#clock.monotonic() >= sliceEndMs) {
        await this.#clock.sleep(0, signal);
        sliceEndMs = this.#clock.monotonic() + SLICE_MS;
      }
      const task = this.#store.view().get('task', id);
      if (task === undefined) continue;
      this.#enter(task);
      if (hasFailed(task)) this.#noteFailure(task, timestampToMs(task.status?.timestamp));
    }
  }

  /** Whether something has changed since the last pass that can alter a decision. */
  get isDue(): boolean {
    return this.news !== this.newsSeen;
  }

  #setCluster(cluster: Cluster): void {
    const text = cluster.spec?.annotations?.labels[CLUSTER_STRATEGY_LABEL] ?? 'spread';
    try {
      this.#scheduler.setStrategy(parseStrategy(CLUSTER_STRATEGY_LABEL, text));
    } catch (error) {
      // Control refuses such a label; one that is stored all the same changes nothing.
      if (!isShoalError(error, 'InvalidArgument')) throw error;
      this.#scheduler.setStrategy('spread');
    }
  }

  #enter(task: Task): void {
    if (this.#writing.has(task.id)) return;
    this.#scheduler.addTask(task);
    if (isPending(task)) this.#wait(task);
    else this.#unwait(task.id);
  }

  #leave(taskId: string): void {
    if (this.#writing.has(taskId)) return;
    this.#scheduler.removeTask(taskId);
    this.#unwait(taskId);
  }

  #wait(task: Task): void {
    const key = `${task.node_id === '' ? 'free' : 'given'} ${groupKeyOf(task)}`;
    const former = this.#groupOf.get(task.id);
    if (former !== undefined && former.key !== key) this.#unwait(task.id);
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = { key, priority: priorityOf(task), tasks: new Map(), toldAtMs: 0 };
      this.#groups.set(key, group);
    }
    group.tasks.set(task.id, task);
    this.#groupOf.set(task.id, group);
  }

  #unwait(taskId: string): void {
    const group = this.#groupOf.get(taskId);
    if (group === undefined) return;
    this.#groupOf.delete(taskId);
    group.tasks.delete(taskId);
    if (group.tasks.size === 0) this.#groups.delete(group.key);
  }

  #noteFailure(task: Task, atMs: number): void {
    this.#scheduler.addFailure({
      nodeId: task.node_id,
      serviceId: task.service_id,
      specVersion: task.spec_version?.index ?? 0,
      atMs,
    });
  }

  /** Takes in a commit; false when everything must be loaded anew. */
  absorb(commit: Commit): boolean {
    for (const change of commit.changes) this.#absorbOne(change);
    return !commit.reset;
  }

  #absorbOne(change: Change): void {
    if (change.kind === 'node') {
      if (change.action === 'remove') this.#scheduler.removeNode(change.object.id);
      else this.#scheduler.setNode(change.object);
      this.news++;
    } else if (change.kind === 'cluster' && change.action !== 'remove') {
      this.#setCluster(change.object);
    } else if (change.kind === 'task') {
      const now = change.action === 'remove' ? undefined : change.object;
      if (now === undefined) this.#leave(change.object.id);
      else this.#enter(now);
      if (now !== undefined && hasFailed(now) && change.old !== undefined && !hasFailed(change.old)) {
        this.#noteFailure(now, this.#clock.now());
      }
      const isNews = mayMatter(change.old, now) || (this.#groups.size > 0 && arrives(change.old, now));
      if (isNews) this.news++;
    }
  }

  /**
   * Decides about every waiting task and starts to write; others get their turn meanwhile.
   * @throws when a write failed for another reason than the cluster's state.
   */
  async run(signal: AbortSignal): Promise<void> {
    this.newsSeen = this.news;
    this.wakeAtMs = undefined;
    this.#scheduler.forgetPromises((key) => this.#groups.has(`free ${key}`) || this.#groups.has(`given ${key}`));
    const refused: Refused[] = [];
    const isOver = (): boolean => this.#writes.size >= TRANSACTIONS_MAX || this.#clock.monotonic() >= sliceEndMs;
    const pauseIfOver = async (): Promise<void> => {
      if (!isOver()) return;
      await this.#pause(signal);
      sliceEndMs = this.#clock.monotonic() + SLICE_MS;
    };
    let sliceEndMs = this.#clock.monotonic() + SLICE_MS;
    for (const group of [...this.#groups.values()].sort((a, b) => b.priority - a.priority)) {
      for (;;) {
        const isDone = this.#placeSome(group, refused);
        await pauseIfOver();
        if (signal.aborted) return;
        if (isDone) break;
      }
    }
    // Nobody is below priority 0: such groups push nobody off.
    this.#preempt(refused.flatMap(({ group }) => (group.priority > 0 ? [...group.tasks.values()] : [])));
    for (const one of refused) {
      this.#tell(one);
      await pauseIfOver();
      if (signal.aborted) return;
    }
    this.#flush();
    if (this.#defect !== undefined) throw this.#defect;
  }

  /** Lets others have their turn, and waits until there is room for further writes. */
  async #pause(signal: AbortSignal): Promise<void> {
    await this.#clock.sleep(0, signal);
    while (this.#writes.size >= TRANSACTIONS_MAX && !signal.aborted) await Promise.race(this.#writes);
  }

  /** Places some tasks of a group; true when nothing more can be done for the group in this pass. */
  #placeSome(group: WaitingGroup, refused: Refused[]): boolean {
    const some: Task[] = [];
    for (const task of group.tasks.values()) {
      if (some.push(task) >= TASKS_PER_SLICE) break;
    }
    const given = some.filter((task) => task.node_id !== '');
    if (given.length > 0) return this.#confirmAll([...group.tasks.values()], group, refused);
    const { assignments, unplaced } = this.#scheduler.place({ tasks: some }, this.#clock.now());
    for (const decision of assignments)
      this.#decide(decision.taskId, (version) => ({ what: 'assign', decision, version }));
    const [example] = unplaced;
    if (example !== undefined) refused.push({ group, whyOf: () => example });
    return example !== undefined || group.tasks.size === 0;
  }

  #confirmAll(tasks: readonly Task[], group: WaitingGroup, refused: Refused[]): true {
    const why = new Map<string, Unplaced>();
    for (const task of tasks) {
      const decision = this.#scheduler.confirm(task);
      if ('explanation' in decision) {
        why.set(task.id, decision);
      } else {
        this.#decide(task.id, (version) => ({ what: 'assign', decision, version }));
      }
    }
    if (why.size > 0) refused.push({ group, whyOf: (task) => why.get(task.id) });
    return true;
  }

  /**
   * Explanations for the tasks of a group that got no node. New tasks are told at once; what stands is compared again
   * only after a while, and written only when it has changed: the state of a busy cluster must not become raft entries.
   */
  #tell({ group, whyOf }: Refused): void {
    const nowMs = this.#clock.now();
    const againAtMs = group.toldAtMs + TELL_AGAIN_MS + this.#groupOf.size * TELL_AGAIN_PER_TASK_MS;
    const isDue = nowMs >= againAtMs;
    if (isDue) group.toldAtMs = nowMs;
    else if (this.wakeAtMs === undefined || againAtMs < this.wakeAtMs) this.wakeAtMs = againAtMs;
    for (const task of [...group.tasks.values()]) {
      const stands = task.status?.err ?? '';
      if (!isDue && stands !== '') continue;
      const line = whyOf(task)?.explanation;
      if (line === undefined || line === stands) continue;
      this.#decide(task.id, (version) => ({ what: 'tell', decision: { taskId: task.id, line }, version }));
    }
  }

  #preempt(refused: readonly Task[]): void {
    const before = this.#scheduler.promises;
    const view = this.#store.view();
    const nameOf = (taskId: string): string => {
      const task = view.get('task', taskId);
      return task?.service_annotations?.name || `task ${taskId}`;
    };
    const textOf = ({ forTaskId, nodeId }: Preemption): string => {
      const priority = priorityOf(view.get('task', forTaskId) as Task);
      const node = view.get('node', nodeId)?.description?.hostname || nodeId;
      return `service ${nameOf(forTaskId)} (priority ${priority}) needs its room on ${node}`;
    };
    const still = refused.filter((task) => view.get('task', task.id) !== undefined);
    for (const one of this.#scheduler.preempt(still)) {
      this.#writing.add(one.taskId);
      this.#push({ what: 'evict', decision: { ...one, text: textOf(one) } });
    }
    // Room that is not kept any more may be right for those that were just refused.
    if (this.#scheduler.promises < before && refused.length > 0) this.news++;
  }

  /** Notes a decision for writing; until it is written the task does not wait. */
  #decide(taskId: string, make: (version: number) => Write): void {
    const task = this.#groupOf.get(taskId)?.tasks.get(taskId);
    if (task === undefined) return;
    const write = make(versionOf(task));
    // A task that is only told why goes on waiting.
    if (write.what === 'assign') this.#unwait(taskId);
    if (write.what === 'assign') this.#writing.add(taskId);
    this.#push(write);
  }

  #push(write: Write): void {
    this.#batch.push(write);
    if (this.#batch.length >= TASKS_PER_TRANSACTION) this.#flush();
  }

  #flush(): void {
    if (this.#batch.length === 0) return;
    const batch = this.#batch;
    this.#batch = [];
    const written = this.#write(batch).then(() => {
      this.#writes.delete(written);
      this.#settle(batch);
    });
    this.#writes.add(written);
  }

  /** Never rejects. */
  async #write(batch: readonly Write[]): Promise<void> {
    const nowMs = this.#clock.now();
    try {
      await this.#store.update((tx) => {
        for (const write of batch) writeOne(tx, write, nowMs);
      });
    } catch (error) {
      if (isShoalError(error, 'ResourceExhausted') && batch.length > 1) {
        // Large tasks: one transaction may have only so many bytes.
        const half = batch.length >> 1;
        await Promise.all([this.#write(batch.slice(0, half)), this.#write(batch.slice(half))]);
      } else {
        this.hasFailedWrites = true;
        if (!isShoalError(error)) this.#defect = error;
      }
    }
  }

  /** What could not be written (a task changed meanwhile, no leader) must not stay in the books. */
  #settle(batch: readonly Write[]): void {
    const view = this.#store.view();
    for (const { what, decision } of batch) {
      const { taskId } = decision;
      if (what !== 'tell') this.#writing.delete(taskId);
      const task = view.get('task', taskId);
      if (task === undefined) this.#leave(taskId);
      else this.#enter(task);
      if (what === 'assign' && task !== undefined && isPending(task)) this.news++;
    }
    if (this.hasFailedWrites || this.isDue) this.onDue?.();
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes);
  }
}
