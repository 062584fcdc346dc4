import { isShoalError, type Clock, type Logger, type Subscription } from '../base/index.ts';
import { Task, TaskState, timestampFromMs, timestampToMs } from '../proto/index.ts';
import { groupTasks, occupies, Scheduler, type Assignment, type Unplaced } from '../scheduler/index.ts';
import type { Change, Commit, LeaderDuty, Store, Transaction } from './store/types.ts';

/** A pass runs this long after the last commit that matters, ms… */
export const PASS_QUIET_MS = 10;
/** …but at most this long after the first, ms. */
export const PASS_LATEST_MS = 250;
/** Pause after a write that failed, ms. */
export const RETRY_MS = 500;
/** Tasks in one transaction. */
const TASKS_PER_TRANSACTION = 200;

export interface PlacementOptions {
  store: Store;
  clock: Clock;
  log: Logger;
}

type Decision = Assignment | Unplaced;

/** Whether a task has what it needs but a node. */
function isPending(task: Task): boolean {
  return task.status?.state === TaskState.PENDING && task.desired_state <= TaskState.COMPLETE;
}

function hasFailed(task: Task): boolean {
  const state = task.status?.state;
  return task.node_id !== '' && (state === TaskState.FAILED || state === TaskState.REJECTED);
}

/** The scheduler's view of the store and the tasks that wait for a node, from a full load to a reset. */
class PlacementPass {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #scheduler = new Scheduler();
  readonly #pending = new Map<string, Task>();
  /** Number of changes so far that can alter a decision. */
  news = 0;
  /** `news` at the latest pass. */
  newsSeen = 0;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    const view = store.view();
    for (const node of view.list('node')) this.#scheduler.setNode(node);
    for (const task of view.list('task')) {
      this.#enter(task);
      if (hasFailed(task)) this.#noteFailure(task, timestampToMs(task.status?.timestamp));
    }
  }

  #enter(task: Task): void {
    this.#scheduler.addTask(task);
    if (isPending(task)) this.#pending.set(task.id, task);
    else this.#pending.delete(task.id);
  }

  #leave(taskId: string): void {
    this.#scheduler.removeTask(taskId);
    this.#pending.delete(taskId);
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
    } else if (change.kind === 'task') {
      const now = change.action === 'remove' ? undefined : change.object;
      if (now === undefined) this.#leave(change.object.id);
      else this.#enter(now);
      if (now !== undefined && hasFailed(now) && change.old !== undefined && !hasFailed(change.old)) {
        this.#noteFailure(now, this.#clock.now());
      }
      if (mayMatter(change.old, now)) this.news++;
    }
  }

  /** Decides and writes. Resolves to false when a write failed, and another pass is due. */
  async run(): Promise<boolean> {
    this.newsSeen = this.news;
    const waiting = [...this.#pending.values()];
    if (waiting.length === 0) return true;
    const given = waiting.filter((task) => task.node_id !== '');
    const free = waiting.filter((task) => task.node_id === '');
    const confirmed = given.map((task) => this.#scheduler.confirm(task));
    const { assignments, unplaced } = this.#scheduler.schedule(groupTasks(free), this.#clock.now());
    const decisions = [...confirmed, ...assignments, ...unplaced].filter((one) => this.#isNews(one));
    const writes: Promise<void>[] = [];
    for (let at = 0; at < decisions.length; at += TASKS_PER_TRANSACTION) {
      writes.push(this.#write(decisions.slice(at, at + TASKS_PER_TRANSACTION)));
    }
    const results = await Promise.allSettled(writes);
    // What could not be written (a task changed meanwhile, no leader) must not stay in the books.
    const view = this.#store.view();
    for (const { taskId } of decisions) {
      const task = view.get('task', taskId);
      if (task === undefined) this.#leave(taskId);
      else this.#enter(task);
    }
    const failure = results.find((result) => result.status === 'rejected');
    if (failure === undefined) return true;
    if (isShoalError(failure.reason)) return false;
    throw failure.reason;
  }

  /** Unplaced tasks are written only when their explanation has changed. */
  #isNews(decision: Decision): boolean {
    return !('explanation' in decision) || this.#pending.get(decision.taskId)?.status?.err !== decision.explanation;
  }

  #write(decisions: readonly Decision[]): Promise<void> {
    const seen = new Map(decisions.map(({ taskId }) => [taskId, this.#pending.get(taskId)?.meta?.version?.index]));
    const nowMs = this.#clock.now();
    return this.#store.update((tx) => {
      for (const decision of decisions) writeOne(tx, decision, seen.get(decision.taskId), nowMs);
    });
  }
}

/** Whether a task's change can make another decision right: it waits now, or it gives something back. */
function mayMatter(old: Task | undefined, now: Task | undefined): boolean {
  if (now !== undefined && isPending(now) && !(old !== undefined && isPending(old))) return true;
  if (old === undefined || !occupies(old)) return false;
  if (now === undefined || !occupies(now)) return true;
  return old.desired_state <= TaskState.COMPLETE && now.desired_state > TaskState.COMPLETE;
}

/** Writes one decision, unless the task has changed since, or its node is gone. */
function writeOne(tx: Transaction, decision: Decision, seenVersion: number | undefined, nowMs: number): void {
  const stored = tx.get('task', decision.taskId);
  if (stored === undefined || stored.meta?.version?.index !== seenVersion || !isPending(stored)) return;
  const task = { ...stored };
  const timestamp = timestampFromMs(nowMs);
  const status = Task.create({ status: {} }).status as NonNullable<Task['status']>;
  task.status ??= status;
  if ('explanation' in decision) {
    task.status = { ...task.status, timestamp, err: decision.explanation };
  } else {
    if (tx.get('node', decision.nodeId) === undefined) return;
    const message =
      stored.node_id === ''
        ? 'scheduler assigned task to node'
        : 'scheduler confirmed task can run on preassigned node';
    task.node_id = decision.nodeId;
    task.assigned_generic_resources = decision.assignedGenericResources;
    task.status = { ...task.status, timestamp, state: TaskState.ASSIGNED, message, err: '' };
  }
  tx.update('task', task);
}

/** Takes in what has come until nothing that matters comes any more; false when everything must be loaded anew. */
async function gather(
  pass: PlacementPass,
  watch: Subscription<Commit>,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const deadline = clock.monotonic() + PASS_LATEST_MS;
  while (clock.monotonic() < deadline) {
    const before = pass.news;
    await clock.sleep(PASS_QUIET_MS, signal);
    for (const commit of watch.drain()) if (!pass.absorb(commit)) return false;
    if (pass.news === before) break;
  }
  return !watch.overflowed;
}

/** Follows the store until a reset, an overflow or the end. */
async function follow({ store, clock, log }: PlacementOptions, signal: AbortSignal): Promise<void> {
  const watch = store.watch();
  const close = (): void => watch.close();
  signal.addEventListener('abort', close, { once: true });
  try {
    const pass = new PlacementPass(store, clock);
    const commits = watch[Symbol.asyncIterator]();
    let due = true;
    while (!signal.aborted) {
      if (due) {
        const written = await pass.run();
        if (!written) {
          log.warn('placements could not be written; they are tried again');
          await clock.sleep(RETRY_MS, signal);
        }
        due = !written;
        continue;
      }
      const next = await commits.next();
      if (next.done === true || !pass.absorb(next.value)) return;
      if (pass.news === pass.newsSeen) continue;
      if (!(await gather(pass, watch, clock, signal))) return;
      due = true;
    }
  } finally {
    signal.removeEventListener('abort', close);
    watch.close();
  }
}

/**
 * The leader's duty that gives nodes to waiting tasks (swarmkit.md §3.9): PENDING tasks become ASSIGNED, those that
 * fit nowhere get an explanation in `status.err`, those whose node is given (global services) are checked only.
 */
export function createPlacement(options: PlacementOptions): LeaderDuty {
  return {
    name: 'placement',
    run: async (signal) => {
      while (!signal.aborted) {
        try {
          await follow(options, signal);
        } catch (error) {
          if (!signal.aborted) throw error;
        }
      }
    },
  };
}
