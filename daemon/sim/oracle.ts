import { TaskState, TaskSpec, type Service, type Task } from '../../proto/index.ts';
import type { Change, Commit, ReadView } from '../../manager/index.ts';
import { checkAddresses, checkCapacity } from './checks.ts';
import type { ContainerHost, SimContainer } from './container.ts';
import { SilenceCheck } from './silence.ts';
import { SlotCheck } from './slots.ts';
import { observed, taskText } from './words.ts';
import { Violation } from './violation.ts';
import type { WorkerHost } from './worker-host.ts';
import type { AssignedWorker, Stage, WatchedStore, Watcher } from './stage.ts';

/** The whole state is compared between managers at every so many entries. */
const HASH_EVERY = 100;
/** Specs of tasks are compared at every so many entries. */
const SPEC_EVERY = 8;
/** Hashes kept for managers that are behind. */
const HASHES_MAX = 2000;
/** A container may run on so long after its task was called off, on a host that can be reached, ms. */
const RUNS_ON_MAX_MS = 90_000;
/** After so long on a host that can be reached, a task that was called off while it could not has stopped, ms. */
const REACHED_MS = 30_000;

/** A secret may stay so long on a node that can be reached after it was needed last, ms. */
const SECRET_STAYS_MAX_MS = 10_000;

/** Watches every entry as the first manager applies it, and every container, and knows what must never be. */
export class Oracle implements Watcher {
  readonly #world: Stage;
  readonly #hashes = new Map<number, string>();
  readonly #slots: SlotCheck;
  readonly #silence = new SilenceCheck();
  /** Task and node of every assignment there ever was. */
  readonly #assignments = new Set<string>();
  /** Since when a running container has had no right to run; virtual time, ms. */
  readonly #unwanted = new Map<SimContainer, number>();
  /** Since when a node has had a secret that none of its tasks needs; virtual time, ms. */
  readonly #uselessSecrets = new Map<string, number>();
  #workers: readonly WorkerHost[] = [];
  /** Newest entry that any manager has applied. */
  frontier = 0;
  #store: WatchedStore | undefined;
  readonly counts = { tasks: 0, transitions: 0, services: 0, updates: 0, entries: 0, containers: 0 };

  constructor(world: Stage) {
    this.#world = world;
    this.#slots = new SlotCheck(world);
  }

  /** The state at the frontier; undefined before the first entry. */
  get view(): ReadView | undefined {
    return this.#store?.view();
  }

  /** A manager applied an entry. */
  applied(nodeId: string, store: WatchedStore, index: number, commits: readonly Commit[]): void {
    try {
      if (index % HASH_EVERY === 0) this.#compareHash(nodeId, store, index);
      if (index <= this.frontier) return;
      this.frontier = index;
      this.#store = store;
      this.counts.entries++;
      for (const { changes } of commits) this.#look(changes, store.view());
    } catch (error) {
      this.#world.fail(error);
    }
  }

  #compareHash(nodeId: string, store: WatchedStore, index: number): void {
    const hash = store.stateHash();
    const known = this.#hashes.get(index);
    if (known === undefined) {
      this.#hashes.set(index, hash);
      this.#world.scheduler.note(Number.parseInt(hash.slice(0, 8), 16));
      if (this.#hashes.size > HASHES_MAX) this.#hashes.delete(this.#hashes.keys().next().value as number);
    } else if (known !== hash) {
      throw new Violation('same state', `${nodeId} has another state at entry ${index} than the first to apply it`);
    }
  }

