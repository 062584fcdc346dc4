import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { Cluster, NetworkSpec, UpdateClusterRequest, type IPAMConfig, type Partially } from '../../proto/index.ts';
import { aNode, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';
import type { Control } from './types.ts';

let store: MemoryStore;
let control: Control;

beforeEach(() => {
  const clock = new VirtualClock(1_700_000_000_000);
  store = createMemoryStore({ clock });
  control = createControl({ store, clock, random: new SeededRandom(1), log: silentLogger });
});

const create = (name: string, ...configs: Partially<IPAMConfig>[]): ReturnType<Control['CreateNetwork']> =>
  control.CreateNetwork({ spec: NetworkSpec.create({ annotations: { name }, ipam: { configs } }) });

describe('a network with subnets', () => {
  it('has IPv6 when one of them is of IPv6', async () => {
    const { network } = await create('six', { subnet: '10.9.0.0/24' }, { subnet: 'fd12::/64' });
    expect(network?.spec?.ipv6_enabled).toBe(true);
    expect((await create('four', { subnet: '10.8.0.0/24' })).network?.spec?.ipv6_enabled).toBe(false);
  });

  it.each<[string, Partially<IPAMConfig>[], string]>([
    ['too small', [{ subnet: '10.9.0.0/31' }], 'subnet 10.9.0.0/31 is too small: use a prefix of at most 30'],
    ['too small for IPv6', [{ subnet: 'fd12::/125' }], 'use a prefix of at most 124'],
    [
      'on each other',
      [{ subnet: '10.9.0.0/16' }, { subnet: '10.9.1.0/24' }],
      'overlaps with another one of the network',
    ],
    ['on a host', [{ subnet: '192.0.2.0/24' }], 'holds the address 192.0.2.7 of node box'],
    ['without room', [{ subnet: '10.9.0.0/24', range: '10.9.0.1/32' }], 'has no address to give'],
  ])('is refused when it is %s', async (_what, configs, words) => {
    const box = aNode('box', { status: { addr: '192.0.2.7' }, description: { hostname: 'box' } });
    await store.seed({ node: [box] });
    const before = store.currentIndex;
    await expect(create('n', ...configs)).rejects.toThrow(words);
    await expect(create('n', ...configs)).rejects.toMatchObject({ code: 'InvalidArgument' });
    expect(store.currentIndex).toBe(before);
  });
});

describe('the address pools of a cluster', () => {
  const update = async (address_pools: UpdateClusterRequest['address_pools']): Promise<Cluster> => {
    const stored = store.view().get('cluster', 'c')!;
    const version = stored.meta?.version ?? null;
    const request = { cluster_id: 'c', cluster_version: version, spec: stored.spec, address_pools };
    const { cluster } = await control.UpdateCluster(UpdateClusterRequest.create(request));
    return cluster!;
  };

  it('can be changed, each part for itself; wrong ones change nothing', async () => {
    const cluster = { id: 'c', spec: {}, defaultAddressPool: ['10.0.0.0/8'], subnetSize: 24 };
    await store.seed({ cluster: [Cluster.create(cluster)] });
    expect(await update(null)).toMatchObject({ defaultAddressPool: ['10.0.0.0/8'], subnetSize: 24 });
    expect(await update({ pools: [], subnet_size: 26 })).toMatchObject({ subnetSize: 26 });
    const pools = ['10.20.0.0/16', 'fd00:1::/48'];
    expect(await update({ pools, subnet_size: 0 })).toMatchObject({ defaultAddressPool: pools, subnetSize: 26 });
    await expect(update({ pools: ['10.0.0.0/27'], subnet_size: 0 })).rejects.toThrow('is too small');
    await expect(update({ pools: [], subnet_size: 7 })).rejects.toThrow('subnet size is out of range');
    expect(store.view().get('cluster', 'c')).toMatchObject({ defaultAddressPool: pools, subnetSize: 26 });
  });
});
