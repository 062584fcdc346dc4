import { ShoalError } from '../../base/index.ts';
import {
  PROTOCOLS_BY_NAME,
  durationFromNs,
  durationToNs,
  ServiceSpec,
  timestampToIso,
  type Endpoint,
  type EndpointSpec,
  type Meta,
  type NetworkAttachmentConfig,
  type Partially,
  type PortConfig,
  type Resources,
  type Service,
  type TaskSpec,
  type UpdateConfig,
} from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import {
  containerSpecFromJson,
  containerSpecToJson,
  driverFromJson,
  driverToJson,
  duration,
} from './container-spec.ts';
import { Fields, listOrNothing, mapOrNothing, textOrNothing, wordOf } from './fields.ts';
import { ownToJson } from './service-own.ts';
import { ENDPOINT_MODE, FAILURE_ACTION, PUBLISH_MODE, RESTART_CONDITION, UPDATE_ORDER, UPDATE_STATE } from './words.ts';

/** Version and times that every swarm object begins with. */
export function metaToJson(meta: Meta | null): JsonObject {
  return {
    Version: { Index: meta?.version?.index ?? 0 },
    CreatedAt: timestampToIso(meta?.created_at),
    UpdatedAt: timestampToIso(meta?.updated_at),
  };
}

function genericFromJson(fields: Fields): NonNullable<Partially<Resources>['generic']>[number] {
  const discrete = fields.object('DiscreteResourceSpec');
  const named = fields.object('NamedResourceSpec');
  if (discrete !== undefined) {
    return { discrete_resource_spec: { kind: discrete.string('Kind'), value: discrete.number('Value') } };
  }
  return { named_resource_spec: { kind: named?.string('Kind') ?? '', value: named?.string('Value') ?? '' } };
}

function resourcesFromJson(fields: Fields | undefined): Partially<Resources> | null {
  if (fields === undefined) return null;
  return {
    nano_cpus: fields.number('NanoCPUs'),
    memory_bytes: fields.number('MemoryBytes'),
    generic: fields.objects('GenericResources').map(genericFromJson),
  };
}

/** Generic resources as Docker lists them. */
export function genericToJson(resources: Resources['generic']): readonly JsonObject[] | undefined {
  return listOrNothing(
    resources.map((item): JsonObject => {
      if (item.discrete_resource_spec !== undefined) {
        const { kind, value } = item.discrete_resource_spec;
        return { DiscreteResourceSpec: { Kind: kind, Value: value } };
      }
      return {
        NamedResourceSpec: { Kind: item.named_resource_spec?.kind ?? '', Value: item.named_resource_spec?.value ?? '' },
      };
    }),
  );
}

export function resourcesToJson(resources: Resources | null, pids = 0): JsonObject | undefined {
  if (resources === null && pids === 0) return undefined;
  return {
    NanoCPUs: textOrNothing(resources?.nano_cpus ?? 0),
    MemoryBytes: textOrNothing(resources?.memory_bytes ?? 0),
    Pids: textOrNothing(pids),
    GenericResources: genericToJson(resources?.generic ?? []),
  };
}

function networksFromJson(list: Fields[]): Partially<NetworkAttachmentConfig>[] {
  return list.map((network) => ({
    target: network.string('Target'),
    aliases: network.strings('Aliases'),
    driver_attachment_opts: network.stringMap('DriverOpts'),
  }));
}

function networksToJson(list: NetworkAttachmentConfig[]): readonly JsonObject[] | undefined {
  return listOrNothing(
    list.map((network) => ({
      Target: network.target,
      Aliases: listOrNothing(network.aliases),
      DriverOpts: mapOrNothing(network.driver_attachment_opts),
    })),
  );
}

function placementFromJson(fields: Fields | undefined): Partially<TaskSpec>['placement'] {
  if (fields === undefined) return null;
  return {
    constraints: fields.strings('Constraints'),
    preferences: fields
      .objects('Preferences')
      .map((p) => ({ spread: { spread_descriptor: p.object('Spread')?.string('SpreadDescriptor') ?? '' } })),
    platforms: fields.objects('Platforms').map((p) => ({ architecture: p.string('Architecture'), os: p.string('OS') })),
    max_replicas: fields.number('MaxReplicas'),
  };
}

/** TaskSpec from Docker's TaskTemplate. @throws ShoalError InvalidArgument */
export function taskSpecFromJson(json: Fields): Partially<TaskSpec> {
  const container = json.object('ContainerSpec');
  const resources = json.object('Resources');
  const restart = json.object('RestartPolicy');
  const limits = resources?.object('Limits');
  const runtime = json.string('Runtime');
  if (runtime !== '' && runtime !== 'container') {
    throw new ShoalError('InvalidArgument', `runtime '${runtime}' is not supported: only containers are`);
  }
  return {
    ...(container === undefined ? {} : { container: containerSpecFromJson(container, limits?.number('Pids') ?? 0) }),
    resources:
      resources === undefined
        ? null
        : {
            limits: resourcesFromJson(limits),
            reservations: resourcesFromJson(resources.object('Reservations')),
          },
    restart:
      restart === undefined
        ? null
        : {
            condition: restart.choice<0 | 1 | 2>('Condition', RESTART_CONDITION, RESTART_CONDITION.any),
            delay: duration(restart, 'Delay'),
            max_attempts: restart.number('MaxAttempts'),
            window: duration(restart, 'Window'),
          },
    placement: placementFromJson(json.object('Placement')),
    log_driver: driverFromJson(json.object('LogDriver')),
    networks: networksFromJson(json.objects('Networks')),
    force_update: json.number('ForceUpdate'),
  };
}

