import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { createRootCa } from '../../identity/index.ts';
import {
  Cluster,
  ClusterSpec,
  ConfigSpec,
  Network,
  NetworkSpec,
  NodeRole,
  NodeSpec,
  NodeSpec_Availability,
  NodeStatus_State,
  SecretSpec,
  TaskState,
  type ManagerStatus,
  type Node,
  type Partially,
  type RootCA,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';
import type { Control, MembershipPort } from './types.ts';

let store: MemoryStore;
let control: Control;
const clock = new VirtualClock(1_700_000_000_000);

function start(extra: { membership?: MembershipPort } = {}): void {
  store = createMemoryStore({ clock });
  control = createControl({ store, clock, random: new SeededRandom(1), log: silentLogger, ...extra });
}

beforeEach(() => start());

const manager = (id: string): Node =>
  aNode(id, { role: NodeRole.MANAGER, spec: { desired_role: NodeRole.MANAGER }, manager_status: { raft_id: 1 } });

describe('nodes', () => {
  const change = (node: Node, fields: Partially<NodeSpec>): Promise<unknown> =>
    control.UpdateNode({
      node_id: node.id,
      node_version: node.meta?.version ?? null,
      spec: NodeSpec.create({ ...node.spec, ...fields }),
    });
  const stored = (id: string): Node => store.view().get('node', id) as Node;

  it('take labels and availability; a stale version is refused', async () => {
    await store.seed({ node: [aNode('n1')] });
    const before = stored('n1');
    await change(before, { availability: NodeSpec_Availability.DRAIN, annotations: { labels: { a: 'b' } } });
    expect(stored('n1').spec).toMatchObject({ availability: NodeSpec_Availability.DRAIN, membership: 1 });
    expect(stored('n1').spec?.annotations?.labels).toEqual({ a: 'b' });
    await expect(change(before, {})).rejects.toMatchObject({ code: 'Unknown', message: 'update out of sequence' });
  });

  it('are demoted unless they are the last manager, or the quorum would be lost', async () => {
    await store.seed({ node: [manager('m1')] });
    await expect(change(stored('m1'), { desired_role: NodeRole.WORKER })).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: 'attempting to demote the last manager of the swarm',
    });
    await store.seed({ node: [manager('m2')] });
    await change(stored('m1'), { desired_role: NodeRole.WORKER });
    expect(stored('m1').spec?.desired_role).toBe(NodeRole.WORKER);
    const status = { raft_id: 1, addr: 'a', leader: false, reachability: 2 } satisfies ManagerStatus;
    start({ membership: { managerStatus: () => status, canRemove: () => false } });
    await store.seed({ node: [manager('m1'), manager('m2')] });
    await expect(change(stored('m1'), { desired_role: NodeRole.WORKER })).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: "can't remove member from the raft: this would result in a loss of quorum",
    });
    expect((await control.GetNode({ reference: 'm1' })).node?.manager_status).toEqual(status);
  });

  it('are removed when down or by force, never while in the raft group; their tasks are orphaned', async () => {
    const task = aTask('t1', { node_id: 'n1', status: { state: TaskState.RUNNING } });
    const cluster = Cluster.create({ id: 'c', spec: { annotations: { name: 'default' } } });
    await store.seed({ node: [aNode('n1'), manager('m1')], task: [task], cluster: [cluster] });
    await expect(control.RemoveNode({ node_id: 'm1', force: true })).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message:
        'node m1 is a cluster manager and is a member of the raft cluster. ' +
        'It must be demoted to worker before removal',
    });
    await expect(control.RemoveNode({ node_id: 'n1', force: false })).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: "node n1 is not down and can't be removed",
    });
    await control.RemoveNode({ node_id: 'n1', force: true });
    expect(store.view().get('node', 'n1')).toBeUndefined();
    expect(store.view().get('task', 't1')?.status?.state).toBe(TaskState.ORPHANED);
    expect(Object.keys(store.view().get('cluster', 'c')?.blacklisted_certificates ?? {})).toEqual(['n1']);
    await store.seed({ node: [aNode('n2', { status: { state: NodeStatus_State.DOWN } })] });
    await control.RemoveNode({ node_id: 'n2', force: false });
  });

  it('are found by hostname, ambiguous when two share it, and listed by role and labels', async () => {
    const twin = { description: { hostname: 'same', engine: { labels: { disk: 'ssd' } } } };
    await store.seed({ node: [aNode('n1', twin), aNode('n2', twin), manager('m1')] });
    await expect(control.GetNode({ reference: 'same' })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'node same is ambiguous (2 matches found)',
    });
    await expect(control.GetNode({ reference: 'zz' })).rejects.toThrow('node zz not found');
    const none = { names: [], id_prefixes: [], labels: {}, memberships: [], roles: [], node_labels: {} };
    const list = async (filters: object): Promise<string[]> =>
      (await control.ListNodes({ filters: { ...none, ...filters } })).nodes.map((node) => node.id);
    expect(await list({ roles: [NodeRole.MANAGER] })).toEqual(['m1']);
    expect(await list({ labels: { disk: 'ssd' } })).toEqual(['n1', 'n2']);
    expect(await list({ names: ['sa'] })).toEqual(['n1', 'n2']);
    expect(await list({ node_labels: { x: '' } })).toEqual([]);
  });
});

