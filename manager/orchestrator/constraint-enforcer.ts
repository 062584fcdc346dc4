import { NodeSpec_Availability, TaskState, type GenericResource, type Node, type Task } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { openCanary, slotCount } from '../settings/index.ts';
import { satisfiesConstraints } from './constraints.ts';
import { createReconcileDuty, type Decision, type OrchestratorDeps, type Reconciler } from './driver.ts';
import { reason } from './reasons.ts';
import { calledOff, createdAtMs, observed } from './service-view.ts';

const CONSTRAINT_ERROR = 'assigned node no longer meets constraints';
const RESOURCE_ERROR = 'assigned node no longer has the resources that the task reserves';

/** What a node has left while its tasks are counted, oldest first. */
interface Free {
  nanoCpus: number;
  memoryBytes: number;
  /** Discrete resources by kind. */
  counts: Map<string, number>;
  /** Named resources, `kind=value`. */
  names: Set<string>;
}

function freeOf(node: Node): Free | undefined {
  const resources = node.description?.resources;
  if (resources === null || resources === undefined) return undefined;
  const free: Free = {
    nanoCpus: resources.nano_cpus,
    memoryBytes: resources.memory_bytes,
    counts: new Map(),
    names: new Set(),
  };
  for (const { named_resource_spec: named, discrete_resource_spec: discrete } of resources.generic) {
    if (named !== undefined) free.names.add(`${named.kind}=${named.value}`);
    if (discrete !== undefined) free.counts.set(discrete.kind, (free.counts.get(discrete.kind) ?? 0) + discrete.value);
  }
  return free;
}

function fitsGeneric(free: Free, claimed: readonly GenericResource[]): boolean {
  return claimed.every(({ named_resource_spec: named, discrete_resource_spec: discrete }) => {
    if (named !== undefined) return free.names.has(`${named.kind}=${named.value}`);
    return discrete === undefined || (free.counts.get(discrete.kind) ?? 0) >= discrete.value;
  });
}

/** Takes what the task reserves; false, and nothing taken, when it does not fit. */
function take(free: Free, task: Task): boolean {
  const wanted = task.spec?.resources?.reservations;
  const nanoCpus = wanted?.nano_cpus ?? 0;
  const memoryBytes = wanted?.memory_bytes ?? 0;
  const claimed = task.assigned_generic_resources;
  if (nanoCpus > 0 && nanoCpus > free.nanoCpus) return false;
  if (memoryBytes > 0 && memoryBytes > free.memoryBytes) return false;
  if (!fitsGeneric(free, claimed)) return false;
  free.nanoCpus -= nanoCpus;
  free.memoryBytes -= memoryBytes;
  for (const { named_resource_spec: named, discrete_resource_spec: discrete } of claimed) {
    if (named !== undefined) free.names.delete(`${named.kind}=${named.value}`);
    if (discrete !== undefined) free.counts.set(discrete.kind, (free.counts.get(discrete.kind) ?? 0) - discrete.value);
  }
  return true;
}

/** Those of the service as it is now; those of the task's own version while a canary of the next one waits. */
function constraintsOf(task: Task, view: ReadView): readonly string[] {
  const service = view.get('service', task.service_id);
  const isFormer = service !== undefined && service.spec_version?.index !== task.spec_version?.index;
  const isHeld = isFormer && openCanary(service, slotCount(service, view.tasksByService(service.id))) !== undefined;
  const spec = isHeld ? task.spec : (service?.spec?.task ?? task.spec);
  return spec?.placement?.constraints ?? [];
}

const misplaced = (task: Task, why: string): Task => calledOff(task, TaskState.SHUTDOWN, reason('node-mismatch', why));

/**
 * Calls tasks off that their node may not or cannot hold any more, so that they are replaced elsewhere (swarmkit.md
 * §3.8). When a node has shrunk, the oldest tasks stay. Swarm's manager writes the status REJECTED in place of the
 * agent, whose container runs on meanwhile: a successor would start beside it.
 */
export function decideNode(nodeId: string, view: ReadView): Decision {
  const node = view.get('node', nodeId);
  if (node === undefined || (node.spec?.availability ?? 0) !== NodeSpec_Availability.ACTIVE) return { steps: [] };
  const steps: Decision['steps'] = [];
  const free = freeOf(node);
  const tasks = view
    .tasksByNode(nodeId)
    .filter((task) => task.desired_state <= TaskState.COMPLETE)
    .filter((task) => observed(task) >= TaskState.ASSIGNED && observed(task) <= TaskState.RUNNING)
    .sort((a, b) => createdAtMs(a) - createdAtMs(b) || (a.id < b.id ? -1 : 1));
  for (const task of tasks) {
    if (!satisfiesConstraints(constraintsOf(task, view), node)) {
      steps.push([{ op: 'update', task: misplaced(task, CONSTRAINT_ERROR) }]);
    } else if (free !== undefined && !take(free, task)) {
      steps.push([{ op: 'update', task: misplaced(task, RESOURCE_ERROR) }]);
    }
  }
  return { steps };
}

class EnforcerReconciler implements Reconciler {
  readonly name = 'constraint-enforcer';

  keysOf(change: Change): string[] {
    return change.kind === 'node' && change.action !== 'remove' ? [change.object.id] : [];
  }

  allKeys(view: ReadView): string[] {
    return view.list('node').map((node) => node.id);
  }

  decide(nodeId: string, view: ReadView): Decision {
    return decideNode(nodeId, view);
  }
}

/** Watches nodes whose labels or resources change under their tasks. */
export function createConstraintEnforcer(deps: OrchestratorDeps): LeaderDuty {
  return createReconcileDuty('constraint-enforcer', deps, () => new EnforcerReconciler());
}
