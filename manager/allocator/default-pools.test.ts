import { expect, it } from 'vitest';
import { SeededRandom, silentLogger, TaskGroup, VirtualClock } from '../../base/index.ts';
import { Network, TaskState, type Partially, type PortConfig, type Service } from '../../proto/index.ts';
import { createBootstrapIdentity, createCluster } from '../ca/index.ts';
import { aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createAllocator } from './allocator.ts';

const SERVICES = 200;
const random = new SeededRandom(7);
const { identity, rootCa } = createBootstrapIdentity({ nowMs: 1_700_000_000_000, random });

/** The store of a new swarm, as `swarm init` with these settings makes it. */
async function newSwarm(init: {
  defaultAddressPools?: string[];
  subnetSize?: number;
  nodeAddr?: string;
}): Promise<MemoryStore> {
  const store = createMemoryStore({ clock: new VirtualClock(1_700_000_000_000) });
  await store.update((tx) => createCluster(tx, identity, { rootCa, ...init }, random));
  return store;
}

async function allocate(store: MemoryStore): Promise<void> {
  const clock = new VirtualClock(1_700_000_000_000);
  const group = new TaskGroup(silentLogger);
  const duty = createAllocator({ store, clock, random, log: silentLogger });
  group.start(duty.name, (signal) => duty.run(signal));
  for (let i = 0; i < 12; i++) await clock.advanceAsync(0);
  await group.stop();
}

function serviceOf(id: string, target: string, ports: Partially<PortConfig>[] = []): Service {
  const task = { container: { image: 'x' }, networks: [{ target }] };
  return aService(id, { spec: { annotations: { name: id }, task, endpoint: { ports } } });
}

const ingressOf = (store: MemoryStore): Network =>
  store
    .view()
    .list('network')
    .find((one) => one.spec?.ingress === true)!;

it('200 published services on one network, of one task each, all have their addresses', async () => {
  const store = await newSwarm({ subnetSize: 24 });
  const net = Network.create({ id: 'net', spec: { annotations: { name: 'net' }, driver_config: { name: 'overlay' } } });
  const services = Array.from({ length: SERVICES }, (_, i) => serviceOf(`s${i}`, 'net', [{ target_port: 80 }]));
  await store.seed({
    network: [net],
    service: services,
    task: services.map((one) => aTask(`t-${one.id}`, { service_id: one.id, spec: one.spec?.task ?? null })),
  });
  await allocate(store);
  const tasks = store.view().list('task');
  expect(tasks.map((task) => task.status?.err).filter((err) => err !== '')).toEqual([]);
  expect(tasks.every((task) => task.status?.state === TaskState.PENDING)).toBe(true);
  const given = [
    ...tasks.flatMap((task) => task.networks.flatMap((one) => one.addresses.map((a) => `${one.network?.id} ${a}`))),
    ...store
      .view()
      .list('service')
      .flatMap((one) => (one.endpoint?.virtual_ips ?? []).map((vip) => `${vip.network_id} ${vip.addr}`)),
  ];
  // An address and a VIP on each of both networks, of both families on the ingress network.
  expect(given).toHaveLength(SERVICES * 2 * 3);
  expect(new Set(given).size).toBe(given.length);
});

it('a pool that is named is cut as it is said; without one there is room; the first node is kept off', async () => {
  const subnets = async (init: Parameters<typeof newSwarm>[0]): Promise<(string | undefined)[]> => {
    const store = await newSwarm(init);
    await allocate(store);
    return (ingressOf(store).ipam?.configs ?? []).map((config) => config.subnet);
  };
  const own = expect.stringMatching(/^fd[0-9a-f]{2}:[0-9a-f:]+::\/64$/) as string;
  expect(await subnets({})).toEqual(['10.0.0.0/20', own]);
  expect(await subnets({ subnetSize: 22 })).toEqual(['10.0.0.0/22', own]);
  expect(await subnets({ defaultAddressPools: ['10.0.0.0/8'] })).toEqual(['10.0.0.0/24', own]);
  expect(await subnets({ defaultAddressPools: ['10.0.0.0/8'], subnetSize: 24, nodeAddr: '10.0.0.4' })).toEqual([
    '10.0.1.0/24',
    own,
  ]);
  expect(await subnets({ defaultAddressPools: ['fd01::/48', '10.7.0.0/16'], subnetSize: 26 })).toEqual([
    '10.7.0.0/26',
    'fd01::/64',
  ]);
});
