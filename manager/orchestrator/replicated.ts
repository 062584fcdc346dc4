import { newId } from '../../base/index.ts';
import { TaskState, type Task, type TaskReason } from '../../proto/index.ts';
import type { Change, LeaderDuty, ReadView } from '../store/types.ts';
import { canaryOf, stateFor } from './canary.ts';
import {
  createReconcileDuty,
  earlier,
  type Decision,
  type Op,
  type OrchestratorDeps,
  type Reconciler,
} from './driver.ts';
import { autoscaleOf } from './autoscale-duty.ts';
import { creation } from './new-task.ts';
import { planRebalance, rebalancedServices } from './rebalance.ts';
import { reason } from './reasons.ts';
import { firstDesired, superviseSlot } from './restart.ts';
import { modeOf, readService, calledOff, type ServiceState } from './service-view.ts';
import { isOccupied, outgoing, slotsOf, slotsToGiveUp, type Slot } from './slot.ts';
import { planUpdate } from './update.ts';
import { newUpdateMemory, type UpdateMemory } from './update-progress.ts';

/** Services that a change may concern: its own, those of its tasks, those with tasks on its node. */
export function servicesOf(change: Change, view: ReadView): string[] {
  switch (change.kind) {
    case 'service':
      return [change.object.id];
    case 'task':
      return change.object.service_id === '' ? [] : [change.object.service_id];
    case 'node':
      return [...new Set(view.tasksByNode(change.object.id).map((task) => task.service_id))].filter((id) => id !== '');
    case 'cluster':
    case 'network':
    case 'secret':
    case 'config':
    case 'revision':
      return [];
  }
}

/** Ids of all services, and of those that only their tasks still tell of. */
export function allServices(view: ReadView): string[] {
  const ids = new Set(view.list('service').map((service) => service.id));
  for (const task of view.list('task')) if (task.service_id !== '') ids.add(task.service_id);
  return [...ids];
}

const SERVICE_REMOVED = reason('service-removed', 'the service was removed');

/** Sets tasks on their way out; the reaper deletes them once they have stopped. */
export function removeTasks(tasks: readonly Task[], why: TaskReason): Op[][] {
  return tasks
    .filter((task) => task.desired_state < TaskState.REMOVE)
    .map((task) => [{ op: 'update', task: calledOff(task, TaskState.REMOVE, why) }]);
}

/** Why a service has this number of replicas: the autoscaler's words where it chose that number. */
function numberReason(state: ServiceState, code: 'scale-up' | 'scale-down', replicas: number): TaskReason {
  const { autoscale } = state.service;
  const chosen =
    autoscale !== null && autoscale.to_replicas === replicas && autoscaleOf(state.service.spec) !== undefined;
  const sameWay = chosen && autoscale.to_replicas > autoscale.from_replicas === (code === 'scale-up');
  return reason(code, sameWay ? autoscale.message : `the service has ${replicas} replicas`);
}

/** New tasks for `count` slots, the lowest free numbers first (swarmkit.md §3.2). */
function fill(state: ServiceState, slots: readonly Slot[], occupied: ReadonlySet<number>, count: number): Op[][] {
  const steps: Op[][] = [];
  const bySlot = new Map(slots.map((slot) => [slot.slot, slot]));
  const gone = outgoing(state);
  const isNew = state.tasks.length === 0;
  const why = isNew
    ? reason('service-created', 'the service was created')
    : numberReason(state, 'scale-up', occupied.size + count);
  for (let slot = 1; steps.length < count; slot++) {
    if (occupied.has(slot)) continue;
    const desired = firstDesired(state, bySlot.get(slot), gone.has(String(slot)));
    steps.push([creation(state, { slot, nodeId: '' }, why, desired)]);
  }
  return steps;
}

/** Tasks of slots that nobody needs any more: history above the wanted number, and slots given up. */
function scale(state: ServiceState, slots: readonly Slot[], replicas: number): { steps: Op[][]; kept: Slot[] } {
  const occupied = slots.filter((slot) => isOccupied(state, slot));
  const surplus = occupied.length - replicas;
  if (surplus <= 0) {
    const numbers = new Set(occupied.map((slot) => slot.slot));
    return { steps: fill(state, slots, numbers, -surplus), kept: occupied };
  }
  const givenUp = new Set(slotsToGiveUp(occupied, surplus));
  const why = numberReason(state, 'scale-down', replicas);
  const steps = [...givenUp].flatMap((slot) => removeTasks(slot.tasks, why));
  return { steps, kept: occupied.filter((slot) => !givenUp.has(slot)) };
}

/** Of a replicated service every slot can be begun. */
const NONE_CLOSED: ReadonlySet<string> = new Set();

/** What a replicated service needs now. Pure but for the update's memory. */
export function decideReplicated(state: ServiceState, memory: UpdateMemory): Decision {
  const replicas = state.service.spec?.replicated?.replicas ?? 0;
  const canary = canaryOf(state);
  const { steps, kept } = scale(canary?.older ?? state, slotsOf(state), replicas);
  const held = new Set<string>();
  let wakeAtMs: number | undefined;
  for (const slot of kept) {
    const supervision = superviseSlot(stateFor(state, canary, slot), slot);
    if (supervision.steps.length > 0) held.add(slot.key);
    steps.push(...supervision.steps);
    wakeAtMs = earlier(wakeAtMs, supervision.wakeAtMs);
  }
  const scope = { slots: kept, held, closed: NONE_CLOSED, settled: steps.length === 0, canary };
  const plan = planUpdate(state, scope, memory);
  steps.push(...plan.steps);
  wakeAtMs = earlier(wakeAtMs, plan.wakeAtMs);
  if (steps.length > 0) return { steps, wakeAtMs };
  const level = planRebalance(state, kept);
  return { steps: level.steps, wakeAtMs: earlier(wakeAtMs, level.wakeAtMs) };
}

class ReplicatedReconciler implements Reconciler {
  readonly name = 'replicated-orchestrator';
  readonly #memories = new Map<string, UpdateMemory>();
  readonly #newId: () => string;

  constructor(newTaskId: () => string) {
    this.#newId = newTaskId;
  }

  keysOf(change: Change, view: ReadView): string[] {
    if (change.kind !== 'node') return servicesOf(change, view);
    return [...new Set([...servicesOf(change, view), ...rebalancedServices(view)])];
  }

  allKeys(view: ReadView): string[] {
    return allServices(view);
  }

  decide(serviceId: string, view: ReadView, nowMs: number): Decision {
    const state = readService(view, serviceId, nowMs, this.#newId);
    if (state === undefined) {
      this.#memories.delete(serviceId);
      return { steps: removeTasks(view.tasksByService(serviceId), SERVICE_REMOVED) };
    }
    if (modeOf(state.service) !== 'replicated') return { steps: [] };
    let memory = this.#memories.get(serviceId);
    if (memory === undefined) this.#memories.set(serviceId, (memory = newUpdateMemory()));
    return decideReplicated(state, memory);
  }
}

/**
 * Keeps replicated services at their number of slots, restarts and updates their tasks, and sends the tasks of removed
 * services (of every mode) on their way out.
 */
export function createReplicatedOrchestrator(deps: OrchestratorDeps): LeaderDuty {
  const name = 'replicated-orchestrator';
  return createReconcileDuty(name, deps, () => new ReplicatedReconciler(() => newId(deps.random)));
}
