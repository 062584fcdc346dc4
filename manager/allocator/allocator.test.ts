import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, TaskGroup, VirtualClock } from '../../base/index.ts';
import {
  Cluster,
  EndpointSpec_ResolutionMode,
  Network,
  PortConfig_PublishMode,
  TaskState,
  type NetworkAttachmentConfig,
  type Partially,
  type PortConfig,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createAllocator } from './allocator.ts';
import { AllocatorState } from './state.ts';

let clock: VirtualClock;
let store: MemoryStore;
let group: TaskGroup;

function lead(): void {
  group = new TaskGroup(silentLogger);
  const duty = createAllocator({ store, clock, random: new SeededRandom(1), log: silentLogger });
  group.start(duty.name, (signal) => duty.run(signal));
}

async function settle(): Promise<void> {
  for (let i = 0; i < 12; i++) await clock.advanceAsync(0);
}

beforeEach(() => {
  clock = new VirtualClock(1_700_000_000_000);
  store = createMemoryStore({ clock });
});

afterEach(() => group.stop());

function aNetwork(id: string, fields: Partially<Network['spec']> = {}): Network {
  return Network.create({ id, spec: { annotations: { name: id }, driver_config: { name: 'overlay' }, ...fields } });
}

const ingress = (): Network => aNetwork('ingress', { ingress: true });
const on = (...targets: string[]): Partially<NetworkAttachmentConfig>[] => targets.map((target) => ({ target }));

function webOn(id: string, networks: string[], ports: Partially<PortConfig>[] = [], mode = 0): Service {
  return aService(id, {
    spec: {
      annotations: { name: id },
      replicated: { replicas: 1 },
      task: { container: { image: 'x' }, networks: on(...networks) },
      endpoint: { mode: mode as EndpointSpec_ResolutionMode, ports },
    },
  });
}

const taskOf = (id: string, service: Service, slot = 1): Task =>
  aTask(id, { service_id: service.id, slot, spec: service.spec?.task ?? null });

const task = (id: string): Task => store.view().get('task', id)!;
const network = (id: string): Network => store.view().get('network', id)!;
const service = (id: string): Service => store.view().get('service', id)!;

describe('networks', () => {
  it('get subnets and VXLAN ids in order, the ingress network first', async () => {
    await store.seed({ network: [aNetwork('a'), ingress(), aNetwork('b')] });
    lead();
    await settle();
    expect(network('ingress').ipam).toMatchObject({
      driver: { name: 'default' },
      configs: [{ family: 4, subnet: '10.0.0.0/24', gateway: '10.0.0.1' }],
    });
    const options = 'com.docker.network.driver.overlay.vxlanid_list';
    expect(network('ingress').driver_state).toEqual({ name: 'overlay', options: { [options]: '4096' } });
    expect(['a', 'b'].map((id) => network(id).ipam?.configs[0]?.subnet)).toEqual(['10.0.1.0/24', '10.0.2.0/24']);
  });

  it('follow the cluster settings, and avoid hosts and given subnets', async () => {
    const given = aNetwork('given', { ipam: { configs: [{ subnet: '10.50.0.0/20', range: '10.50.1.0/24' }] } });
    const cluster = Cluster.create({ id: 'c', defaultAddressPool: ['10.50.0.0/16'], subnetSize: 20 });
    const node = aNode('n', { status: { state: 2, addr: '10.50.16.9' } });
    await store.seed({ cluster: [cluster], node: [node], network: [aNetwork('a'), given] });
    lead();
    await settle();
    expect(network('a').ipam?.configs[0]?.subnet).toBe('10.50.32.0/20');
    expect(network('given').ipam?.configs[0]).toMatchObject({ range: '10.50.1.0/24', gateway: '10.50.0.1' });
  });

  it('of hosts alone are handed on; those that overlap are refused until the way is free', async () => {
    const host = aNetwork('host', { driver_config: { name: 'host' } });
    const one = aNetwork('one', { ipam: { configs: [{ subnet: '10.9.0.0/16' }] } });
    const two = aNetwork('two', { ipam: { configs: [{ subnet: '10.9.3.0/24' }] } });
    await store.seed({ network: [host, one] });
    lead();
    await settle();
    expect(network('host')).toMatchObject({ driver_state: { name: 'host' }, ipam: { driver: { name: 'default' } } });
    const web = webOn('web', ['two']);
    await store.seed({ network: [two], service: [web], task: [taskOf('t', web)] });
    await settle();
    expect(network('two').ipam).toBeNull();
    expect(task('t').status?.err).toContain('Pool overlaps with other one on this address space');
    await store.update((tx) => tx.remove('network', 'one'));
    await settle();
    expect(network('two').ipam?.configs[0]?.subnet).toBe('10.9.3.0/24');
    expect(task('t')).toMatchObject({ status: { state: TaskState.PENDING, err: '' } });
  });
});

