/** Options of `run` and `create`: one table of what each is called, takes, and sets in the body of the request. */
import { option, type OptionSpec } from './command.ts';
import {
  attachStream,
  deviceRule,
  dnsSearch,
  dnsServer,
  environmentWord,
  extraHost,
  gpuRequest,
  ioRate,
  linkWord,
  networkAttachment,
  swapBytes,
  sysctl,
  throttle,
  weightDevice,
} from './run-values.ts';
import { parseMount } from './service-mount.ts';
import { parseLabel, parseUlimit } from './service-values.ts';
import { parseDuration, parseUint } from './units.ts';

/** An option of `run`. */
export interface RunOption extends OptionSpec {
  /** Field of the create body that takes the option's value as it is; others are set by run-body.ts. */
  to?: string;
}

type More = Partial<RunOption>;

const row = (name: string, kind: string, help: string, more: More = {}): RunOption => option(name, kind, help, more);
const host = (field: string, more: More = {}): More => ({ to: `HostConfig.${field}`, ...more });
const own = (field: string): More => ({ to: field });
const list = (name: string, help: string, more: More = {}): RunOption => row(name, 'list', help, more);
const hiddenAlias = (name: string, kind: string, of: string, parse?: OptionSpec['parse']): RunOption => ({
  ...row(name, kind, `The same as --${of}`, { hidden: true, of, many: true }),
  ...(parse === undefined ? {} : { parse }),
});

const weight = (text: string): number => {
  const value = parseUint(text);
  if (value > 0xffff) throw new Error(`strconv.ParseUint: parsing ${JSON.stringify(text)}: value out of range`);
  return value;
};

const GENERAL: readonly RunOption[] = [
  list('attach,a', 'Attach to STDIN, STDOUT or STDERR', { parse: attachStream }),
  list('device-cgroup-rule', 'Add a rule to the cgroup allowed devices list', {
    parse: deviceRule,
    ...host('DeviceCgroupRules'),
  }),
  list('device', 'Add a host device to the container'),
  row('gpus', 'gpu-request', "GPU devices to add to the container ('all' to pass all GPUs)", {
    many: true,
    parse: gpuRequest,
  }),
  list('env,e', 'Set environment variables', { parse: environmentWord }),
  list('env-file', 'Read in a file of environment variables'),
  row('entrypoint', 'string', 'Overwrite the default ENTRYPOINT of the image'),
  list('group-add', 'Add additional groups to join', host('GroupAdd')),
  row('hostname,h', 'string', 'Container host name', own('Hostname')),
  row('domainname', 'string', 'Container NIS domain name', own('Domainname')),
  row('interactive,i', 'bool', 'Keep STDIN open even if not attached', own('OpenStdin')),
  list('label,l', 'Set meta data on a container', { parse: parseLabel }),
  list('label-file', 'Read in a line delimited file of labels'),
  row('read-only', 'bool', "Mount the container's root filesystem as read only", host('ReadonlyRootfs')),
  row('restart', 'string', 'Restart policy to apply when a container exits', { initial: 'no', shown: '"no"' }),
  row('stop-signal', 'string', 'Signal to stop the container', own('StopSignal')),
  row('stop-timeout', 'int', 'Timeout (in seconds) to stop a container', own('StopTimeout')),
  row('sysctl', 'map', 'Sysctl options', { parse: sysctl, shown: 'map[]' }),
  row('tty,t', 'bool', 'Allocate a pseudo-TTY', own('Tty')),
  row('ulimit', 'ulimit', 'Ulimit options', { many: true, parse: parseUlimit, shown: '[]' }),
  row('user,u', 'string', 'Username or UID (format: <name|uid>[:<group|gid>])', own('User')),
  row('workdir,w', 'string', 'Working directory inside the container', own('WorkingDir')),
  row(
    'rm',
    'bool',
    'Automatically remove the container and its associated anonymous volumes when it exits',
    host('AutoRemove'),
  ),
];

const SECURITY: readonly RunOption[] = [
  list('cap-add', 'Add Linux capabilities', host('CapAdd')),
  list('cap-drop', 'Drop Linux capabilities', host('CapDrop')),
  row('privileged', 'bool', 'Give extended privileges to this container', host('Privileged')),
  list('security-opt', 'Security Options'),
  row('userns', 'string', 'User namespace to use', host('UsernsMode')),
  row(
    'cgroupns',
    'string',
    "Cgroup namespace to use: 'host' (the host's), 'private' (its own) or '' (as the daemon is configured)",
    host('CgroupnsMode'),
  ),
];