describe('networks', () => {
  const spec = (name: string, fields: Partially<NetworkSpec> = {}): NetworkSpec =>
    NetworkSpec.create({ annotations: { name }, ...fields });
  const ipam = (config: object): Partially<NetworkSpec> => ({ ipam: { configs: [config] } });

  it('are created as overlays', async () => {
    const { network } = await control.CreateNetwork({
      spec: spec('front', ipam({ subnet: '10.9.0.0/16', range: '10.9.1.0/24', gateway: '10.9.0.1' })),
    });
    expect(network?.spec?.driver_config?.name).toBe('overlay');
    expect((await control.GetNetwork({ reference: 'front' })).network?.id).toBe(network?.id);
  });

  const refusals: [string, NetworkSpec, string, string][] = [
    ['bad names', spec('-'), 'InvalidArgument', 'name must be valid as a DNS name component'],
    ['predefined names', spec('host'), 'PermissionDenied', 'operation is not permitted on predefined host network'],
    ['other drivers', spec('n', { driver_config: { name: 'nosuch' } }), 'NotFound', 'plugin "nosuch" not found'],
    ['subnets missing', spec('n', ipam({})), 'InvalidArgument', 'ipam configuration: subnet required'],
    ['bad subnets', spec('n', ipam({ subnet: '1.2' })), 'InvalidArgument', 'ipam configuration: invalid subnet 1.2'],
    [
      'gateways outside',
      spec('n', ipam({ subnet: '10.9.0.0/16', gateway: '10.8.0.1' })),
      'InvalidArgument',
      'ipam configuration: subnet 10.9.0.0/16 does not contain gateway 10.8.0.1',
    ],
    [
      'attachable ingress',
      spec('n', { ingress: true, attachable: true }),
      'InvalidArgument',
      'ingress network cannot be attachable',
    ],
  ];
  it.each(refusals)('refuse %s', async (_what, given, code, message) => {
    await expect(control.CreateNetwork({ spec: given })).rejects.toMatchObject({ code, message });
  });

  it('may be encrypted, and a value that says neither yes nor no is refused', async () => {
    const given = (name: string, encrypted: string): ReturnType<typeof spec> =>
      spec(name, { driver_config: { name: 'overlay', options: { encrypted } } });
    await expect(control.CreateNetwork({ spec: given('bad', 'maybe') })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'invalid value "maybe" of the network option "encrypted": true or false is expected',
    });
    expect(store.currentIndex).toBe(0);
    await control.CreateNetwork({ spec: given('n', '') });
    await control.CreateNetwork({ spec: given('plain', 'false') });
  });

  it('have one name each, and there is one ingress network', async () => {
    await control.CreateNetwork({ spec: spec('n') });
    await expect(control.CreateNetwork({ spec: spec('n') })).rejects.toMatchObject({
      code: 'AlreadyExists',
      message: 'network with name n already exists',
    });
    await control.CreateNetwork({ spec: spec('mesh', { ingress: true }) });
    await expect(control.CreateNetwork({ spec: spec('mesh2', { ingress: true }) })).rejects.toMatchObject({
      message: 'ingress network (mesh) is already present',
    });
  });

  it('are removed unless something uses them', async () => {
    const networks = ['n', 'mesh', 'bridge'].map((id) =>
      Network.create({
        id,
        spec: {
          annotations: { name: id, labels: id === 'bridge' ? { 'com.docker.swarm.predefined': 'true' } : {} },
          ingress: id === 'mesh',
        },
      }),
    );
    const user = aService('s', {
      spec: {
        annotations: { name: 's' },
        task: { container: { image: 'x' }, networks: [{ target: 'n' }] },
        endpoint: { ports: [{ target_port: 80, published_port: 80 }] },
      },
    });
    const task = aTask('t', { service_id: 's', networks: [{ network: { id: 'n' } }] });
    await store.seed({ network: networks, service: [user], task: [task] });
    const remove = (network_id: string): Promise<unknown> => control.RemoveNetwork({ network_id });
    await expect(remove('n')).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: 'network n is in use by service s',
    });
    await expect(remove('mesh')).rejects.toThrow('ingress network cannot be removed because service s depends on it');
    await expect(remove('bridge')).rejects.toMatchObject({ code: 'PermissionDenied' });
    await expect(remove('zz')).rejects.toMatchObject({ code: 'NotFound', message: 'network zz not found' });
    await store.update((tx) => tx.remove('service', 's'));
    await remove('n');
    await store.seed({ task: [aTask('attached', { service_id: '', networks: [{ network: { id: 'mesh' } }] })] });
    await expect(remove('mesh')).rejects.toThrow('network mesh is in use by task attached');
  });
});