describe('services', () => {
  it('get a VIP per network, one on ingress when they publish there, and ports', async () => {
    const web = webOn('web', ['a'], [{ target_port: 80 }, { target_port: 53, protocol: 1, published_port: 5353 }]);
    const dnsrr = webOn('dnsrr', ['a'], [], EndpointSpec_ResolutionMode.DNSRR);
    await store.seed({ network: [ingress(), aNetwork('a')], service: [web, dnsrr] });
    lead();
    await settle();
    expect(service('web').endpoint?.virtual_ips).toEqual([
      { network_id: 'ingress', addr: '10.0.0.2/24' },
      { network_id: 'a', addr: '10.0.1.2/24' },
    ]);
    expect(service('web').endpoint?.ports.map((port) => port.published_port)).toEqual([30_000, 5353]);
    expect(service('web').endpoint?.spec).toEqual(service('web').spec?.endpoint);
    expect(service('dnsrr').endpoint?.virtual_ips).toEqual([]);
  });

  it('keep what they have across updates and leaders, and give back the rest', async () => {
    const web = webOn('web', ['a'], [{ target_port: 80 }, { target_port: 81, published_port: 8081 }]);
    await store.seed({ network: [ingress(), aNetwork('a'), aNetwork('b')], service: [web] });
    lead();
    await settle();
    await group.stop();
    lead();
    await store.update((tx) => {
      const stored = tx.get('service', 'web')!;
      const next = webOn('web', ['b'], [{ target_port: 80 }]);
      tx.update('service', { ...stored, spec: next.spec });
      tx.create('service', webOn('other', [], [{ target_port: 1, published_port: 8081 }]));
    });
    await settle();
    expect(service('web').endpoint?.ports).toMatchObject([{ target_port: 80, published_port: 30_000 }]);
    expect(service('web').endpoint?.virtual_ips).toEqual([
      { network_id: 'ingress', addr: '10.0.0.2/24' },
      { network_id: 'b', addr: '10.0.2.2/24' },
    ]);
    expect(service('other').endpoint?.ports).toMatchObject([{ published_port: 8081 }]);
  });

  it('that want a taken port wait, and say so in their tasks', async () => {
    const one = webOn('one', [], [{ target_port: 80, published_port: 80 }]);
    const two = webOn('two', [], [{ target_port: 80, published_port: 80 }]);
    await store.seed({ network: [ingress()], service: [one, two], task: [taskOf('t', two)] });
    lead();
    await settle();
    expect(task('t').status).toMatchObject({
      state: TaskState.NEW,
      err: "port '80' is already in use by service 'one' (one) as an ingress port",
    });
    await store.update((tx) => tx.remove('service', 'one'));
    await settle();
    expect(task('t').status?.state).toBe(TaskState.PENDING);
  });

  it('leave host-mode ports to the scheduler', async () => {
    const host = { target_port: 80, published_port: 80, publish_mode: PortConfig_PublishMode.HOST };
    await store.seed({ service: [webOn('one', [], [host]), webOn('two', [], [host])] });
    lead();
    await settle();
    for (const id of ['one', 'two']) {
      expect(service(id).endpoint).toMatchObject({ ports: [{ published_port: 80 }], virtual_ips: [] });
    }
  });
});

