import { lstatSync, readdirSync } from 'node:fs';
import { arch, hostname, release } from 'node:os';
import { join, posix } from 'node:path';
import type { ContainerConfig, ImageConfig, UlimitRequest } from '../types.ts';
import { containerCapabilities } from './capabilities.ts';
import type { EtcFiles } from './etc-files.ts';
import { defaultMounts, fileMount, sortMounts } from './mounts.ts';
import type { OciDevice, OciMount, OciProcess, OciSpec } from './oci.ts';
import { containerRlimits, ociResources } from './resources.ts';
import { seccompFor } from './seccomp.ts';
import { resolveUser } from './users.ts';

const OCI_VERSION = '1.0.2';
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Where the init program stands inside a container that asked for one (Docker's path). */
const INIT_TARGET = '/sbin/docker-init';
const CPU_DIRECTORIES_MAX = 1024;
const DEVICES_MAX = 4096;

/** Not visible in a container: they tell of the host or are side channels (moby daemon/pkg/oci defaults). */
const MASKED_PATHS = [
  ...['acpi', 'asound', 'interrupts', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi'].map((p) => `/proc/${p}`),
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((p) => `/proc/${p}`);

/** Every processor's throttle counters, which leak what other containers do. */
function throttlePaths(): string[] {
  try {
    return readdirSync('/sys/devices/system/cpu')
      .filter((name) => /^cpu\d+$/.test(name))
      .slice(0, CPU_DIRECTORIES_MAX)
      .map((name) => `/sys/devices/system/cpu/${name}/thermal_throttle`);
  } catch {
    return [];
  }
}

let maskedPaths: string[] | undefined;

export interface SpecInput {
  id: string;
  config: ContainerConfig;
  image: ImageConfig;
  /** Entrypoint and arguments. */
  args: readonly string[];
  rootPath: string;
  cgroupPath: string;
  networkNamespace: string | undefined;
  etc: EtcFiles;
  /** The user's mounts with their host paths. */
  mounts: readonly OciMount[];
  /** Host path of the init program when one was asked for. */
  initPath: string | undefined;
  defaultUlimits: readonly UlimitRequest[];
  swapAccounting: boolean;
  /** Whether the kernel runs x32 programs. */
  x32: boolean;
}

/** The host name a container sees. */
export function containerHostname(id: string, config: Pick<ContainerConfig, 'hostname' | 'network'>): string {
  if (config.hostname !== undefined && config.hostname !== '') return config.hostname;
  return config.network.mode === 'host' ? hostname() : id.slice(0, 12);
}

/** Environment: defaults, then the image's, then the container's; later wins, `NAME` alone removes. */
export function containerEnv(layers: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of layers.flat()) {
    const cut = entry.indexOf('=');
    if (cut < 0) merged.delete(entry);
    else merged.set(entry.slice(0, cut), entry);
  }
  return [...merged.values()];
}

/** A process in a container: its command with user, environment, capabilities and limits. */
export function processSpec(
  input: Pick<SpecInput, 'id' | 'config' | 'image' | 'args' | 'rootPath' | 'defaultUlimits'>,
  more: { env?: readonly string[]; user?: string; workingDir?: string; privileged?: boolean; tty?: boolean } = {},
): OciProcess {
  const { config, image } = input;
  const userText = more.user || config.user || image.User || '';
  const user = resolveUser(input.rootPath, userText, config.groups ?? []);
  const tty = more.tty ?? config.tty;
  const defaults = [DEFAULT_PATH, `HOSTNAME=${containerHostname(input.id, config)}`, ...(tty ? ['TERM=xterm'] : [])];
  const privileged = more.privileged === true || config.privileged;
  const capabilities = containerCapabilities({ capAdd: config.capAdd, capDrop: config.capDrop, privileged });
  // Only root holds capabilities after execve without ambient ones; the bounding set stays for setuid programs.
  const held = user.uid === 0 ? capabilities : [];
  const { oomScoreAdj, ulimits } = config.resources;
  return {
    terminal: tty,
    user: { uid: user.uid, gid: user.gid, additionalGids: [user.gid, ...user.additionalGids] },
    args: [...input.args],
    env: containerEnv([defaults, image.Env ?? [], config.env, more.env ?? []]),
    cwd: posix.join('/', more.workingDir || config.workingDir || image.WorkingDir || '/'),
    capabilities: { bounding: capabilities, effective: held, permitted: held },
    rlimits: containerRlimits(ulimits ?? [], input.defaultUlimits),
    noNewPrivileges: config.noNewPrivileges,
    // Told always: left out, it would be the daemon's own, which its service unit lowers.
    oomScoreAdj: oomScoreAdj ?? 0,
  };
}

/** All device nodes of the host, for a privileged container. */
function hostDevices(): OciDevice[] {
  const found: OciDevice[] = [];
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory() && !['pts', 'shm', 'mqueue', 'fd', '.udev', '.lxc'].includes(entry.name)) visit(path);
      if (!entry.isCharacterDevice() && !entry.isBlockDevice()) continue;
      if (path === '/dev/console' || found.length >= DEVICES_MAX) continue;
      const info = lstatSync(path);
      const type = entry.isBlockDevice() ? 'b' : 'c';
      // dev_t as glibc composes it: minor bits 0-7 and 20-31, major bits 8-19 and above 32.
      const [low, high] = [info.rdev % 2 ** 32, Math.floor(info.rdev / 2 ** 32)];
      const major = ((low >>> 8) & 0xfff) + (high & ~0xfff);
      const minor = (low & 0xff) + ((low >>> 12) & 0xfff00);
      found.push({ path, type, major, minor, fileMode: info.mode & 0o777, uid: info.uid, gid: info.gid });
    }
  };
  visit('/dev');
  return found;
}

