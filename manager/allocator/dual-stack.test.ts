import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, TaskGroup, VirtualClock } from '../../base/index.ts';
import {
  Cluster,
  Network,
  PortConfig_Protocol,
  TaskState,
  type NetworkAttachmentConfig,
  type NetworkSpec,
  type Partially,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { checkAddressPools, uniqueLocalPool } from './address-pools.ts';
import { createAllocator } from './allocator.ts';
import { AddressPool } from './ipam.ts';

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

const aNetwork = (id: string, fields: Partially<NetworkSpec> = {}): Network =>
  Network.create({ id, spec: { annotations: { name: id }, driver_config: { name: 'overlay' }, ...fields } });

const subnets = (...list: string[]): Partially<NetworkSpec> => ({
  ipam: { configs: list.map((subnet) => ({ subnet })) },
});

const webOn = (id: string, networks: string[], labels: Record<string, string> = {}, ports: number[] = []): Service =>
  aService(id, {
    spec: {
      annotations: { name: id, labels },
      replicated: { replicas: 1 },
      task: { container: { image: 'x' }, networks: networks.map((target) => ({ target })) },
      endpoint: { ports: ports.map((port) => ({ target_port: 80, published_port: port })) },
    },
  });

const taskOf = (id: string, of: Service, slot = 1): Task =>
  aTask(id, { service_id: of.id, slot, spec: of.spec?.task ?? null });

const attachment = (id: string, networks: Partially<NetworkAttachmentConfig>[]): Task =>
  aTask(id, { service_id: '', spec: { attachment: { container_id: 'c' }, networks } });

const network = (id: string): Network => store.view().get('network', id)!;
const subnetsOf = (id: string): (string | undefined)[] => network(id).ipam?.configs.map((one) => one.subnet) ?? [];
const task = (id: string): Task => store.view().get('task', id)!;
const addressesOf = (id: string, at = 0): string[] => task(id).networks[at]?.addresses ?? [];
const vipsOf = (id: string): string[] =>
  (store.view().get('service', id)?.endpoint?.virtual_ips ?? []).map((vip) => `${vip.network_id} ${vip.addr}`);

describe('a network with IPv6', () => {
  it('has a subnet of each family: a given one, or one from the pools of the cluster', async () => {
    const cluster = Cluster.create({ id: 'one' });
    const given = aNetwork('given', subnets('fd12::/64'));
    const networks = [aNetwork('ingress', { ingress: true, ipv6_enabled: true }), given, aNetwork('plain')];
    await store.seed({ cluster: [cluster], network: [...networks, aNetwork('auto', { ipv6_enabled: true })] });
    lead();
    await settle();
    const pool = uniqueLocalPool('one').replace('::/48', '');
    expect(pool).toMatch(/^fd[0-9a-f]{2}(:[0-9a-f]{1,4}){1,2}$/);
    expect(subnetsOf('ingress')).toEqual(['10.0.0.0/24', `${pool}::/64`]);
    expect(subnetsOf('auto')).toEqual(['10.0.3.0/24', `${pool}:1::/64`]);
    expect(subnetsOf('given')).toEqual(['10.0.1.0/24', 'fd12::/64']);
    expect(subnetsOf('plain')).toEqual(['10.0.2.0/24']);
    expect(network('given').ipam?.configs[1]).toMatchObject({ family: 6, gateway: 'fd12::1' });
    const options = network('auto').driver_state?.options ?? {};
    expect(options['com.docker.network.driver.overlay.vxlanid_list']).toMatch(/^\d+$/);
    expect(uniqueLocalPool('two')).not.toBe(uniqueLocalPool('one'));
  });

  it('takes its subnet from an IPv6 pool of the cluster, and keeps off the subnets of hosts', async () => {
    const pools = ['fd00:1::/48', '10.3.0.0/16', 'fd00:2::/80'];
    const host_subnets = ['10.3.0.0/23', 'fd00:1::/64', 'fe80::1'];
    await store.seed({
      cluster: [Cluster.create({ id: 'c', defaultAddressPool: pools, subnetSize: 24 })],
      node: [aNode('n', { description: { host_subnets } })],
      network: [aNetwork('a', { ipv6_enabled: true })],
    });
    lead();
    await settle();
    expect(subnetsOf('a')).toEqual(['10.3.2.0/24', 'fd00:1:0:1::/64']);
  });

  it('may lie in the subnet of hosts when that is all of the pool, but not on a host', async () => {
    await store.seed({
      cluster: [Cluster.create({ id: 'c', defaultAddressPool: ['10.0.0.0/8'], subnetSize: 24 })],
      node: [aNode('n', { status: { addr: '10.0.0.9' }, description: { host_subnets: ['10.0.0.0/8'] } })],
      network: [aNetwork('a')],
    });
    lead();
    await settle();
    expect(subnetsOf('a')).toEqual(['10.0.1.0/24']);
  });

  it('gives services and tasks an address of each family, IPv4 first', async () => {
    const web = webOn('web', ['a', 'b']);
    const networks = [aNetwork('a', subnets('fd12::/64', '10.5.0.0/24')), aNetwork('b', subnets('10.6.0.0/24'))];
    await store.seed({ network: networks, service: [web], task: [taskOf('t', web)] });
    lead();
    await settle();
    expect(vipsOf('web')).toEqual(['a 10.5.0.2/24', 'a fd12::2/64', 'b 10.6.0.2/24']);
    expect(addressesOf('t')).toEqual(['10.5.0.3/24', 'fd12::3/64']);
    expect(addressesOf('t', 1)).toEqual(['10.6.0.3/24']);
  });

  it('says which family is exhausted, and gives back what it took of the other', async () => {
    const web = webOn('web', ['a']);
    const range = { ipam: { configs: [{ subnet: '10.5.0.0/24' }, { subnet: 'fd12::/64', range: 'fd12::8:0/127' }] } };
    const tasks = [1, 2, 3].map((slot) => taskOf(`t${slot}`, web, slot));
    await store.seed({ network: [aNetwork('a', range)], service: [web], task: tasks });
    lead();
    await settle();
    expect(vipsOf('web')).toEqual(['a 10.5.0.2/24', 'a fd12::8:0/64']);
    expect(addressesOf('t1')).toEqual(['10.5.0.3/24', 'fd12::8:1/64']);
    const words = 'network a (fd12::/64) has no free address: 2 of 2 in use; remove tasks or services from it';
    for (const id of ['t2', 't3']) expect(task(id).status?.err).toContain(words);
    await store.update((tx) => tx.remove('task', 't1'));
    await settle();
    expect(addressesOf('t2')[1]).toBe('fd12::8:1/64');
    expect(task('t2').status).toMatchObject({ state: TaskState.PENDING, err: '' });
  });

  it('honours the address that an attachment asks for in either family', async () => {
    const a = aNetwork('a', { attachable: true, ...subnets('10.5.0.0/24', 'fd12::/48') });
    const asks: [string, string[]][] = [
      ['both', ['fd12:0:0:ffff:0:0:0:1', '10.5.0.99']],
      ['six', ['fd12::2']],
      ['again', ['fd12:0::2']],
      ['alien', ['fd13::2']],
      ['two', ['10.5.0.7', '10.5.0.8']],
    ];
    await store.seed({ network: [a] });
    lead();
    await settle();
    for (const [id, addresses] of asks) {
      await store.seed({ task: [attachment(id, [{ target: 'a', addresses }])] });
      await settle();
    }
    expect(addressesOf('both')).toEqual(['10.5.0.99/24', 'fd12:0:0:ffff::1/48']);
    expect(addressesOf('six')).toEqual(['10.5.0.2/24', 'fd12::2/48']);
    for (const [id, address] of [
      ['again', 'fd12:0::2'],
      ['alien', 'fd13::2'],
      ['two', '10.5.0.8'],
    ] as const) {
      expect(task(id).status?.err).toContain(`address ${address} cannot be used on network a`);
      expect(task(id).networks).toEqual([]);
    }
  });
});

describe('several subnets', () => {
  it('are used up one after the other, and the end names them all', async () => {
    const web = webOn('web', ['a']);
    const tasks = Array.from({ length: 10 }, (_, i) => taskOf(`t${i}`, web, i + 1));
    await store.seed({ network: [aNetwork('a', subnets('10.5.0.0/29', '10.9.0.0/29'))], service: [web], task: tasks });
    lead();
    await settle();
    expect(addressesOf('t3')).toEqual(['10.5.0.6/29']);
    expect(addressesOf('t4')).toEqual(['10.9.0.2/29']);
    expect(addressesOf('t8')).toEqual(['10.9.0.6/29']);
    expect(task('t9').status?.err).toContain(
      'network a (10.5.0.0/29, 10.9.0.0/29) has no free address: 10 of 10 in use',
    );
  });
});

describe('the default pools', () => {
  it('hold 200 networks, and 200 services of one task each in one of them need no address per node', async () => {
    const services = Array.from({ length: 126 }, (_, i) => webOn(`s${i}`, ['n0']));
    const more = Array.from({ length: 200 }, (_, i) => webOn(`m${i}`, [`n${i}`]));
    const networks = Array.from({ length: 200 }, (_, i) => aNetwork(`n${i}`, { ipv6_enabled: true }));
    const all = [...services, ...more];
    await store.seed({
      cluster: [Cluster.create({ id: 'c' })],
      node: Array.from({ length: 40 }, (_, i) => aNode(`node${i}`, { status: { addr: `192.0.2.${i}` } })),
      network: networks,
      service: all,
      task: all.map((one) => taskOf(`t-${one.id}`, one)),
    });
    lead();
    await settle();
    const found = networks.flatMap(({ id }) => subnetsOf(id));
    expect(new Set(found).size).toBe(400);
    const pending = store
      .view()
      .list('task')
      .filter((one) => one.status?.state === TaskState.PENDING);
    // A /24 has 253 addresses: 126 services and tasks, and the first of the others with its VIP alone.
    expect(pending).toHaveLength(126 + 199);
    expect(task('t-m0').status?.err).toContain('253 of 253 in use');
  });

  it('are checked', () => {
    const check =
      (subnetPrefix: number, ...pools: string[]) =>
      (): void =>
        checkAddressPools({ pools, subnetPrefix });
    expect(check(0)).not.toThrow();
    expect(check(26, '10.0.0.0/16', 'fd00::/48')).not.toThrow();
    expect(check(31, '10.0.0.0/16')).toThrow('subnet size is out of range: 31');
    expect(check(20, '10.0.0.0/24')).toThrow('default address pool 10.0.0.0/24 is too small');
    expect(check(0, '10.0.0.0/8', '10.3.0.0/16')).toThrow('10.3.0.0/16 overlaps with 10.0.0.0/8');
    expect(check(0, '10.0.0.0')).toThrow('invalid CIDR');
  });
});

describe('labels of a service', () => {
  it('bind its published ports to an address', async () => {
    const labels = { 'shoal.publish.ip': '192.0.2.1,8443=[2001:db8::1]' };
    const web = webOn('web', [], labels, [8080, 8443]);
    web.spec?.endpoint?.ports.push({ ...web.spec.endpoint.ports[1]!, protocol: PortConfig_Protocol.UDP });
    await store.seed({ network: [aNetwork('ingress', { ingress: true })], service: [web] });
    lead();
    await settle();
    const ports = store.view().get('service', 'web')?.endpoint?.ports ?? [];
    expect(ports.map((port) => port.host_ip)).toEqual(['192.0.2.1', '2001:db8::1', '192.0.2.1']);
  });
});

describe('services on one published port', () => {
  const hostIps = (id: string): string[] | undefined =>
    store
      .view()
      .get('service', id)
      ?.endpoint?.ports.map((port) => port.host_ip);
  const at = (id: string, address: string): Service =>
    webOn(id, [], address === '' ? {} : { 'shoal.publish.ip': address }, [8080]);

  it('stand beside each other on different addresses, and wait for one that is taken', async () => {
    const all = at('all', '');
    await store.seed({
      network: [aNetwork('ingress', { ingress: true })],
      service: [at('one', '192.0.2.1'), at('two', '192.0.2.2'), all],
      task: [taskOf('t', all)],
    });
    lead();
    await settle();
    expect([hostIps('one'), hostIps('two'), hostIps('all')]).toEqual([['192.0.2.1'], ['192.0.2.2'], undefined]);
    expect(task('t').status?.err).toContain("port '8080' is already in use by service 'one'");
    await group.stop();
    lead();
    await store.update((tx) => tx.remove('service', 'one'));
    await settle();
    expect(task('t').status?.err).toContain("port '8080' is already in use by service 'two'");
    // Bound to another address, a service leaves the former one to others.
    await store.update((tx) => {
      const two = tx.get('service', 'two')!;
      tx.update('service', { ...two, spec: at('two', '').spec });
      const stuck = tx.get('service', 'all')!;
      tx.update('service', { ...stuck, spec: at('all', '192.0.2.2').spec });
    });
    await settle();
    expect(hostIps('two')).toEqual(['']);
    await store.update((tx) => {
      const two = tx.get('service', 'two')!;
      tx.update('service', { ...two, spec: at('two', '192.0.2.9').spec });
    });
    await settle();
    expect([hostIps('two'), hostIps('all')]).toEqual([['192.0.2.9'], ['192.0.2.2']]);
    expect(task('t').status?.state).toBe(TaskState.PENDING);
  });
});

describe('pools of every size', () => {
  it('hand out every address of theirs once', () => {
    const v4 = fc.integer({ min: 8, max: 30 }).map((prefix) => `10.0.0.0/${prefix}`);
    const v6 = fc.integer({ min: 48, max: 124 }).map((prefix) => `fd12::/${prefix}`);
    fc.assert(
      fc.property(fc.oneof(v4, v6), fc.array(fc.nat(20), { maxLength: 60 }), (subnet, steps) => {
        const pool = new AddressPool({ subnet, range: '', gateway: '', reserved: {} });
        const held = new Set<string>();
        for (const step of steps) {
          const given = [...held][step];
          if (step % 3 === 0 && given !== undefined) {
            expect(pool.release(given)).toBe(true);
            held.delete(given);
            continue;
          }
          const address = pool.allocate();
          if (address === undefined) expect(held.size).toBe(pool.usable);
          else expect(held.has(address)).toBe(false);
          if (address !== undefined) held.add(address);
        }
        expect(pool.freeCount).toBe(pool.usable - held.size);
      }),
      { numRuns: 60 },
    );
  });

  it('know addresses far beyond what numbers can count', () => {
    const pool = new AddressPool({ subnet: 'fd12::/48', range: 'fd12:0:0:5::/64', gateway: '', reserved: {} });
    expect(pool.allocate()).toBe('fd12:0:0:5::/48');
    expect(pool.reserve('fd12::ffff:ffff:ffff:ffff')).toBe(true);
    expect(pool.reserve('fd12:0:0:0:ffff:ffff:ffff:ffff/48')).toBe(false);
    expect(pool.release('fd12::ffff:ffff:ffff:ffff')).toBe(true);
    expect(() => new AddressPool({ subnet: 'fd12::/127', range: '', gateway: '', reserved: {} })).toThrow('too small');
  });
});
