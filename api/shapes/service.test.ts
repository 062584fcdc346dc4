import { describe, expect, it } from 'vitest';
import { Service, ServiceSpec } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import { serviceSpecFromJson, serviceSpecToJson, serviceToJson, withDefaults } from './service.ts';

const container = {
  Image: 'registry.example/web:1@sha256:abc',
  Labels: { tier: 'front' },
  Command: ['/entry'],
  Args: ['serve', '--port', '80'],
  Hostname: '{{.Node.Hostname}}-{{.Task.Slot}}',
  Env: ['A=1', 'B='],
  Dir: '/srv',
  User: '1000:1000',
  Groups: ['audio', '44'],
  Privileges: {
    CredentialSpec: null,
    SELinuxContext: null,
    NoNewPrivileges: true,
    Seccomp: { Mode: 'custom', Profile: 'e30=' },
    AppArmor: { Mode: 'disabled' },
  },
  Init: false,
  StopSignal: 'SIGINT',
  TTY: true,
  OpenStdin: true,
  ReadOnly: true,
  Mounts: [
    {
      Type: 'bind',
      Source: '/data',
      Target: '/data',
      ReadOnly: true,
      BindOptions: {
        Propagation: 'rshared',
        NonRecursive: true,
        CreateMountpoint: true,
        ReadOnlyNonRecursive: true,
        ReadOnlyForceRecursive: true,
      },
    },
    {
      Type: 'volume',
      Source: 'state',
      Target: '/state',
      VolumeOptions: {
        NoCopy: true,
        Labels: { a: 'b' },
        Subpath: 'sub',
        DriverConfig: { Name: 'local', Options: { type: 'nfs' } },
      },
    },
    { Type: 'tmpfs', Target: '/tmp', TmpfsOptions: { SizeBytes: 65_536, Mode: 0o1777 } },
  ],
  StopGracePeriod: 30_500_000_000,
  Healthcheck: {
    Test: ['CMD-SHELL', 'true'],
    Interval: 5e9,
    Timeout: 1e9,
    StartPeriod: 2e9,
    StartInterval: 500_000_000,
    Retries: 4,
  },
  Hosts: ['10.0.0.1 db'],
  DNSConfig: { Nameservers: ['10.0.0.53'], Search: ['example'], Options: ['ndots:2'] },
  Secrets: [{ File: { Name: 'key', UID: '0', GID: '0', Mode: 0o444 }, SecretID: 's1', SecretName: 'key' }],
  Configs: [
    { File: { Name: '/etc/app', UID: '1', GID: '2', Mode: 0o400 }, ConfigID: 'c1', ConfigName: 'app' },
    { Runtime: {}, ConfigID: 'c2', ConfigName: 'spec' },
  ],
  Isolation: 'default',
  Sysctls: { 'net.core.somaxconn': '1024' },
  CapabilityAdd: ['CAP_NET_ADMIN'],
  CapabilityDrop: ['ALL'],
  Ulimits: [{ Name: 'nofile', Hard: 2048, Soft: 1024 }],
  OomScoreAdj: -100,
};

const policy = { Parallelism: 2, Delay: 1e9, Monitor: 15e9, MaxFailureRatio: 0.15 };

/** Every flag of `docker service create` that has a meaning on Linux. */
const rich: JsonObject = {
  Name: 'web',
  Labels: { team: 'a' },
  TaskTemplate: {
    ContainerSpec: container,
    Resources: {
      Limits: { NanoCPUs: 1_500_000_000, MemoryBytes: 67_108_864, Pids: 50 },
      Reservations: {
        NanoCPUs: 500_000_000,
        MemoryBytes: 33_554_432,
        GenericResources: [
          { DiscreteResourceSpec: { Kind: 'ssd', Value: 3 } },
          { NamedResourceSpec: { Kind: 'gpu', Value: 'UUID1' } },
        ],
      },
    },
    RestartPolicy: { Condition: 'on-failure', Delay: 2e9, MaxAttempts: 3, Window: 60e9 },
    Placement: {
      Constraints: ['node.role==worker'],
      Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }],
      MaxReplicas: 2,
      Platforms: [{ Architecture: 'amd64', OS: 'linux' }],
    },
    Networks: [{ Target: 'n1', Aliases: ['www'], DriverOpts: { k: 'v' } }],
    LogDriver: { Name: 'json-file', Options: { 'max-size': '10m' } },
    ForceUpdate: 7,
    Runtime: 'container',
  },
  Mode: { Replicated: { Replicas: 0 } },
  UpdateConfig: { ...policy, FailureAction: 'rollback', Order: 'start-first' },
  RollbackConfig: { ...policy, FailureAction: 'continue', Order: 'stop-first' },
  EndpointSpec: {
    Mode: 'vip',
    Ports: [
      { Name: 'http', Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' },
      { Protocol: 'udp', TargetPort: 53, PublishMode: 'host' },
      { Protocol: 'sctp', TargetPort: 9, PublishedPort: 9, PublishMode: 'host' },
    ],
  },
};

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const minimal = (more: JsonObject = {}): JsonObject => ({
  Name: 's',
  TaskTemplate: { ContainerSpec: { Image: 'i' } },
  ...more,
});

