import { must, unreachable } from '../../base/index.ts';
import { TaskState, timestampFromMs, type Service, type Task } from '../../proto/index.ts';
import type { Dependency } from '../settings/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { createReconcileDuty, type Decision, type OrchestratorDeps, type Reconciler } from './driver.ts';
import { dependenciesOf, DEPENDS_ON_LABEL, isHeld, labelsOf } from './held.ts';
import { presentIteration, progressOf, runOf, type Progress } from './progress.ts';
import { isJob, observed, readService } from './service-view.ts';

const STACK_LABEL = 'com.docker.stack.namespace';
/** Services named in a sentence about waiting; the others are counted. */
const NAMED_MAX = 3;

const nameOf = (service: Service): string => service.spec?.annotations?.name ?? service.id;

/** Names a dependency may mean, first the one in the service's own stack. */
function candidateNames(service: Service, dependency: Dependency): string[] {
  const stack = labelsOf(service)[STACK_LABEL];
  return stack === undefined ? [dependency.service] : [`${stack}_${dependency.service}`, dependency.service];
}

function resolve(view: ReadView, service: Service, dependency: Dependency): Service | undefined {
  for (const name of candidateNames(service, dependency)) {
    const found = view.byName('service', name);
    if (found !== undefined) return found;
  }
  return undefined;
}

function progressOfService(view: ReadView, service: Service, nowMs: number): Progress {
  const state = must(
    readService(view, service.id, nowMs, () => ''),
    'a service that is in the view',
  );
  return progressOf(runOf(state, presentIteration(state)));
}

/** Slots that must be up (running, or done) for the service to count as started. */
function startTotal(service: Service, progress: Progress): number {
  const concurrent = service.spec?.replicated_job?.max_concurrent ?? 0;
  return concurrent === 0 ? progress.total : Math.min(concurrent, progress.total);
}

/** Whether every slot is up at this moment. A service that wants no task at all is not. */
function isUp(service: Service, progress: Progress): boolean {
  const total = startTotal(service, progress);
  return total > 0 && progress.running + progress.completed >= total;
}

function isDone(progress: Progress): boolean {
  return progress.total > 0 && progress.completed >= progress.total;
}

/** What is still missing of one dependency, as the end of "waits for …"; undefined when it holds. */
function unmet(view: ReadView, service: Service, dependency: Dependency, nowMs: number): string | undefined {
  const other = resolve(view, service, dependency);
  if (other === undefined) return `service ${dependency.service}, which does not exist`;
  const progress = progressOfService(view, other, nowMs);
  const once = other.first_converged !== null;
  const up = `${Math.min(progress.running + progress.completed, startTotal(other, progress))}`;
  const of = startTotal(other, progress);
  switch (dependency.condition) {
    case 'started':
      return once || isUp(other, progress) ? undefined : `service ${nameOf(other)} to start (${up} of ${of})`;
    case 'healthy':
      return isUp(other, progress) ? undefined : `service ${nameOf(other)} to be healthy (${up} of ${of})`;
    case 'completed': {
      if ((once && isJob(other)) || isDone(progress)) return undefined;
      const err = progress.err === '' ? '' : `: ${progress.err}`;
      const failed = progress.failed === 0 ? '' : `; ${progress.failed} failed for good${err}`;
      return `service ${nameOf(other)} to complete (${progress.completed} of ${progress.total}${failed})`;
    }
    default:
      return unreachable(dependency.condition);
  }
}

/** The services of a ring of held services that leads from `service` back to it, without itself; undefined if none. */
function cycleOf(view: ReadView, service: Service): Service[] | undefined {
  const seen = new Set<string>();
  const walk = (at: Service): Service[] | undefined => {
    for (const dependency of dependenciesOf(at)) {
      const next = resolve(view, at, dependency);
      if (next?.id === service.id) return [];
      if (next === undefined || seen.has(next.id) || !isHeld(next)) continue;
      seen.add(next.id);
      const rest = walk(next);
      if (rest !== undefined) return [next, ...rest];
    }
    return undefined;
  };
  return isHeld(service) ? walk(service) : undefined;
}

function cycleText(ring: readonly Service[]): string {
  const names = ring.map((one) => `service ${nameOf(one)}`);
  const chain = [...names, 'this one'].join(', which waits for ');
  return `waits for ${chain}: a cycle; take one of them out of label ${DEPENDS_ON_LABEL}`;
}

/**
 * What a service that has never started waits for, as one sentence for people; undefined when nothing holds it back. A
 * pure function of the stored objects.
 */
