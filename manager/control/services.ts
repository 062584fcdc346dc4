import { alreadyExists, failedPrecondition, newId, ShoalError } from '../../base/index.ts';
import {
  Service,
  ServiceSpec,
  TaskState,
  timestampFromMs,
  UpdateServiceRequest_Rollback,
  UpdateStatus_UpdateState,
  type ListServicesRequest_Filters,
  type ListServiceStatusesResponse_ServiceStatus,
  type UpdateServiceRequest,
  type UpdateStatus,
} from '../../proto/index.ts';
import { isTaskDirty, sameMessage } from '../store/dirty.ts';
import type { ReadView, Transaction } from '../store/types.ts';
import { hasLabels, oneOf, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import { checkAgainstCluster } from './service-cluster.ts';
import { isJob, modeOf, validateServiceSpec } from './service-spec.ts';
import type { Control, ControlOptions } from './types.ts';
import { checkVersion } from './versions.ts';

function isUnchangedIn(old: ServiceSpec | null, next: ServiceSpec): void {
  if (modeOf(old) !== modeOf(next)) throw new ShoalError('Unimplemented', 'service mode change is not allowed');
  if (old?.annotations?.name !== next.annotations?.name) {
    throw new ShoalError('Unimplemented', 'renaming services is not supported');
  }
  if (!sameMessage(old?.networks, next.networks) && sameMessage(old?.task?.networks, next.task?.networks)) {
    throw new ShoalError('Unimplemented', 'networks must be migrated to TaskSpec before being changed');
  }
}

/** Whether a task that shall stay must be replaced to follow the spec. */
function mustChangeTasks(view: ReadView, service: Service): boolean {
  return view
    .tasksByService(service.id)
    .some(
      (task) => task.desired_state <= TaskState.RUNNING && isTaskDirty(service, task, view.get('node', task.node_id)),
    );
}

function statusOf(state: UpdateStatus['state'], message: string, nowMs: number): UpdateStatus {
  return { state, message, started_at: timestampFromMs(nowMs), completed_at: null };
}

/** A job runs anew: its iteration is the version it had before. */
function beginIteration(service: Service, nowMs: number): void {
  const job_iteration = { index: service.meta?.version?.index ?? 0 };
  service.update_status = null;
  service.job_status = { job_iteration, last_execution: timestampFromMs(nowMs) };
}

/** Puts a new spec in place. `service` is a copy that the caller owns. */
function replaceSpec(view: ReadView, service: Service, spec: ServiceSpec, nowMs: number): void {
  service.previous_spec = service.spec;
  service.previous_spec_version = service.spec_version;
  service.spec = spec;
  // Not the version that the service gets now: the two are never compared with each other.
  service.spec_version = { index: service.meta?.version?.index ?? 0 };
  if (isJob(spec)) {
    beginIteration(service, nowMs);
    return;
  }
  // A "completed" left over would end the next wait of a client at once.
  service.update_status = mustChangeTasks(view, service)
    ? statusOf(UpdateStatus_UpdateState.UPDATING, 'update in progress', nowMs)
    : null;
}

/** Swaps the spec with the previous one. `service` is a copy that the caller owns. */
function rollBack(service: Service, nowMs: number): void {
  const { spec, spec_version, previous_spec, previous_spec_version } = service;
  if (previous_spec === null) throw failedPrecondition(`service ${service.id} does not have a previous spec`);
  service.spec = previous_spec;
  service.spec_version = previous_spec_version;
  service.previous_spec = spec;
  service.previous_spec_version = spec_version;
  if (isJob(previous_spec)) {
    beginIteration(service, nowMs);
    return;
  }
  const state = UpdateStatus_UpdateState.ROLLBACK_STARTED;
  service.update_status = statusOf(state, 'manually requested rollback', nowMs);
}

function update(tx: Transaction, request: UpdateServiceRequest, nowMs: number): string {
  const stored = resolve(tx, 'service', request.service_id);
  checkVersion(stored, request.service_version);
  if (stored.pending_delete) throw failedPrecondition(`service ${stored.id} is being removed`);
  const service = Service.clone(stored);
  if (request.rollback === UpdateServiceRequest_Rollback.PREVIOUS) {
    rollBack(service, nowMs);
    const spec = ServiceSpec.clone(service.spec as ServiceSpec);
    checkAgainstCluster(tx, spec, service.id);
    service.spec = spec;
  } else {
    const spec = validateServiceSpec(request.spec);
    checkAgainstCluster(tx, spec, service.id);
    isUnchangedIn(stored.spec, spec);
    replaceSpec(tx, service, spec, nowMs);
  }
  tx.update('service', service);
  return service.id;
}

/** Docker's three numbers of a service: shall run, runs, has completed (jobs). */
function statusOfService(view: ReadView, service: Service): ListServiceStatusesResponse_ServiceStatus {
  const { spec } = service;
  const job = isJob(spec);
  const iteration = service.job_status?.job_iteration?.index ?? 0;
  const tasks = view
    .tasksByService(service.id)
    .filter((task) => !job || (task.job_iteration?.index ?? 0) === iteration);
  const inState = (state: TaskState): number => tasks.filter((task) => task.status?.state === state).length;
  const wanted = tasks.filter((task) =>
    job ? task.desired_state === TaskState.COMPLETE : task.desired_state === TaskState.RUNNING,
  );
  return {
    service_id: service.id,
    desired_tasks:
      spec?.replicated?.replicas ??
      spec?.replicated_job?.max_concurrent ??
      (job ? wanted.filter((task) => task.status?.state !== TaskState.COMPLETE).length : wanted.length),
    running_tasks: inState(TaskState.RUNNING),
    completed_tasks: job ? inState(TaskState.COMPLETE) : 0,
  };
}

function passes(service: Service, filters: ListServicesRequest_Filters): boolean {
  const annotations = service.spec?.annotations;
  const modes = filters.modes.map((mode) => mode.replaceAll('-', '_'));
  return (
    passesCommon(filters, annotations?.name ?? '', service.id) &&
    hasLabels(annotations?.labels, filters.labels) &&
    oneOf(modes, modeOf(service.spec) ?? '')
  );
}

type Methods =
  'GetService' | 'ListServices' | 'CreateService' | 'UpdateService' | 'RemoveService' | 'ListServiceStatuses';

/** Services: what users ask for. Making it true is the orchestrators' work. */
export function serviceMethods({ store, clock, random }: ControlOptions): Pick<Control, Methods> {
  return {
    GetService: async ({ reference }) => ({ service: resolve(store.view(), 'service', reference) }),

    ListServices: async ({ filters }) => {
      const all = store.view().list('service');
      return { services: filters === null ? all : all.filter((service) => passes(service, filters)) };
    },

    CreateService: async (request) => {
      const spec = validateServiceSpec(request.spec);
      const id = newId(random);
      await store.update((tx) => {
        const name = spec.annotations?.name ?? '';
        if (tx.byName('service', name) !== undefined) {
          throw alreadyExists(`name conflicts with an existing object: service ${name} already exists`);
        }
        checkAgainstCluster(tx, spec, id);
        const job_status = isJob(spec)
          ? { job_iteration: { index: 0 }, last_execution: timestampFromMs(clock.now()) }
          : null;
        tx.create('service', Service.create({ id, spec, spec_version: { index: 0 }, job_status }));
      });
      return { service: resolve(store.view(), 'service', id) };
    },

    UpdateService: async (request) => {
      const id = await store.update((tx) => update(tx, request, clock.now()));
      return { service: resolve(store.view(), 'service', id) };
    },

    RemoveService: async ({ service_id }) => {
      await store.update((tx) => tx.remove('service', resolve(tx, 'service', service_id).id));
      return {};
    },

    ListServiceStatuses: async ({ services }) => {
      const view = store.view();
      const statuses = services.map((reference) => {
        const service = view.get('service', reference);
        if (service !== undefined) return statusOfService(view, service);
        return { service_id: reference, desired_tasks: 0, running_tasks: 0, completed_tasks: 0 };
      });
      return { statuses };
    },
  };
}
