import { invalidArgument } from '../../base/index.ts';
import type { ContainerConfigFacts, DeviceRequestFacts, HostOptionsFacts, JsonObject } from '../ports.ts';
import type { Fields } from './fields.ts';
import { mountsToHostConfig } from './mounts.ts';
import { resourcesToJson } from './resources.ts';

const list = <T>(values: readonly T[] | undefined): readonly T[] | null =>
  values === undefined || values.length === 0 ? null : values;

const text = <K extends string>(key: K, value: string): Partial<Record<K, string>> =>
  (value === '' ? {} : { [key]: value }) as Partial<Record<K, string>>;

const some = <K extends string, T>(key: K, values: readonly T[]): Partial<Record<K, readonly T[]>> =>
  (values.length === 0 ? {} : { [key]: values }) as Partial<Record<K, readonly T[]>>;

const entries = <K extends string>(
  key: K,
  map: Readonly<Record<string, string>>,
): Partial<Record<K, Readonly<Record<string, string>>>> =>
  (Object.keys(map).length === 0 ? {} : { [key]: map }) as Partial<Record<K, Readonly<Record<string, string>>>>;

export interface SecurityFacts extends Pick<
  HostOptionsFacts,
  'securityOptions' | 'appArmorProfile' | 'writableCgroups'
> {
  noNewPrivileges: boolean;
  seccomp: string;
}

const TRUE = ['1', 't', 'T', 'TRUE', 'true', 'True'];
const FALSE = ['0', 'f', 'F', 'FALSE', 'false', 'False'];

function flag(option: string, value: string): boolean {
  if (TRUE.includes(value)) return true;
  if (FALSE.includes(value)) return false;
  throw invalidArgument(`invalid --security-opt 2: ${JSON.stringify(option)}`);
}

/**
 * HostConfig.SecurityOpt: what each entry asks for. Labels of SELinux are taken and have no effect, as in a Docker that
 * was not started with `--selinux-enabled`. @throws ShoalError InvalidArgument in Docker's words
 */
export function securityFromJson(host: Fields | undefined): SecurityFacts {
  const options = host?.strings('SecurityOpt') ?? [];
  const facts: SecurityFacts = { noNewPrivileges: false, seccomp: 'default', ...some('securityOptions', options) };
  for (const option of options) {
    if (option === 'disable') continue;
    if (option === 'no-new-privileges') facts.noNewPrivileges = true;
    else if (option === 'writable-cgroups') facts.writableCgroups = true;
    else readSecurityOption(facts, option);
  }
  return facts;
}

function readSecurityOption(facts: SecurityFacts, option: string): void {
  const cut = option.includes('=') ? option.indexOf('=') : option.indexOf(':');
  if (cut < 0) throw invalidArgument(`invalid --security-opt 1: ${JSON.stringify(option)}`);
  const value = option.slice(cut + 1);
  switch (option.slice(0, cut)) {
    case 'label':
      return;
    case 'apparmor':
      facts.appArmorProfile = value;
      return;
    case 'seccomp':
      facts.seccomp = value;
      return;
    case 'no-new-privileges':
      facts.noNewPrivileges = flag(option, value);
      return;
    case 'writable-cgroups':
      facts.writableCgroups = flag(option, value);
      return;
    default:
      throw invalidArgument(`invalid --security-opt 2: ${JSON.stringify(option)}`);
  }
}

function deviceRequest(json: Fields): DeviceRequestFacts {
  return {
    driver: json.string('Driver'),
    count: json.number('Count'),
    deviceIds: json.strings('DeviceIDs'),
    capabilities: json.stringLists('Capabilities'),
    options: json.stringMap('Options'),
  };
}

/** A list that may be set to nothing: undefined only when it was left out. */
const paths = (host: Fields, name: string): string[] | undefined => (host.has(name) ? host.strings(name) : undefined);

