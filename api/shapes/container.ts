import { createHash } from 'node:crypto';
import { ZERO_TIME } from '../../proto/index.ts';
import type { ContainerFacts, JsonObject, PortFacts, SizeFacts } from '../ports.ts';
import { configToJson } from './container-config.ts';
import { hostConfigToJson } from './host-config.ts';

function iso(ms: number): string {
  return ms === 0 ? ZERO_TIME : new Date(ms).toISOString();
}

/** A rough duration in the words of `docker ps`. */
export function humanDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(seconds / 3600);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  // Days up to two weeks, weeks up to two months, months up to two years, as Docker does.
  const days = Math.floor(hours / 24);
  if (days < 14) return `${days} days`;
  if (days < 60) return `${Math.floor(days / 7)} weeks`;
  if (days < 730) return `${Math.floor(days / 30)} months`;
  return `${Math.floor(days / 365)} years`;
}

/** STATUS of `docker ps`. */
export function statusText(container: ContainerFacts, nowMs: number): string {
  const up = humanDuration(nowMs - container.startedMs);
  const ended = humanDuration(nowMs - container.finishedMs);
  switch (container.state) {
    case 'running':
      if (container.health === undefined) return `Up ${up}`;
      return `Up ${up} (${container.health === 'starting' ? 'health: starting' : container.health})`;
    case 'paused':
      return `Up ${up} (Paused)`;
    case 'restarting':
      return `Restarting (${container.exitCode}) ${ended} ago`;
    case 'created':
      return 'Created';
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
    default:
      return `Exited (${container.exitCode}) ${ended} ago`;
  }
}

function address(cidr: string): { IPAddress: string; IPPrefixLen: number } {
  const [ip = '', length = '0'] = cidr.split('/');
  return { IPAddress: ip, IPPrefixLen: Number(length) };
}

function address6(cidr = ''): { GlobalIPv6Address: string; GlobalIPv6PrefixLen: number } {
  const { IPAddress, IPPrefixLen } = address(cidr);
  return { GlobalIPv6Address: IPAddress, GlobalIPv6PrefixLen: IPPrefixLen };
}

type Endpoint = ContainerFacts['endpoints'][number];
type Wanted = NonNullable<ContainerFacts['config']['network']['endpoints']>[number];

/** Names one end of a container on a network; made from both, so that it needs no place to be kept. */
export function endpointId(containerId: string, networkId: string): string {
  return createHash('sha256').update(`${containerId}/${networkId}`).digest('hex');
}

function endpointToJson(container: ContainerFacts, wanted: Wanted | undefined, made: Endpoint | undefined): JsonObject {
  const fixed = { ...given('IPv4Address', wanted?.address), ...given('IPv6Address', wanted?.address6) };
  const isDefault = (made?.networkName ?? wanted?.networkId) === 'bridge';
  const names = [container.config.name, ...(wanted?.aliases ?? []), container.id.slice(0, 12)];
  return {
    IPAMConfig: Object.keys(fixed).length === 0 ? null : fixed,
    Links: wanted?.links?.map(({ target, alias }) => `${target}:${alias}`) ?? null,
    Aliases: wanted === undefined || wanted.aliases.length === 0 ? null : wanted.aliases,
    MacAddress: made?.mac ?? '',
    DriverOpts: null,
    GwPriority: wanted?.gwPriority ?? 0,
    NetworkID: made?.networkId ?? '',
    EndpointID: made === undefined ? '' : endpointId(container.id, made.networkId),
    Gateway: made?.gateway ?? '',
    ...address(made?.address ?? ''),
    IPv6Gateway: made?.gateway6 ?? '',
    ...address6(made?.address6),
    DNSNames: isDefault ? null : [...new Set(names)],
  };
}

const given = (key: string, value: string | undefined): JsonObject => (value ? { [key]: value } : {});

