import { arch, hostname, release } from 'node:os';
import { posix } from 'node:path';
import type { ContainerConfig, ImageConfig, UlimitRequest } from '../types.ts';
import { fitUserNamespace } from '../userns/oci-spec.ts';
import { containerCapabilities } from './capabilities.ts';
import { applyCdi } from './cdi.ts';
import type { CdiRegistry } from './cdi-files.ts';
import { allowDevice, deviceRule, hostDevices, mappedDevices } from './devices.ts';
import type { EtcFiles } from './etc-files.ts';
import { maskedPaths, READONLY_PATHS } from './hidden-paths.ts';
import { defaultMounts, fileMount, keptDefaults, rootPropagation, sortMounts } from './mounts.ts';
import { ociNamespaces, type JoinedNamespaces } from './namespaces.ts';
import type { OciDevice, OciDeviceRule, OciMount, OciProcess, OciSpec } from './oci.ts';
import { containerRlimits, ociResources } from './resources.ts';
import { seccompFor } from './seccomp.ts';
import { resolveUser } from './users.ts';

const OCI_VERSION = '1.0.2';
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Where the init program stands inside a container that asked for one (Docker's path). */
const INIT_TARGET = '/sbin/docker-init';
/** Default sysctls of a network namespace: echo sockets and low ports need no capability (moby daemon/oci_linux.go). */
const NETWORK_SYSCTLS = { 'net.ipv4.ip_unprivileged_port_start': '0' };
/** All groups; a user namespace does not have so many. */
const PING_SYSCTLS = { 'net.ipv4.ping_group_range': '0 2147483647' };

export interface SpecInput {
  id: string;
  config: ContainerConfig;
  image: ImageConfig;
  /** Entrypoint and arguments. */
  args: readonly string[];
  rootPath: string;
  /** In the runtime's form. */
  cgroupPath: string;
  /** Namespaces that exist already. */
  joined: JoinedNamespaces;
  /** Host directory of the memory that it shares with others. */
  shm: string | undefined;
  etc: EtcFiles;
  /** The user's mounts with their host paths. */
  mounts: readonly OciMount[];
  /** Host path of the init program when one was asked for. */
  initPath: string | undefined;
  defaultUlimits: readonly UlimitRequest[];
  swapAccounting: boolean;
  appArmor: boolean;
  /** What vendors say of their devices, when some were asked for. */
  cdi: CdiRegistry | undefined;
  /** Seccomp profile of containers that name none. */
  defaultSeccomp: string;
  /** Whether the kernel runs x32 programs. */
  x32: boolean;
}

/** The host name a container sees. */
export function containerHostname(
  id: string,
  config: Pick<ContainerConfig, 'hostname' | 'network' | 'utsMode'>,
): string {
  if (config.hostname !== undefined && config.hostname !== '') return config.hostname;
  return config.network.mode === 'host' || config.utsMode === 'host' ? hostname() : id.slice(0, 12);
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

/** Device nodes of a container beside the usual ones, and the rules that let it use them. */
function deviceParts(config: ContainerConfig): { nodes: OciDevice[]; rules: OciDeviceRule[] } {
  const mapped = (config.devices ?? []).map((mapping) => ({ mapping, nodes: mappedDevices(mapping) }));
  if (config.privileged) {
    const own = hostDevices();
    const there = new Set(own.map(({ path }) => path));
    const more = mapped.flatMap(({ nodes }) => nodes).filter(({ path }) => !there.has(path));
    return { nodes: [...own, ...more], rules: [] };
  }
  const allowed = mapped.flatMap(({ mapping, nodes }) => nodes.map((node) => allowDevice(node, mapping.permissions)));
  const rules = [...allowed, ...(config.deviceCgroupRules ?? []).map(deviceRule)];
  return { nodes: mapped.flatMap(({ nodes }) => nodes), rules };
}

function sysctls({ config }: SpecInput): Record<string, string> {
  // The kernel lets only root of the host write this one (kernel/utsname_sysctl.c); /etc/hosts has the name in any case.
  const domainname = config.utsMode !== 'host' && config.idMapping === undefined ? config.domainname : undefined;
  const own = config.network.mode === 'sandbox' || config.network.mode === 'none';
  return {
    ...(own && config.idMapping === undefined ? PING_SYSCTLS : {}),
    ...(own ? NETWORK_SYSCTLS : {}),
    // The OCI versions that all runtimes know have no field for it; the sysctl is what setdomainname(2) sets.
    ...(domainname ? { 'kernel.domainname': domainname } : {}),
    ...config.sysctls,
  };
}

/** What is hidden or read-only: the container's own lists, or Docker's unless it is privileged. */
function hiddenPaths(config: ContainerConfig): Pick<OciSpec['linux'], 'maskedPaths' | 'readonlyPaths'> {
  return {
    maskedPaths: config.maskedPaths ?? (config.privileged ? [] : maskedPaths()),
    readonlyPaths: config.readonlyPaths ?? (config.privileged ? [] : READONLY_PATHS),
  };
}

function seccompPart(input: SpecInput, capabilities: readonly string[]): Partial<OciSpec['linux']> {
  const { config, x32 } = input;
  const own = !['', 'default'].includes(config.seccomp);
  // A privileged container has no profile unless it names one.
  if (config.privileged && !own) return {};
  const profile = own ? config.seccomp : input.defaultSeccomp;
  const seccomp = seccompFor(profile, capabilities, { arch: arch(), kernel: release(), x32 });
  return seccomp === undefined ? {} : { seccomp };
}

/**
 * The runtime's config.json of a container.
 * @throws ShoalError InvalidArgument for a user, capability, limit, device or profile that cannot be.
 */
export function containerSpec(input: SpecInput): OciSpec {
  const { config } = input;
  const process = processSpec(input);
  const own = allMounts(input);
  const mounts = [...keptDefaults(defaultMounts(config, input.shm), own), ...sortMounts(own)];
  // It would not be the first process in the process namespace of another.
  if (input.initPath !== undefined && !config.pidMode) {
    mounts.push(fileMount(input.initPath, INIT_TARGET, true));
    process.args = [INIT_TARGET, '--', ...process.args];
  }
  const profile = config.appArmorProfile ?? '';
  if (input.appArmor && profile !== '') process.apparmorProfile = profile;
  const [height = 0, width = 0] = config.consoleSize ?? [];
  if (config.tty && height > 0 && width > 0) process.consoleSize = { height, width };
  const resources = ociResources(config.resources, config.privileged, input.swapAccounting);
  const devices = deviceParts(config);
  resources.devices.push(...devices.rules);
  const propagation = rootPropagation(own);
  const spec: OciSpec = {
    ociVersion: OCI_VERSION,
    process,
    root: { path: input.rootPath, readonly: config.readOnlyRootfs },
    ...(config.utsMode === 'host' ? {} : { hostname: containerHostname(input.id, config) }),
    mounts,
    ...(config.annotations === undefined ? {} : { annotations: config.annotations }),
    linux: {
      namespaces: ociNamespaces(config, input.joined),
      resources,
      cgroupsPath: input.cgroupPath,
      ...(devices.nodes.length === 0 ? {} : { devices: devices.nodes }),
      ...seccompPart(input, process.capabilities?.bounding ?? []),
      ...hiddenPaths(config),
      sysctl: sysctls(input),
      ...(propagation === undefined ? {} : { rootfsPropagation: propagation }),
    },
  };
  if (input.cdi !== undefined) applyCdi(spec, config.deviceRequests ?? [], input.cdi);
  if (config.idMapping !== undefined) fitUserNamespace(spec, config.idMapping);
  return spec;
}

/** Generated files, unless the user mounts something over them, and the user's mounts. */
function allMounts(input: SpecInput): OciMount[] {
  const taken = new Set(input.mounts.map((mount) => posix.normalize(mount.destination)));
  const readOnly = input.config.readOnlyRootfs;
  const generated = [
    fileMount(input.etc.hostname, '/etc/hostname', readOnly),
    fileMount(input.etc.hosts, '/etc/hosts', readOnly),
    fileMount(input.etc.resolvConf, '/etc/resolv.conf', readOnly),
  ].filter((mount) => !taken.has(mount.destination));
  return [...generated, ...input.mounts];
}
