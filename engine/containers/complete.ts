import { posix } from 'node:path';
import { maskedPaths, READONLY_PATHS } from '../runtime/hidden-paths.ts';
import { SHM_BYTES } from '../runtime/mounts.ts';
import { sharedContainer } from '../runtime/namespaces.ts';
import type { SysInfo } from '../runtime/sysinfo.ts';
import type { Container, ContainerConfig, ContainerDefaults, HealthCheckRequest, ImageConfig } from '../types.ts';

const NS_PER_MS = 1e6;

const nameOf = (entry: string): string => entry.split('=')[0] ?? '';
const filled = <T>(list: readonly T[] | null | undefined): list is readonly T[] => (list?.length ?? 0) > 0;

function mergeHealth(own: HealthCheckRequest | undefined, image: ImageConfig): HealthCheckRequest | undefined {
  const base = image.Healthcheck;
  if (base === undefined) return own;
  const ms = (ns: number | undefined): number => (ns ?? 0) / NS_PER_MS;
  return {
    test: filled(own?.test) ? own.test : (base.Test ?? []),
    intervalMs: own?.intervalMs || ms(base.Interval),
    timeoutMs: own?.timeoutMs || ms(base.Timeout),
    startPeriodMs: own?.startPeriodMs || ms(base.StartPeriod),
    startIntervalMs: own?.startIntervalMs || ms(base.StartInterval),
    retries: own?.retries || (base.Retries ?? 0),
  };
}

/** Entrypoint and command by Docker's rules: an entrypoint of one's own drops the image's command. */
function mergeCommand(config: ContainerConfig, image: ImageConfig): Pick<ContainerConfig, 'entrypoint' | 'cmd'> {
  const own = config.entrypoint;
  const cmd = filled(config.cmd) ? config.cmd : filled(own) ? undefined : (image.Cmd ?? undefined);
  const entrypoint = own === undefined ? (image.Entrypoint ?? undefined) : own;
  // One empty text stands for "none at all".
  const none = !filled(entrypoint) || (entrypoint.length === 1 && entrypoint[0] === '');
  return { ...(none ? {} : { entrypoint }), ...(filled(cmd) ? { cmd } : {}) };
}

/** A container's settings over its image's, as Docker merges them when a container is made. */
export function withImage(config: ContainerConfig, image: ImageConfig): ContainerConfig {
  const { entrypoint: _entrypoint, cmd: _cmd, healthCheck: _health, ...rest } = config;
  const given = new Set(config.env.map(nameOf));
  const env = [...config.env, ...(image.Env ?? []).filter((entry) => !given.has(nameOf(entry)))];
  const healthCheck = mergeHealth(config.healthCheck, image);
  const volumes = [...new Set([...(config.volumes ?? []), ...Object.keys(image.Volumes ?? {})])];
  const user = config.user || image.User;
  const workingDir = config.workingDir || image.WorkingDir;
  const stopSignal = config.stopSignal || image.StopSignal;
  return {
    ...rest,
    ...mergeCommand(config, image),
    env,
    labels: { ...image.Labels, ...config.labels },
    ...(healthCheck === undefined ? {} : { healthCheck }),
    ...(volumes.length === 0 ? {} : { volumes }),
    ...(user ? { user } : {}),
    ...(workingDir ? { workingDir: cleanPath(workingDir) } : {}),
    ...(stopSignal ? { stopSignal } : {}),
  };
}

/** Without a slash at the end, as Docker keeps it. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
}

export interface HostDefaults {
  sysInfo: SysInfo;
  runtimeName: string;
  initDefault: boolean;
  defaults: ContainerDefaults;
  find: (reference: string) => Container | undefined;
}

/** A mode that names a container names it by its id from now on, so that it may be renamed. */
function byId(mode: string | undefined, find: HostDefaults['find']): string | undefined {
  const other = sharedContainer(mode);
  const id = other === undefined ? undefined : find(other)?.id;
  return id === undefined ? mode : `container:${id}`;
}

/** Fills in what depends on this host, as Docker does when a container is made. */
export function withHostDefaults(config: ContainerConfig, host: HostDefaults): ContainerConfig {
  const { resources, network } = config;
  const { memoryBytes = 0 } = resources;
  const pidMode = byId(config.pidMode, host.find);
  const security = config.securityOptions ?? [];
  const open = config.privileged || config.pidMode === 'host' || config.ipcMode === 'host';
  const labelled = security.some((option) => option.startsWith('label='));
  const securityOptions = open && !labelled ? [...security, 'label=disable'] : security;
  const { defaults } = host;
  const nnp = security.some((option) => option.startsWith('no-new-privileges'));
  // A privileged container does not inherit a profile that confines the daemon.
  const appArmor = config.appArmorProfile || (config.privileged && host.sysInfo.appArmor ? 'unconfined' : '');
  const netOwner = network.mode === 'container' ? host.find(network.container)?.id : undefined;
  return {
    ...config,
    init: config.initAsked ?? (config.init || host.initDefault),
    ...(pidMode === undefined ? {} : { pidMode }),
    noNewPrivileges: config.noNewPrivileges || (defaults.noNewPrivileges === true && !nnp),
    ipcMode: byId(config.ipcMode, host.find) ?? defaults.ipcMode ?? 'private',
    cgroupnsMode: config.cgroupnsMode ?? cgroupNamespace(config, host),
    shmBytes: config.shmBytes ?? defaults.shmBytes ?? SHM_BYTES,
    runtime: config.runtime ?? host.runtimeName,
    ...(appArmor === '' ? {} : { appArmorProfile: appArmor }),
    ...(netOwner === undefined ? {} : { network: { mode: 'container' as const, container: netOwner } }),
    ...(securityOptions.length === 0 ? {} : { securityOptions }),
    ...hiddenPaths(config),
    resources: {
      ...resources,
      ...(memoryBytes > 0 && !resources.memorySwapBytes ? { memorySwapBytes: memoryBytes * 2 } : {}),
      ...(host.sysInfo.oomKillDisable ? { oomKillDisable: resources.oomKillDisable ?? false } : {}),
    },
  };
}

function cgroupNamespace({ privileged }: ContainerConfig, { sysInfo, defaults }: HostDefaults): string {
  // On v1 a privileged container sees the host's groups, whatever others do.
  if (privileged && !sysInfo.unified) return 'host';
  return defaults.cgroupnsMode ?? (sysInfo.unified ? 'private' : 'host');
}

function hiddenPaths(config: ContainerConfig): Pick<ContainerConfig, 'maskedPaths' | 'readonlyPaths'> {
  if (config.privileged) return {};
  return {
    maskedPaths: config.maskedPaths ?? maskedPaths(),
    readonlyPaths: config.readonlyPaths ?? READONLY_PATHS,
  };
}
