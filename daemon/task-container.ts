import { invalidArgument, must } from '../base/index.ts';
import type {
  ContainerConfig,
  HealthCheckRequest,
  InjectedFile,
  MountRequest,
  NetworkRequest,
} from '../engine/index.ts';
import type { EndpointSpec, PublishedPort } from '../overlay-net/index.ts';
import {
  durationToMs,
  Mount_BindOptions_Propagation,
  Mount_Type,
  PROTOCOL_NAMES,
  PortConfig_PublishMode,
  type PortConfig,
  type ContainerSpec,
  type FileTarget,
  type Mount,
  type NetworkAttachment,
  type NodeDescription,
  type Task,
} from '../proto/index.ts';
import type { TaskDependencies } from '../worker/index.ts';
import { expandTemplate, type TemplateContext } from './templates.ts';

/** The name of a task: service, slot (or node for global services), id. */
export function taskName(task: Task): string {
  if (task.annotations !== null && task.annotations.name !== '') return task.annotations.name;
  const place = task.slot === 0 ? task.node_id : String(task.slot);
  return `${task.service_annotations?.name ?? 'task'}.${place}.${task.id}`;
}

function templateContext(task: Task, node: NodeDescription): TemplateContext {
  return {
    Service: {
      ID: task.service_id,
      Name: task.service_annotations?.name ?? '',
      Labels: task.service_annotations?.labels ?? {},
    },
    Node: {
      ID: task.node_id,
      Hostname: node.hostname,
      Platform: { Architecture: node.platform?.architecture ?? '', OS: node.platform?.os ?? '' },
    },
    Task: { ID: task.id, Name: taskName(task), Slot: task.slot === 0 ? task.node_id : String(task.slot) },
  };
}

const MOUNT_TYPES: Partial<Record<Mount_Type, MountRequest['type']>> = {
  [Mount_Type.BIND]: 'bind',
  [Mount_Type.VOLUME]: 'volume',
  [Mount_Type.TMPFS]: 'tmpfs',
};

const PROPAGATION: Readonly<Record<Mount_BindOptions_Propagation, string>> = {
  [Mount_BindOptions_Propagation.RPRIVATE]: 'rprivate',
  [Mount_BindOptions_Propagation.PRIVATE]: 'private',
  [Mount_BindOptions_Propagation.RSHARED]: 'rshared',
  [Mount_BindOptions_Propagation.SHARED]: 'shared',
  [Mount_BindOptions_Propagation.RSLAVE]: 'rslave',
  [Mount_BindOptions_Propagation.SLAVE]: 'slave',
};

function bindPart(bind: Mount['bind_options']): Partial<MountRequest> {
  if (bind === null) return {};
  return {
    propagation: PROPAGATION[bind.propagation],
    createMountpoint: bind.createmountpoint,
    ...(bind.nonrecursive ? { nonRecursive: true } : {}),
    ...(bind.readonlynonrecursive ? { readOnlyNonRecursive: true } : {}),
    ...(bind.readonlyforcerecursive ? { readOnlyForceRecursive: true } : {}),
  };
}

function mountRequest(mount: Mount, expand: (text: string) => string): MountRequest {
  const type = MOUNT_TYPES[mount.type];
  if (type === undefined) throw invalidArgument(`mount type of ${mount.target} is not supported on Linux without CSI`);
  const { bind_options: bind, volume_options: volume, tmpfs_options: tmpfs } = mount;
  return {
    type,
    source: expand(mount.source),
    target: expand(mount.target),
    readOnly: mount.readonly,
    ...bindPart(bind),
    ...(volume === null
      ? {}
      : {
          noCopy: volume.nocopy,
          ...(volume.subpath === '' ? {} : { volumeSubpath: volume.subpath }),
          volumeLabels: volume.labels,
          volumeDriver: volume.driver_config?.name || 'local',
          volumeOptions: volume.driver_config?.options ?? {},
        }),
    ...(tmpfs === null || tmpfs.size_bytes === 0 ? {} : { tmpfsSizeBytes: tmpfs.size_bytes }),
    ...(tmpfs === null || tmpfs.mode === 0 ? {} : { tmpfsMode: tmpfs.mode }),
  };
}

/** uid or gid of a file target; names cannot be resolved before the container exists. */
function numericId(text: string, what: string): number {
  if (text === '') return 0;
  if (!/^\d+$/.test(text))
    throw invalidArgument(`invalid ${what} "${text}" of a secret or config: a number is expected`);
  return Number(text);
}