/** Docker's TaskTemplate. */
export function taskSpecToJson(spec: TaskSpec): JsonObject {
  const { restart, placement, resources } = spec;
  const pids = spec.container?.pidsLimit ?? 0;
  return {
    ContainerSpec: spec.container === undefined ? undefined : containerSpecToJson(spec.container),
    Resources:
      resources === null && pids === 0
        ? {}
        : {
            Limits: resourcesToJson(resources?.limits ?? null, pids),
            Reservations: resourcesToJson(resources?.reservations ?? null),
          },
    RestartPolicy:
      restart === null
        ? undefined
        : {
            Condition: wordOf(RESTART_CONDITION, restart.condition),
            Delay: durationToNs(restart.delay),
            MaxAttempts: restart.max_attempts,
            Window: durationToNs(restart.window),
          },
    Placement:
      placement === null
        ? {}
        : {
            Constraints: listOrNothing(placement.constraints),
            Preferences: listOrNothing(
              placement.preferences.map((p) => ({ Spread: { SpreadDescriptor: p.spread?.spread_descriptor ?? '' } })),
            ),
            MaxReplicas: textOrNothing(placement.max_replicas),
            Platforms: listOrNothing(placement.platforms.map((p) => ({ Architecture: p.architecture, OS: p.os }))),
          },
    Networks: networksToJson(spec.networks),
    LogDriver: driverToJson(spec.log_driver),
    ForceUpdate: spec.force_update,
    Runtime: 'container',
  };
}

function updateConfigFromJson(json: Fields | undefined): Partially<UpdateConfig> | null {
  if (json === undefined) return null;
  return {
    parallelism: json.number('Parallelism'),
    delay: duration(json, 'Delay'),
    failure_action: json.choice<0 | 1 | 2>('FailureAction', FAILURE_ACTION, FAILURE_ACTION.pause),
    monitor: duration(json, 'Monitor'),
    max_failure_ratio: json.number('MaxFailureRatio'),
    order: json.choice<0 | 1>('Order', UPDATE_ORDER, UPDATE_ORDER['stop-first']),
  };
}

function updateConfigToJson(config: UpdateConfig | null): JsonObject | undefined {
  if (config === null) return undefined;
  return {
    Parallelism: config.parallelism,
    Delay: durationToNs(config.delay) || undefined,
    FailureAction: wordOf(FAILURE_ACTION, config.failure_action),
    Monitor: durationToNs(config.monitor),
    // The wire has 32 bits: seven digits are all that was sent.
    MaxFailureRatio: Number(config.max_failure_ratio.toPrecision(7)),
    Order: wordOf(UPDATE_ORDER, config.order),
  };
}

function portFromJson(json: Fields): Partially<PortConfig> {
  return {
    name: json.string('Name'),
    protocol: json.choice<0 | 1 | 2>('Protocol', PROTOCOLS_BY_NAME, PROTOCOLS_BY_NAME.tcp),
    target_port: json.number('TargetPort'),
    published_port: json.number('PublishedPort'),
    publish_mode: json.choice<0 | 1>('PublishMode', PUBLISH_MODE, PUBLISH_MODE.ingress),
  };
}

export function portToJson(port: PortConfig): JsonObject {
  return {
    Name: textOrNothing(port.name),
    Protocol: wordOf(PROTOCOLS_BY_NAME, port.protocol),
    TargetPort: port.target_port,
    PublishedPort: textOrNothing(port.published_port),
    PublishMode: wordOf(PUBLISH_MODE, port.publish_mode),
  };
}

function endpointSpecToJson(spec: EndpointSpec | null): JsonObject | undefined {
  if (spec === null) return undefined;
  return { Mode: wordOf(ENDPOINT_MODE, spec.mode), Ports: listOrNothing(spec.ports.map(portToJson)) };
}

function modeFromJson(mode: Fields | undefined, replicasDefault: number): Partially<ServiceSpec> {
  if (mode?.has('Global') === true) return { global: {} };
  const job = mode?.object('ReplicatedJob');
  if (job !== undefined) {
    const total = job.optionalNumber('TotalCompletions') ?? job.optionalNumber('MaxConcurrent') ?? 1;
    return {
      replicated_job: { max_concurrent: job.optionalNumber('MaxConcurrent') ?? 1, total_completions: total },
    };
  }
  if (mode?.has('GlobalJob') === true) return { global_job: {} };
  return { replicated: { replicas: mode?.object('Replicated')?.optionalNumber('Replicas') ?? replicasDefault } };
}

