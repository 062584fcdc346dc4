import { invalidArgument } from '../base/index.ts';

/** How a flag's value is read. */
type FlagKind = 'string' | 'bool' | 'list';

interface Flag {
  kind: FlagKind;
  short?: string;
  /** Key in daemon.json when it is not the flag's own name. */
  key?: string;
  help: string;
}

/** Flags of dockerd that mean something here, with dockerd's names, shorthands and daemon.json keys. */
export const FLAGS = {
  bip: { kind: 'string', help: 'Address and prefix of the default bridge, such as 172.17.0.1/16' },
  'cgroup-parent': {
    kind: 'string',
    help: 'Parent cgroup of containers: a path or a slice (default "/shoal", "shoal.slice")',
  },
  'config-file': { kind: 'string', help: 'Configuration file (default "/etc/shoal/daemon.json")' },
  'data-root': { kind: 'string', help: 'Directory of persistent state (default "/var/lib/shoal")' },
  debug: { kind: 'bool', short: 'D', help: 'Log at level debug' },
  'default-address-pool': {
    kind: 'list',
    key: 'default-address-pools',
    help: 'Pool for local networks: base=CIDR,size=N',
  },
  'default-ulimit': { kind: 'list', key: 'default-ulimits', help: 'Limit for every container: name=soft[:hard]' },
  'disk-high-mark': {
    kind: 'string',
    help: 'Use of the disk of the data root, %, above which unused things are removed (default: they never are)',
  },
  'disk-image-age': { kind: 'string', help: 'Hours for which unused images are then kept (default 24)' },
  'disk-low-mark': { kind: 'string', help: 'Use of the disk, %, at which that ends (default: the high mark less 10)' },
  'add-runtime': { kind: 'list', key: 'runtimes', help: 'OCI runtime that containers may name: name=path' },
  'default-cgroupns-mode': { kind: 'string', help: 'Cgroup namespace of containers: host or private' },
  'default-ipc-mode': { kind: 'string', help: 'IPC of containers: private or shareable (default "private")' },
  'default-runtime': { kind: 'string', help: 'OCI runtime of containers (default: the first that works)' },
  'default-shm-size': { kind: 'string', help: 'Size of /dev/shm of containers (default 64MiB)' },
  dns: { kind: 'list', help: 'DNS server of containers' },
  'exec-root': { kind: 'string', help: 'Directory of run-time state (default "/run/shoal")' },
  'fixed-cidr-v6': { kind: 'string', help: 'IPv6 subnet of the default bridge (default: a unique local one)' },
  host: { kind: 'list', short: 'H', key: 'hosts', help: 'Socket to listen on: unix:///path or tcp://address:port' },
  'exec-opt': {
    kind: 'list',
    key: 'exec-opts',
    help: 'Option of the runtime: native.cgroupdriver=systemd or cgroupfs',
  },
  init: { kind: 'bool', help: 'Run an init in every container' },
  'init-path': { kind: 'string', help: 'Program of the init (default: docker-init, then tini)' },
  'insecure-registry': {
    kind: 'list',
    key: 'insecure-registries',
    help: 'Registry (host:port or CIDR) spoken to without TLS',
  },
  iptables: { kind: 'bool', help: 'Add packet filter rules (default true)' },
  label: { kind: 'list', key: 'labels', help: 'Label of this node: key=value' },
  'live-restore': { kind: 'bool', help: 'Containers outlive the daemon (always so)' },
  ipv6: { kind: 'bool', help: 'IPv6 on the default bridge and docker_gwbridge when they are made (default true)' },
  'log-driver': { kind: 'string', help: 'Log driver of containers that name none (default "json-file")' },
  'log-level': { kind: 'string', short: 'l', help: 'debug, info, warn, error or fatal (default "info")' },
  'log-opt': { kind: 'list', key: 'log-opts', help: 'Option of the default log driver: key=value' },
  'metrics-addr': { kind: 'string', help: 'Address and port that serve /metrics to all, such as 127.0.0.1:9323' },
  mtu: { kind: 'string', help: 'MTU of container networks (default: from the underlay)' },
  'no-new-privileges': { kind: 'bool', help: 'No process of a container gains privileges by default' },
  'node-generic-resource': { kind: 'list', key: 'node-generic-resources', help: 'Resource of this node: kind=value' },
  pidfile: { kind: 'string', short: 'p', help: 'File that receives the process id (default "/run/shoal.pid")' },
  'registry-mirror': { kind: 'list', key: 'registry-mirrors', help: 'Mirror of docker.io' },
  'seccomp-profile': { kind: 'string', help: 'File of the default seccomp profile, unconfined, or builtin' },
  'storage-driver': { kind: 'string', short: 's', help: 'overlay2 or vfs (default: chosen by probing)' },
  'swarm-default-advertise-addr': { kind: 'string', help: 'Address or interface that a swarm advertises by default' },
  'userns-remap': {
    kind: 'string',
    help: 'User/Group setting for user namespaces: default, user[:group] or uid[:gid]',
  },
} as const satisfies Record<string, Flag>;

