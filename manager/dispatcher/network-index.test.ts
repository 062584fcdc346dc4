import { beforeEach, describe, expect, it } from 'vitest';
import {
  Network,
  NodeStatus_State,
  PortConfig_Protocol,
  TaskState,
  type Partially,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { NetworkIndex } from './network-index.ts';
import { bareAddress, macOf } from './network-members.ts';

const overlay = (id: string, ingress = false, options: Record<string, string> = {}): Network =>
  Network.create({ id, driver_state: { name: 'overlay', options }, spec: { annotations: { name: id }, ingress } });

const placed = (id: string, node: string, network: Network, fields: Partially<Task> = {}): Task =>
  aTask(id, {
    node_id: node,
    status: { state: TaskState.RUNNING },
    networks: [{ network, addresses: ['10.0.1.7/24'], aliases: ['db'] }],
    ...fields,
  });

describe('network index', () => {
  let store: MemoryStore;
  let index: NetworkIndex;
  const net = overlay('net');
  const secret = overlay('secret', false, { encrypted: '' });

  /** Applies a change to the store and lets the index follow, as the dispatcher does. */
  const change = async (run: Parameters<MemoryStore['update']>[0]): Promise<Set<string>> => {
    const watch = store.watch();
    await store.update(run);
    for (const commit of watch.drain()) for (const one of commit.changes) index.apply(store.view(), one, commit.index);
    watch.close();
    return index.takeDirty();
  };

  beforeEach(async () => {
    store = createMemoryStore();
    index = new NetworkIndex();
    await store.seed({
      network: [net, secret, overlay('ing', true)],
      node: [
        aNode('n1', { status: { state: NodeStatus_State.READY, addr: '10.1.0.1' } }),
        aNode('n2', { status: { state: NodeStatus_State.READY, addr: '10.1.0.2:2377' } }),
      ],
    });
    index.rebuild(store.view(), store.currentIndex);
    index.takeDirty();
  });

  it('gives every node the ingress network, with all nodes as peers once somebody is on it', async () => {
    expect([...index.networksOf('n1')]).toEqual(['ing']);
    expect(index.nodesOn('ing')).toBe('all');
    // Else each node that joins would be told to all others for nothing.
    expect(index.table(store.view(), 'ing')?.peers).toEqual([]);
    const n3 = aNode('n3', { status: { state: NodeStatus_State.READY, addr: '' } });
    expect(await change((tx) => tx.create('node', n3))).toEqual(new Set());
    expect(await change((tx) => tx.create('task', placed('t1', 'n1', overlay('ing', true))))).toEqual(new Set(['ing']));
    expect(index.table(store.view(), 'ing')?.peers).toEqual([
      { node_id: 'n1', vtep: '10.1.0.1', wireguard_key: Buffer.alloc(0) },
      { node_id: 'n2', vtep: '10.1.0.2', wireguard_key: Buffer.alloc(0) },
    ]);
  });

  it('lists endpoints, services and peers, and rises in version with each change', async () => {
    expect(await change((tx) => tx.create('task', placed('t1', 'n1', net)))).toEqual(new Set(['net']));
    const first = index.table(store.view(), 'net');
    expect(first?.endpoints).toEqual([
      expect.objectContaining({
        task_id: 't1',
        vtep: '10.1.0.1',
        mac: '02:42:0a:00:01:07',
        serving: true,
        aliases: [],
      }),
    ]);
    expect(first?.peers).toEqual([{ node_id: 'n1', vtep: '10.1.0.1', wireguard_key: Buffer.alloc(0) }]);
    const service = aService('service', {
      spec: { annotations: { name: 'web' }, task: { networks: [{ target: 'net', aliases: ['db'] }] } },
      endpoint: {
        virtual_ips: [{ network_id: 'net', addr: '10.0.1.2/24' }],
        ports: [{ protocol: PortConfig_Protocol.TCP, target_port: 80, published_port: 8080 }],
      },
    });
    await change((tx) => tx.create('service', service));
    const second = index.table(store.view(), 'net');
    expect(second?.services).toMatchObject([{ service_id: 'service', name: 'web', vip: '10.0.1.2', aliases: ['db'] }]);
    expect(second?.services[0]?.ports[0]?.published_port).toBe(8080);
    expect(second?.version).toBeGreaterThan(first?.version ?? 0);
  });

  it('tells both families, weights, and whether local tasks are preferred', async () => {
    const container = { image: 'x', labels: { 'shoal.weight': '5' } };
    const task = placed('t1', 'n1', net, {
      spec: { container },
      networks: [{ network: net, addresses: ['10.0.1.7/24', 'fd00::7/64'] }],
    });
    const service = aService('service', {
      spec: { annotations: { name: 'web', labels: { 'shoal.ingress': 'local' } } },
      endpoint: {
        virtual_ips: [
          { network_id: 'net', addr: '10.0.1.2/24' },
          { network_id: 'net', addr: 'fd00::2/64' },
        ],
        ports: [{ target_port: 80, host_ip: '192.0.2.1' }],
      },
    });
    await change((tx) => {
      tx.create('service', service);
      tx.create('task', task);
    });
    const table = index.table(store.view(), 'net');
    expect(table?.endpoints).toMatchObject([{ address: '10.0.1.7/24', address6: 'fd00::7/64', weight: 5 }]);
    expect(table?.services).toMatchObject([
      { vip: '10.0.1.2', vip6: 'fd00::2', prefer_local: true, ports: [{ host_ip: '192.0.2.1' }] },
    ]);
  });

  it('touches no table when a change is of no concern to networks', async () => {
    const spec = { annotations: { name: 'web' }, task: { networks: [{ target: 'net' }] }, replicated: { replicas: 1 } };
    await change((tx) => tx.create('service', aService('service', { spec })));
    const before = index.table(store.view(), 'net');
    const scaled = await change((tx) => {
      const stored = tx.get('service', 'service')!;
      tx.update('service', { ...stored, spec: { ...stored.spec!, replicated: { replicas: 9 } } });
    });
    expect(scaled).toEqual(new Set());
    expect(index.table(store.view(), 'net')).toBe(before);
  });

  it('gives out the keys of peers to encrypted networks, and a new key to nobody else', async () => {
    await change((tx) => {
      tx.create('task', placed('t1', 'n1', net));
      tx.create('task', placed('t2', 'n1', secret));
    });
    const wireguard_key = Buffer.alloc(32, 7);
    const description = { data_path_addr: '10.1.0.1', wireguard_key };
    const touched = await change((tx) => {
      tx.update('node', { ...aNode('n1', { description }), meta: tx.get('node', 'n1')!.meta });
    });
    expect(touched).toEqual(new Set(['secret']));
    expect(index.table(store.view(), 'secret')?.peers).toEqual([{ node_id: 'n1', vtep: '10.1.0.1', wireguard_key }]);
    expect(index.table(store.view(), 'net')?.peers[0]?.wireguard_key).toHaveLength(0);
  });

  it('keeps what did not change as the same objects', async () => {
    await change((tx) => {
      tx.create('task', placed('t1', 'n1', net));
      tx.create('task', placed('t2', 'n2', net));
    });
    const before = index.table(store.view(), 'net')!;
    const wireguard_key = Buffer.alloc(32, 7);
    const description = { data_path_addr: '10.9.0.2', wireguard_key };
    await change((tx) => tx.update('node', { ...aNode('n2', { description }), meta: tx.get('node', 'n2')!.meta }));
    const after = index.table(store.view(), 'net')!;
    expect(after.peers[0]).toBe(before.peers[0]);
    expect(after.peers[1]).toEqual({ node_id: 'n2', vtep: '10.9.0.2', wireguard_key: Buffer.alloc(0) });
    expect(after.endpoints[0]).toBe(before.endpoints[0]);
    expect(after.endpoints[1]?.vtep).toBe('10.9.0.2');
    expect(before.endpoints[1]?.vtep).toBe('10.1.0.2');
  });

  it('serves only tasks that run and are to run', async () => {
    const states: [TaskState, TaskState, boolean][] = [
      [TaskState.STARTING, TaskState.RUNNING, false],
      [TaskState.RUNNING, TaskState.RUNNING, true],
      [TaskState.RUNNING, TaskState.SHUTDOWN, false],
    ];
    for (const [state, desired, serving] of states) {
      await store.seed({ task: [placed('t1', 'n1', net, { status: { state }, desired_state: desired })] });
      index.rebuild(store.view(), store.currentIndex);
      expect(index.table(store.view(), 'net')?.endpoints[0]?.serving).toBe(serving);
    }
  });

  it('forgets tasks that have ended or gone, and tells a node by the address it has now', async () => {
    await change((tx) => tx.create('task', placed('t1', 'n1', net)));
    const moved = aNode('n1', { description: { data_path_addr: '10.2.0.1' } });
    const dirty = await change((tx) => tx.update('node', { ...moved, meta: tx.get('node', 'n1')?.meta ?? null }));
    expect(dirty).toEqual(new Set(['net']));
    expect(index.table(store.view(), 'net')?.endpoints[0]?.vtep).toBe('10.2.0.1');
    await store.seed({ task: [placed('t2', 'n2', net)] });
    const dead = { status: { state: TaskState.FAILED } };
    index.rebuild(store.view(), store.currentIndex);
    await change((tx) =>
      tx.update('task', { ...placed('t1', 'n1', net, dead), meta: tx.get('task', 't1')?.meta ?? null }),
    );
    expect(index.nodesOn('net')).toEqual(['n2']);
    await change((tx) => tx.remove('task', 't2'));
    expect(index.table(store.view(), 'net')?.endpoints).toEqual([]);
    expect([...index.networksOf('n2')]).toEqual(['ing']);
  });

  it('has no table of host networks and of removed ones', async () => {
    const host = Network.create({ id: 'host', driver_state: { name: 'host' } });
    expect(await change((tx) => tx.create('task', placed('t1', 'n1', host)))).toEqual(new Set());
    await change((tx) => tx.remove('network', 'ing'));
    expect([...index.networksOf('n1')]).toEqual([]);
    expect(index.table(store.view(), 'ing')).toBeUndefined();
  });
});

describe('addresses', () => {
  it('derives what Docker derives', () => {
    expect(macOf('10.0.255.3/24')).toBe('02:42:0a:00:ff:03');
    expect(macOf('fd00::1/64')).toBe('');
    expect(bareAddress('10.0.0.1/24')).toBe('10.0.0.1');
  });
});
