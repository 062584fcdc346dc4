/** The body of `POST /containers/create` that the options of `run` ask for, field by field as docker's client sends it. */
import { readFileSync } from 'node:fs';
import { readDevices, readPorts, readVolumes } from './run-mounts.ts';
import { runNetworks, type EndpointSettings } from './run-networks.ts';
import { BODY_OPTIONS } from './run-options.ts';
import { isMac, type DeviceRequest } from './run-values.ts';
import type { Flags } from './options.ts';
import { keyValueFile } from './key-value-file.ts';
import { cut, keyValues } from './words.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What the client itself looks at again; the rest is the daemon's business. */
export interface CreateBody {
  AttachStdin: boolean;
  AttachStdout: boolean;
  AttachStderr: boolean;
  Tty: boolean;
  OpenStdin: boolean;
  StdinOnce: boolean;
  Image: string;
  HostConfig: { AutoRemove: boolean; ContainerIDFile: string; Dns: string[]; [field: string]: unknown };
  NetworkingConfig: { EndpointsConfig: Record<string, EndpointSettings> };
  [field: string]: unknown;
}

const RESOURCES = {
  ...{ CpuShares: 0, Memory: 0, NanoCpus: 0, CgroupParent: '', BlkioWeight: 0, BlkioWeightDevice: [] },
  ...{ BlkioDeviceReadBps: [], BlkioDeviceWriteBps: [], BlkioDeviceReadIOps: [], BlkioDeviceWriteIOps: [] },
  ...{ CpuPeriod: 0, CpuQuota: 0, CpuRealtimePeriod: 0, CpuRealtimeRuntime: 0, CpusetCpus: '', CpusetMems: '' },
  ...{ Devices: [], DeviceCgroupRules: null, DeviceRequests: null, MemoryReservation: 0, MemorySwap: 0 },
  ...{ MemorySwappiness: -1, OomKillDisable: false, PidsLimit: 0, Ulimits: [], CpuCount: 0, CpuPercent: 0 },
  ...{ IOMaximumIOps: 0, IOMaximumBandwidth: 0 },
};

/** Every field that docker's client always sends, with the value that stands for "not said". */
function emptyBody(image: string, command: readonly string[]): CreateBody {
  return {
    ...{ Hostname: '', Domainname: '', User: '', AttachStdin: false, AttachStdout: false, AttachStderr: false },
    ...{ Tty: false, OpenStdin: false, StdinOnce: false, Env: null, Cmd: command.length === 0 ? null : command },
    ...{ Image: image, Volumes: {}, WorkingDir: '', Entrypoint: null, OnBuild: null, Labels: {} },
    HostConfig: {
      ...{ Binds: null, ContainerIDFile: '', LogConfig: { Type: '', Config: {} }, NetworkMode: 'default' },
      ...{ PortBindings: {}, RestartPolicy: { Name: 'no', MaximumRetryCount: 0 }, AutoRemove: false },
      ...{ VolumeDriver: '', VolumesFrom: null, ConsoleSize: [0, 0], CapAdd: null, CapDrop: null, CgroupnsMode: '' },
      ...{ Dns: [], DnsOptions: [], DnsSearch: [], ExtraHosts: null, GroupAdd: null, IpcMode: '', Cgroup: '' },
      ...{ Links: null, OomScoreAdj: 0, PidMode: '', Privileged: false, PublishAllPorts: false },
      ...{ ReadonlyRootfs: false, SecurityOpt: null, UTSMode: '', UsernsMode: '', ShmSize: 0, Isolation: '' },
      ...structuredClone(RESOURCES),
      ...{ MaskedPaths: null, ReadonlyPaths: null },
    },
    NetworkingConfig: { EndpointsConfig: {} },
  };
}

/** Fields that docker leaves out when they are empty. */
const LEFT_OUT_WHEN_EMPTY = ['StopSignal', 'Runtime'];

/** Options whose value is a field of the body as it stands. */
function setFields(body: CreateBody, flags: Flags): void {
  for (const { name, to } of BODY_OPTIONS) {
    if (to === undefined || !flags.changed(name)) continue;
    const [first, field] = cut(to, 'HostConfig.');
    const value = flags.value(name);
    const key = field ?? first;
    if (LEFT_OUT_WHEN_EMPTY.includes(key) && value === '') continue;
    if (field === undefined) body[key] = value;
    else body.HostConfig[key] = value;
  }
}