describe('tasks', () => {
  it('get an address per network, the ports of their service, and move to PENDING', async () => {
    const web = webOn('web', ['a', 'host'], [{ target_port: 80 }]);
    const networks = [ingress(), aNetwork('a'), aNetwork('host', { driver_config: { name: 'host' } })];
    await store.seed({ network: networks, service: [web], task: [taskOf('t', web)] });
    lead();
    await settle();
    expect(task('t')).toMatchObject({
      status: { state: TaskState.PENDING, message: 'pending task scheduling' },
      endpoint: { ports: [{ published_port: 30_000 }] },
    });
    expect(task('t').networks.map((one) => [one.network?.id, one.addresses])).toEqual([
      ['ingress', ['10.0.0.3/24']],
      ['a', ['10.0.1.3/24']],
      ['host', []],
    ]);
    expect(task('t').networks[1]?.network?.driver_state?.name).toBe('overlay');
  });

  it('a hundred at once take one entry', async () => {
    const web = webOn('web', ['a']);
    await store.seed({ network: [aNetwork('a')], service: [web] });
    lead();
    await settle();
    const before = store.entries.length;
    await store.seed({ task: Array.from({ length: 100 }, (_, i) => taskOf(`t${i}`, web, i + 1)) });
    await settle();
    expect(store.entries.length - before).toBe(2);
    expect(
      new Set(
        store
          .view()
          .list('task')
          .map((t) => t.networks[0]?.addresses[0]),
      ).size,
    ).toBe(100);
  });

  it('say when a network is full, and go on when an address comes free', async () => {
    const tiny = aNetwork('tiny', { ipam: { configs: [{ subnet: '10.7.0.0/29' }] } });
    const web = webOn('web', ['tiny'], [], EndpointSpec_ResolutionMode.DNSRR);
    const tasks = Array.from({ length: 6 }, (_, i) => taskOf(`t${i}`, web, i + 1));
    await store.seed({ network: [tiny], service: [web], task: tasks });
    lead();
    await settle();
    expect(task('t5').status).toMatchObject({ state: TaskState.NEW });
    expect(task('t5').status?.err).toContain(
      'network tiny (10.7.0.0/29) has no free address: 5 of 5 in use; remove tasks',
    );
    const entries = store.entries.length;
    await settle();
    expect(store.entries.length).toBe(entries);
    await store.update((tx) => {
      const ended = tx.get('task', 't1')!;
      tx.update('task', { ...ended, status: { ...ended.status!, state: TaskState.FAILED } });
    });
    await settle();
    expect(task('t5')).toMatchObject({ status: { state: TaskState.PENDING, err: '' } });
    expect(task('t5').networks[0]?.addresses).toEqual(task('t1').networks[0]?.addresses);
  });

  it('use a given address when it is free', async () => {
    const web = webOn('web', ['a']);
    const fixed = aTask('fixed', {
      service_id: '',
      spec: { attachment: { container_id: 'c' }, networks: [{ target: 'a', addresses: ['10.0.0.77'] }] },
    });
    await store.seed({ network: [aNetwork('a')], service: [web], task: [fixed, { ...fixed, id: 'second' }] });
    lead();
    await settle();
    expect(task('fixed').networks[0]?.addresses).toEqual(['10.0.0.77/24']);
    expect(task('second').status?.err).toContain('address 10.0.0.77 cannot be used on network a');
  });

  it('name the network that is missing', async () => {
    const web = webOn('web', ['nowhere']);
    await store.seed({ service: [web], task: [taskOf('t', web)] });
    lead();
    await settle();
    expect(task('t').status?.err).toBe('network nowhere not found');
    await store.seed({ network: [aNetwork('nowhere')] });
    await settle();
    expect(task('t').status?.state).toBe(TaskState.PENDING);
  });
});

