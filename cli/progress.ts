import type { Service, Task } from './objects.ts';

/**
 * Convergence of a service, as docker's client judges it (docker-api.md §6.3): a state machine that is fed a service,
 * its up-to-date tasks and the active nodes, and gives lines to show and whether it is done. No input or output here.
 */

/** Task states in the order that a task takes them; the number is the length of its bar. */
const STATE_NUMBERS: Readonly<Record<string, number>> = {
  new: 1,
  allocated: 2,
  pending: 3,
  assigned: 4,
  accepted: 5,
  preparing: 6,
  ready: 7,
  starting: 8,
  running: 9,
  complete: 10,
  shutdown: 11,
  failed: 12,
  rejected: 13,
};
const RUNNING = 9;
const BAR_STEPS = 9;
const JOB_BAR_STEPS = 10;
/** Services with more tasks show the overall line only. */
const BARS_MAX = 20;
const STATE_WIDTH = 9;
const ERROR_WIDTH_MAX = 75;
/** How long a converged service is watched when its update settings do not say, ns. */
const MONITOR_DEFAULT_NS = 5e9;

/** How the status of an update begins that failed and was rolled back. */
const ROLLED_BACK = 'update rolled back due to ';

/** One line to show: a status under an id, with a bar when `total` is not 0. */
export interface ProgressLine {
  id: string;
  status: string;
  current: number;
  total: number;
  /** A finished statement, not progress: it ends the block of lines before it. */
  message?: boolean;
}

export interface Observation {
  service: Service;
  tasks: readonly Task[];
  activeNodes: ReadonlySet<string>;
}

export type Outcome = { done: false } | { done: true; error?: string };

const number = (state: string): number => STATE_NUMBERS[state] ?? 0;
const isTerminal = (state: string): boolean => number(state) > RUNNING;
const known = (task: Task): boolean => number(task.DesiredState) !== 0 && number(task.Status.State) !== 0;

function cutError(text: string): string {
  const line = text.replaceAll('\n', ' ');
  return Buffer.byteLength(line) > ERROR_WIDTH_MAX
    ? `${Buffer.from(line)
        .subarray(0, ERROR_WIDTH_MAX - 1)
        .toString('utf8')}…`
    : line;
}

const line = (id: string, status: string, current = 0, total = 0): ProgressLine => ({ id, status, current, total });

function taskLine(id: string, task: Task, steps: number, anyState: boolean): ProgressLine | undefined {
  const { State, Err } = task.Status;
  if (Err !== undefined && Err !== '') return line(id, cutError(Err));
  if (!anyState && (isTerminal(task.DesiredState) || isTerminal(State))) return undefined;
  return line(id, State.padEnd(STATE_WIDTH), number(State), steps);
}

/** Tasks by key; of several with one key the lowest desired state wins, then the lowest observed one. */
function foremost<K>(tasks: readonly Task[], keyOf: (task: Task) => K, usable: (task: Task) => boolean): Map<K, Task> {
  const result = new Map<K, Task>();
  for (const task of tasks) {
    if (!known(task)) continue;
    const key = keyOf(task);
    const other = result.get(key);
    if (other !== undefined) {
      const desired = number(other.DesiredState) - number(task.DesiredState);
      if (desired < 0) continue;
      if (desired === 0 && number(other.Status.State) <= number(task.Status.State)) continue;
    }
    if (usable(task)) result.set(key, task);
  }
  return result;
}

interface Judge {
  /** Whether the service has what it shall have now; lines go to `show`. */
  update(seen: Observation, rollback: boolean, show: (line: ProgressLine) => void): boolean;
}

function overall(running: number, total: number, rollback: boolean): ProgressLine {
  const text = `${running} out of ${total} tasks`;
  return line('overall progress', rollback ? `rolling back update: ${text}` : text);
}

const runs = (task: Task): boolean => !isTerminal(task.DesiredState) && task.Status.State === 'running';

class ReplicatedJudge implements Judge {
  #slots = new Map<number, number>();
  #initialized = false;
  #done = false;