/** Networks that the container is on, or shall be on when it starts. */
function networksToJson(container: ContainerFacts): JsonObject {
  const { network } = container.config;
  if (network.mode === 'host' || network.mode === 'none') {
    return { [network.mode]: endpointToJson(container, undefined, undefined) };
  }
  const wanted = network.endpoints ?? [];
  const of = (endpoint: Endpoint): Wanted | undefined =>
    wanted.find(({ networkId }) => networkId === endpoint.networkId || networkId === endpoint.networkName);
  const made = container.endpoints.map((endpoint) => {
    return [endpoint.networkName, endpointToJson(container, of(endpoint), endpoint)] as const;
  });
  const known = container.endpoints.map(of);
  const later = wanted
    .filter((endpoint) => !known.includes(endpoint))
    .map((endpoint) => [endpoint.networkId, endpointToJson(container, endpoint, undefined)] as const);
  return Object.fromEntries([...made, ...later]);
}

const ANY = '0.0.0.0';

/** The port on all addresses answers on those of both families where the container has both. */
function hostAddresses(container: ContainerFacts, port: PortFacts): string[] {
  if (port.hostIp !== '') return [port.hostIp];
  return container.endpoints.some(({ address6: six }) => six !== undefined) ? [ANY, '::'] : [ANY];
}

function portsToJson(container: ContainerFacts): JsonObject {
  const out: Record<string, { HostIp: string; HostPort: string }[] | null> = {};
  const running = container.state === 'running' || container.state === 'paused';
  // Ports that are served but not published have an entry of their own.
  if (running) for (const key of container.config.exposedPorts ?? []) out[key] = null;
  for (const port of container.ports) {
    const list = (out[`${port.targetPort}/${port.protocol}`] ??= []);
    for (const ip of hostAddresses(container, port)) list.push({ HostIp: ip, HostPort: String(port.publishedPort) });
  }
  return out;
}

function bindingsToJson(container: ContainerFacts): JsonObject {
  const out: Record<string, { HostIp: string; HostPort: string }[]> = {};
  for (const { targetPort, protocol, hostIp, publishedPort, publishedPortEnd } of container.config.network.ports ??
    []) {
    // Those that `-P` adds are told of by PublishAllPorts.
    if (container.config.publishAll === true && publishedPort === 0 && hostIp === '') continue;
    const first = publishedPort === 0 ? '' : String(publishedPort);
    const text = publishedPortEnd === undefined ? first : `${first}-${publishedPortEnd}`;
    (out[`${targetPort}/${protocol}`] ??= []).push({ HostIp: hostIp, HostPort: text });
  }
  return out;
}

function mountsToJson(container: ContainerFacts): JsonObject[] {
  return container.mounts.map((mount) => ({
    Type: mount.type,
    Name: mount.name,
    Source: mount.source,
    Destination: mount.destination,
    Driver: mount.driver,
    Mode: mount.mode ?? '',
    RW: !mount.readOnly,
    Propagation: mount.propagation,
  }));
}

function networkMode(container: ContainerFacts): string {
  const { mode, userMode, container: other } = container.config.network;
  if (mode === 'container') return `container:${other ?? ''}`;
  return mode === 'sandbox' ? (userMode ?? 'default') : mode;
}

/** One line of GET /containers/json. */
export function containerSummary(container: ContainerFacts, nowMs: number): JsonObject {
  return {
    Id: container.id,
    Names: [`/${container.config.name}`],
    Image: container.config.image,
    ImageID: container.imageId,
    // As in Docker's lists: only words with spaces are quoted, and never escaped.
    Command: [container.path, ...container.args.map((arg) => (arg.includes(' ') ? `'${arg}'` : arg))].join(' '),
    Created: Math.floor(container.createdMs / 1000),
    Ports: container.ports.flatMap((port) =>
      hostAddresses(container, port).map((ip) => ({
        IP: ip,
        PrivatePort: port.targetPort,
        PublicPort: port.publishedPort,
        Type: port.protocol,
      })),
    ),
    Labels: container.config.labels,
    State: container.state,
    Status: statusText(container, nowMs),
    HostConfig: { NetworkMode: networkMode(container) },
    NetworkSettings: { Networks: networksToJson(container) },
    Mounts: mountsToJson(container),
  };
}