const NETWORK: readonly RunOption[] = [
  list('add-host', 'Add a custom host-to-IP mapping (host:ip)', { parse: extraHost, ...host('ExtraHosts') }),
  list('dns', 'Set custom DNS servers', { parse: dnsServer, ...host('Dns') }),
  list('dns-option', 'Set DNS options', host('DnsOptions')),
  hiddenAlias('dns-opt', 'list', 'dns-option'),
  list('dns-search', 'Set custom DNS search domains', { parse: dnsSearch, ...host('DnsSearch') }),
  list('expose', 'Expose a port or a range of ports'),
  row('ip', 'string', 'IPv4 address (e.g., 172.30.100.104)'),
  row('ip6', 'string', 'IPv6 address (e.g., 2001:db8::33)'),
  list('link', 'Add link to another container', { parse: linkWord, ...host('Links') }),
  list('link-local-ip', 'Container IPv4/IPv6 link-local addresses'),
  row('mac-address', 'string', 'Container MAC address (e.g., 92:d0:c6:0a:29:33)'),
  list('publish,p', "Publish a container's port(s) to the host"),
  row('publish-all,P', 'bool', 'Publish all exposed ports to random ports', host('PublishAllPorts')),
  row('network', 'network', 'Connect a container to a network', { many: true, parse: networkAttachment }),
  hiddenAlias('net', 'network', 'network', networkAttachment),
  list('network-alias', 'Add network-scoped alias for the container'),
  hiddenAlias('net-alias', 'list', 'network-alias'),
];

const STORAGE: readonly RunOption[] = [
  row('log-driver', 'string', 'Logging driver for the container'),
  list('log-opt', 'Log driver options'),
  row('volume-driver', 'string', 'Optional volume driver for the container', host('VolumeDriver')),
  list('storage-opt', 'Storage driver options for the container'),
  list('tmpfs', 'Mount a tmpfs directory'),
  list('volumes-from', 'Mount volumes from the specified container(s)', host('VolumesFrom')),
  list('volume,v', 'Bind mount a volume'),
  row('mount', 'mount', 'Attach a filesystem mount to the container', {
    many: true,
    parse: parseMount,
    ...host('Mounts'),
  }),
];

const span = (name: string, help: string): RunOption =>
  row(name, 'duration', `${help} (ms|s|m|h) (default 0s)`, { parse: parseDuration });

const HEALTH: readonly RunOption[] = [
  row('health-cmd', 'string', 'Command to run to check health'),
  span('health-interval', 'Time between running the check'),
  row('health-retries', 'int', 'Consecutive failures needed to report unhealthy'),
  span('health-timeout', 'Maximum time to allow one check to run'),
  span('health-start-period', 'Start period for the container to initialize before starting health-retries countdown'),
  span('health-start-interval', 'Time between running the check during the start period'),
  row('no-healthcheck', 'bool', 'Disable any container-specified HEALTHCHECK'),
];

const rate = (name: string, help: string, parse: OptionSpec['parse'], field: string): RunOption =>
  row(name, 'list', help, { ...(parse === undefined ? {} : { parse }), shown: '[]', ...host(field) });

