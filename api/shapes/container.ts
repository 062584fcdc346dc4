import { ZERO_TIME } from '../../proto/index.ts';
import type { ContainerFacts, ImageFacts, JsonObject, PortFacts } from '../ports.ts';

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

function networksToJson(container: ContainerFacts): JsonObject {
  return Object.fromEntries(
    container.endpoints.map((endpoint) => [
      endpoint.networkName,
      {
        IPAMConfig: null,
        Links: null,
        Aliases: null,
        MacAddress: endpoint.mac,
        DriverOpts: null,
        GwPriority: 0,
        NetworkID: endpoint.networkId,
        EndpointID: '',
        Gateway: endpoint.gateway,
        ...address(endpoint.address),
        IPv6Gateway: '',
        GlobalIPv6Address: '',
        GlobalIPv6PrefixLen: 0,
        DNSNames: null,
      },
    ]),
  );
}

function portsToJson(ports: readonly PortFacts[]): JsonObject {
  const out: Record<string, { HostIp: string; HostPort: string }[]> = {};
  for (const port of ports) {
    const key = `${port.targetPort}/${port.protocol}`;
    (out[key] ??= []).push({ HostIp: port.hostIp || '0.0.0.0', HostPort: String(port.publishedPort) });
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
    Mode: '',
    RW: !mount.readOnly,
    Propagation: mount.propagation,
  }));
}

function networkMode(container: ContainerFacts): string {
  const { mode } = container.config.network;
  return mode === 'sandbox' ? 'default' : mode;
}

/** One line of GET /containers/json. */
export function containerSummary(container: ContainerFacts, nowMs: number): JsonObject {
  return {
    Id: container.id,
    Names: [`/${container.config.name}`],
    Image: container.config.image,
    ImageID: container.imageId,
    Command: [container.path, ...container.args].join(' '),
    Created: Math.floor(container.createdMs / 1000),
    Ports: container.ports.map((port) => ({
      IP: port.hostIp || '0.0.0.0',
      PrivatePort: port.targetPort,
      PublicPort: port.publishedPort,
      Type: port.protocol,
    })),
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
    NetworkMode: networkMode(container),
    PortBindings: portsToJson(container.ports),
    RestartPolicy: { Name: config.restart.name, MaximumRetryCount: config.restart.maximumRetryCount },
    LogConfig: { Type: config.logDriver.type, Config: config.logDriver.config },
    AutoRemove: config.autoRemove,
    Privileged: config.privileged,
    ReadonlyRootfs: config.readOnlyRootfs,
    CapAdd: config.capAdd,
    CapDrop: config.capDrop,
    Memory: config.resources.memoryBytes ?? 0,
    NanoCpus: config.resources.nanoCpus ?? 0,
    PidsLimit: config.resources.pidsLimit ?? null,
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
      Running: state === 'running' || state === 'paused',
      Paused: state === 'paused',
      Restarting: state === 'restarting',
      OOMKilled: container.oomKilled,
      Dead: state === 'dead',
      Pid: container.pid,
      ExitCode: container.exitCode,
      Error: container.error,
      StartedAt: iso(container.startedMs),
      FinishedAt: iso(container.finishedMs),
      Health: container.health === undefined ? undefined : { Status: container.health, FailingStreak: 0, Log: [] },
    },
    Image: container.imageId,
    LogPath: container.logPath,
    Name: `/${config.name}`,
    RestartCount: container.restartCount,
    Driver: storageDriver,
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: '',
    ExecIDs: null,
    HostConfig: hostConfig(container),
    GraphDriver: { Name: storageDriver, Data: null },
    Mounts: mountsToJson(container),
    Config: {
      Hostname: config.hostname ?? container.id.slice(0, 12),
      User: config.user ?? '',
      Tty: config.tty,
      OpenStdin: config.openStdin,
      Env: config.env,
      Cmd: config.cmd ?? null,
      Entrypoint: config.entrypoint ?? null,
      Image: config.image,
      WorkingDir: config.workingDir ?? '',
      Labels: config.labels,
      StopSignal: config.stopSignal,
    },
    NetworkSettings: {
      Ports: portsToJson(container.ports),
      Networks: networksToJson(container),
      ...(container.endpoints[0] === undefined ? {} : address(container.endpoints[0].address)),
    },
  };
}

/** One line of GET /images/json. */
export function imageSummary(image: ImageFacts): JsonObject {
  return {
    Containers: -1,
    Created: Math.floor(image.createdMs / 1000),
    Id: image.id,
    Labels: (image.config as { Labels?: object | null }).Labels ?? null,
    ParentId: '',
    RepoDigests: image.repoDigests,
    RepoTags: image.repoTags,
    SharedSize: -1,
    Size: image.sizeBytes,
  };
}

/** GET /images/{name}/json. */
export function imageToJson(image: ImageFacts, storageDriver: string): JsonObject {
  return {
    Id: image.id,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Parent: '',
    Comment: image.comment,
    Created: iso(image.createdMs),
    DockerVersion: '',
    Author: image.author,
    Config: image.config,
    Architecture: image.architecture,
    Variant: image.variant || undefined,
    Os: image.os,
    Size: image.sizeBytes,
    GraphDriver: { Name: storageDriver, Data: null },
    RootFS: { Type: 'layers', Layers: image.diffIds },
    Metadata: { LastTagTime: ZERO_TIME },
  };
}
