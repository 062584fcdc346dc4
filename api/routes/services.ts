import { invalidArgument, must } from '../../base/index.ts';
import {
  UpdateServiceRequest_Rollback,
  type Service,
  type ServiceSpec,
  type UpdateServiceRequest,
} from '../../proto/index.ts';
import { queryBool, queryInt, queryVersion, readJson } from '../body.ts';
import { Filters } from '../filters.ts';
import type { JsonObject, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { serviceSpecFromJson, serviceToJson, withDefaults } from '../shapes/service.ts';
import { sendEmpty, sendJson } from '../stream.ts';
import { streamServiceLogs } from './service-logs.ts';

const MODES: Readonly<Record<string, string>> = {
  replicated: 'replicated',
  global: 'global',
  'replicated-job': 'replicated_job',
  'global-job': 'global_job',
};

async function find(ports: Ports, reference: string): Promise<Service> {
  const { service } = await ports.swarm.call('GetService', { reference });
  return must(service, 'service');
}

async function statuses(ports: Ports, services: Service[]): Promise<Map<string, JsonObject>> {
  const answer = await ports.swarm.call('ListServiceStatuses', { services: services.map((service) => service.id) });
  return new Map(
    answer.statuses.map((status) => [
      status.service_id,
      {
        RunningTasks: status.running_tasks,
        DesiredTasks: status.desired_tasks,
        CompletedTasks: status.completed_tasks,
      },
    ]),
  );
}

async function list({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['id', 'label', 'mode', 'name', 'runtime']);
  const { services } = await ports.swarm.call('ListServices', {
    filters: {
      names: filters.get('name'),
      id_prefixes: filters.get('id'),
      labels: filters.labels(),
      modes: filters.get('mode').map((word) => (Object.hasOwn(MODES, word) ? (MODES[word] as string) : word)),
    },
  });
  if (!queryBool(query, 'status')) {
    sendJson(response, services.map(serviceToJson));
    return;
  }
  const byId = await statuses(ports, services);
  sendJson(
    response,
    services.map((service) => ({ ...serviceToJson(service), ServiceStatus: byId.get(service.id) })),
  );
}

async function create(context: RequestContext): Promise<void> {
  const spec = serviceSpecFromJson(await readJson(context), registryAuth(context));
  const { service } = await context.ports.swarm.call('CreateService', { spec });
  sendJson(context.response, { ID: must(service, 'service').id, Warnings: null }, 201);
}

async function inspect({ response, ports, params, query }: RequestContext): Promise<void> {
  const service = await find(ports, must(params['id'], 'id'));
  sendJson(response, serviceToJson(queryBool(query, 'insertDefaults') ? withDefaults(service) : service));
}

/** The header as given; '' when there are no credentials in it. */
export function registryAuth({ request }: RequestContext): string {
  const header = request.headers['x-registry-auth'];
  return typeof header === 'string' && header !== 'e30=' ? header : '';
}

/** The revision that a request asks for in the place of a spec; 0 for none. @throws ShoalError InvalidArgument */
function rollbackTo(query: URLSearchParams): number {
  if (!query.has('rollbackTo')) return 0;
  const number = queryInt(query, 'rollbackTo') ?? 0;
  if (number < 1) throw invalidArgument('rollbackTo is the number of a revision, 1 or more');
  return number;
}

/**
 * Replicas of an update that names none, as a Compose file without `replicas`: Docker's 1, but a service that scales by
 * itself keeps what it has.
 */
function replicasDefault({ spec }: Service): number {
  const scales = spec?.annotations?.labels['shoal.autoscale.max'] !== undefined;
  return scales ? (spec?.replicated?.replicas ?? 1) : 1;
}

/** What the body and the query of an update ask for. */
export async function updateRequest(context: RequestContext): Promise<UpdateServiceRequest> {
  const { ports, params, query } = context;
  const version = queryVersion(query, 'service');
  const revision = rollbackTo(query);
  const service = await find(ports, must(params['id'], 'id'));
  const previous = query.get('rollback') === 'previous';
  return {
    service_id: service.id,
    service_version: { index: version },
    spec: revision > 0 ? withCredentials(context, service) : await specOf(context, service),
    rollback: previous ? UpdateServiceRequest_Rollback.PREVIOUS : UpdateServiceRequest_Rollback.NONE,
    rollback_to: revision,
  };
}

async function update(context: RequestContext): Promise<void> {
  await context.ports.swarm.call('UpdateService', await updateRequest(context));
  sendJson(context.response, { Warnings: null });
}

/** The spec that a request sends, with the registry credentials that it names. */
async function specOf(context: RequestContext, service: Service): Promise<ServiceSpec> {
  const body = await readJson(context);
  const source = context.query.get('registryAuthFrom') === 'previous-spec' ? service.previous_spec : service.spec;
  const auth = registryAuth(context) || (source?.task?.container?.pull_options?.registry_auth ?? '');
  return serviceSpecFromJson(body, auth, replicasDefault(service));
}

/** The present spec with new registry credentials; null when the request brings none. */
function withCredentials(context: RequestContext, { spec }: Service): ServiceSpec | null {
  const auth = registryAuth(context);
  const container = spec?.task?.container;
  if (auth === '' || spec === null || spec.task === null || container === undefined) return null;
  return { ...spec, task: { ...spec.task, container: { ...container, pull_options: { registry_auth: auth } } } };
}

async function remove({ response, ports, params }: RequestContext): Promise<void> {
  const service = await find(ports, must(params['id'], 'id'));
  await ports.swarm.call('RemoveService', { service_id: service.id });
  sendEmpty(response);
}

async function logs(context: RequestContext): Promise<void> {
  const service = await find(context.ports, must(context.params['id'], 'id'));
  const tty = service.spec?.task?.container?.tty ?? false;
  await streamServiceLogs(context, { service_ids: [service.id], node_ids: [], task_ids: [] }, tty);
}

export const serviceRoutes: readonly Route[] = [
  { method: 'GET', path: '/services', handler: list },
  { method: 'POST', path: '/services/create', handler: create },
  { method: 'GET', path: '/services/{id}', handler: inspect },
  { method: 'POST', path: '/services/{id}/update', handler: update },
  { method: 'DELETE', path: '/services/{id}', handler: remove },
  { method: 'GET', path: '/services/{id}/logs', handler: logs },
];
