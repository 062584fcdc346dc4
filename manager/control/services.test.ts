import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import {
  EndpointSpec_ResolutionMode,
  Mount_Type,
  Network,
  PortConfig_PublishMode,
  Secret,
  Service,
  ServiceSpec,
  TaskState,
  UpdateServiceRequest_Rollback,
  UpdateStatus_UpdateState,
  type Partially,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';
import type { Control } from './types.ts';

let store: MemoryStore;
let control: Control;

beforeEach(() => {
  const clock = new VirtualClock(1_700_000_000_000);
  store = createMemoryStore({ clock });
  control = createControl({ store, clock, random: new SeededRandom(1), log: silentLogger });
});

function spec(name: string, fields: Partially<ServiceSpec> = {}): ServiceSpec {
  return ServiceSpec.create({
    annotations: { name },
    task: { container: { image: 'nginx' } },
    replicated: { replicas: 2 },
    ...fields,
  });
}

async function create(name: string, fields: Partially<ServiceSpec> = {}): Promise<Service> {
  const { service } = await control.CreateService({ spec: spec(name, fields) });
  return service as Service;
}

async function update(service: Service, change: (spec: ServiceSpec) => void): Promise<Service> {
  const next = ServiceSpec.clone(service.spec as ServiceSpec);
  change(next);
  const version = service.meta?.version ?? null;
  const answer = await control.UpdateService({
    service_id: service.id,
    service_version: version,
    spec: next,
    rollback: UpdateServiceRequest_Rollback.NONE,
    rollback_to: 0,
  });
  return answer.service as Service;
}

const ingress = (published_port: number): Partially<ServiceSpec> => ({
  endpoint: { ports: [{ target_port: 80, published_port, publish_mode: PortConfig_PublishMode.INGRESS }] },
});

describe('creating a service', () => {
  it('stores the spec and answers with the object', async () => {
    const service = await create('web');
    expect(service.id).toMatch(/^[0-9a-z]{25}$/);
    expect(service.meta?.version?.index).toBe(1);
    expect(service.spec_version).toEqual({ index: 0 });
    expect(store.view().byName('service', 'web')?.id).toBe(service.id);
  });

  it('makes up a name for a service that has none, as dockerd does', async () => {
    const spec = ServiceSpec.create({ task: { container: { image: 'x' } } });
    const names = await Promise.all(
      Array.from({ length: 3 }, async () => (await control.CreateService({ spec })).service?.spec?.annotations?.name),
    );
    for (const name of names) expect(name).toMatch(/^[a-z]+_[a-z]+\d*$/);
    expect(new Set(names).size).toBe(3);
  });

  it('fills in one replica, and the numbers and iteration of a job', async () => {
    const plain = await control.CreateService({
      spec: ServiceSpec.create({ annotations: { name: 'a' }, task: { container: { image: 'x' } } }),
    });
    expect(plain.service?.spec?.replicated?.replicas).toBe(1);
    const job = await create('job', { replicated: undefined, replicated_job: { total_completions: 3 } });
    expect(job.spec?.replicated_job).toEqual({ max_concurrent: 3, total_completions: 3 });
    expect(job.job_status?.job_iteration).toEqual({ index: 0 });
  });

  const container = (fields: object): Partially<ServiceSpec> => ({ task: { container: { image: 'x', ...fields } } });
  const refusals: [string, Partially<ServiceSpec>, string, string][] = [
    ['a bad name', { annotations: { name: 'a b' } }, 'InvalidArgument', 'name must be valid as a DNS name component'],
    [
      'a long name',
      { annotations: { name: 'a'.repeat(64) } },
      'InvalidArgument',
      'name must be 63 characters or fewer',
    ],
    ['no runtime', { task: {} }, 'InvalidArgument', 'mismatched Runtime and *Spec fields'],
    ['no image', container({ image: '' }), 'InvalidArgument', 'ContainerSpec: image reference must be provided'],
    [
      'a bad image',
      container({ image: 'A b' }),
      'InvalidArgument',
      'ContainerSpec: "A b" is not a valid repository/tag',
    ],
    [
      'mounts at one place',
      container({
        mounts: [
          { type: Mount_Type.VOLUME, source: 'a', target: '/x' },
          { type: Mount_Type.VOLUME, source: 'b', target: '/x' },
        ],
      }),
      'InvalidArgument',
      'ContainerSpec: duplicate mount point: /x',
    ],
    [
      'a relative bind source',
      container({ mounts: [{ type: Mount_Type.BIND, source: 'a', target: '/x' }] }),
      'InvalidArgument',
      'invalid bind mount source, must be an absolute path: a',
    ],
    [
      'cluster volumes',
      container({ mounts: [{ type: Mount_Type.CLUSTER, source: 'a', target: '/x' }] }),
      'Unimplemented',
      'cluster volumes are not supported: use a mount of type volume',
    ],
    [
      'too little memory',
      { task: { container: { image: 'x' }, resources: { limits: { memory_bytes: 1000 } } } },
      'InvalidArgument',
      'invalid memory value 1000: Must be at least 4MiB',
    ],
    [
      'too little CPU',
      { task: { container: { image: 'x' }, resources: { reservations: { nano_cpus: 1000 } } } },
      'InvalidArgument',
      'invalid cpu value 0.000001: Must be at least 0.001',
    ],
    [
      'a bad constraint',
      { task: { container: { image: 'x' }, placement: { constraints: ['node.id'] } } },
      'InvalidArgument',
      'constraint expected one operator from ==, !=',
    ],
    [
      'ingress with dnsrr',
      { endpoint: { mode: EndpointSpec_ResolutionMode.DNSRR, ports: [{ target_port: 80 }] } },
      'InvalidArgument',
      "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
    ],
    [
      'a port twice',
      {
        endpoint: {
          ports: [
            { target_port: 80, published_port: 1 },
            { target_port: 81, published_port: 1 },
          ],
        },
      },
      'InvalidArgument',
      'EndpointSpec: duplicate published ports provided',
    ],
    [
      'a negative delay',
      { update: { delay: { seconds: -1 } } },
      'InvalidArgument',
      'TaskSpec: update-delay cannot be negative',
    ],
    [
      'a missing secret',
      container({ secrets: [{ secret_id: 'i', secret_name: 'pw', file: { name: 'pw' } }] }),
      'InvalidArgument',
      'secret not found: pw',
    ],
    [
      'a missing config',
      container({ configs: [{ config_id: 'i', config_name: 'cf', file: { name: 'cf' } }] }),
      'InvalidArgument',
      'config not found: cf',
    ],
    [
      'a missing network',
      { task: { container: { image: 'x' }, networks: [{ target: 'zz' }] } },
      'NotFound',
      'network zz not found',
    ],
  ];
  it.each(refusals)('refuses %s', async (_what, fields, code, message) => {
    const request = { spec: spec('web', fields) };
    await expect(control.CreateService(request)).rejects.toMatchObject({ code, message });
    expect(store.currentIndex).toBe(0);
  });

  it('refuses a name that is taken', async () => {
    await create('web');
    await expect(create('web')).rejects.toMatchObject({
      code: 'AlreadyExists',
      message: 'name conflicts with an existing object: service web already exists',
    });
  });

  it('refuses a published port that another service has, in either mode, but not two in host mode', async () => {
    const a = await create('a', ingress(80));
    const host = (port: number): Partially<ServiceSpec> => ({
      endpoint: {
        ports: [{ target_port: 80, published_port: port, publish_mode: PortConfig_PublishMode.HOST }],
      },
    });
    const message = `port '80' is already in use by service 'a' (${a.id}) as an ingress port`;
    await expect(create('b', ingress(80))).rejects.toMatchObject({ code: 'InvalidArgument', message });
    await expect(create('b', host(80))).rejects.toMatchObject({ message });
    await create('c', host(81));
    await create('d', host(81));
    await expect(create('e', ingress(81))).rejects.toThrow(/as a host-published port/);
  });

  it('refuses the ingress network, and turns names of networks into ids', async () => {
    const net = Network.create({ id: 'n'.repeat(25), spec: { annotations: { name: 'front' } } });
    const mesh = Network.create({ id: 'i'.repeat(25), spec: { annotations: { name: 'ingress' }, ingress: true } });
    await store.seed({ network: [net, mesh] });
    const attached = (target: string): Partially<ServiceSpec> => ({
      task: { container: { image: 'x' }, networks: [{ target }] },
    });
    await expect(create('web', attached('ingress'))).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'Service cannot be explicitly attached to the ingress network "ingress"',
    });
    const service = await create('web', attached('front'));
    expect(service.spec?.task?.networks[0]?.target).toBe(net.id);
    expect(store.view().servicesByNetwork(net.id)).toHaveLength(1);
  });

  it('accepts references to secrets that exist, and refuses two at one place', async () => {
    const secret = Secret.create({ id: 'sec', spec: { annotations: { name: 'pw' }, data: new Uint8Array([1]) } });
    await store.seed({ secret: [secret] });
    const reference = { secret_id: 'sec', secret_name: 'pw', file: { name: 'pw' } };
    await create('web', { task: { container: { image: 'x', secrets: [reference] } } });
    const twice = { task: { container: { image: 'x', secrets: [reference, reference] } } };
    await expect(create('two', twice)).rejects.toThrow(
      "secret references 'pw' and 'pw' have a conflicting target: 'pw'",
    );
  });
});

