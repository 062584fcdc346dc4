import { describe, expect, it } from 'vitest';
import type { ContainerConfigFacts, JsonObject } from '../ports.ts';
import { configToJson } from './container-config.ts';
import { containerFromJson } from './container-create.ts';
import { Fields } from './fields.ts';
import { hostConfigToJson } from './host-config.ts';

/** What a body asks for, without an engine between. */
function asked(body: JsonObject): ContainerConfigFacts {
  const { config } = containerFromJson('n', new Fields({ Image: 'i', ...body }), []);
  return config;
}

const hostOf = (host: JsonObject): JsonObject => hostConfigToJson(asked({ HostConfig: host }));
const configOf = (body: JsonObject): JsonObject => configToJson({ id: 'f'.repeat(64), config: asked(body) });

/** Members of HostConfig that are shown as they were given. */
const SHOWN: readonly (readonly [string, unknown])[] = [
  ['Binds', ['/a:/b:ro,rslave', 'v:/c', '/only']],
  ['Tmpfs', { '/t': 'size=1m,exec', '/u': '' }],
  ['Mounts', [{ Type: 'bind', Source: '/a', Target: '/b', ReadOnly: true, BindOptions: { Propagation: 'rshared' } }]],
  [
    'Mounts',
    [{ Type: 'bind', Source: '/a', Target: '/b', BindOptions: { NonRecursive: true, CreateMountpoint: true } }],
  ],
  [
    'Mounts',
    [
      {
        Type: 'volume',
        Source: 'v',
        Target: '/v',
        VolumeOptions: {
          NoCopy: true,
          Labels: { a: 'b' },
          Subpath: 'x/y',
          DriverConfig: { Name: 'd', Options: { o: 'p' } },
        },
      },
    ],
  ],
  ['Mounts', [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 9, Mode: 448, Options: [['exec']] } }]],
  ['VolumesFrom', ['other:ro']],
  ['VolumeDriver', 'local'],
  ['ContainerIDFile', '/cid'],
  ['ConsoleSize', [24, 80]],
  ['Annotations', { a: 'b' }],
  ['CapAdd', ['NET_ADMIN']],
  ['CapDrop', ['ALL']],
  ['GroupAdd', ['5', 'audio']],
  ['SecurityOpt', ['no-new-privileges', 'seccomp=unconfined', 'label=type:x']],
  ['PidMode', 'host'],
  ['IpcMode', 'container:x'],
  ['UTSMode', 'host'],
  ['UsernsMode', 'host'],
  ['CgroupnsMode', 'private'],
  ['CgroupParent', '/p'],
  ['ShmSize', 4096],
  ['Runtime', 'crun'],
  ['Isolation', 'default'],
  ['StorageOpt', { size: '1G' }],
  ['Sysctls', { 'net.core.somaxconn': '9' }],
  ['Init', false],
  ['Privileged', true],
  ['ReadonlyRootfs', true],
  ['AutoRemove', true],
  ['RestartPolicy', { Name: 'on-failure', MaximumRetryCount: 4 }],
  ['LogConfig', { Type: 'local', Config: { 'max-size': '1m' } }],
  ['MaskedPaths', []],
  ['ReadonlyPaths', ['/proc/x']],
  ['Devices', [{ PathOnHost: '/dev/a', PathInContainer: '/dev/b', CgroupPermissions: 'r' }]],
  ['DeviceCgroupRules', ['c 1:* rwm']],
  ['DeviceRequests', [{ Driver: '', Count: -1, DeviceIDs: null, Capabilities: [['gpu']], Options: {} }]],
  ['DeviceRequests', [{ Driver: 'cdi', Count: 0, DeviceIDs: ['a.b/c=d'], Capabilities: null, Options: {} }]],
  ...['Memory', 'MemorySwap', 'MemoryReservation', 'NanoCpus', 'CpuShares', 'CpuQuota', 'CpuPeriod'].map(
    (name) => [name, 7_000_000] as const,
  ),
  ...['CpuRealtimePeriod', 'CpuRealtimeRuntime', 'BlkioWeight', 'PidsLimit', 'OomScoreAdj'].map(
    (name) => [name, 100] as const,
  ),
  ['MemorySwap', -1],
  ['MemorySwappiness', 0],
  ['OomKillDisable', true],
  ['CpusetCpus', '0-1'],
  ['CpusetMems', '0'],
  ['BlkioWeightDevice', [{ Path: '/dev/a', Weight: 20 }]],
  ['BlkioDeviceReadBps', [{ Path: '/dev/a', Rate: 1 }]],
  ['BlkioDeviceWriteBps', [{ Path: '/dev/a', Rate: 2 }]],
  ['BlkioDeviceReadIOps', [{ Path: '/dev/a', Rate: 3 }]],
  ['BlkioDeviceWriteIOps', [{ Path: '/dev/a', Rate: 4 }]],
  ['Ulimits', [{ Name: 'nofile', Hard: 20, Soft: 10 }]],
];

