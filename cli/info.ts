import type { SwarmInfo } from './objects.ts';
import { binarySize, humanDuration } from './units.ts';

/** The parts of `GET /info` that `shoal info` shows. */
export interface Info {
  ID?: string;
  Name?: string;
  Containers: number;
  ContainersRunning: number;
  ContainersPaused: number;
  ContainersStopped: number;
  Images: number;
  ServerVersion?: string;
  Driver?: string;
  DriverStatus?: [string, string][] | null;
  LoggingDriver?: string;
  CgroupDriver?: string;
  CgroupVersion?: string;
  Plugins?: {
    Volume?: string[] | null;
    Network?: string[] | null;
    Authorization?: string[] | null;
    Log?: string[] | null;
  };
  Swarm: SwarmInfo;
  Runtimes?: Record<string, unknown> | null;
  DefaultRuntime?: string;
  OSType?: string;
  InitBinary?: string;
  ContainerdCommit?: { ID: string };
  RuncCommit?: { ID: string };
  InitCommit?: { ID: string };
  SecurityOptions?: string[] | null;
  KernelVersion?: string;
  OperatingSystem?: string;
  Architecture?: string;
  NCPU: number;
  MemTotal: number;
  DockerRootDir?: string;
  Debug?: boolean;
  HttpProxy?: string;
  HttpsProxy?: string;
  NoProxy?: string;
  Labels?: string[] | null;
  ExperimentalBuild?: boolean;
  RegistryConfig?: {
    InsecureRegistryCIDRs?: string[] | null;
    IndexConfigs?: Record<string, { Name: string; Secure: boolean }> | null;
    Mirrors?: string[] | null;
  } | null;
  LiveRestoreEnabled?: boolean;
  CDISpecDirs?: string[] | null;
  DiscoveredDevices?: { Source: string; ID: string }[] | null;
  Warnings?: string[] | null;
}

const nonEmpty = (label: string, value: string | undefined): string[] =>
  (value ?? '') === '' ? [] : [`${label} ${value}`];

function clusterLines(swarm: SwarmInfo): string[] {
  const { Cluster: cluster } = swarm;
  if (
    cluster === undefined ||
    swarm.ControlAvailable !== true ||
    (swarm.Error ?? '') !== '' ||
    swarm.LocalNodeState === 'error'
  )
    return [];
  const { Spec: spec } = cluster;
  const pools = cluster.DefaultAddrPool ?? undefined;
  const age = (ns: number | undefined): string => humanDuration((ns ?? 0) / 1e6);
  const keep = spec?.Raft?.KeepOldSnapshots;
  const down = spec?.Dispatcher?.NodeDownAfter;
  return [
    `  ClusterID: ${cluster.ID ?? ''}`,
    `  Managers: ${swarm.Managers ?? 0}`,
    `  Nodes: ${swarm.Nodes ?? 0}`,
    ...(pools === undefined
      ? []
      : [
          `  Default Address Pool: ${pools.map((pool) => `${pool}  `).join('')}`,
          `  SubnetSize: ${cluster.SubnetSize ?? 0}`,
        ]),
    ...((cluster.DataPathPort ?? 0) > 0 ? [`  Data Path Port: ${cluster.DataPathPort}`] : []),
    '  Orchestration:',
    `   Task History Retention Limit: ${spec?.Orchestration?.TaskHistoryRetentionLimit ?? 0}`,
    '  Raft:',
    `   Snapshot Interval: ${spec?.Raft?.SnapshotInterval ?? 0}`,
    ...(keep === undefined ? [] : [`   Number of Old Snapshots to Retain: ${keep}`]),
    `   Heartbeat Tick: ${spec?.Raft?.HeartbeatTick ?? 0}`,
    `   Election Tick: ${spec?.Raft?.ElectionTick ?? 0}`,
    '  Dispatcher:',
    `   Heartbeat Period: ${age(spec?.Dispatcher?.HeartbeatPeriod)}`,
    ...(down === undefined ? [] : [`   Node Down After: ${age(down)}`]),
    '  CA Configuration:',
    `   Expiry Duration: ${age(spec?.CAConfig?.NodeCertExpiry)}`,
    `   Force Rotate: ${spec?.CAConfig?.ForceRotate ?? 0}`,
    ...((spec?.CAConfig?.ExternalCAs ?? []).length === 0
      ? []
      : ['   External CAs:', ...(spec?.CAConfig?.ExternalCAs ?? []).map((ca) => `     ${ca.Protocol}: ${ca.URL}`)]),
    `  Autolock Managers: ${spec?.EncryptionConfig?.AutoLockManagers ?? false}`,
    `  Root Rotation In Progress: ${cluster.RootRotationInProgress ?? false}`,
  ];
}

function swarmLines(swarm: SwarmInfo): string[] {
  const lines = [` Swarm: ${swarm.LocalNodeState ?? 'inactive'}`];
  if (swarm.LocalNodeState === 'inactive' || swarm.LocalNodeState === 'locked') return lines;
  const managers = (swarm.RemoteManagers ?? []).map((manager) => manager.Addr).toSorted();
  return [
    ...lines,
    `  NodeID: ${swarm.NodeID ?? ''}`,
    ...nonEmpty('  Error:', swarm.Error),
    `  Is Manager: ${swarm.ControlAvailable ?? false}`,
    ...clusterLines(swarm),
    `  Node Address: ${swarm.NodeAddr ?? ''}`,
    ...(managers.length === 0 ? [] : ['  Manager Addresses:', ...managers.map((manager) => `   ${manager}`)]),
  ];
}