describe('service specification', () => {
  it('comes back as it was sent, flag by flag', () => {
    expect(plain(serviceSpecToJson(serviceSpecFromJson(rich)))).toEqual(rich);
  });

  it('survives the wire', () => {
    const spec = serviceSpecFromJson(rich);
    expect(plain(serviceSpecToJson(ServiceSpec.decode(ServiceSpec.encode(spec))))).toEqual(rich);
  });

  it.each([
    [{ Global: {} }],
    [{ GlobalJob: {} }],
    [{ ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 9 } }],
    [{ Replicated: { Replicas: 4 } }],
  ])('keeps the mode %j', (mode) => {
    expect(plain(serviceSpecToJson(serviceSpecFromJson(minimal({ Mode: mode }))))).toMatchObject({ Mode: mode });
  });

  it('fills in what a client leaves out', () => {
    const spec = serviceSpecFromJson(minimal());
    expect(spec.replicated?.replicas).toBe(1);
    expect([spec.update, spec.endpoint, spec.task?.restart]).toEqual([null, null, null]);
    const job = serviceSpecFromJson(minimal({ Mode: { ReplicatedJob: {} } }));
    expect(job.replicated_job).toEqual({ max_concurrent: 1, total_completions: 1 });
  });

  it('shows defaults on request only', () => {
    const service = Service.create({ id: 's1', spec: serviceSpecFromJson(minimal()) });
    expect(plain(serviceToJson(service))).not.toHaveProperty('Spec.UpdateConfig');
    expect(plain(serviceToJson(withDefaults(service)))).toMatchObject({
      Spec: {
        TaskTemplate: {
          ContainerSpec: { StopGracePeriod: 10e9 },
          RestartPolicy: { Condition: 'any', Delay: 5e9 },
        },
        UpdateConfig: { Parallelism: 1, Monitor: 5e9, FailureAction: 'pause', Order: 'stop-first' },
        EndpointSpec: { Mode: 'vip' },
      },
    });
  });

  it('hands credentials on, and never shows them', () => {
    const spec = serviceSpecFromJson(minimal(), 'c2VjcmV0');
    expect(spec.task?.container?.pull_options?.registry_auth).toBe('c2VjcmV0');
    expect(JSON.stringify(serviceSpecToJson(spec))).not.toContain('c2VjcmV0');
  });

  it.each([
    ['no container', { Name: 's' }, 'mismatched Runtime and *Spec fields'],
    ['another runtime', minimal({ TaskTemplate: { Runtime: 'plugin' } }), "runtime 'plugin' is not supported"],
    ['a type', minimal({ Labels: [] }), 'Labels must be an object'],
    [
      'a nested type',
      minimal({ TaskTemplate: { ContainerSpec: { Env: [1] } } }),
      'TaskTemplate.ContainerSpec.Env must',
    ],
    ['a word', minimal({ EndpointSpec: { Mode: 'anycast' } }), 'invalid Mode: "anycast"'],
    ['a word of JavaScript', minimal({ EndpointSpec: { Mode: 'constructor' } }), 'invalid Mode: "constructor"'],
    [
      'a mount',
      minimal({
        TaskTemplate: { ContainerSpec: { Image: 'i', Mounts: [{ Type: 'image', Source: 'i', Target: '/x' }] } },
      }),
      'invalid mount type: image: services mount no images',
    ],
    ['a number', minimal({ Mode: { Replicated: { Replicas: '3' } } }), 'Mode.Replicated.Replicas must be a number'],
  ])('refuses %s that is wrong, and names it', (_what, body, message) => {
    expect(() => serviceSpecFromJson(body)).toThrow(message);
  });
});
