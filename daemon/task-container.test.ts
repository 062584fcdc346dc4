import { describe, expect, it } from 'vitest';
import {
  Config,
  Mount_Type,
  NodeDescription,
  PortConfig_Protocol,
  PortConfig_PublishMode,
  Secret,
  Task,
  type ContainerSpec,
  type Partially,
} from '../proto/index.ts';
import type { TaskDependencies } from '../worker/index.ts';
import { containerConfig, hostPorts, overlayNetworks, taskName } from './task-container.ts';

const node = NodeDescription.create({ hostname: 'host', platform: { architecture: 'x86_64', os: 'linux' } });
const dependencies: TaskDependencies = {
  secret: (id) => (id === 'sec' ? Secret.create({ id, spec: { data: Buffer.from('hush') } }) : undefined),
  config: (id) => (id === 'cfg' ? Config.create({ id, spec: { data: Buffer.from('open') } }) : undefined),
};
const defaults = { init: true, dns: ['10.0.0.53'] };

function aTask(container: Partially<ContainerSpec>, more: Partially<Task> = {}): Task {
  return Task.create({
    id: 't1',
    slot: 2,
    service_id: 's1',
    node_id: 'n1',
    service_annotations: { name: 'web', labels: { tier: 'front' } },
    spec: { container: { image: 'web:1', ...container } },
    ...more,
  });
}
const configOf = (container: Partially<ContainerSpec>, more: Partially<Task> = {}) =>
  containerConfig(aTask(container, more), node, dependencies, defaults);