describe('updating a service', () => {
  it('keeps the previous spec and marks the update only when tasks must change', async () => {
    const first = await create('web');
    const scaled = await update(first, (next) => (next.replicated = { replicas: 5 }));
    expect(scaled.previous_spec?.replicated?.replicas).toBe(2);
    expect(scaled.spec_version?.index).toBe(first.meta?.version?.index);
    expect(scaled.update_status).toBeNull();
    await store.seed({ task: [aTask('t1', { service_id: first.id, spec: scaled.spec?.task })] });
    const changed = await update(scaled, (next) => {
      if (next.task?.container) next.task.container.image = 'nginx:2';
    });
    expect(changed.update_status).toMatchObject({ state: UpdateStatus_UpdateState.UPDATING, completed_at: null });
  });

  it('refuses a stale version, a new mode and a new name', async () => {
    const first = await create('web');
    await update(first, (next) => (next.replicated = { replicas: 3 }));
    await expect(update(first, () => undefined)).rejects.toMatchObject({
      code: 'Unknown',
      message: 'update out of sequence',
    });
    const now = store.view().get('service', first.id) as Service;
    await expect(
      update(now, (next) => {
        delete next.replicated;
        next.global = {};
      }),
    ).rejects.toMatchObject({ code: 'Unimplemented', message: 'service mode change is not allowed' });
    await expect(
      update(now, (next) => {
        if (next.annotations) next.annotations.name = 'other';
      }),
    ).rejects.toMatchObject({ code: 'Unimplemented', message: 'renaming services is not supported' });
  });

  it('starts a new iteration of a job', async () => {
    const job = await create('job', { replicated: undefined, global_job: {} });
    const again = await update(job, (next) => {
      if (next.task) next.task.force_update = 1;
    });
    expect(again.job_status?.job_iteration?.index).toBe(job.meta?.version?.index);
  });

  it('rolls back to the previous spec, if there is one', async () => {
    const first = await create('web');
    const rollback = (service: Service): Promise<unknown> =>
      control.UpdateService({
        service_id: service.id,
        service_version: service.meta?.version ?? null,
        spec: service.spec,
        rollback: UpdateServiceRequest_Rollback.PREVIOUS,
        rollback_to: 0,
      });
    await expect(rollback(first)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: `service ${first.id} does not have a previous spec`,
    });
    const second = await update(first, (next) => (next.replicated = { replicas: 9 }));
    await rollback(second);
    const back = store.view().get('service', first.id) as Service;
    expect(back.spec?.replicated?.replicas).toBe(2);
    expect(back.previous_spec?.replicated?.replicas).toBe(9);
    expect(back.spec_version).toEqual(first.spec_version);
    expect(back.update_status?.state).toBe(UpdateStatus_UpdateState.ROLLBACK_STARTED);
  });
});