export function dependencyWait(view: ReadView, service: Service, nowMs: number): string | undefined {
  if (!isHeld(service)) return undefined;
  const missing = dependenciesOf(service)
    .map((dependency) => unmet(view, service, dependency, nowMs))
    .filter((text) => text !== undefined);
  if (missing.length === 0) return undefined;
  const ring = cycleOf(view, service);
  if (ring !== undefined) return cycleText(ring);
  const named = missing.slice(0, NAMED_MAX).map((text) => `for ${text}`);
  const more = missing.length - named.length;
  return `waits ${named.join(' and ')}${more === 0 ? '' : ` and for ${more} more`}`;
}

/** Whether a task shows that its service was let start before. */
function wasLetStart(task: Task): boolean {
  if (task.desired_state === TaskState.RUNNING || task.desired_state === TaskState.COMPLETE) return true;
  const seen = observed(task);
  return seen >= TaskState.STARTING && seen <= TaskState.FAILED && seen !== TaskState.SHUTDOWN;
}

/** The service with the marks that its tasks have earned; undefined when there is nothing new. */
function marked(view: ReadView, service: Service, isAwaited: boolean, nowMs: number): Service | undefined {
  const now = timestampFromMs(nowMs);
  let next = service;
  if (isHeld(service)) {
    const free =
      view.tasksByService(service.id).some(wasLetStart) || dependencyWait(view, service, nowMs) === undefined;
    if (free) next = { ...next, dependencies_met: now };
  }
  if (service.first_converged === null && isAwaited) {
    const progress = progressOfService(view, service, nowMs);
    if (isJob(service) ? isDone(progress) : isUp(service, progress)) next = { ...next, first_converged: now };
  }
  return next === service ? undefined : next;
}

class DependencyReconciler implements Reconciler {
  readonly name = 'dependencies';
  /** Name of a service → ids of the services that are held and mean it, or might. Rebuilt with every full pass. */
  readonly #waiting = new Map<string, Set<string>>();
  /** Held service → names under which it stands in `#waiting`. */
  readonly #names = new Map<string, string[]>();

  #forget(id: string): void {
    for (const name of this.#names.get(id) ?? []) {
      const ids = this.#waiting.get(name);
      ids?.delete(id);
      if (ids?.size === 0) this.#waiting.delete(name);
    }
    this.#names.delete(id);
  }

  #note(service: Service): void {
    this.#forget(service.id);
    if (!isHeld(service)) return;
    const names = dependenciesOf(service).flatMap((dependency) => candidateNames(service, dependency));
    this.#names.set(service.id, names);
    for (const name of names) {
      const ids = this.#waiting.get(name) ?? new Set();
      this.#waiting.set(name, ids.add(service.id));
    }
  }

  keysOf(change: Change, view: ReadView): string[] {
    switch (change.kind) {
      case 'service':
        if (change.action === 'remove') this.#forget(change.object.id);
        else this.#note(change.object);
        return [change.object.id, ...this.#keysAround(change.object, view)];
      case 'task': {
        const service = view.get('service', change.object.service_id);
        const names = service === undefined ? undefined : this.#waiting.get(nameOf(service));
        return service === undefined || names === undefined ? [] : [service.id, ...names];
      }
      case 'node':
        return this.#names.size === 0 ? [] : this.allKeys(view);
      case 'cluster':
      case 'network':
      case 'secret':
      case 'config':
      case 'revision':
        return [];
    }
  }

  /** Those that wait for a service, and those that it waits for: they may be marked only while somebody waits. */
  #keysAround(service: Service, view: ReadView): string[] {
    const around = [...(this.#waiting.get(nameOf(service)) ?? [])];
    for (const name of this.#names.get(service.id) ?? []) {
      const other = view.byName('service', name);
      if (other !== undefined) around.push(other.id);
    }
    return around;
  }

  allKeys(view: ReadView): string[] {
    for (const id of this.#names.keys()) this.#forget(id);
    for (const service of view.list('service')) this.#note(service);
    const awaited = [...this.#waiting.keys()].map((name) => view.byName('service', name)?.id);
    return [...new Set([...this.#names.keys(), ...awaited])].filter((id) => id !== undefined);
  }

  decide(serviceId: string, view: ReadView, nowMs: number): Decision {
    const service = view.get('service', serviceId);
    if (service === undefined || service.spec === null) return { steps: [] };
    const next = marked(view, service, this.#waiting.has(nameOf(service)), nowMs);
    return { steps: next === undefined ? [] : [[{ op: 'update-service', service: next }]] };
  }
}

/**
 * Lets services that wait for others at their first start go on once these are as asked (`Service.dependencies_met`), and
 * notes when a service that somebody waits for was up for the first time (`Service.first_converged`).
 */
export function createDependencies(deps: OrchestratorDeps): LeaderDuty {
  return createReconcileDuty('dependencies', deps, () => new DependencyReconciler());
}
