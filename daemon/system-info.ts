import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { readFileIfExists } from '../base/index.ts';
import type { JsonObject } from '../api/index.ts';
import type { Engine } from '../engine/index.ts';
import type { DaemonConfig } from './config.ts';
import type { EventHub } from './events.ts';
import { machineArchitecture, parseGenericResources, PLUGINS } from './node-description.ts';

/** Magic numbers of file systems (statfs(2)), with Docker's words. */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0xef53: 'extfs',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x794c7630: 'overlayfs',
  0x2fc12fc1: 'zfs',
  0xf2f52010: 'f2fs',
  0x6969: 'nfs',
};

const isSwitchedOn = (path: string): boolean => ['Y', '1', 'on'].includes(readFileIfExists(path)?.trim() ?? '');

/** An id of this daemon that outlives restarts. */
export function daemonId(dataRoot: string): string {
  return readFileSync(join(dataRoot, 'engine-id'), 'utf8').trim();
}

/** NAME and VERSION of /etc/os-release. */
function operatingSystem(): { OperatingSystem: string; OSVersion: string } {
  const text = readFileIfExists('/etc/os-release') ?? '';
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { OperatingSystem: field('PRETTY_NAME') || 'Linux', OSVersion: field('VERSION_ID') };
}

function driverStatus(storageDriver: string, fallback: string | undefined, dataRoot: string): [string, string][] {
  if (storageDriver !== 'overlay2') return fallback === undefined ? [] : [['Layers are copied', fallback]];
  const type = statfsSync(dataRoot).type;
  const parameter = (name: string): boolean => isSwitchedOn(`/sys/module/overlay/parameters/${name}`);
  return [
    ['Backing Filesystem', FILE_SYSTEMS[type] ?? `0x${type.toString(16)}`],
    ['Supports d_type', 'true'],
    ['Using metacopy', String(parameter('metacopy'))],
    ['Native Overlay Diff', String(!parameter('redirect_dir') && !parameter('metacopy'))],
    ['userxattr', 'false'],
  ];
}

function limits(engine: Engine): JsonObject {
  const known = engine.sysInfo;
  return {
    MemoryLimit: known.memoryLimit,
    SwapLimit: known.swapLimit,
    CpuCfsPeriod: known.cpuCfs,
    CpuCfsQuota: known.cpuCfs,
    CPUShares: known.cpuShares,
    CPUSet: known.cpuset,
    PidsLimit: known.pidsLimit,
    OomKillDisable: known.oomKillDisable,
    IPv4Forwarding: readFileIfExists('/proc/sys/net/ipv4/ip_forward')?.trim() === '1',
  };
}

function securityOptions(engine: Engine): string[] {
  const seccomp = /^Seccomp:/m.test(readFileSync('/proc/self/status', 'utf8'));
  return [
    ...(engine.sysInfo.appArmor ? ['name=apparmor'] : []),
    ...(seccomp ? ['name=seccomp,profile=builtin'] : []),
    ...(engine.info().remapped ? ['name=userns'] : []),
    // Where containers get one of their own by default.
    ...(engine.sysInfo.cgroupNamespaces && engine.sysInfo.unified ? ['name=cgroupns'] : []),
  ];
}

function registries({ insecureRegistries, registryMirrors }: DaemonConfig): JsonObject {
  const mirrors = registryMirrors.map((mirror) => (mirror.endsWith('/') ? mirror : `${mirror}/`));
  const hosts = insecureRegistries.filter((entry) => !entry.includes('/'));
  const insecure = hosts.map((Name) => [Name, { Name, Mirrors: [], Secure: false, Official: false }] as const);
  return {
    InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8', ...insecureRegistries.filter((entry) => entry.includes('/'))],
    IndexConfigs: {
      'docker.io': { Name: 'docker.io', Mirrors: mirrors, Secure: true, Official: true },
      ...Object.fromEntries(insecure),
    },
    Mirrors: mirrors,
  };
}