describe('finding services and tasks', () => {
  it('goes by full id, then name, then a prefix of one id', async () => {
    await store.seed({
      service: [aService('abc1'), aService('abc2'), aService('x', { spec: { annotations: { name: 'abc' } } })],
    });
    const id = async (reference: string): Promise<string | undefined> =>
      (await control.GetService({ reference })).service?.id;
    expect(await id('abc1')).toBe('abc1');
    expect(await id('abc')).toBe('x');
    await expect(id('ab')).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'service ab is ambiguous (2 matches found)',
    });
    await expect(id('zz')).rejects.toMatchObject({ code: 'NotFound', message: 'service zz not found' });
  });

  it('filters tasks by service, node, state, label of the service and up-to-dateness', async () => {
    const service = aService('s1', {
      spec_version: { index: 7 },
      spec: { annotations: { name: 'web', labels: { a: '1' } }, task: { container: { image: 'b' } } },
    });
    await store.seed({
      service: [service],
      node: [aNode('n1')],
      task: [
        aTask('t1', { service_id: 's1', node_id: 'n1', spec_version: { index: 7 } }),
        aTask('t2', { service_id: 's1', spec_version: { index: 3 }, desired_state: TaskState.SHUTDOWN }),
        aTask('t3', { service_id: 'other' }),
      ],
    });
    const none = {
      names: [],
      id_prefixes: [],
      labels: {},
      service_ids: [],
      node_ids: [],
      desired_states: [],
      up_to_date: false,
    };
    const list = async (filters: object): Promise<string[]> =>
      (await control.ListTasks({ filters: { ...none, ...filters } })).tasks.map((task) => task.id);
    expect(await list({ service_ids: ['web'] })).toEqual(['t1', 't2']);
    expect(await list({ node_ids: ['n1'] })).toEqual(['t1']);
    expect(await list({ desired_states: [TaskState.SHUTDOWN] })).toEqual(['t2']);
    expect(await list({ labels: { a: '' } })).toEqual(['t1', 't2']);
    expect(await list({ service_ids: ['s1'], up_to_date: true })).toEqual(['t1']);
    expect((await control.GetTask({ reference: 't3' })).task?.id).toBe('t3');
    await control.RemoveTask({ task_id: 't3' });
    expect(store.view().get('task', 't3')).toBeUndefined();
  });

  it('filters services by mode and label, and counts their tasks', async () => {
    await store.seed({
      service: [
        aService('r', { spec: { annotations: { name: 'r' }, replicated: { replicas: 3 } } }),
        aService('g', { spec: { annotations: { name: 'g', labels: { x: 'y' } }, global: {} } }),
      ],
      task: [
        aTask('t1', { service_id: 'r', status: { state: TaskState.RUNNING } }),
        aTask('t2', { service_id: 'g', status: { state: TaskState.RUNNING } }),
        aTask('t3', { service_id: 'g', slot: 0 }),
      ],
    });
    const none = { names: [], id_prefixes: [], labels: {}, modes: [] };
    const list = async (filters: object): Promise<string[]> =>
      (await control.ListServices({ filters: { ...none, ...filters } })).services.map((service) => service.id);
    expect(await list({ modes: ['global'] })).toEqual(['g']);
    expect(await list({ labels: { x: 'z' } })).toEqual([]);
    expect(await list({ labels: { x: 'y' } })).toEqual(['g']);
    const { statuses } = await control.ListServiceStatuses({ services: ['r', 'g', 'gone'] });
    expect(statuses.map((one) => [one.desired_tasks, one.running_tasks])).toEqual([
      [3, 1],
      [2, 1],
      [0, 0],
    ]);
  });

  it('removes a service by name', async () => {
    await create('web');
    await control.RemoveService({ service_id: 'web' });
    await expect(control.RemoveService({ service_id: 'web' })).rejects.toMatchObject({ code: 'NotFound' });
  });
});