function securityLines(options: readonly string[]): string[] {
  if (options.length === 0) return [];
  const lines = [' Security Options:'];
  for (const option of options) {
    const fields = new Map(option.split(',').map((field) => field.split('=') as [string, string]));
    lines.push(`  ${fields.get('name') ?? option}`);
    if (fields.has('profile')) lines.push(`   Profile: ${fields.get('profile')}`);
  }
  return lines;
}

function registryLines(config: Info['RegistryConfig']): string[] {
  const insecure = Object.values(config?.IndexConfigs ?? {}).filter((index) => !index.Secure);
  const ranges = config?.InsecureRegistryCIDRs ?? [];
  const mirrors = config?.Mirrors ?? [];
  const any = ranges.length > 0 || Object.keys(config?.IndexConfigs ?? {}).length > 0;
  return [
    ...(any
      ? [' Insecure Registries:', ...insecure.map((index) => `  ${index.Name}`), ...ranges.map((range) => `  ${range}`)]
      : []),
    ...(mirrors.length === 0 ? [] : [' Registry Mirrors:', ...mirrors.map((mirror) => `  ${mirror}`)]),
  ];
}

function deviceLines(info: Info): string[] {
  const directories = info.CDISpecDirs ?? [];
  const devices = info.DiscoveredDevices ?? [];
  return [
    ...(directories.length === 0 ? [] : [' CDI spec directories:', ...directories.map((path) => `  ${path}`)]),
    ...(devices.length === 0 ? [] : [' Discovered Devices:', ...devices.map(({ Source, ID }) => `  ${Source}: ${ID}`)]),
  ];
}

function runtimeLines(info: Info): string[] {
  const names = Object.keys(info.Runtimes ?? {});
  const runtimes =
    names.length === 0 ? [] : [` Runtimes: ${names.join(' ')}`, ` Default Runtime: ${info.DefaultRuntime ?? ''}`];
  if (info.OSType !== 'linux') return runtimes;
  return [
    ...runtimes,
    ` Init Binary: ${info.InitBinary ?? ''}`,
    ` containerd version: ${info.ContainerdCommit?.ID ?? ''}`,
    ` runc version: ${info.RuncCommit?.ID ?? ''}`,
    ` init version: ${info.InitCommit?.ID ?? ''}`,
    ...securityLines(info.SecurityOptions ?? []),
  ];
}

/** Facts of a daemon for people, in the layout of `docker info`. */
export function prettyInfo(info: Info): string {
  const plugins = info.Plugins ?? {};
  const labels = info.Labels ?? [];
  const list = (names: string[] | null | undefined): string => (names ?? []).join(' ');
  return [
    ` Containers: ${info.Containers}`,
    `  Running: ${info.ContainersRunning}`,
    `  Paused: ${info.ContainersPaused}`,
    `  Stopped: ${info.ContainersStopped}`,
    ` Images: ${info.Images}`,
    ...nonEmpty(' Server Version:', info.ServerVersion),
    ...nonEmpty(' Storage Driver:', info.Driver),
    ...(info.DriverStatus ?? []).map(([name, value]) => `  ${name}: ${value}`),
    ...nonEmpty(' Logging Driver:', info.LoggingDriver),
    ...nonEmpty(' Cgroup Driver:', info.CgroupDriver),
    ...nonEmpty(' Cgroup Version:', info.CgroupVersion),
    ' Plugins:',
    `  Volume: ${list(plugins.Volume)}`,
    `  Network: ${list(plugins.Network)}`,
    ...nonEmpty('  Authorization:', list(plugins.Authorization)),
    `  Log: ${list(plugins.Log)}`,
    ...deviceLines(info),
    ...swarmLines(info.Swarm),
    ...runtimeLines(info),
    ...nonEmpty(' Kernel Version:', info.KernelVersion),
    ...nonEmpty(' Operating System:', info.OperatingSystem),
    ...nonEmpty(' OSType:', info.OSType),
    ...nonEmpty(' Architecture:', info.Architecture),
    ` CPUs: ${info.NCPU}`,
    ` Total Memory: ${binarySize(info.MemTotal)}`,
    ...nonEmpty(' Name:', info.Name),
    ...nonEmpty(' ID:', info.ID),
    ` Docker Root Dir: ${info.DockerRootDir ?? ''}`,
    ` Debug Mode: ${info.Debug ?? false}`,
    ...nonEmpty(' HTTP Proxy:', info.HttpProxy),
    ...nonEmpty(' HTTPS Proxy:', info.HttpsProxy),
    ...nonEmpty(' No Proxy:', info.NoProxy),
    ...(labels.length === 0 ? [] : [' Labels:', ...labels.map((label) => `  ${label}`)]),
    ` Experimental: ${info.ExperimentalBuild ?? false}`,
    ...registryLines(info.RegistryConfig),
    ` Live Restore Enabled: ${info.LiveRestoreEnabled ?? false}`,
    '',
  ].join('\n');
}