function modeToJson(spec: ServiceSpec): JsonObject {
  if (spec.global !== undefined) return { Global: {} };
  if (spec.global_job !== undefined) return { GlobalJob: {} };
  if (spec.replicated_job !== undefined) {
    const { max_concurrent: max, total_completions: total } = spec.replicated_job;
    return { ReplicatedJob: { MaxConcurrent: max, TotalCompletions: total } };
  }
  return { Replicated: { Replicas: spec.replicated?.replicas ?? 0 } };
}

/**
 * ServiceSpec from Docker's JSON. `registryAuth` (header X-Registry-Auth) goes with the spec to the agents.
 * @param replicasDefault of a replicated service that names no number.
 * @throws ShoalError InvalidArgument
 */
export function serviceSpecFromJson(body: JsonObject, registryAuth = '', replicasDefault = 1): ServiceSpec {
  const json = new Fields(body);
  const endpoint = json.object('EndpointSpec');
  const task = taskSpecFromJson(json.object('TaskTemplate') ?? new Fields({}));
  if (task.container === undefined) throw new ShoalError('InvalidArgument', 'mismatched Runtime and *Spec fields');
  const container =
    registryAuth === '' ? task.container : { ...task.container, pull_options: { registry_auth: registryAuth } };
  return ServiceSpec.create({
    annotations: { name: json.string('Name'), labels: json.stringMap('Labels') },
    task: { ...task, container },
    ...modeFromJson(json.object('Mode'), replicasDefault),
    update: updateConfigFromJson(json.object('UpdateConfig')),
    rollback: updateConfigFromJson(json.object('RollbackConfig')),
    networks: networksFromJson(json.objects('Networks')),
    endpoint:
      endpoint === undefined
        ? null
        : {
            mode: endpoint.choice<0 | 1>('Mode', ENDPOINT_MODE, ENDPOINT_MODE.vip),
            ports: endpoint.objects('Ports').map(portFromJson),
          },
  });
}

/** Docker's JSON of a ServiceSpec. */
export function serviceSpecToJson(spec: ServiceSpec): JsonObject {
  return {
    Name: spec.annotations?.name ?? '',
    Labels: spec.annotations?.labels ?? {},
    TaskTemplate: spec.task === null ? {} : taskSpecToJson(spec.task),
    Mode: modeToJson(spec),
    UpdateConfig: updateConfigToJson(spec.update),
    RollbackConfig: updateConfigToJson(spec.rollback),
    Networks: networksToJson(spec.networks),
    EndpointSpec: endpointSpecToJson(spec.endpoint) ?? { Mode: 'vip' },
  };
}

function endpointToJson(endpoint: Endpoint | null): JsonObject {
  if (endpoint === null) return { Spec: {} };
  return {
    Spec: endpointSpecToJson(endpoint.spec) ?? {},
    Ports: listOrNothing(endpoint.ports.map(portToJson)),
    VirtualIPs: listOrNothing(
      endpoint.virtual_ips.map((vip) => ({ NetworkID: vip.network_id, Addr: textOrNothing(vip.addr) })),
    ),
  };
}

/** Docker's JSON of a service, and what Shoal knows beyond. */
export function serviceToJson(service: Service): JsonObject {
  const { update_status: status, job_status: job, previous_spec: previous } = service;
  return {
    ID: service.id,
    ...metaToJson(service.meta),
    Spec: service.spec === null ? {} : serviceSpecToJson(service.spec),
    PreviousSpec: previous === null ? undefined : serviceSpecToJson(previous),
    Endpoint: endpointToJson(service.endpoint),
    UpdateStatus:
      status === null || status.state === UPDATE_STATE['']
        ? undefined
        : {
            State: wordOf(UPDATE_STATE, status.state),
            StartedAt: status.started_at === null ? undefined : timestampToIso(status.started_at),
            CompletedAt: status.completed_at === null ? undefined : timestampToIso(status.completed_at),
            Message: status.message,
          },
    JobStatus:
      job === null
        ? undefined
        : {
            JobIteration: { Index: textOrNothing(job.job_iteration?.index ?? 0) },
            LastExecution: timestampToIso(job.last_execution),
          },
    ...ownToJson(service),
  };
}

const DEFAULT_UPDATE: Partially<UpdateConfig> = {
  parallelism: 1,
  delay: durationFromNs(0),
  monitor: durationFromNs(5e9),
};

/** The spec with what applies when a field is left out (`insertDefaults=true`). */
export function withDefaults(service: Service): Service {
  const spec = service.spec;
  if (spec === null || spec.task === null) return service;
  const container = spec.task.container;
  return {
    ...service,
    spec: ServiceSpec.create({
      ...spec,
      task: {
        ...spec.task,
        ...(container === undefined
          ? {}
          : {
              container: { ...container, stop_grace_period: container.stop_grace_period ?? durationFromNs(10e9) },
            }),
        restart: spec.task.restart ?? { condition: RESTART_CONDITION.any, delay: durationFromNs(5e9) },
      },
      update: spec.update ?? DEFAULT_UPDATE,
      rollback: spec.rollback ?? DEFAULT_UPDATE,
      endpoint: spec.endpoint ?? { mode: ENDPOINT_MODE.vip },
    }),
  };
}