function injected(file: FileTarget, directory: string, data: Uint8Array): InjectedFile {
  return {
    target: file.name.startsWith('/') ? file.name : `${directory}${file.name}`,
    data,
    uid: numericId(file.uid, 'UID'),
    gid: numericId(file.gid, 'GID'),
    mode: file.mode & 0o7777,
  };
}

function files(spec: ContainerSpec, dependencies: TaskDependencies): InjectedFile[] {
  const secrets = spec.secrets.flatMap((reference) => {
    const secret = must(dependencies.secret(reference.secret_id), `secret ${reference.secret_name}`);
    if (reference.file === undefined) return [];
    return [injected(reference.file, '/run/secrets/', secret.spec?.data ?? new Uint8Array())];
  });
  const configs = spec.configs.flatMap((reference) => {
    const config = must(dependencies.config(reference.config_id), `config ${reference.config_name}`);
    if (reference.file === undefined) return [];
    return [injected(reference.file, '/', config.spec?.data ?? new Uint8Array())];
  });
  return [...secrets, ...configs];
}

function portsOf(task: Task): readonly PortConfig[] {
  return task.endpoint?.ports.length ? task.endpoint.ports : (task.endpoint?.spec?.ports ?? []);
}

/** Ports of the container that its service publishes, `80/tcp`. */
export function servicePorts(task: Task): string[] {
  return portsOf(task).map((port) => `${port.target_port}/${PROTOCOL_NAMES[port.protocol]}`);
}

/** Ports that only the task's own host publishes. */
export function hostPorts(task: Task): PublishedPort[] {
  return portsOf(task)
    .filter((port) => port.publish_mode === PortConfig_PublishMode.HOST)
    .map((port) => ({
      protocol: PROTOCOL_NAMES[port.protocol],
      targetPort: port.target_port,
      publishedPort: port.published_port,
      hostIp: port.host_ip,
    }));
}

/** MAC of an endpoint: 02:42 and the four bytes of its address. */
function macFor(address: string): string {
  const parts = (address.split('/')[0] ?? '').split('.').map(Number);
  return ['02', '42', ...parts.map((part) => part.toString(16).padStart(2, '0'))].join(':');
}

/** Predefined networks of every host, by driver. */
function predefined(attachment: NetworkAttachment): 'host' | 'bridge' | undefined {
  const driver = attachment.network?.driver_state?.name || attachment.network?.spec?.driver_config?.name;
  return driver === 'host' || driver === 'bridge' ? driver : undefined;
}

/** Ids of the overlay networks a task hangs on. */
export function overlayNetworks(task: Task): string[] {
  return task.networks
    .filter((attachment) => predefined(attachment) === undefined)
    .map((attachment) => must(attachment.network, 'network of an attachment').id);
}

function networkRequest(task: Task): NetworkRequest {
  if (task.networks.some((attachment) => predefined(attachment) === 'host')) return { mode: 'host' };
  const endpoints = task.networks
    .filter((attachment) => predefined(attachment) === undefined)
    .map((attachment): EndpointSpec => {
      const address = attachment.addresses.find((candidate) => !candidate.includes(':')) ?? '';
      const address6 = attachment.addresses.find((candidate) => candidate.includes(':'));
      const networkId = must(attachment.network, 'network of an attachment').id;
      const endpoint = { networkId, address, mac: macFor(address), aliases: attachment.aliases };
      return address6 === undefined ? endpoint : { ...endpoint, address6 };
    });
  if (endpoints.length === 0) endpoints.push({ networkId: 'bridge', address: '', mac: '', aliases: [] });
  return { mode: 'sandbox', endpoints, ports: hostPorts(task), taskId: task.id };
}

function healthCheck(spec: ContainerSpec): { healthCheck?: HealthCheckRequest } {
  const health = spec.healthcheck;
  if (health === null) return {};
  return {
    healthCheck: {
      test: health.test,
      intervalMs: durationToMs(health.interval, 0),
      timeoutMs: durationToMs(health.timeout, 0),
      startPeriodMs: durationToMs(health.start_period, 0),
      startIntervalMs: durationToMs(health.start_interval, 0),
      retries: health.retries,
    },
  };
}