describe('the container of a task', () => {
  it('is named after its place', () => {
    expect(taskName(aTask({}))).toBe('web.2.t1');
    expect(taskName(aTask({}, { slot: 0 }))).toBe('web.n1.t1');
    expect(taskName(aTask({}, { annotations: { name: 'given' } }))).toBe('given');
  });

  it('leaves out what was not said', () => {
    const config = configOf({});
    for (const absent of ['entrypoint', 'cmd', 'workingDir', 'user', 'hostname', 'stopSignal', 'healthCheck']) {
      expect(config).not.toHaveProperty(absent);
    }
    expect(config).toMatchObject({
      image: 'web:1',
      init: true,
      dns: ['10.0.0.53'],
      stopGraceMs: 10_000,
      privileged: false,
      seccomp: 'default',
      logDriver: { type: '', config: {} },
      restart: { name: 'no' },
      network: { mode: 'sandbox', endpoints: [{ networkId: 'bridge' }], taskId: 't1' },
    });
  });

  it('carries the labels that tools look for', () => {
    expect(configOf({ labels: { own: '1' } }).labels).toEqual({
      own: '1',
      'com.docker.swarm.node.id': 'n1',
      'com.docker.swarm.service.id': 's1',
      'com.docker.swarm.service.name': 'web',
      'com.docker.swarm.task': '',
      'com.docker.swarm.task.id': 't1',
      'com.docker.swarm.task.name': 'web.2.t1',
    });
  });

  it('has its templates filled in', () => {
    const config = configOf({
      env: ['WHO={{.Service.Name}}.{{.Task.Slot}}', 'TIER={{index .Service.Labels "tier"}}'],
      hostname: '{{.Node.Hostname}}-{{.Node.ID}}',
      mounts: [{ type: Mount_Type.VOLUME, source: 'data-{{.Task.Slot}}', target: '/data' }],
    });
    expect(config.env).toEqual(['WHO=web.2', 'TIER=front']);
    expect(config.hostname).toBe('host-n1');
    expect(config.mounts).toMatchObject([{ type: 'volume', source: 'data-2', target: '/data', readOnly: false }]);
    expect(() => configOf({ env: ['X={{.Nothing}}'] })).toThrow('template');
  });

  it('gets secrets and configs as files', () => {
    const file = (name: string) => ({ name, uid: '1', gid: '2', mode: 0o440 });
    const config = configOf({
      secrets: [{ secret_id: 'sec', secret_name: 'key', file: file('key') }],
      configs: [
        { config_id: 'cfg', config_name: 'app', file: file('/etc/app') },
        { config_id: 'cfg', config_name: 'app', runtime: {} },
      ],
    });
    expect(config.files.map(({ data, ...rest }) => ({ ...rest, data: Buffer.from(data).toString() }))).toEqual([
      { target: '/run/secrets/key', uid: 1, gid: 2, mode: 0o440, data: 'hush' },
      { target: '/etc/app', uid: 1, gid: 2, mode: 0o440, data: 'open' },
    ]);
    expect(() => configOf({ secrets: [{ secret_id: 'gone', secret_name: 'gone' }] })).toThrow('secret gone');
    const named = { ...file('key'), uid: 'root' };
    expect(() => configOf({ secrets: [{ secret_id: 'sec', secret_name: 'k', file: named }] })).toThrow(
      'invalid UID "root"',
    );
  });

  it('gets limits, reservations and generic resources', () => {
    const config = configOf(
      { pidsLimit: 9, oom_score_adj: 5, ulimits: [{ name: 'nofile', soft: 1, hard: 2 }] },
      {
        spec: {
          container: { image: 'i', pidsLimit: 9, ulimits: [{ name: 'nofile', soft: 1, hard: 2 }] },
          resources: {
            limits: { memory_bytes: 1e8, nano_cpus: 5e8 },
            reservations: { memory_bytes: 5e7, nano_cpus: 1 },
          },
        },
        assigned_generic_resources: [
          { named_resource_spec: { kind: 'gpu', value: 'U1' } },
          { named_resource_spec: { kind: 'gpu', value: 'U2' } },
          { discrete_resource_spec: { kind: 'ssd', value: 3 } },
        ],
      },
    );
    expect(config.resources).toEqual({
      memoryBytes: 1e8,
      nanoCpus: 5e8,
      memoryReservationBytes: 5e7,
      pidsLimit: 9,
      ulimits: [{ name: 'nofile', soft: 1, hard: 2 }],
    });
    expect(config.env).toEqual(['DOCKER_RESOURCE_GPU=U1,U2', 'DOCKER_RESOURCE_SSD=3']);
  });

  it('hangs on its networks with its addresses', () => {
    const attachment = (id: string, driver: string) => ({
      network: { id, driver_state: { name: driver } },
      addresses: ['10.0.1.5/24'],
      aliases: ['www'],
    });
    const task = aTask({}, { networks: [attachment('n1', 'overlay')] });
    expect(overlayNetworks(task)).toEqual(['n1']);
    expect(containerConfig(task, node, dependencies, defaults).network).toMatchObject({
      endpoints: [{ networkId: 'n1', address: '10.0.1.5/24', mac: '02:42:0a:00:01:05', aliases: ['www'] }],
    });
    const onHost = aTask({}, { networks: [attachment('h', 'host')] });
    expect(containerConfig(onHost, node, dependencies, defaults).network).toEqual({ mode: 'host' });
    expect(overlayNetworks(onHost)).toEqual([]);
  });

  it('publishes host ports only', () => {
    const port = (publish_mode: PortConfig_PublishMode, protocol: PortConfig_Protocol) => ({
      publish_mode,
      protocol,
      target_port: 80,
      published_port: 8080,
    });
    const ports = [
      port(PortConfig_PublishMode.INGRESS, PortConfig_Protocol.TCP),
      port(PortConfig_PublishMode.HOST, PortConfig_Protocol.UDP),
    ];
    const wanted = [{ protocol: 'udp', targetPort: 80, publishedPort: 8080, hostIp: '' }];
    expect(hostPorts(aTask({}, { endpoint: { ports } }))).toEqual(wanted);
    expect(hostPorts(aTask({}, { endpoint: { spec: { ports } } }))).toEqual(wanted);
    expect(hostPorts(aTask({}))).toEqual([]);
  });

  it('turns hosts around, and options of DNS, seccomp and health on', () => {
    const config = configOf({
      hosts: ['10.0.0.1 db db2'],
      dns_config: { nameservers: ['1.1.1.1'], search: ['x'], options: ['ndots:1'] },
      privileges: { seccomp: { mode: 1 }, no_new_privileges: true },
      healthcheck: { test: ['CMD', 'true'], retries: 3, interval: { seconds: 2 } },
      init: { value: false },
    });
    expect(config).toMatchObject({
      extraHosts: ['db db2:10.0.0.1'],
      dns: ['1.1.1.1'],
      dnsSearch: ['x'],
      dnsOptions: ['ndots:1'],
      seccomp: 'unconfined',
      noNewPrivileges: true,
      init: false,
      healthCheck: { test: ['CMD', 'true'], intervalMs: 2000, timeoutMs: 0, retries: 3 },
    });
    const custom = configOf({ privileges: { seccomp: { mode: 2, profile: Buffer.from('{"a":1}') } } });
    expect(custom.seccomp).toBe('{"a":1}');
  });

  it('passes on which part of a volume is meant', () => {
    const part = { type: Mount_Type.VOLUME, source: 'v', target: '/v', volume_options: { subpath: 'a/b' } };
    expect(configOf({ mounts: [part] }).mounts).toMatchObject([{ source: 'v', volumeSubpath: 'a/b' }]);
  });

  it('passes on how deep a bind goes', () => {
    const bind_options = { nonrecursive: true, readonlyforcerecursive: true, createmountpoint: true };
    const bind = { type: Mount_Type.BIND, source: '/s', target: '/t', readonly: true, bind_options };
    expect(configOf({ mounts: [bind] }).mounts).toMatchObject([
      { type: 'bind', readOnly: true, nonRecursive: true, readOnlyForceRecursive: true, createMountpoint: true },
    ]);
  });

  it('refuses mounts that it cannot make as asked', () => {
    expect(() => configOf({ mounts: [{ type: Mount_Type.CLUSTER, target: '/c' }] })).toThrow('mount type of /c');
  });
});