const RESOURCES: readonly RunOption[] = [
  row('blkio-weight', 'uint16', 'Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)', {
    parse: weight,
    ...host('BlkioWeight'),
  }),
  rate('blkio-weight-device', 'Block IO weight (relative device weight)', weightDevice, 'BlkioWeightDevice'),
  row('cidfile', 'string', 'Write the container ID to the file', host('ContainerIDFile')),
  row('cpuset-cpus', 'string', 'CPUs in which to allow execution (0-3, 0,1)', host('CpusetCpus')),
  row('cpuset-mems', 'string', 'MEMs in which to allow execution (0-3, 0,1)', host('CpusetMems')),
  row('cpu-period', 'int', 'Limit CPU CFS (Completely Fair Scheduler) period', host('CpuPeriod')),
  row('cpu-quota', 'int', 'Limit CPU CFS (Completely Fair Scheduler) quota', host('CpuQuota')),
  row('cpu-rt-period', 'int', 'Limit CPU real-time period in microseconds', host('CpuRealtimePeriod')),
  row('cpu-rt-runtime', 'int', 'Limit CPU real-time runtime in microseconds', host('CpuRealtimeRuntime')),
  row('cpu-shares,c', 'int', 'CPU shares (relative weight)', host('CpuShares')),
  row('cpus', 'decimal', 'Number of CPUs', host('NanoCpus')),
  rate('device-read-bps', 'Limit read rate (bytes per second) from a device', throttle, 'BlkioDeviceReadBps'),
  rate('device-read-iops', 'Limit read rate (IO per second) from a device', ioRate, 'BlkioDeviceReadIOps'),
  rate('device-write-bps', 'Limit write rate (bytes per second) to a device', throttle, 'BlkioDeviceWriteBps'),
  rate('device-write-iops', 'Limit write rate (IO per second) to a device', ioRate, 'BlkioDeviceWriteIOps'),
  row('kernel-memory', 'bytes', 'Kernel memory limit (kernels have it no more: it is not sent)'),
  row('memory,m', 'bytes', 'Memory limit', host('Memory')),
  row('memory-reservation', 'bytes', 'Memory soft limit', host('MemoryReservation')),
  row('memory-swap', 'bytes', "Swap limit equal to memory plus swap: '-1' to enable unlimited swap", {
    parse: swapBytes,
    ...host('MemorySwap'),
  }),
  row('memory-swappiness', 'int', 'Tune container memory swappiness (0 to 100)', {
    shown: '-1',
    ...host('MemorySwappiness'),
  }),
  row('oom-kill-disable', 'bool', 'Disable OOM Killer', host('OomKillDisable')),
  row('oom-score-adj', 'int', "Tune host's OOM preferences (-1000 to 1000)", host('OomScoreAdj')),
  row('pids-limit', 'int', 'Tune container pids limit (set -1 for unlimited)', host('PidsLimit')),
];

const LOW_LEVEL: readonly RunOption[] = [
  row('cgroup-parent', 'string', 'Optional parent cgroup for the container', host('CgroupParent')),
  row('ipc', 'string', 'IPC mode to use', host('IpcMode')),
  row('isolation', 'string', 'Container isolation technology', host('Isolation')),
  row('pid', 'string', 'PID namespace to use', host('PidMode')),
  row('shm-size', 'bytes', 'Size of /dev/shm', host('ShmSize')),
  row('uts', 'string', 'UTS namespace to use', host('UTSMode')),
  row('runtime', 'string', 'Runtime to use for this container', host('Runtime')),
  row('init', 'bool', 'Run an init inside the container that forwards signals and reaps processes', host('Init')),
  row('annotation', 'map', 'Add an annotation to the container (passed through to the OCI runtime)', {
    shown: 'map[]',
  }),
];

/** Options that set something in the body of the create request. */
export const BODY_OPTIONS: readonly RunOption[] = [
  ...GENERAL,
  ...SECURITY,
  ...NETWORK,
  ...STORAGE,
  ...HEALTH,
  ...RESOURCES,
  ...LOW_LEVEL,
];

/** Options of `create`. */
export const CREATE_OPTIONS: readonly OptionSpec[] = [
  option('name', 'string', 'Assign a name to the container'),
  option('pull', 'string', 'Pull image before running ("always", "missing", "never")', {
    initial: 'missing',
    shown: '"missing"',
  }),
  option('quiet,q', 'bool', 'Suppress the pull output'),
  option('platform', 'string', 'Set platform if server is multi-platform capable'),
  option('disable-content-trust', 'bool', 'Skip image verification', { initial: true, shown: 'true' }),
  ...BODY_OPTIONS,
];

export const DETACH_KEYS = option('detach-keys', 'string', 'Override the key sequence for detaching a container');
export const SIG_PROXY = option('sig-proxy', 'bool', 'Proxy received signals to the process', {
  initial: true,
  shown: 'true',
});

/** Options of `run`. */
export const RUN_OPTIONS: readonly OptionSpec[] = [
  option('detach,d', 'bool', 'Run container in background and print container ID'),
  SIG_PROXY,
  DETACH_KEYS,
  ...CREATE_OPTIONS,
];