  #look(changes: readonly Change[], view: ReadView): void {
    const touched = new Map<string, Task>();
    let given = false;
    for (const change of changes) {
      if (change.kind === 'task') {
        this.#checkTask(change, view);
        touched.set(slotKey(change.object, view.get('service', change.object.service_id)), change.object);
        given ||= isGift(change);
      } else if (change.kind === 'service') {
        if (change.action === 'create') this.counts.services++;
        if (change.action === 'update') this.counts.updates++;
        given = true;
      } else if (change.kind === 'network') {
        given = true;
      }
    }
    this.#slots.look(changes, touched, view);
    if (given) checkAddresses(view);
  }

  #checkTask(change: Change & { kind: 'task' }, view: ReadView): void {
    const { object: task, old, action } = change;
    if (action === 'remove') {
      const state = observed(task);
      // Its end may stand in the same entry: its host knows.
      const mayRun = state >= TaskState.ASSIGNED && state <= TaskState.RUNNING;
      const held = mayRun && this.#world.runs(task.node_id, task.id);
      if (held && view.get('node', task.node_id) !== undefined) {
        throw new Violation('tasks are kept until they ended', `${taskText(task)} was deleted`);
      }
      return;
    }
    if (action === 'create') this.counts.tasks++;
    if (old !== undefined) checkForward(old, task, this.frontier % SPEC_EVERY === 0);
    if (observed(task) >= TaskState.ASSIGNED && task.node_id !== '') {
      this.#assignments.add(`${task.id} ${task.node_id}`);
      if (old === undefined || observed(old) < TaskState.ASSIGNED) checkCapacity(view, task);
    }
    if (old !== undefined && observed(old) !== observed(task)) {
      this.counts.transitions++;
      this.#world.scheduler.note(observed(task));
    }
  }

  /** A container began to run. */
  started(host: ContainerHost, container: SimContainer): void {
    const { task } = container;
    this.counts.containers++;
    this.#world.scheduler.note(host.id);
    if (!this.#assignments.has(`${task.id} ${host.nodeId}`)) {
      this.#world.fail(new Violation('containers have an assignment', `${host.name} runs ${taskText(task)}`));
    }
    const { view } = this;
    const stored = view?.get('task', task.id);
    if (view !== undefined) this.#checkStart(stored ?? task, view);
    if (stored !== undefined && stored.desired_state < TaskState.RUNNING) {
      const what = `${host.name} started ${taskText(stored)}, which may only be prepared`;
      this.#world.fail(new Violation('containers start when told', what));
    }
  }

  /** What was called off in the slot has stopped, where the cluster can know that. */
  #checkStart(task: Task, view: ReadView): void {
    const reached = this.#workers.filter(({ connectedSince: at = Infinity }) => this.#world.now - at > REACHED_MS);
    const running = reached.flatMap(({ containers }) => [...containers.values()].filter(isRunning));
    const tasks = running.map((one) => view.get('task', one.task.id) ?? one.task);
    try {
      this.#slots.started(task, tasks, view);
    } catch (error) {
      this.#world.fail(error);
    }
  }

  heard(nodeId: string): void {
    this.#silence.heard(nodeId);
  }

  /** A worker took in a message with assignments. */
  assigned(worker: AssignedWorker): void {
    const { tasks, secrets } = worker.assigned;
    const needed = new Set([...tasks.values()].flat());
    for (const id of secrets) {
      if (needed.has(id)) continue;
      this.#world.fail(new Violation('secrets go where they are needed', `${worker.name} got secret ${id}`));
    }
  }

  /** Secrets go when the last task that needs them has ended. */
  #checkSecrets(worker: WorkerHost, settled: boolean, view: ReadView): void {
    const live = view.tasksByNode(worker.nodeId).filter((task) => observed(task) <= TaskState.RUNNING);
    const needed = new Set(live.flatMap((task) => task.spec?.container?.secrets ?? []).map((one) => one.secret_id));
    for (const key of this.#uselessSecrets.keys()) {
      const [nodeId, id = ''] = key.split(' ');
      if (nodeId === worker.nodeId && !worker.assigned.secrets.has(id)) this.#uselessSecrets.delete(key);
    }
    for (const id of worker.assigned.secrets) {
      const key = `${worker.nodeId} ${id}`;
      const since = this.#uselessSecrets.get(key) ?? this.#world.now;
      if (needed.has(id)) this.#uselessSecrets.delete(key);
      else this.#uselessSecrets.set(key, since);
      if (needed.has(id) || !settled || this.#world.now - since <= SECRET_STAYS_MAX_MS) continue;
      throw new Violation('secrets go where they are needed', `${worker.name} keeps secret ${id}`);
    }
  }

  /**
   * Every so many ms: what runs on hosts that can be reached is what is wanted, and those that cannot are Down.
   * @param led whether a leader is at work.
   */
  tick(workers: Iterable<WorkerHost>, ms: number, led: boolean): void {
    const { view } = this;
    if (view === undefined) return;
    this.#workers = [...workers];
    this.#silence.passed(ms, led, view);
    const { now } = this.#world;
    for (const worker of this.#workers) {
      const reachedMs = worker.connectedSince === undefined ? 0 : now - worker.connectedSince;
      this.#checkSecrets(worker, reachedMs > SECRET_STAYS_MAX_MS, view);
      const settled = reachedMs > RUNS_ON_MAX_MS;
      for (const container of worker.containers.values()) this.#checkRunning(worker, container, settled, view);
    }
  }

  #checkRunning(worker: WorkerHost, container: SimContainer, settled: boolean, view: ReadView): void {
    const stored = view.get('task', container.task.id);
    const wanted =
      stored !== undefined && stored.desired_state <= TaskState.COMPLETE && observed(stored) <= TaskState.RUNNING;
    if (container.state !== 'running' || wanted) {
      this.#unwanted.delete(container);
      return;
    }
    const since = this.#unwanted.get(container) ?? this.#world.now;
    this.#unwanted.set(container, since);
    if (!settled || this.#world.now - since <= RUNS_ON_MAX_MS) return;
    const seconds = Math.round((this.#world.now - since) / 1000);
    const what = `${worker.name} still runs ${taskText(stored ?? container.task)}, ${seconds} s after it was called off`;
    throw new Violation('called off means stopped', what);
  }
}

function isRunning({ state }: SimContainer): boolean {
  return state === 'running';
}

function slotKey(task: Task, service: Service | undefined): string {
  const nodeBound = service?.spec?.global !== undefined || service?.spec?.global_job !== undefined;
  return `${task.service_id}/${nodeBound ? task.node_id : task.slot}`;
}

/** Whether addresses or ports may have been given. */
function isGift({ object, old }: Change & { kind: 'task' }): boolean {
  if (old === undefined) return true;
  const [before, now] = [observed(old), observed(object)];
  return (
    (before < TaskState.PENDING && now >= TaskState.PENDING) ||
    (before < TaskState.ASSIGNED && now >= TaskState.ASSIGNED)
  );
}

/** Nothing of a task goes back, and what it is stays. @throws Violation */
function checkForward(old: Task, task: Task, whole: boolean): void {
  const fail = (what: string): never => {
    throw new Violation('tasks go forward', `${taskText(old)}: ${what}`);
  };
  if (observed(task) < observed(old)) fail(`its state went back to ${observed(task)}`);
  if (task.desired_state < old.desired_state) fail(`its desired state went back to ${task.desired_state}`);
  if (task.service_id !== old.service_id || task.slot !== old.slot) fail('it has another slot');
  if (old.node_id !== '' && task.node_id !== old.node_id) fail(`it went to node ${task.node_id}`);
  if (task.spec_version?.index !== old.spec_version?.index) fail('it has another version of the spec');
  if (whole && !TaskSpec.equal(task.spec, old.spec)) fail('it has another spec');
}