function namespaces(input: SpecInput): OciSpec['linux']['namespaces'] {
  const list: OciSpec['linux']['namespaces'] = ['mount', 'uts', 'pid', 'ipc', 'cgroup'].map((type) => ({ type }));
  if (input.config.network.mode !== 'host') {
    list.push({
      type: 'network',
      ...(input.networkNamespace === undefined ? {} : { path: input.networkNamespace }),
    });
  }
  return list;
}

/**
 * The runtime's config.json of a container.
 * @throws ShoalError InvalidArgument for a user, capability, limit or profile that cannot be.
 */
export function containerSpec(input: SpecInput): OciSpec {
  const { config } = input;
  const process = processSpec(input);
  const mounts = [...defaultMounts(config.privileged), ...sortMounts(allMounts(input))];
  if (input.initPath !== undefined) {
    mounts.push(fileMount(input.initPath, INIT_TARGET, true));
    process.args = [INIT_TARGET, '--', ...process.args];
  }
  maskedPaths ??= [...MASKED_PATHS, ...throttlePaths()];
  const seccomp = config.privileged
    ? undefined
    : seccompFor(config.seccomp, process.capabilities?.bounding ?? [], {
        ...{ arch: arch(), kernel: release(), x32: input.x32 },
      });
  const sysctl = { ...config.sysctls };
  return {
    ociVersion: OCI_VERSION,
    process,
    root: { path: input.rootPath, readonly: config.readOnlyRootfs },
    hostname: containerHostname(input.id, config),
    mounts,
    linux: {
      namespaces: namespaces(input),
      resources: ociResources(config.resources, config.privileged, input.swapAccounting),
      cgroupsPath: input.cgroupPath,
      ...(config.privileged ? { devices: hostDevices() } : {}),
      ...(seccomp === undefined ? {} : { seccomp }),
      ...(config.privileged ? {} : { maskedPaths, readonlyPaths: READONLY_PATHS }),
      ...(Object.keys(sysctl).length === 0 ? {} : { sysctl }),
    },
  };
}

/** Generated files, unless the user mounts something over them, and the user's mounts. */
function allMounts(input: SpecInput): OciMount[] {
  const taken = new Set(input.mounts.map((mount) => posix.normalize(mount.destination)));
  const generated = [
    fileMount(input.etc.hostname, '/etc/hostname', false),
    fileMount(input.etc.hosts, '/etc/hosts', false),
    fileMount(input.etc.resolvConf, '/etc/resolv.conf', false),
  ].filter((mount) => !taken.has(mount.destination));
  return [...generated, ...input.mounts];
}