function resources(task: Task, spec: ContainerSpec): ContainerConfig['resources'] {
  const { limits = null, reservations = null } = task.spec?.resources ?? {};
  const positive = (value: number | undefined): value is number => value !== undefined && value > 0;
  return {
    ...(positive(limits?.memory_bytes) ? { memoryBytes: limits.memory_bytes } : {}),
    ...(positive(limits?.nano_cpus) ? { nanoCpus: limits.nano_cpus } : {}),
    ...(positive(reservations?.memory_bytes) ? { memoryReservationBytes: reservations.memory_bytes } : {}),
    ...(positive(spec.pidsLimit) ? { pidsLimit: spec.pidsLimit } : {}),
    ...(spec.oom_score_adj === 0 ? {} : { oomScoreAdj: spec.oom_score_adj }),
    ulimits: spec.ulimits.map((limit) => ({ name: limit.name, soft: limit.soft, hard: limit.hard })),
  };
}

function seccomp(spec: ContainerSpec): string {
  const profile = spec.privileges?.seccomp;
  if (profile === null || profile === undefined || profile.mode === 0) return 'default';
  return profile.mode === 1 ? 'unconfined' : Buffer.from(profile.profile).toString('utf8');
}

/** Labels that every container of a task carries. */
function labels(task: Task, spec: ContainerSpec): Record<string, string> {
  return {
    ...spec.labels,
    'com.docker.swarm.node.id': task.node_id,
    'com.docker.swarm.service.id': task.service_id,
    'com.docker.swarm.service.name': task.service_annotations?.name ?? '',
    'com.docker.swarm.task': '',
    'com.docker.swarm.task.id': task.id,
    'com.docker.swarm.task.name': taskName(task),
  };
}

/** Variables for assigned generic resources: DOCKER_RESOURCE_KIND=v1,v2. */
function resourceEnv(task: Task): string[] {
  const byKind = new Map<string, string[]>();
  for (const resource of task.assigned_generic_resources) {
    const { named_resource_spec: named, discrete_resource_spec: discrete } = resource;
    const kind = named?.kind ?? discrete?.kind ?? '';
    byKind.set(kind, [...(byKind.get(kind) ?? []), named?.value ?? String(discrete?.value ?? 0)]);
  }
  return [...byKind].map(([kind, values]) => `DOCKER_RESOURCE_${kind.toUpperCase()}=${values.join(',')}`);
}

/**
 * The container of a task.
 * @throws ShoalError InvalidArgument for templates and options that this host cannot honour.
 */
export function containerConfig(
  task: Task,
  node: NodeDescription,
  dependencies: TaskDependencies,
  defaults: { init: boolean; dns: readonly string[] },
): ContainerConfig {
  const spec = must(task.spec?.container, 'container spec of a task');
  const context = templateContext(task, node);
  const expand = (text: string): string => expandTemplate(text, context);
  const driver = task.spec?.log_driver ?? task.log_driver;
  return {
    name: taskName(task),
    image: spec.image,
    ...(spec.command.length > 0 ? { entrypoint: spec.command } : {}),
    ...(spec.args.length > 0 ? { cmd: spec.args } : {}),
    env: [...spec.env.map(expand), ...resourceEnv(task)],
    ...(spec.dir === '' ? {} : { workingDir: spec.dir }),
    ...(spec.user === '' ? {} : { user: spec.user }),
    groups: spec.groups,
    ...(spec.hostname === '' ? {} : { hostname: expand(spec.hostname) }),
    labels: labels(task, spec),
    tty: spec.tty,
    openStdin: spec.open_stdin,
    readOnlyRootfs: spec.read_only,
    init: spec.init?.value ?? defaults.init,
    ...(spec.stop_signal === '' ? {} : { stopSignal: spec.stop_signal }),
    stopGraceMs: durationToMs(spec.stop_grace_period, 10_000),
    mounts: spec.mounts.map((mount) => mountRequest(mount, expand)),
    files: files(spec, dependencies),
    resources: resources(task, spec),
    capAdd: spec.capability_add,
    capDrop: spec.capability_drop,
    privileged: false,
    noNewPrivileges: spec.privileges?.no_new_privileges ?? false,
    seccomp: seccomp(spec),
    sysctls: spec.sysctls,
    extraHosts: spec.hosts.map(hostEntry),
    dns: spec.dns_config?.nameservers.length ? spec.dns_config.nameservers : defaults.dns,
    dnsSearch: spec.dns_config?.search ?? [],
    dnsOptions: spec.dns_config?.options ?? [],
    network: networkRequest(task),
    ...healthCheck(spec),
    logDriver: { type: driver?.name ?? '', config: driver?.options ?? {} },
    restart: { name: 'no', maximumRetryCount: 0 },
    autoRemove: false,
  };
}

/** Services carry hosts as `address name`, containers as `name:address`. */
function hostEntry(entry: string): string {
  const [address = '', ...names] = entry.trim().split(/\s+/);
  return `${names.join(' ')}:${address}`;
}
