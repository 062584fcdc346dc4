import { newId } from '../../base/index.ts';
import { NodeSpec_Availability, TaskState, type Node, type TaskReason } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { canaryOf, stateFor } from './canary.ts';
import { satisfiesPlacement } from './constraints.ts';
import {
  createReconcileDuty,
  earlier,
  type Decision,
  type Op,
  type OrchestratorDeps,
  type Reconciler,
} from './driver.ts';
import { creation } from './new-task.ts';
import { allServices, removeTasks, servicesOf } from './replicated.ts';
import { reason } from './reasons.ts';
import { firstDesired, isDirty, superviseSlot } from './restart.ts';
import {
  calledOff,
  fateReason,
  isReadyAndActive,
  modeOf,
  nodeFate,
  observed,
  readService,
  type ServiceState,
} from './service-view.ts';
import { isOccupied, slotsOf, type Slot } from './slot.ts';
import { planUpdate } from './update.ts';
import { newUpdateMemory, type UpdateMemory } from './update-progress.ts';

/** Stops a node-bound slot where the service has nothing (more) to do: the node was lost, drained or does not match. */
export function leaveNode(state: ServiceState, slot: Slot): Op[][] | undefined {
  const node = state.view.get('node', slot.nodeId);
  const fate = nodeFate(state.view, slot.nodeId);
  if (fate === 'ok' && (node === undefined || satisfiesPlacement(state.service, node))) return undefined;
  const mismatch = `node ${node?.description?.hostname ?? slot.nodeId} no longer meets the constraints of the service`;
  const why = fate === 'ok' ? reason('node-mismatch', mismatch) : fateReason(state.view, slot.nodeId, fate);
  if (node === undefined) return removeTasks(slot.tasks, why);
  return slot.wanted.map((task) => [{ op: 'update', task: calledOff(task, TaskState.SHUTDOWN, why) }]);
}

/** Changes of nodes concern every node-bound service; other changes their own. */
export function nodeBoundServicesOf(change: Change, view: ReadView, mode: 'global' | 'global-job'): string[] {
  if (change.kind !== 'node') return servicesOf(change, view);
  return view
    .list('service')
    .filter((service) => modeOf(service) === mode)
    .map((service) => service.id);
}

function isPaused(node: Node | undefined): boolean {
  return node?.spec?.availability === NodeSpec_Availability.PAUSE;
}

/** Whether a slot is in the middle of an update, which goes on though its node takes no new tasks. */
function isInUpdate(state: ServiceState, { wanted }: Slot): boolean {
  const placed = wanted.filter((task) => observed(task) >= TaskState.ASSIGNED);
  return placed.length > 1 || placed.some((task) => !isDirty(state, task));
}

function joined(node: Node): TaskReason {
  return reason('node-joined', `node ${node.description?.hostname ?? node.id} is to run one task of the service`);
}

/** What a global service needs now (swarmkit.md §3.3). Pure but for the update's memory. */
export function decideGlobal(state: ServiceState, memory: UpdateMemory): Decision {
  const steps: Op[][] = [];
  const updatable: Slot[] = [];
  const held = new Set<string>();
  const closed = new Set<string>();
  const taken = new Set<string>();
  const canary = canaryOf(state);
  const slots = new Map(slotsOf(state).map((slot) => [slot.nodeId, slot]));
  let wakeAtMs: number | undefined;
  for (const slot of slots.values()) {
    const own = stateFor(state, canary, slot);
    const leaving = leaveNode(own, slot);
    if (leaving !== undefined) {
      taken.add(slot.nodeId);
      steps.push(...leaving);
      continue;
    }
    if (!isOccupied(state, slot)) continue;
    taken.add(slot.nodeId);
    const supervision = superviseSlot(own, slot);
    if (supervision.steps.length > 0) held.add(slot.key);
    steps.push(...supervision.steps);
    wakeAtMs = earlier(wakeAtMs, supervision.wakeAtMs);
    const closing = isPaused(state.view.get('node', slot.nodeId));
    if (closing) closed.add(slot.key);
    if (!closing || isInUpdate(state, slot)) updatable.push(slot);
  }
  const fresh = canary?.older ?? state;
  for (const node of state.view.list('node')) {
    if (taken.has(node.id) || !isReadyAndActive(node) || !satisfiesPlacement(fresh.service, node)) continue;
    const desired = firstDesired(state, slots.get(node.id));
    steps.push([creation(fresh, { slot: 0, nodeId: node.id }, joined(node), desired)]);
  }
  const plan = planUpdate(state, { slots: updatable, held, closed, settled: steps.length === 0, canary }, memory);
  steps.push(...plan.steps);
  return { steps, wakeAtMs: earlier(wakeAtMs, plan.wakeAtMs) };
}

class GlobalReconciler implements Reconciler {
  readonly name = 'global-orchestrator';
  readonly #memories = new Map<string, UpdateMemory>();
  readonly #newId: () => string;

  constructor(newTaskId: () => string) {
    this.#newId = newTaskId;
  }

  keysOf(change: Change, view: ReadView): string[] {
    return nodeBoundServicesOf(change, view, 'global');
  }

  allKeys(view: ReadView): string[] {
    return allServices(view);
  }

  decide(serviceId: string, view: ReadView, nowMs: number): Decision {
    const state = readService(view, serviceId, nowMs, this.#newId);
    if (state === undefined || modeOf(state.service) !== 'global') {
      this.#memories.delete(serviceId);
      return { steps: [] };
    }
    let memory = this.#memories.get(serviceId);
    if (memory === undefined) this.#memories.set(serviceId, (memory = newUpdateMemory()));
    return decideGlobal(state, memory);
  }
}

/** Keeps one task of every global service on each ready, active node that satisfies its constraints. */
export function createGlobalOrchestrator(deps: OrchestratorDeps): LeaderDuty {
  return createReconcileDuty('global-orchestrator', deps, () => new GlobalReconciler(() => newId(deps.random)));
}