/** What cannot be limited here, or is open to others, in dockerd's words. */
function warnings(engine: Engine, config: DaemonConfig): string[] {
  const known = engine.sysInfo;
  const found: string[] = [];
  for (const host of config.hosts.filter((address) => address.startsWith('tcp://'))) {
    found.push(
      `WARNING: API is accessible on http://${host.slice('tcp://'.length)} without encryption.\n` +
        '         Access to the remote API is equivalent to root access on the host: listen on loopback or unix:// only',
    );
  }
  const missing: [boolean, string][] = [
    [known.memoryLimit, 'No memory limit support'],
    [known.swapLimit, 'No swap limit support'],
    [known.cpuCfs, 'No cpu cfs quota support'],
    [known.cpuShares, 'No cpu shares support'],
    [known.cpuset, 'No cpuset support'],
    [known.pidsLimit, 'No pids limit support'],
    [known.blkioReadBps, 'No blkio throttle.read_bps_device support'],
  ];
  for (const [there, words] of missing) if (!there) found.push(`WARNING: ${words}`);
  if (limits(engine)['IPv4Forwarding'] === false) found.push('WARNING: IPv4 forwarding is disabled');
  return found;
}

/** Without user and password, as dockerd shows it. */
function proxy(name: string): string {
  const text = process.env[name] ?? process.env[name.toLowerCase()] ?? '';
  return text.replace(/\/\/[^/@]*@/, '//xxxxx:xxxxx@');
}

/** Files that this process has open. */
function openFiles(): number {
  // Reading the directory takes one itself.
  return readdirSync('/proc/self/fd').length - 1;
}

export interface InfoSources {
  config: DaemonConfig;
  engine: Engine;
  hub: EventHub;
  storageDriver: string;
  /** Why layers are copied although overlayfs was preferred. */
  storageFallback?: string | undefined;
}

/** Facts of GET /info that no other room has. What is asked of the host is asked each time: it may change. */
export async function systemInfo(sources: InfoSources): Promise<JsonObject> {
  const { config, engine, hub, storageDriver, storageFallback } = sources;
  const facts = engine.info();
  const cdi = await engine.cdiDevices();
  const generic = parseGenericResources(config.genericResources).map((resource) => {
    const { discrete_resource_spec: discrete, named_resource_spec: named } = resource;
    if (discrete) return { DiscreteResourceSpec: { Kind: discrete.kind, Value: discrete.value } };
    return { NamedResourceSpec: { Kind: named?.kind, Value: named?.value } };
  });
  return {
    ID: daemonId(config.dataRoot),
    Driver: storageDriver,
    DriverStatus: driverStatus(storageDriver, storageFallback, config.dataRoot),
    Plugins: { ...PLUGINS, Volume: await engine.volumes.drivers(), Authorization: null },
    ...limits(engine),
    Debug: config.debug,
    NFd: openFiles(),
    // What the event loop waits for is the nearest that there is here.
    NGoroutines: process.getActiveResourcesInfo().length,
    NEventsListener: hub.listeners,
    LoggingDriver: config.logDriver.type,
    CgroupDriver: facts.cgroupDriver,
    CgroupVersion: facts.cgroupVersion,
    KernelVersion: release(),
    ...operatingSystem(),
    Architecture: machineArchitecture(),
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: registries(config),
    NCPU: facts.cpus,
    MemTotal: facts.memoryBytes,
    GenericResources: generic.length === 0 ? null : generic,
    DockerRootDir: config.dataRoot,
    HttpProxy: proxy('HTTP_PROXY'),
    HttpsProxy: proxy('HTTPS_PROXY'),
    NoProxy: proxy('NO_PROXY'),
    Labels: Object.entries(config.labels).map(([key, value]) => `${key}=${value}`),
    ExperimentalBuild: false,
    Runtimes: Object.fromEntries(facts.runtimes.map(({ name, path }) => [name, { path }])),
    DefaultRuntime: facts.runtime.name,
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: facts.initBinary,
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: facts.runtime.version },
    InitCommit: { ID: '' },
    SecurityOptions: securityOptions(engine),
    DefaultAddressPools: config.defaultAddressPools.map(({ base, size }) => ({ Base: base, Size: size })),
    FirewallBackend: { Driver: 'nftables' },
    CDISpecDirs: facts.cdiDirectories,
    ...(cdi.names.length === 0 ? {} : { DiscoveredDevices: cdi.names.map((ID) => ({ Source: 'cdi', ID })) }),
    Warnings: [
      ...warnings(engine, config),
      ...cdi.problems.map((problem) => `CDI: Error associated with spec file ${problem}`),
    ],
  };
}