/** Capabilities by their full names, each once; ALL stands for every other. */
function capabilities(names: unknown): string[] | null {
  if (names === null) return null;
  const all = (names as string[]).map((name) => name.toUpperCase().trim());
  if (all.includes('ALL')) return ['ALL'];
  return [...new Set(all.map((name) => (name.startsWith('CAP_') ? name : `CAP_${name}`)))].toSorted();
}

const isContainerMode = (mode: string): boolean => /^container:./.test(mode);

function checkModes(flags: Flags): void {
  const swappiness = flags.number('memory-swappiness') ?? -1;
  if (swappiness < -1 || swappiness > 100) {
    throw new Error(`invalid value: ${swappiness}. Valid memory swappiness range is 0-100`);
  }
  const pid = flags.string('pid');
  if (pid !== '' && pid !== 'host' && !isContainerMode(pid)) throw new Error('--pid: invalid PID mode');
  if (!['', 'host'].includes(flags.string('uts'))) throw new Error('--uts: invalid UTS mode');
  if (!['', 'host'].includes(flags.string('userns'))) throw new Error('--userns: invalid USER mode');
  const cgroupns = flags.string('cgroupns');
  if (!['', 'host', 'private'].includes(cgroupns)) throw new Error('--cgroupns: invalid CGROUP mode');
}

/** Policy of `--restart`: `on-failure:3`. @throws Error when the count is none */
export function restartPolicy(text: string): { Name: string; MaximumRetryCount: number } {
  const [Name, count] = cut(text, ':');
  if (count !== undefined && Name === '') {
    throw new Error('invalid restart policy format: no policy provided before colon');
  }
  if ((count ?? '') !== '' && !/^[+-]?\d+$/.test(count ?? '')) {
    throw new Error('invalid restart policy format: maximum retry count must be an integer');
  }
  return { Name, MaximumRetryCount: Number(count ?? 0) };
}

function readProfile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = missing ? `open ${path}: no such file or directory` : (error as Error).message;
    throw new Error(`opening seccomp profile (${path}) failed: ${reason}`, { cause: error });
  }
  try {
    return JSON.stringify(JSON.parse(text));
  } catch (error) {
    const reason = (error as Error).message;
    throw new Error(`compacting json for seccomp profile (${path}) failed: ${reason}`, { cause: error });
  }
}

/** `--security-opt` words: a seccomp profile is read here; `systempaths=unconfined` opens the paths that are masked. */
function setSecurity(body: CreateBody, words: readonly string[]): void {
  if (words.length === 0) return;
  const read = words.map((word) => {
    const [key, value] = /^[^:]*=/.test(word) || word.includes('=') ? cut(word, '=') : cut(word, ':');
    if (key === 'no-new-privileges') return word;
    if ((value ?? '') === '') throw new Error(`Invalid --security-opt: ${JSON.stringify(word)}`);
    const isFile = key === 'seccomp' && value !== 'builtin' && value !== 'unconfined';
    return isFile ? `seccomp=${readProfile(value ?? '')}` : word;
  });
  const kept = read.filter((word) => word !== 'systempaths=unconfined');
  body.HostConfig['SecurityOpt'] = kept;
  if (kept.length === read.length) return;
  body.HostConfig['MaskedPaths'] = [];
  body.HostConfig['ReadonlyPaths'] = [];
}

const HEALTH_FIELDS = {
  'health-interval': 'Interval',
  'health-timeout': 'Timeout',
  'health-start-period': 'StartPeriod',
  'health-start-interval': 'StartInterval',
  'health-retries': 'Retries',
} as const;

function setHealth(body: CreateBody, flags: Flags): void {
  const command = flags.string('health-cmd');
  const numbers = Object.entries(HEALTH_FIELDS).map(([name, field]) => [name, field, flags.number(name) ?? 0] as const);
  const given = numbers.filter(([, , value]) => value !== 0);
  const any = command !== '' || given.length > 0;
  if (flags.bool('no-healthcheck')) {
    if (any) throw new Error('--no-healthcheck conflicts with --health-* options');
    body['Healthcheck'] = { Test: ['NONE'] };
    return;
  }
  if (!any) return;
  for (const name of ['interval', 'timeout', 'retries', 'start-period', 'start-interval']) {
    if ((flags.number(`health-${name}`) ?? 0) < 0) throw new Error(`--health-${name} cannot be negative`);
  }
  body['Healthcheck'] = {
    ...(command === '' ? {} : { Test: ['CMD-SHELL', command] }),
    ...Object.fromEntries(given.map(([, field, value]) => [field, value])),
  };
}