describe('what create takes, inspect shows', () => {
  it.each(SHOWN)('HostConfig.%s', (name, value) => {
    expect(JSON.parse(JSON.stringify(hostOf({ [name]: value })))).toMatchObject({ [name]: value });
  });

  it.each([
    ['Hostname', 'h'],
    ['Domainname', 'd'],
    ['User', '1:2'],
    ['AttachStdin', true],
    ['AttachStdout', true],
    ['AttachStderr', true],
    ['Tty', true],
    ['OpenStdin', true],
    ['StdinOnce', true],
    ['Env', ['A=1', 'B']],
    ['Cmd', ['x', 'y']],
    ['Entrypoint', ['e']],
    ['WorkingDir', '/w'],
    ['Volumes', { '/v': {} }],
    ['ExposedPorts', { '80/tcp': {} }],
    ['Labels', { a: 'b' }],
    ['StopSignal', 'SIGINT'],
    ['StopTimeout', 3],
    ['Shell', ['/bin/x', '-c']],
    ['Healthcheck', { Test: ['CMD', 'true'], Interval: 5_000_000_000, Retries: 2, StartInterval: 1_000_000 }],
  ])('Config.%s', (name, value) => {
    expect(JSON.parse(JSON.stringify(configOf({ [name]: value })))).toMatchObject({ [name]: value });
  });

  it('has the types of Docker for what was not said', () => {
    expect(JSON.parse(JSON.stringify(hostOf({})))).toMatchObject({
      ...{ Binds: null, VolumesFrom: null, CapAdd: null, GroupAdd: null, SecurityOpt: null, DeviceRequests: null },
      ...{ Devices: [], Ulimits: [], BlkioWeightDevice: [], BlkioDeviceReadBps: [], ConsoleSize: [0, 0] },
      ...{ PidsLimit: null, MemorySwappiness: null, Memory: 0, PidMode: '', CpusetCpus: '', VolumeDriver: '' },
    });
    expect(hostOf({})).not.toHaveProperty('Tmpfs', {});
    expect(configOf({})).toMatchObject({ Env: null, Cmd: null, Entrypoint: null, Volumes: null, OnBuild: null });
    // The client's words for "not set".
    expect(hostOf({ MemorySwappiness: -1, PidsLimit: -1, CapAdd: [] })).toMatchObject({
      ...{ MemorySwappiness: null, PidsLimit: null, CapAdd: null },
    });
  });
});

describe('what is refused', () => {
  it.each([
    [{ Binds: ['/a:/b:ro:x'] }, "invalid volume specification: '/a:/b:ro:x'"],
    [{ Binds: ['/a:ro'] }, "invalid volume specification: '/a:ro'"],
    [{ Binds: ['/a:/b:ro,rw'] }, 'invalid mode: ro,rw'],
    [{ Binds: [':/b'] }, "invalid volume specification: ':/b'"],
    [{ Memory: 2 ** 70 }, 'HostConfig.Memory must be a number of 64 bits'],
    [{ Mounts: [{ Type: 'npipe', Target: '/a' }] }, 'invalid mount config for type "npipe": mount type unknown'],
    [
      { Mounts: [{ Type: 'bind', Source: '/a', Target: '/a', VolumeOptions: {} }] },
      'invalid mount config for type "bind": field VolumeOptions must not be specified',
    ],
    [
      { Mounts: [{ Type: 'tmpfs', Target: '/a', TmpfsOptions: { Options: [['x']] } }] },
      'invalid mount config for type "tmpfs": invalid option: x',
    ],
    [{ SecurityOpt: ['x'] }, 'invalid --security-opt 1: "x"'],
    [{ SecurityOpt: ['x=y'] }, 'invalid --security-opt 2: "x=y"'],
    [{ SecurityOpt: ['no-new-privileges=maybe'] }, 'invalid --security-opt 2: "no-new-privileges=maybe"'],
    [{ RestartPolicy: { Name: 'bad' } }, "invalid restart policy: unknown policy 'bad'"],
    [{ Memory: '1g' }, 'invalid JSON: HostConfig.Memory must be a number'],
    [{ Devices: [{ PathOnHost: 1 }] }, 'invalid JSON: HostConfig.Devices[0].PathOnHost must be a string'],
    [{ NetworkMode: 'host', Links: ['a:b'] }, "conflicting options: host type networking can't be used with links"],
  ])('%j', (host, words) => {
    expect(() => asked({ HostConfig: host })).toThrow(words);
  });

  it('takes what older clients send', () => {
    const { network, cmd } = asked({ MacAddress: '02:42:ac:11:00:09', Cmd: 'date' });
    expect(network.endpoints?.[0]?.mac).toBe('02:42:ac:11:00:09');
    expect(cmd).toEqual(['date']);
  });

  it('takes members that it does not know', () => {
    expect(asked({ HostConfig: { Hypothetical: { a: 1 } }, Also: [] }).image).toBe('i');
  });
});
