import {
  Annotations,
  Endpoint,
  Task,
  TaskState,
  timestampFromMs,
  type Service,
  type TaskReason,
} from '../../proto/index.ts';
import { isHeld } from './held.ts';
import { isJob, targetState, type ServiceState } from './service-view.ts';

/** Where a new task goes: a slot (0 for node-bound services) and, for those, a node. */
export interface TaskPlace {
  slot: number;
  nodeId: string;
}

function taskName(service: Service, place: TaskPlace, id: string): string {
  const where = place.nodeId === '' ? String(place.slot) : place.nodeId;
  return `${service.spec?.annotations?.name ?? service.id}.${where}.${id}`;
}

/**
 * A new task of a service, as its spec stands now (swarmkit.md §3.1: the orchestrator creates tasks in NEW).
 * A service that waits for others at its first start has its tasks prepared, but no further.
 * @param why stands in the task for as long as it is kept. @param desired default: what the service's mode aims at.
 */
export function newTask(
  state: ServiceState,
  place: TaskPlace,
  why: TaskReason,
  desired: TaskState = targetState(state.service),
): Task {
  const { service, cluster } = state;
  const id = state.newId();
  return Task.create({
    id,
    created_for: why,
    spec: service.spec?.task ?? null,
    spec_version: service.spec_version,
    service_id: service.id,
    slot: place.slot,
    node_id: place.nodeId,
    annotations: Annotations.create({ name: taskName(service, place, id) }),
    service_annotations: service.spec?.annotations ?? null,
    endpoint: Endpoint.create({ spec: service.spec?.endpoint ?? null }),
    status: { state: TaskState.NEW, timestamp: timestampFromMs(state.nowMs), message: 'created' },
    desired_state: isHeld(service) ? TaskState.READY : desired,
    log_driver: service.spec?.task?.log_driver ?? cluster?.spec?.task_defaults?.log_driver ?? null,
    job_iteration: isJob(service) ? (service.job_status?.job_iteration ?? null) : null,
  });
}