function hostConfig(container: ContainerFacts): JsonObject {
  const { config } = container;
  return {
    ...hostConfigToJson(config),
    NetworkMode: networkMode(container),
    PortBindings: bindingsToJson(container),
    PublishAllPorts: config.publishAll ?? false,
    Links: config.network.links?.map(({ target, alias }) => `/${target}:/${config.name}/${alias}`) ?? null,
    ExtraHosts: config.extraHosts?.length ? config.extraHosts : null,
    Dns: config.dns ?? [],
    DnsSearch: config.dnsSearch ?? [],
    DnsOptions: config.dnsOptions ?? [],
  };
}

function healthToJson({ health, healthLog }: ContainerFacts): JsonObject | undefined {
  if (health === undefined) return undefined;
  return {
    Status: health,
    FailingStreak: healthLog?.failingStreak ?? 0,
    Log: (healthLog?.probes ?? []).map(({ startMs, endMs, exitCode, output }) => {
      return { Start: iso(startMs), End: iso(endMs), ExitCode: exitCode, Output: output };
    }),
  };
}

/** GET /containers/{id}/json. */
export function containerToJson(container: ContainerFacts, storageDriver: string): JsonObject {
  const { config, state } = container;
  return {
    Id: container.id,
    Created: iso(container.createdMs),
    Path: container.path,
    Args: container.args,
    State: {
      Status: state,
      // What waits to be started again counts as running, in Docker too.
      Running: ['running', 'paused', 'restarting'].includes(state),
      Paused: state === 'paused',
      Restarting: state === 'restarting',
      OOMKilled: container.oomKilled,
      Dead: state === 'dead',
      Pid: container.pid,
      ExitCode: container.exitCode,
      Error: container.error,
      StartedAt: iso(container.startedMs),
      FinishedAt: iso(container.finishedMs),
      Health: healthToJson(container),
    },
    Image: container.imageId,
    ResolvConfPath: container.etc?.resolvConf ?? '',
    HostnamePath: container.etc?.hostname ?? '',
    HostsPath: container.etc?.hosts ?? '',
    // Docker names the file from the first start on.
    LogPath: container.startedMs === 0 ? '' : container.logPath,
    Name: `/${config.name}`,
    RestartCount: container.restartCount,
    Driver: storageDriver,
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: config.appArmorProfile ?? '',
    ExecIDs: null,
    HostConfig: hostConfig(container),
    GraphDriver: { Name: storageDriver, Data: null },
    Mounts: mountsToJson(container),
    Config: configToJson(container),
    NetworkSettings: networkSettings(container),
  };
}

/** What a container's files take, for those who asked. Lists leave a size of 0 out. */
export function sizesToJson(sizes: SizeFacts | undefined, isList: boolean): JsonObject {
  if (sizes === undefined) return {};
  return { SizeRw: isList ? sizes.rw || undefined : sizes.rw, SizeRootFs: sizes.rootFs };
}

/** The older members tell of the default bridge only, as in Docker. */
function networkSettings(container: ContainerFacts): JsonObject {
  const first = container.endpoints.find(({ networkName }) => networkName === 'bridge');
  const own = container.pid > 0 && container.endpoints.length > 0;
  return {
    Bridge: '',
    SandboxID: own ? container.id : '',
    SandboxKey: own ? `/proc/${container.pid}/ns/net` : '',
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    Ports: portsToJson(container),
    Networks: networksToJson(container),
    EndpointID: first === undefined ? '' : endpointId(container.id, first.networkId),
    ...address(first?.address ?? ''),
    ...address6(first?.address6),
    Gateway: first?.gateway ?? '',
    IPv6Gateway: first?.gateway6 ?? '',
    MacAddress: first?.mac ?? '',
  };
}