type Step = { op: 'service' | 'task' | 'end' | 'drop' | 'retire' | 'leader' | 'lost' | 'doubt'; n: number };

/** Each address and port at most once in everything that is stored and alive. */
function checkUnique(): void {
  const seen = new Set<string>();
  const once = (what: string): void => {
    expect(seen.has(what), what).toBe(false);
    seen.add(what);
  };
  for (const one of store.view().list('service')) {
    for (const vip of one.endpoint?.virtual_ips ?? []) once(`${vip.network_id} ${vip.addr}`);
    for (const port of one.endpoint?.ports ?? []) once(`${port.protocol}/${port.published_port}`);
  }
  for (const one of store.view().list('task')) {
    if ((one.status?.state ?? 0) > TaskState.RUNNING) continue;
    for (const attached of one.networks)
      for (const address of attached.addresses) once(`${attached.network?.id} ${address}`);
  }
}

async function perform({ op, n }: Step): Promise<void> {
  const view = store.view();
  const services = view.list('service');
  const chosen = services[n % Math.max(1, services.length)];
  const tasks = view.list('task');
  const victim = tasks[n % Math.max(1, tasks.length)];
  if (op === 'service')
    await store.seed({ service: [webOn(`s${n % 6}`, n % 2 === 0 ? ['a'] : ['a', 'b'], [{ target_port: n }])] });
  if (op === 'task' && chosen !== undefined)
    await store.seed({ task: [taskOf(`t${n}`, chosen)] }).catch(() => undefined);
  if (op === 'end' && victim !== undefined && victim.status!.state < TaskState.FAILED) {
    const status = { ...victim.status!, state: TaskState.FAILED };
    await store.update((tx) => tx.update('task', { ...tx.get('task', victim.id)!, status }));
  }
  if (op === 'drop' && victim !== undefined) await store.update((tx) => tx.remove('task', victim.id));
  if (op === 'retire' && chosen !== undefined) await store.update((tx) => tx.remove('service', chosen.id));
  if (op === 'leader') {
    await group.stop();
    lead();
  }
  // The allocator's next write fails (or seems to), not that of the test.
  if (op === 'lost' || op === 'doubt') {
    await store.seed({ service: [webOn(`x${n % 3}`, ['b'])] });
    store.failNext(op);
  }
}

describe('whatever happens', () => {
  const step = fc.record({
    op: fc.constantFrom<Step['op']>(
      'service',
      'task',
      'task',
      'task',
      'end',
      'drop',
      'retire',
      'leader',
      'lost',
      'doubt',
    ),
    n: fc.nat(40),
  });

  it('nothing is handed out twice, and what is left is what the store tells', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        clock = new VirtualClock(1_700_000_000_000);
        store = createMemoryStore({ clock });
        const b = aNetwork('b', { ipam: { configs: [{ subnet: '10.8.0.0/27' }] } });
        const a = aNetwork('a', { ipv6_enabled: true, ipam: { configs: [{ subnet: 'fd12::/123' }] } });
        await store.seed({ network: [ingress(), a, b] });
        lead();
        await settle();
        for (const one of steps) {
          await perform(one).catch(() => undefined);
          await settle();
          checkUnique();
        }
        await clock.advanceAsync(20_000);
        await settle();
        checkUnique();
        const waiting = store
          .view()
          .list('task')
          .filter((t) => t.status?.state === TaskState.NEW && t.status.err === '');
        for (const one of waiting) expect(store.view().get('service', one.service_id)).toBeUndefined();
        expect(AllocatorState.rebuild(store.view(), silentLogger).dump().length).toBeGreaterThan(0);
        await group.stop();
      }),
      { numRuns: 40 },
    );
  });
});