describe('secrets and configs', () => {
  const secret = (name: string, data: Uint8Array = new Uint8Array([1]), labels = {}): SecretSpec =>
    SecretSpec.create({ annotations: { name, labels }, data });

  it('never show the data of a secret, and always that of a config', async () => {
    const created = await control.CreateSecret({ spec: secret('pw') });
    expect(created.secret?.spec?.data).toHaveLength(0);
    expect((await control.GetSecret({ reference: 'pw' })).secret?.spec?.data).toHaveLength(0);
    expect((await control.ListSecrets({ filters: null })).secrets[0]?.spec?.data).toHaveLength(0);
    expect(store.view().byName('secret', 'pw')?.spec?.data).toEqual(new Uint8Array([1]));
    await control.CreateConfig({ spec: ConfigSpec.create({ annotations: { name: 'cf' }, data: new Uint8Array([7]) }) });
    expect((await control.GetConfig({ reference: 'cf' })).config?.spec?.data).toHaveLength(1);
  });

  it('have a size, a name of their own and no driver', async () => {
    const limit = 'secret data must be larger than 0 and less than 512000 bytes';
    const refuse = async (spec: SecretSpec, message: string | RegExp): Promise<void> =>
      expect(control.CreateSecret({ spec })).rejects.toThrow(message);
    await refuse(secret('a', new Uint8Array(0)), limit);
    await refuse(secret('a', new Uint8Array(512_000)), limit);
    await refuse(secret('.a'), /^invalid name, only 64/);
    await control.CreateSecret({ spec: secret('a', new Uint8Array(511_999)) });
    await expect(control.CreateSecret({ spec: secret('a') })).rejects.toMatchObject({
      code: 'AlreadyExists',
      message: 'secret a already exists',
    });
    await refuse(SecretSpec.create({ annotations: { name: 'd' }, driver: { name: 'vault' } }), /not supported/);
    const large = ConfigSpec.create({ annotations: { name: 'c' }, data: new Uint8Array(1_024_000) });
    await expect(control.CreateConfig({ spec: large })).rejects.toThrow(
      'config data must be larger than 0 and less than 1024000 bytes',
    );
    await control.CreateConfig({ spec: { ...large, data: new Uint8Array(1_023_999) } });
  });

  it('change their labels only, and stay while a service uses them', async () => {
    const { secret: made } = await control.CreateSecret({ spec: secret('pw') });
    const version = made?.meta?.version ?? null;
    const id = made?.id ?? '';
    const update = (spec: SecretSpec): Promise<unknown> =>
      control.UpdateSecret({ secret_id: id, secret_version: version, spec });
    await expect(update(secret('other'))).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'only updates to Labels are allowed',
    });
    await expect(update(secret('pw', new Uint8Array([2])))).rejects.toThrow('only updates to Labels are allowed');
    await update(secret('pw', new Uint8Array(0), { a: 'b' }));
    expect(store.view().get('secret', id)?.spec).toMatchObject({ annotations: { labels: { a: 'b' } } });
    expect(store.view().get('secret', id)?.spec?.data).toHaveLength(1);
    const user = aService('sS', {
      spec: {
        annotations: { name: 'sS' },
        task: { container: { secrets: [{ secret_id: id, secret_name: 'pw', file: { name: 'pw' } }] } },
      },
    });
    await store.seed({ service: [user] });
    await expect(control.RemoveSecret({ secret_id: 'pw' })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: "secret 'pw' is in use by the following service: sS",
    });
    await store.update((tx) => tx.remove('service', 'sS'));
    await control.RemoveSecret({ secret_id: 'pw' });
    await expect(control.RemoveSecret({ secret_id: 'pw' })).rejects.toThrow('secret pw not found');
  });
});