export type FlagName = keyof typeof FLAGS;

/** dockerd's flags that have no meaning here; taken with a warning so that scripts go on working. */
const IGNORED: Readonly<Record<string, FlagKind>> = {
  'allow-nondistributable-artifacts': 'list',
  'api-cors-header': 'string',
  'authorization-plugin': 'list',
  bridge: 'string',
  'cgroup-manager': 'string',
  containerd: 'string',
  'containerd-namespace': 'string',
  'containerd-plugins-namespace': 'string',
  'cpu-rt-period': 'string',
  'cpu-rt-runtime': 'string',
  'cri-containerd': 'bool',
  'data-path-addr': 'string',
  'default-gateway': 'string',
  'default-gateway-v6': 'string',
  'dns-opt': 'list',
  'dns-search': 'list',
  experimental: 'bool',
  'fixed-cidr': 'string',
  group: 'string',
  'host-gateway-ip': 'string',
  'http-proxy': 'string',
  'https-proxy': 'string',
  icc: 'bool',
  ip: 'string',
  'ip-forward': 'bool',
  'ip-masq': 'bool',
  ip6tables: 'bool',
  'log-format': 'string',
  'max-concurrent-downloads': 'string',
  'max-concurrent-uploads': 'string',
  'max-download-attempts': 'string',
  'network-control-plane-mtu': 'string',
  'no-proxy': 'string',
  'oom-score-adjust': 'string',
  'raw-logs': 'bool',
  rootless: 'bool',
  'selinux-enabled': 'bool',
  'shutdown-timeout': 'string',
  'storage-opt': 'list',
  tls: 'bool',
  tlscacert: 'string',
  tlscert: 'string',
  tlskey: 'string',
  tlsverify: 'bool',
  'userland-proxy': 'bool',
  'userland-proxy-path': 'string',
  validate: 'bool',
};

/** Flags whose disregard would be unsafe: refused instead. */
const REFUSED: Readonly<Record<string, string>> = {
  tls: 'TLS on the API socket is not supported yet: listen on unix:// or put a TLS proxy in front',
  tlsverify: 'TLS on the API socket is not supported yet: listen on unix:// or put a TLS proxy in front',
  rootless: 'rootless mode is not supported: start the daemon as root',
};

export type FlagValues = Partial<Record<FlagName, string | boolean | string[]>>;

export interface ParsedFlags {
  values: FlagValues;
  warnings: string[];
  help: boolean;
  version: boolean;
}

function longName(short: string): string {
  const found = Object.entries(FLAGS).find(([, flag]) => 'short' in flag && flag.short === short);
  if (found === undefined) throw invalidArgument(`unknown shorthand flag: '${short}'; see shoal daemon --help`);
  return found[0];
}

function boolValue(name: string, text: string | undefined): boolean {
  if (text === undefined || ['true', '1', 't'].includes(text.toLowerCase())) return true;
  if (['false', '0', 'f'].includes(text.toLowerCase())) return false;
  throw invalidArgument(`invalid argument "${text}" for "--${name}" flag: true or false is expected`);
}