  update(seen: Observation, rollback: boolean, show: (line: ProgressLine) => void): boolean {
    const replicas = seen.service.Spec.Mode.Replicated?.Replicas ?? 0;
    if (!this.#initialized) {
      this.#initialized = true;
      show(overall(0, replicas, rollback));
      for (let i = 1; replicas <= BARS_MAX && i <= replicas; i++) show(line(`${i}/${replicas}`, ' '));
    }
    const active = (task: Task): boolean => (task.NodeID ?? '') === '' || seen.activeNodes.has(task.NodeID ?? '');
    const bySlot = foremost(seen.tasks, (task) => task.Slot ?? 0, active);
    if (this.#done && [...bySlot.values()].some((task) => task.Status.State !== 'running')) this.#done = false;
    let running = 0;
    for (const [slot, task] of bySlot) {
      const mapped = this.#slots.get(slot) ?? this.#slots.size + 1;
      this.#slots.set(slot, mapped);
      if (runs(task)) running++;
      if (this.#done || replicas > BARS_MAX || mapped > replicas) continue;
      const shown = taskLine(`${mapped}/${replicas}`, task, BAR_STEPS, false);
      if (shown !== undefined) show(shown);
    }
    if (!this.#done) {
      show(overall(running, replicas, rollback));
      this.#done = running === replicas;
    }
    return running === replicas;
  }
}

class GlobalJudge implements Judge {
  #initialized = false;
  #done = false;

  update(seen: Observation, rollback: boolean, show: (line: ProgressLine) => void): boolean {
    const byNode = foremost(
      seen.tasks,
      (task) => task.NodeID ?? '',
      () => true,
    );
    const total = byNode.size;
    if (!this.#initialized) {
      if (total === 0) {
        show(line('overall progress', 'waiting for new tasks'));
        return false;
      }
      show(overall(0, total, rollback));
      this.#initialized = true;
    }
    if (this.#done && [...byNode.values()].some((task) => task.Status.State !== 'running')) this.#done = false;
    let running = 0;
    for (const [node, task] of byNode) {
      if (!seen.activeNodes.has(node)) continue;
      if (runs(task)) running++;
      if (this.#done || total > BARS_MAX) continue;
      const shown = taskLine(node.slice(0, 12), task, BAR_STEPS, false);
      if (shown !== undefined) show(shown);
    }
    if (!this.#done) {
      show(overall(running, total, rollback));
      this.#done = running === total;
    }
    return running === total;
  }
}

const iterationOf = (service: Service): number => service.JobStatus?.JobIteration?.Index ?? 0;

function ofIteration(task: Task, iteration: number): boolean {
  return task.JobIteration !== undefined && task.JobIteration !== null && (task.JobIteration.Index ?? 0) === iteration;
}

/** Tasks of a job by key; the lowest observed state wins. */
function lowest<K>(tasks: readonly Task[], keyOf: (task: Task) => K): Map<K, Task> {
  const result = new Map<K, Task>();
  for (const task of tasks) {
    const other = result.get(keyOf(task));
    if (other === undefined || number(other.Status.State) > number(task.Status.State)) result.set(keyOf(task), task);
  }
  return result;
}

class ReplicatedJobJudge implements Judge {
  #initialized = false;
  readonly #iteration: number;
  readonly #total: number;
  readonly #concurrent: number;

  constructor(service: Service) {
    const job = service.Spec.Mode.ReplicatedJob;
    this.#iteration = iterationOf(service);
    this.#total = job?.TotalCompletions ?? 1;
    this.#concurrent = job?.MaxConcurrent ?? 1;
  }

  #overall(active: number, complete: number, show: (line: ProgressLine) => void): void {
    const total = this.#total;
    const done = `${String(complete).padStart(String(total).length)} out of ${total} complete`;
    show(line('job progress', done, complete, total));
    const width = String(this.#concurrent).length;
    const wanted = Math.min(total - complete, this.#concurrent);
    const text = `${String(active).padStart(width)} out of ${String(wanted).padStart(width)} tasks`;
    show(line('active tasks', text));
  }

  update(seen: Observation, _rollback: boolean, show: (line: ProgressLine) => void): boolean {
    const total = this.#total;
    if (!this.#initialized) {
      this.#initialized = true;
      this.#overall(0, 0, show);
      for (let i = 1; total <= BARS_MAX && i <= total; i++) show(line(`${i}/${total}`, ' '));
    }
    const bySlot = lowest(
      seen.tasks.filter((task) => ofIteration(task, this.#iteration) && known(task)),
      (task) => task.Slot ?? 0,
    );
    let active = 0;
    let complete = 0;
    for (const [slot, task] of [...bySlot].toSorted(([a], [b]) => a - b)) {
      const shown = total > BARS_MAX ? undefined : taskLine(`${slot + 1}/${total}`, task, JOB_BAR_STEPS, true);
      if (shown !== undefined) show(shown);
      if (number(task.Status.State) <= RUNNING) active++;
      if (task.Status.State === 'complete') complete++;
    }
    this.#overall(active, complete, show);
    return complete === total;
  }
}

class GlobalJobJudge implements Judge {
  #nodes: Set<string> | undefined;

  update(seen: Observation, _rollback: boolean, show: (line: ProgressLine) => void): boolean {
    const tasks = seen.tasks.filter((task) => ofIteration(task, iterationOf(seen.service)));
    if (this.#nodes === undefined) {
      if (seen.tasks.length === 0 && seen.activeNodes.size !== 0) {
        show(line('job progress', 'waiting for tasks'));
        return false;
      }
      // Nodes that join later run the job too, but are not waited for.
      this.#nodes = new Set(tasks.map((task) => task.NodeID ?? ''));
      this.#overall(0, show);
    }
    const nodes = this.#nodes;
    let complete = 0;
    const mine = tasks.filter((task) => nodes.has(task.NodeID ?? ''));
    for (const [node, task] of lowest(mine, (one) => one.NodeID ?? '')) {
      const shown = nodes.size > BARS_MAX ? undefined : taskLine(node, task, JOB_BAR_STEPS, true);
      if (shown !== undefined) show(shown);
      if (task.Status.State === 'complete') complete++;
    }
    this.#overall(complete, show);
    return complete === nodes.size;
  }

  #overall(complete: number, show: (line: ProgressLine) => void): void {
    const total = this.#nodes?.size ?? 0;
    show(
      line(
        'job progress',
        `${String(complete).padStart(String(total).length)} out of ${total} complete`,
        complete,
        total,
      ),
    );
  }
}

function judgeOf(service: Service): Judge {
  const { Mode } = service.Spec;
  if (Mode.Replicated?.Replicas !== undefined) return new ReplicatedJudge();
  if (Mode.Global !== undefined) return new GlobalJudge();
  if (Mode.ReplicatedJob !== undefined) return new ReplicatedJobJudge(service);
  if (Mode.GlobalJob !== undefined) return new GlobalJobJudge();
  throw new Error('unrecognized service mode');
}

/** Follows one service until it has converged, failed, or stopped for good. Times are monotonic ms of the caller. */
export class Convergence {
  #judge: Judge | undefined;
  #converged = false;
  #convergedAtMs: number | undefined;
  #monitorMs = MONITOR_DEFAULT_NS / 1e6;
  #rollback = false;
  /** Whether an update was seen under way: only then its end is one that we waited for. */
  #began = false;
  #lastWord: ProgressLine | undefined;
  readonly #id: string;
  readonly #show: (line: ProgressLine) => void;

  constructor(id: string, show: (line: ProgressLine) => void) {
    this.#id = id;
    this.#show = show;
  }

  get converged(): boolean {
    return this.#converged;
  }

  /** The service was read; done when its update has ended, or when it was converged long enough. */
  seeService(service: Service, nowMs: number): Outcome {
    const monitor = service.Spec.UpdateConfig?.Monitor ?? 0;
    if (monitor !== 0) this.#monitorMs = monitor / 1e6;
    this.#judge ??= judgeOf(service);
    const ended = this.#seeUpdate(service.UpdateStatus?.State ?? '', service.UpdateStatus?.Message ?? '');
    if (ended.done) return ended;
    const { Canary: canary, UpdateStatus: update } = service;
    const isUpdating = update?.State === 'updating';
    if (isUpdating && canary?.WaitingSince !== undefined && canary.PromotedAt === undefined) {
      const text = `${update?.Message ?? ''}; go on with "shoal service promote ${service.Spec.Name}"`;
      this.#show({ ...line('canary', text), message: true });
      return { done: true };
    }
    if (this.#converged && nowMs - (this.#convergedAtMs ?? nowMs) >= this.#monitorMs) {
      this.#show(line('verify', `Service ${this.#id} converged`));
      if (this.#lastWord !== undefined) this.#show(this.#lastWord);
      return { done: true };
    }
    return { done: false };
  }

  #seeUpdate(state: string, message: string): Outcome {
    switch (state) {
      case 'updating':
        this.#rollback = false;
        this.#began = true;
        break;
      case 'completed':
        if (!this.#converged) return { done: true };
        break;
      case 'paused':
        this.#began = true;
        // Shown for a moment only, so that stock clients end with an error; we wait for the end.
        if (message.startsWith(ROLLED_BACK)) break;
        return { done: true, error: `service update paused: ${message}` };
      case 'rollback_started':
        if (!this.#rollback && message !== '') this.#show(line('rollback', message));
        this.#rollback = true;
        this.#began = true;
        break;
      case 'rollback_paused':
        return { done: true, error: `service rollback paused: ${message}` };
      case 'rollback_completed':
        if (!this.#converged) this.#lastWord = { ...line('rollback', message), message: true };
        this.#rollback = true;
        if (this.#began && message.startsWith(ROLLED_BACK)) return { done: true, error: `service ${message}` };
        break;
    }
    return { done: false };
  }

  /** Tasks and nodes were read too; done when a job is complete. */
  seeTasks(seen: Observation, nowMs: number): Outcome {
    this.#converged = this.#judge?.update(seen, this.#rollback, this.#show) ?? false;
    if (!this.#converged) {
      if (this.#convergedAtMs !== undefined) this.#show(line('verify', 'Detected task failure'));
      this.#convergedAtMs = undefined;
      return { done: false };
    }
    // Only jobs have a job status; a job that is done stays done.
    if (seen.service.JobStatus !== undefined) {
      this.#show({ ...line('', 'job complete'), message: true });
      return { done: true };
    }
    this.#convergedAtMs ??= nowMs;
    const waitMs = this.#monitorMs - (nowMs - this.#convergedAtMs);
    if (waitMs >= 0) {
      const seconds = Math.max(1, Math.ceil(waitMs / 1000));
      this.#show(line('verify', `Waiting ${seconds} seconds to verify that tasks are stable...`));
    }
    return { done: false };
  }
}
