import {
  Annotations,
  Task,
  TaskState,
  TaskStatus,
  timestampFromMs,
  type Endpoint,
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

/** A task with nothing in it; its empty lists are shared by all tasks. */
const EMPTY = Task.create();
const EMPTY_ANNOTATIONS = Annotations.create();
const EMPTY_STATUS = TaskStatus.create({ state: TaskState.NEW });

/** The endpoint of a service's new tasks, one object for all of them: what tasks share is stored once. */
const endpoints = new WeakMap<Service, Endpoint>();

function endpointOf(service: Service): Endpoint {
  let endpoint = endpoints.get(service);
  if (endpoint === undefined) {
    endpoint = { spec: service.spec?.endpoint ?? null, ports: [], virtual_ips: [] };
    endpoints.set(service, endpoint);
  }
  return endpoint;
}

/**
 * A new task of a service, as its spec stands now (swarmkit.md §3.1: the orchestrator creates tasks in NEW). It shares
 * the parts of the service that it takes over.
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
  return {
    ...EMPTY,
    id,
    created_for: why,
    spec: service.spec?.task ?? null,
    spec_version: service.spec_version,
    service_id: service.id,
    slot: place.slot,
    node_id: place.nodeId,
    annotations: { ...EMPTY_ANNOTATIONS, name: taskName(service, place, id) },
    service_annotations: service.spec?.annotations ?? null,
    endpoint: endpointOf(service),
    status: { ...EMPTY_STATUS, timestamp: timestampFromMs(state.nowMs), message: 'created' },
    desired_state: isHeld(service) ? TaskState.READY : desired,
    log_driver: service.spec?.task?.log_driver ?? cluster?.spec?.task_defaults?.log_driver ?? null,
    job_iteration: isJob(service) ? (service.job_status?.job_iteration ?? null) : null,
  };
}

/** The creation of a task that is made only when it is written: a service may want more than one pass can write. */
export function creation(...wanted: Parameters<typeof newTask>): { op: 'create'; readonly task: Task } {
  let task: Task | undefined;
  return {
    op: 'create',
    get task() {
      return (task ??= newTask(...wanted));
    },
  };
}