/** Splits `--name=value`, `--name value`, `-x value` and `-xvalue`. */
function* words(argv: readonly string[]): Generator<{ name: string; inline: string | undefined }, void, number> {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    const long = /^--([^=]+)(?:=(.*))?$/s.exec(word);
    const short = /^-(\w)(?:=?(.+))?$/s.exec(word);
    const name =
      long?.[1] ??
      (short?.[1] === undefined
        ? undefined
        : short[1] === 'h'
          ? 'help'
          : short[1] === 'v'
            ? 'version'
            : longName(short[1]));
    if (name === undefined) throw invalidArgument(`"shoal daemon" accepts no arguments: ${word}`);
    const taken = yield { name, inline: long?.[2] ?? short?.[2] };
    i += taken;
  }
}

/**
 * Reads dockerd's command line.
 * @throws ShoalError InvalidArgument for unknown flags, bad values and flags that cannot be disregarded.
 */
export function parseFlags(argv: readonly string[]): ParsedFlags {
  const parsed: ParsedFlags = { values: {}, warnings: [], help: false, version: false };
  let position = 0;
  const iterator = words(argv);
  for (let step = iterator.next(0); step.done !== true;) {
    const { name, inline } = step.value;
    const flag: Flag | undefined = Object.hasOwn(FLAGS, name) ? (FLAGS as Record<string, Flag>)[name] : undefined;
    const kind = flag?.kind ?? (Object.hasOwn(IGNORED, name) ? IGNORED[name] : undefined);
    let taken = 0;
    if (name === 'help' || name === 'version') parsed[name] = true;
    else if (kind === undefined) throw invalidArgument(`unknown flag: --${name}; see shoal daemon --help`);
    else {
      const next = kind !== 'bool' && inline === undefined ? argv[position + 1] : inline;
      if (kind !== 'bool' && next === undefined) throw invalidArgument(`flag needs an argument: --${name}`);
      taken = kind !== 'bool' && inline === undefined ? 1 : 0;
      const value = kind === 'bool' ? boolValue(name, inline) : (next as string);
      if (flag === undefined) disregard(parsed, name, value);
      else store(parsed.values, name as FlagName, flag.kind, value);
    }
    position += 1 + taken;
    step = iterator.next(taken);
  }
  return parsed;
}

/** Why a flag or daemon.json key of dockerd cannot be disregarded; undefined when it can. */
export function refusalOf(name: string, value: unknown): string | undefined {
  return Object.hasOwn(REFUSED, name) && value !== false && value !== '' ? REFUSED[name] : undefined;
}

function disregard(parsed: ParsedFlags, name: string, value: string | boolean): void {
  const refusal = refusalOf(name, value);
  if (refusal !== undefined) throw invalidArgument(`--${name}: ${refusal}`);
  parsed.warnings.push(`flag --${name} has no meaning for shoal and is ignored`);
}

function store(values: FlagValues, name: FlagName, kind: FlagKind, value: string | boolean): void {
  if (kind === 'list') values[name] = [...((values[name] as string[] | undefined) ?? []), value as string];
  else values[name] = value;
}

/** The daemon.json key of a flag. */
export function fileKey(name: FlagName): string {
  const flag: Flag = FLAGS[name];
  return flag.key ?? name;
}

/** Keys of dockerd's daemon.json that are no flags. */
const FILE_ONLY: readonly string[] = ['features', 'builder'];

/** Whether a daemon.json key is one of dockerd's that has no meaning here. */
export function isIgnoredKey(key: string): boolean {
  return [key, key.replace(/s$/, '')].some((name) => Object.hasOwn(IGNORED, name)) || FILE_ONLY.includes(key);
}

/** The help page of `shoal daemon`. */
export function daemonHelp(): string {
  const lines = Object.entries(FLAGS).map(([name, given]) => {
    const flag: Flag = given;
    const shorthand = flag.short === undefined ? '    ' : `-${flag.short}, `;
    return `  ${shorthand}--${name.padEnd(30)} ${flag.help}`;
  });
  return `Usage:  shoal daemon [OPTIONS]\n\nRuns containers on this host and takes part in a swarm. Takes dockerd's flags and daemon.json.\n\nOptions:\n${lines.join('\n')}\n`;
}