function setLog(body: CreateBody, flags: Flags): void {
  const driver = flags.string('log-driver');
  const words = flags.list('log-opt');
  if (driver === 'none' && words.length > 0) throw new Error(`invalid logging opts for driver ${driver}`);
  body.HostConfig['LogConfig'] = { Type: driver, Config: keyValues(words) };
}

/** Variables of `--env`, the last value of each; one without a value takes that of the client's own environment. */
function environmentWords(words: readonly string[], env: Environment): string[] {
  const values = new Map<string, string | undefined>();
  for (const word of words) {
    const [name, value] = cut(word, '=');
    values.set(name, value ?? env[name]);
  }
  return [...values].map(([name, value]) => (value === undefined ? name : `${name}=${value}`));
}

function setAttached(body: CreateBody, streams: readonly string[]): void {
  body.AttachStdin = streams.includes('stdin') || body.OpenStdin;
  body.AttachStdout = streams.length === 0 || streams.includes('stdout');
  body.AttachStderr = streams.length === 0 || streams.includes('stderr');
  // Standard input ends with the client that gave it.
  body.StdinOnce = body.OpenStdin && body.AttachStdin;
}

function setMaps(body: CreateBody, flags: Flags): void {
  const { HostConfig } = body;
  for (const word of flags.list('storage-opt')) if (!word.includes('=')) throw new Error('invalid storage option');
  const maps: Record<string, Record<string, string>> = {
    StorageOpt: keyValues(flags.list('storage-opt')),
    Sysctls: keyValues(flags.list('sysctl')),
    Annotations: keyValues(flags.list('annotation')),
    Tmpfs: Object.fromEntries(flags.list('tmpfs').map((word) => [cut(word, ':')[0], cut(word, ':')[1] ?? ''])),
  };
  for (const [field, map] of Object.entries(maps)) if (Object.keys(map).length > 0) HostConfig[field] = map;
  const ulimits = new Map(flags.list<{ Name: string }>('ulimit').map((limit) => [limit.Name, limit]));
  HostConfig['Ulimits'] = [...ulimits.values()].toSorted((a, b) => (a.Name < b.Name ? -1 : 1));
}

/** The create body of a command line. `env` is the client's own environment. @throws Error in docker's words */
export function createBody(flags: Flags, words: readonly string[], env: Environment): CreateBody {
  const body = emptyBody(words[0] ?? '', words.slice(1));
  const mac = flags.string('mac-address').trim();
  if (mac !== '' && !isMac(mac)) throw new Error(`${flags.string('mac-address')} is not a valid mac address`);
  checkModes(flags);
  setFields(body, flags);
  for (const field of ['CapAdd', 'CapDrop']) body.HostConfig[field] = capabilities(body.HostConfig[field]);
  setAttached(body, flags.list('attach'));
  const volumes = readVolumes(flags.list('volume'));
  body['Volumes'] = volumes.anonymous;
  if (volumes.binds.length > 0) body.HostConfig['Binds'] = volumes.binds;
  if (flags.changed('entrypoint')) body['Entrypoint'] = [flags.string('entrypoint')];
  const ports = readPorts(flags.list('publish'), flags.list('expose'));
  if (Object.keys(ports.exposed).length > 0) body['ExposedPorts'] = ports.exposed;
  body.HostConfig['PortBindings'] = ports.bindings;
  const devices = readDevices(flags.list('device'));
  body.HostConfig['Devices'] = devices.mappings;
  const requests = [...flags.list<DeviceRequest>('gpus'), ...devices.requests];
  if (requests.length > 0) body.HostConfig['DeviceRequests'] = requests;
  const variables = flags.list('env-file').flatMap((file) => keyValueFile(file, env));
  variables.push(...environmentWords(flags.list('env'), env));
  if (variables.length > 0) body['Env'] = variables;
  const labels = flags.list('label-file').flatMap((file) => keyValueFile(file));
  body['Labels'] = keyValues([...labels, ...flags.list('label')]);
  const restart = restartPolicy(flags.string('restart'));
  body.HostConfig['RestartPolicy'] = restart;
  setLog(body, flags);
  setSecurity(body, flags.list('security-opt'));
  setMaps(body, flags);
  setHealth(body, flags);
  if (body.HostConfig.AutoRemove && !['', 'no'].includes(restart.Name)) {
    throw new Error('conflicting options: cannot specify both --restart and --rm');
  }
  const networks = runNetworks(flags);
  body.HostConfig['NetworkMode'] = networks.mode;
  body.NetworkingConfig.EndpointsConfig = networks.endpoints;
  return body;
}
