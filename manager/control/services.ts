import { alreadyExists, makeName, newId, type Random } from '../../base/index.ts';
import {
  Annotations,
  Service,
  TaskState,
  timestampFromMs,
  type ListServicesRequest_Filters,
  type ServiceSpec,
  type ListServiceStatusesResponse_ServiceStatus,
} from '../../proto/index.ts';
import { cronOf, scheduledStatus } from '../orchestrator/cron-runs.ts';
import { recordRevision, removeRevisions } from '../store/revisions.ts';
import type { ReadView } from '../store/types.ts';
import { hasLabels, oneOf, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import { checkAgainstCluster } from './service-cluster.ts';
import { isJob, modeOf, validateServiceSpec } from './service-spec.ts';
import { promoteService, runService, updateService } from './service-update.ts';
import type { Control, ControlOptions } from './types.ts';

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

/** A service as it is created: a job's first run begins, unless it runs by the clock. */
function newService(id: string, spec: ServiceSpec, nowMs: number): Service {
  const service = Service.create({ id, spec, spec_version: { index: 0 } });
  if (!isJob(spec)) return service;
  const cron = cronOf(service);
  const last_execution = cron === undefined ? timestampFromMs(nowMs) : null;
  const update_status = cron === undefined ? null : scheduledStatus(cron, nowMs);
  return { ...service, job_status: { job_iteration: { index: 0 }, last_execution }, update_status };
}

type Methods =
  | 'GetService'
  | 'ListServices'
  | 'CreateService'
  | 'UpdateService'
  | 'RemoveService'
  | 'PromoteService'
  | 'RunService'
  | 'ListServiceRevisions'
  | 'ListServiceStatuses';

/** A spec without a name gets a made-up one, as containers do. */
function named(spec: ServiceSpec | null, view: ReadView, random: Random): ServiceSpec | null {
  if (spec === null || (spec.annotations?.name ?? '') !== '') return spec;
  const name = makeName(random, (candidate) => view.byName('service', candidate) !== undefined);
  return { ...spec, annotations: Annotations.create({ ...spec.annotations, name }) };
}

/** Services: what users ask for. Making it true is the orchestrators' work. */
export function serviceMethods({ store, clock, random }: ControlOptions): Pick<Control, Methods> {
  return {
    GetService: async ({ reference }) => ({ service: resolve(store.view(), 'service', reference) }),

    ListServices: async ({ filters }) => {
      const all = store.view().list('service');
      return { services: filters === null ? all : all.filter((service) => passes(service, filters)) };
    },

    CreateService: async (request) => {
      const spec = validateServiceSpec(named(request.spec, store.view(), random));
      const id = newId(random);
      await store.update((tx) => {
        const name = spec.annotations?.name ?? '';
        if (tx.byName('service', name) !== undefined) {
          throw alreadyExists(`name conflicts with an existing object: service ${name} already exists`);
        }
        checkAgainstCluster(tx, spec, id);
        tx.create('service', recordRevision(tx, newService(id, spec, clock.now()), 'create'));
      });
      return { service: resolve(store.view(), 'service', id) };
    },

    UpdateService: async (request) => {
      const id = await store.update((tx) => updateService(tx, request, clock.now()));
      return { service: resolve(store.view(), 'service', id) };
    },

    RemoveService: async ({ service_id }) => {
      await store.update((tx) => {
        const { id } = resolve(tx, 'service', service_id);
        tx.remove('service', id);
        removeRevisions(tx, id);
      });
      return {};
    },

    PromoteService: async ({ service_id }) => {
      const id = await store.update((tx) => promoteService(tx, service_id, clock.now()));
      return { service: resolve(store.view(), 'service', id) };
    },

    RunService: async ({ service_id }) => {
      const id = await store.update((tx) => runService(tx, service_id, clock.now()));
      return { service: resolve(store.view(), 'service', id) };
    },

    ListServiceRevisions: async ({ service_id }) => {
      const view = store.view();
      const service = resolve(view, 'service', service_id);
      return { revisions: view.revisionsByService(service.id), current: service.revision };
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