/** Members of HostConfig that stand for themselves. @throws ShoalError InvalidArgument */
export function hostOptionsFromJson(host: Fields | undefined): HostOptionsFacts {
  if (host === undefined) return {};
  const init = host.optionalBool('Init');
  const [masked, readonly] = [paths(host, 'MaskedPaths'), paths(host, 'ReadonlyPaths')];
  const devices = host.objects('Devices').map((one) => ({
    pathOnHost: one.string('PathOnHost'),
    pathInContainer: one.string('PathInContainer') || one.string('PathOnHost'),
    permissions: one.string('CgroupPermissions') || 'rwm',
  }));
  const [height = 0, width = 0] = host.numbers('ConsoleSize');
  const shmBytes = host.number('ShmSize');
  return {
    ...(height === 0 && width === 0 ? {} : { consoleSize: [height, width] as const }),
    ...text('containerIdFile', host.string('ContainerIDFile')),
    ...text('volumeDriver', host.string('VolumeDriver')),
    ...some('volumesFrom', host.strings('VolumesFrom')),
    ...(init === undefined ? {} : { initAsked: init }),
    ...text('pidMode', host.string('PidMode')),
    ...text('ipcMode', host.string('IpcMode')),
    ...text('utsMode', host.string('UTSMode')),
    ...text('cgroupnsMode', host.string('CgroupnsMode')),
    ...text('usernsMode', host.string('UsernsMode')),
    ...text('cgroupParent', host.string('CgroupParent')),
    ...(shmBytes === 0 ? {} : { shmBytes }),
    ...some('devices', devices),
    ...some('deviceCgroupRules', host.strings('DeviceCgroupRules')),
    ...some('deviceRequests', host.objects('DeviceRequests').map(deviceRequest)),
    ...(masked === undefined ? {} : { maskedPaths: masked }),
    ...(readonly === undefined ? {} : { readonlyPaths: readonly }),
    ...entries('annotations', host.stringMap('Annotations')),
    ...text('runtime', host.string('Runtime')),
    ...entries('storageOptions', host.stringMap('StorageOpt')),
    ...text('isolation', host.string('Isolation')),
  };
}

function devicesToJson(config: ContainerConfigFacts): JsonObject {
  const requests = (config.deviceRequests ?? []).map((one) => ({
    Driver: one.driver,
    Count: one.count,
    DeviceIDs: list(one.deviceIds),
    Capabilities: list(one.capabilities),
    Options: one.options,
  }));
  return {
    Devices: (config.devices ?? []).map((one) => ({
      PathOnHost: one.pathOnHost,
      PathInContainer: one.pathInContainer,
      CgroupPermissions: one.permissions,
    })),
    DeviceCgroupRules: list(config.deviceCgroupRules),
    DeviceRequests: list(requests),
  };
}

/** Members of HostConfig that are not of networks. */
export function hostConfigToJson(config: ContainerConfigFacts): JsonObject {
  const paths = (given: readonly string[] | undefined): readonly string[] | null => given ?? null;
  return {
    ...mountsToHostConfig(config.mounts ?? []),
    ContainerIDFile: config.containerIdFile ?? '',
    LogConfig: { Type: config.logDriver.type, Config: config.logDriver.config },
    RestartPolicy: { Name: config.restart.name, MaximumRetryCount: config.restart.maximumRetryCount },
    AutoRemove: config.autoRemove,
    VolumeDriver: config.volumeDriver ?? '',
    VolumesFrom: list(config.volumesFrom),
    ConsoleSize: config.consoleSize ?? [0, 0],
    Annotations: config.annotations,
    CapAdd: list(config.capAdd),
    CapDrop: list(config.capDrop),
    CgroupnsMode: config.cgroupnsMode ?? '',
    GroupAdd: list(config.groups),
    IpcMode: config.ipcMode ?? 'private',
    Cgroup: '',
    PidMode: config.pidMode ?? '',
    Privileged: config.privileged,
    ReadonlyRootfs: config.readOnlyRootfs,
    SecurityOpt: list(config.securityOptions),
    StorageOpt: config.storageOptions,
    UTSMode: config.utsMode ?? '',
    UsernsMode: config.usernsMode ?? '',
    ShmSize: config.shmBytes ?? 0,
    Sysctls: Object.keys(config.sysctls ?? {}).length === 0 ? undefined : config.sysctls,
    Runtime: config.runtime ?? '',
    Isolation: config.isolation ?? '',
    CgroupParent: config.cgroupParent ?? '',
    ...devicesToJson(config),
    ...resourcesToJson(config.resources),
    MaskedPaths: paths(config.maskedPaths),
    ReadonlyPaths: paths(config.readonlyPaths),
    Init: config.initAsked,
  };
}