describe('the cluster', () => {
  const digest = 'd'.repeat(50);
  const seed = (): Promise<void> =>
    store.seed({
      cluster: [
        Cluster.create({
          id: 'c',
          spec: {
            annotations: { name: 'default' },
            dispatcher: { heartbeat_period: { seconds: 1 }, down_after: { seconds: 7 } },
            ca_config: { node_cert_expiry: { seconds: 7_776_000 }, signing_ca_key: new Uint8Array([9]) },
          },
          root_ca: {
            ca_key: new Uint8Array([1]),
            ca_cert: new Uint8Array([2]),
            join_tokens: { worker: `SWMTKN-1-${digest}-w`, manager: `SWMTKN-1-${digest}-m` },
          },
          unlock_keys: [{ key: new Uint8Array([3]) }],
          network_bootstrap_keys: [{ key: new Uint8Array([4]) }],
        }),
      ],
    });
  const update = async (fields: Partially<ClusterSpec>, rotation = {}): Promise<Cluster> => {
    const stored = store.view().get('cluster', 'c') as Cluster;
    const { cluster } = await control.UpdateCluster({
      cluster_id: 'c',
      cluster_version: stored.meta?.version ?? null,
      spec: ClusterSpec.create({ ...stored.spec, ...fields }),
      address_pools: null,
      rotation: { worker_join_token: false, manager_join_token: false, manager_unlock_key: false, ...rotation },
    });
    return cluster as Cluster;
  };

  it('is shown without private keys', async () => {
    await seed();
    const { cluster } = await control.GetCluster({ reference: 'default' });
    expect(cluster?.root_ca?.ca_key).toHaveLength(0);
    expect(cluster?.spec?.ca_config?.signing_ca_key).toHaveLength(0);
    expect([cluster?.unlock_keys, cluster?.network_bootstrap_keys]).toEqual([[], []]);
    expect(cluster?.root_ca?.join_tokens?.worker).toContain('SWMTKN');
    expect((await control.ListClusters({ filters: null })).clusters).toHaveLength(1);
  });

  it('takes settings, keeps what callers cannot see, and refuses bad ones', async () => {
    await seed();
    await update({
      orchestration: { task_history_retention_limit: 2 },
      dispatcher: { heartbeat_period: { seconds: 1 } },
    });
    expect(store.view().get('cluster', 'c')?.spec?.dispatcher?.down_after).toEqual({ seconds: 7, nanos: 0 });
    expect(store.view().get('cluster', 'c')?.spec?.ca_config?.signing_ca_key).toHaveLength(1);
    await update({ dispatcher: { heartbeat_period: { seconds: 4 } } });
    expect(store.view().get('cluster', 'c')?.spec?.dispatcher?.down_after).toEqual({ seconds: 20, nanos: 0 });
    await expect(update({ annotations: { name: 'x' } })).rejects.toThrow('modification of cluster name is not allowed');
    await expect(update({ ca_config: { node_cert_expiry: { seconds: 60 } } })).rejects.toThrow(
      'minimum certificate expiry time is: 1h0m0s',
    );
    await expect(update({ dispatcher: { heartbeat_period: { seconds: -1 } } })).rejects.toThrow(
      'heartbeat time period cannot be a negative duration',
    );
    const strategy = (word: string) => ({ name: 'default', labels: { 'shoal.scheduler.strategy': word } });
    await update({ annotations: strategy('binpack') });
    await expect(update({ annotations: strategy('random') })).rejects.toThrow(
      "shoal.scheduler.strategy: 'random' is not one of spread, binpack",
    );
  });

  it('rotates a join token: another secret under the same digest', async () => {
    await seed();
    const cluster = await update({}, { worker_join_token: true });
    expect(cluster.root_ca?.join_tokens?.worker).toMatch(new RegExp(`^SWMTKN-1-${digest}-[0-9a-z]{25}$`));
    expect(cluster.root_ca?.join_tokens?.manager).toBe(`SWMTKN-1-${digest}-m`);
  });

  it('has an unlock key while autolock is on', async () => {
    await seed();
    await expect(update({}, { manager_unlock_key: true })).rejects.toMatchObject({ code: 'FailedPrecondition' });
    await update({ encryption_config: { auto_lock_managers: true } });
    const first = store.view().get('cluster', 'c')?.unlock_keys[0]?.key;
    expect(first).toHaveLength(32);
    await update({}, { manager_unlock_key: true });
    expect(store.view().get('cluster', 'c')?.unlock_keys[0]?.key).not.toEqual(first);
    await update({ encryption_config: { auto_lock_managers: false } });
    expect(store.view().get('cluster', 'c')?.unlock_keys).toEqual([]);
  });

  it('begins a root rotation when it is forced, once', async () => {
    await seed();
    const { cert, key } = createRootCa({ nowMs: clock.now(), random: new SeededRandom(2) });
    const stored = Cluster.clone(store.view().get('cluster', 'c') as Cluster);
    stored.root_ca = { ...(stored.root_ca as RootCA), ca_cert: Buffer.from(cert), ca_key: Buffer.from(key) };
    await store.seed({ cluster: [stored] });
    const ca_config = { node_cert_expiry: { seconds: 7200 }, force_rotate: 1 };
    const rotating = await update({ ca_config });
    expect(rotating.root_ca?.root_rotation?.ca_cert.length).toBeGreaterThan(0);
    expect(rotating.root_ca?.root_rotation?.ca_key).toHaveLength(0);
    expect(rotating.root_ca?.last_forced_rotation).toBe(1);
    const again = await update({ ca_config });
    expect(again.root_ca?.root_rotation).toEqual(rotating.root_ca?.root_rotation);
    const withoutKey = { ...ca_config, signing_ca_cert: Buffer.from(cert) };
    await expect(update({ ca_config: withoutKey })).rejects.toThrow('the key of the signing certificate must be');
  });

  it('refuses external authorities', async () => {
    await seed();
    await expect(update({ ca_config: { external_cas: [{ url: 'https://ca' }] } })).rejects.toMatchObject({
      code: 'Unimplemented',
    });
  });
});
