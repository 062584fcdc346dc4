import { invalidArgument } from '../../base/index.ts';
import { ContainerSpec, durationFromNs, durationToNs, Mount, type Driver, type Partially } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import { Fields, listOrNothing, mapOrNothing, textOrNothing, wordOf } from './fields.ts';
import { MOUNT_TYPE, PROPAGATION } from './words.ts';

/** Duration in ns from a member, null when absent. */
export function duration(fields: Fields, name: string): ReturnType<typeof durationFromNs> | null {
  const ns = fields.optionalNumber(name);
  return ns === undefined ? null : durationFromNs(ns);
}

export function driverFromJson(fields: Fields | undefined): Partially<Driver> | null {
  if (fields === undefined) return null;
  return { name: fields.string('Name'), options: fields.stringMap('Options') };
}

export function driverToJson(driver: Driver | null): JsonObject | undefined {
  if (driver === null) return undefined;
  return { Name: driver.name, Options: mapOrNothing(driver.options) };
}

function mountFromJson(json: Fields): Partially<Mount> {
  const bind = json.object('BindOptions');
  const volume = json.object('VolumeOptions');
  const tmpfs = json.object('TmpfsOptions');
  if (json.string('Type') === 'image') {
    throw invalidArgument(
      'invalid mount type: image: services mount no images; put the files into a volume or a config',
    );
  }
  return {
    type: json.choice<Mount['type']>('Type', MOUNT_TYPE, MOUNT_TYPE.volume),
    source: json.string('Source'),
    target: json.string('Target'),
    readonly: json.bool('ReadOnly'),
    bind_options:
      bind === undefined
        ? null
        : {
            propagation: bind.choice<(typeof PROPAGATION)[keyof typeof PROPAGATION]>(
              'Propagation',
              PROPAGATION,
              PROPAGATION.rprivate,
            ),
            nonrecursive: bind.bool('NonRecursive'),
            createmountpoint: bind.bool('CreateMountpoint'),
            readonlynonrecursive: bind.bool('ReadOnlyNonRecursive'),
            readonlyforcerecursive: bind.bool('ReadOnlyForceRecursive'),
          },
    volume_options:
      volume === undefined
        ? null
        : {
            nocopy: volume.bool('NoCopy'),
            labels: volume.stringMap('Labels'),
            driver_config: driverFromJson(volume.object('DriverConfig')),
            subpath: volume.string('Subpath'),
          },
    tmpfs_options: tmpfs === undefined ? null : { size_bytes: tmpfs.number('SizeBytes'), mode: tmpfs.number('Mode') },
  };
}

function mountToJson(mount: Mount): JsonObject {
  const { bind_options: bind, volume_options: volume, tmpfs_options: tmpfs } = mount;
  return {
    Type: wordOf(MOUNT_TYPE, mount.type),
    Source: textOrNothing(mount.source),
    Target: mount.target,
    ReadOnly: mount.readonly || undefined,
    BindOptions:
      bind === null
        ? undefined
        : {
            Propagation: wordOf(PROPAGATION, bind.propagation),
            NonRecursive: bind.nonrecursive || undefined,
            CreateMountpoint: bind.createmountpoint || undefined,
            ReadOnlyNonRecursive: bind.readonlynonrecursive || undefined,
            ReadOnlyForceRecursive: bind.readonlyforcerecursive || undefined,
          },
    VolumeOptions:
      volume === null
        ? undefined
        : {
            NoCopy: volume.nocopy || undefined,
            Labels: mapOrNothing(volume.labels),
            DriverConfig: driverToJson(volume.driver_config),
            Subpath: textOrNothing(volume.subpath),
          },
    TmpfsOptions:
      tmpfs === null ? undefined : { SizeBytes: textOrNothing(tmpfs.size_bytes), Mode: textOrNothing(tmpfs.mode) },
  };
}

interface FileReference {
  name: string;
  uid: string;
  gid: string;
  mode: number;
}

function fileFromJson(file: Fields | undefined): { file?: FileReference } {
  if (file === undefined) return {};
  return {
    file: { name: file.string('Name'), uid: file.string('UID'), gid: file.string('GID'), mode: file.number('Mode') },
  };
}

function fileToJson(file: FileReference | undefined): JsonObject | undefined {
  return file === undefined ? undefined : { Name: file.name, UID: file.uid, GID: file.gid, Mode: file.mode };
}

function healthFromJson(health: Fields | undefined): Partially<ContainerSpec>['healthcheck'] {
  if (health === undefined) return null;
  return {
    test: health.strings('Test'),
    interval: duration(health, 'Interval'),
    timeout: duration(health, 'Timeout'),
    retries: health.number('Retries'),
    start_period: duration(health, 'StartPeriod'),
    start_interval: duration(health, 'StartInterval'),
  };
}

function privilegesFromJson(json: Fields | undefined): Partially<ContainerSpec>['privileges'] {
  if (json === undefined) return null;
  const seccomp = json.object('Seccomp');
  const appArmor = json.object('AppArmor');
  return {
    no_new_privileges: json.bool('NoNewPrivileges'),
    seccomp:
      seccomp === undefined
        ? null
        : {
            mode: seccomp.choice<0 | 1 | 2>('Mode', { default: 0, unconfined: 1, custom: 2 }, 0),
            profile: seccomp.bytes('Profile'),
          },
    apparmor: appArmor === undefined ? null : { mode: appArmor.choice<0 | 1>('Mode', { default: 0, disabled: 1 }, 0) },
  };
}

/** ContainerSpec from Docker's JSON; `pids` is Resources.Limits.Pids, which the wire keeps here. */
export function containerSpecFromJson(json: Fields, pids: number): Partially<ContainerSpec> {
  const dns = json.object('DNSConfig');
  const init = json.optionalBool('Init');
  return {
    image: json.string('Image'),
    labels: json.stringMap('Labels'),
    command: json.strings('Command'),
    args: json.strings('Args'),
    hostname: json.string('Hostname'),
    env: json.strings('Env'),
    dir: json.string('Dir'),
    user: json.string('User'),
    groups: json.strings('Groups'),
    privileges: privilegesFromJson(json.object('Privileges')),
    init: init === undefined ? null : { value: init },
    stop_signal: json.string('StopSignal'),
    tty: json.bool('TTY'),
    open_stdin: json.bool('OpenStdin'),
    read_only: json.bool('ReadOnly'),
    mounts: json.objects('Mounts').map(mountFromJson),
    stop_grace_period: duration(json, 'StopGracePeriod'),
    healthcheck: healthFromJson(json.object('Healthcheck')),
    hosts: json.strings('Hosts'),
    dns_config:
      dns === undefined
        ? null
        : { nameservers: dns.strings('Nameservers'), search: dns.strings('Search'), options: dns.strings('Options') },
    secrets: json.objects('Secrets').map((secret) => ({
      secret_id: secret.string('SecretID'),
      secret_name: secret.string('SecretName'),
      ...fileFromJson(secret.object('File')),
    })),
    configs: json.objects('Configs').map((config) => ({
      config_id: config.string('ConfigID'),
      config_name: config.string('ConfigName'),
      ...fileFromJson(config.object('File')),
      ...(config.has('Runtime') ? { runtime: {} } : {}),
    })),
    sysctls: json.stringMap('Sysctls'),
    capability_add: json.strings('CapabilityAdd'),
    capability_drop: json.strings('CapabilityDrop'),
    ulimits: json
      .objects('Ulimits')
      .map((limit) => ({ name: limit.string('Name'), soft: limit.number('Soft'), hard: limit.number('Hard') })),
    oom_score_adj: json.number('OomScoreAdj'),
    pidsLimit: pids,
  };
}

function healthToJson(health: ContainerSpec['healthcheck']): JsonObject | undefined {
  if (health === null) return undefined;
  return {
    Test: listOrNothing(health.test),
    Interval: durationToNs(health.interval),
    Timeout: durationToNs(health.timeout),
    StartPeriod: durationToNs(health.start_period),
    StartInterval: durationToNs(health.start_interval),
    Retries: textOrNothing(health.retries),
  };
}

function seccompToJson(seccomp: NonNullable<ContainerSpec['privileges']>['seccomp']): JsonObject | undefined {
  if (seccomp === null) return undefined;
  return {
    Mode: ['default', 'unconfined', 'custom'][seccomp.mode],
    Profile: textOrNothing(Buffer.from(seccomp.profile).toString('base64')),
  };
}

function privilegesToJson(privileges: ContainerSpec['privileges']): JsonObject | undefined {
  if (privileges === null) return undefined;
  return {
    CredentialSpec: null,
    SELinuxContext: null,
    NoNewPrivileges: privileges.no_new_privileges || undefined,
    Seccomp: seccompToJson(privileges.seccomp),
    AppArmor: privileges.apparmor === null ? undefined : { Mode: ['default', 'disabled'][privileges.apparmor.mode] },
  };
}

/** Docker's JSON of a ContainerSpec. */
export function containerSpecToJson(spec: ContainerSpec): JsonObject {
  const dns = spec.dns_config;
  return {
    Image: spec.image,
    Labels: mapOrNothing(spec.labels),
    Command: listOrNothing(spec.command),
    Args: listOrNothing(spec.args),
    Hostname: textOrNothing(spec.hostname),
    Env: listOrNothing(spec.env),
    Dir: textOrNothing(spec.dir),
    User: textOrNothing(spec.user),
    Groups: listOrNothing(spec.groups),
    Privileges: privilegesToJson(spec.privileges),
    Init: spec.init?.value,
    StopSignal: textOrNothing(spec.stop_signal),
    TTY: spec.tty || undefined,
    OpenStdin: spec.open_stdin || undefined,
    ReadOnly: spec.read_only || undefined,
    Mounts: listOrNothing(spec.mounts.map(mountToJson)),
    StopGracePeriod: durationToNs(spec.stop_grace_period),
    Healthcheck: healthToJson(spec.healthcheck),
    Hosts: listOrNothing(spec.hosts),
    DNSConfig:
      dns === null
        ? undefined
        : {
            Nameservers: listOrNothing(dns.nameservers),
            Search: listOrNothing(dns.search),
            Options: listOrNothing(dns.options),
          },
    Secrets: listOrNothing(
      spec.secrets.map((secret) => ({
        File: fileToJson(secret.file),
        SecretID: secret.secret_id,
        SecretName: secret.secret_name,
      })),
    ),
    Configs: listOrNothing(
      spec.configs.map((config) => ({
        File: fileToJson(config.file),
        Runtime: config.runtime === undefined ? undefined : {},
        ConfigID: config.config_id,
        ConfigName: config.config_name,
      })),
    ),
    Isolation: 'default',
    Sysctls: mapOrNothing(spec.sysctls),
    CapabilityAdd: listOrNothing(spec.capability_add),
    CapabilityDrop: listOrNothing(spec.capability_drop),
    Ulimits: listOrNothing(spec.ulimits.map((l) => ({ Name: l.name, Hard: l.hard, Soft: l.soft }))),
    OomScoreAdj: textOrNothing(spec.oom_score_adj),
  };
}
