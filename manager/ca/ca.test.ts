import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import {
  callUnary,
  channelOptions,
  fetchLock,
  parseCertificate,
  renewCertificate,
  requestCertificate,
  TlsIdentity,
  tlsInfoOf,
  verifyChain,
  type NodeIdentity,
} from '../../identity/index.ts';
import {
  Cluster,
  IssuanceStatus_State,
  IssueNodeCertificateRequest,
  Node,
  NodeCAService,
  NodeDescription,
  NodeRole,
  NodeSpec_Availability,
  durationFromNs,
  timestampFromMs,
} from '../../proto/index.ts';
import { Client } from '@grpc/grpc-js';
import type { Manager } from '../manager.ts';
import { TestCluster, until } from '../testing.ts';
import { clusterOf, completeClusterSpec, createBootstrapIdentity } from './index.ts';

const ports = { clock: systemClock, random: systemRandom, log: silentLogger };
let cluster: TestCluster;
beforeEach(() => {
  cluster = new TestCluster();
});
afterEach(() => cluster.close());

const change = (manager: Manager, edit: (cluster: Cluster) => void): Promise<void> =>
  manager.store.update((tx) => {
    const copy = Cluster.clone(clusterOf(tx) as Cluster);
    edit(copy);
    tx.update('cluster', copy);
  });

/** Stores what an agent would report of its certificate. */
const report = (manager: Manager, identity: NodeIdentity): Promise<void> =>
  manager.store.update((tx) => {
    const node = Node.clone(tx.get('node', identity.nodeId) as Node);
    node.description = NodeDescription.create({ tls_info: tlsInfoOf(identity) });
    tx.update('node', node);
  });

describe('cluster defaults', () => {
  it('are those of Docker, but a node is Down after 5 s', () => {
    const spec = completeClusterSpec(undefined);
    expect(spec.annotations?.name).toBe('default');
    expect(spec.orchestration?.task_history_retention_limit).toBe(5);
    expect(spec.raft).toMatchObject({ snapshot_interval: 10_000, log_entries_for_slow_followers: 500 });
    expect(spec.dispatcher?.heartbeat_period).toEqual({ seconds: 1, nanos: 0 });
    expect(spec.dispatcher?.down_after).toEqual({ seconds: 5, nanos: 0 });
    expect(spec.ca_config?.node_cert_expiry).toEqual({ seconds: 7_776_000, nanos: 0 });
  });

  it('give way to what a user sets; zero means the default', () => {
    const spec = completeClusterSpec({
      annotations: { labels: { a: 'b' } },
      orchestration: { task_history_retention_limit: 0 },
      raft: { snapshot_interval: 0, election_tick: 0, keep_old_snapshots: 2 },
      dispatcher: { heartbeat_period: durationFromNs(2e9) },
      ca_config: { node_cert_expiry: durationFromNs(3600e9) },
    });
    expect(spec.annotations).toMatchObject({ name: 'default', labels: { a: 'b' } });
    expect(spec.orchestration?.task_history_retention_limit).toBe(0);
    expect(spec.raft).toMatchObject({ snapshot_interval: 10_000, keep_old_snapshots: 2, election_tick: 10 });
    expect(spec.dispatcher?.down_after).toEqual({ seconds: 10, nanos: 0 });
    expect(spec.ca_config?.node_cert_expiry?.seconds).toBe(3600);
  });
});

it('managers get the lock of the cluster from any manager, workers do not', async () => {
  const secret = systemRandom.bytes(32);
  const { manager, identity } = await cluster.bootstrap({ unlockKey: secret });
  const { manager: second, identity: other } = await cluster.join(manager.advertiseAddr);
  const lock = await fetchLock({ ...ports, remoteAddr: second.advertiseAddr, identity: other });
  expect(Buffer.from(lock.secret ?? [])).toEqual(Buffer.from(secret));
  expect(lock.version).toBe(clusterOf(manager.store.view())?.meta?.version?.index);
  for (const one of [manager, second]) expect(await one.unlockKey()).toEqual(lock.secret);
  const worker = await cluster.certificate(manager.advertiseAddr, cluster.token('worker'));
  await expect(fetchLock({ ...ports, remoteAddr: manager.advertiseAddr, identity: worker })).rejects.toMatchObject({
    code: 'PermissionDenied',
  });
  await until('both are locked', () => {
    const stored = [identity, other].map(({ nodeId }) => cluster.identitiesOf(nodeId).lock.secret);
    return stored.every((key) => key !== null && Buffer.compare(key, secret) === 0);
  });
  await change(manager, (one) => (one.unlock_keys = []));
  expect(await second.unlockKey()).toBeNull();
  await until('both are free', () => cluster.identitiesOf(other.nodeId).lock.secret === null);
});

it('keys of stock agents: three of each kind with different Lamport times', async () => {
  const { manager } = await cluster.bootstrap();
  const keys = clusterOf(manager.store.view())?.network_bootstrap_keys ?? [];
  expect(keys.filter((key) => key.subsystem === 'networking:gossip')).toHaveLength(3);
  expect(keys.filter((key) => key.subsystem === 'networking:ipsec')).toHaveLength(3);
  expect(new Set(keys.map((key) => key.lamport_time)).size).toBe(6);
});

it('a node gets the role of its token, the availability and labels it asked for, and the life the cluster sets', async () => {
  const { manager } = await cluster.bootstrap();
  await change(manager, (one) => {
    if (one.spec?.ca_config) one.spec.ca_config.node_cert_expiry = durationFromNs(2 * 3600e9);
  });
  const worker = await requestCertificate({
    ...ports,
    remoteAddr: manager.advertiseAddr,
    token: cluster.token('worker'),
    availability: NodeSpec_Availability.DRAIN,
    nodeLabels: { zone: 'a', empty: '' },
  });
  const node = manager.store.view().get('node', worker.nodeId);
  expect(node).toMatchObject({ role: NodeRole.WORKER, VXLANUDPPort: 4789 });
  expect(node?.spec?.availability).toBe(NodeSpec_Availability.DRAIN);
  expect(node?.spec?.annotations?.labels).toEqual({ zone: 'a', empty: '' });
  const lifeMs = parseCertificate(worker.cert).notAfterMs - Date.now();
  expect(Math.abs(lifeMs - 2 * 3_600_000)).toBeLessThan(60_000);

  const before = clusterOf(manager.store.view())?.meta?.version?.index;
  const renewed = await renewCertificate({ ...ports, remoteAddr: manager.advertiseAddr, identity: worker });
  expect(renewed.nodeId).toBe(worker.nodeId);
  expect(renewed.key).not.toBe(worker.key);
  expect(clusterOf(manager.store.view())?.meta?.version?.index).toBe(before);
});

it('refuses malformed requests, wrong tokens and removed nodes, and changes nothing', async () => {
  const { manager } = await cluster.bootstrap();
  const worker = await cluster.certificate(manager.advertiseAddr, cluster.token('worker'));
  const nodes = (): number => manager.store.view().list('node').length;
  const client = new Client(manager.advertiseAddr, new TlsIdentity(worker).channelCredentials(), channelOptions());
  try {
    for (const csr of ['', 'nonsense']) {
      const request = IssueNodeCertificateRequest.create({ csr: Buffer.from(csr) });
      const issued = callUnary(client, NodeCAService.IssueNodeCertificate, request, { timeoutMs: 5_000 });
      await expect(issued).rejects.toMatchObject({ code: 'InvalidArgument' });
    }
  } finally {
    client.close();
  }
  await manager.store.update((tx) => tx.remove('node', worker.nodeId));
  const renew = (): Promise<NodeIdentity> =>
    renewCertificate({ ...ports, remoteAddr: manager.advertiseAddr, identity: worker });
  await expect(renew()).rejects.toMatchObject({ code: 'PermissionDenied' });
  await change(manager, (one) => {
    one.blacklisted_certificates[worker.nodeId] = { expiry: timestampFromMs(Date.now() + 60_000) };
  });
  // A removed node counts as nobody: it would need a token.
  await expect(renew()).rejects.toMatchObject({ code: 'InvalidArgument' });
  expect(nodes()).toBe(1);
});

it('a root rotation reaches every node, then replaces root and tokens', async () => {
  const { manager, identity } = await cluster.bootstrap();
  const { manager: second, identity: other } = await cluster.join(manager.advertiseAddr);
  const worker = await cluster.certificate(manager.advertiseAddr, cluster.token('worker'));
  for (const one of [identity, other, worker]) await report(manager, one);
  const oldToken = cluster.token('worker');
  await change(manager, (one) => {
    if (one.spec?.ca_config) one.spec.ca_config.force_rotate++;
  });
  const stateOf = (nodeId: string): number | undefined =>
    manager.store.view().get('node', nodeId)?.certificate?.status?.state;
  await until('every node is told to renew', () =>
    [identity, other, worker].every((one) => stateOf(one.nodeId) === IssuanceStatus_State.ROTATE),
  );
  for (const [one, owner] of [
    [identity, manager],
    [other, second],
    [worker, undefined],
  ] as const) {
    const renewed = await renewCertificate({ ...ports, remoteAddr: second.advertiseAddr, identity: one });
    verifyChain(renewed.cert, identity.rootCa, Date.now(), renewed.key);
    owner?.updateIdentity(renewed);
    await report(manager, renewed);
  }
  await until('the rotation is over', () => clusterOf(manager.store.view())?.root_ca?.root_rotation === null);
  const rootCa = Buffer.from(clusterOf(manager.store.view())?.root_ca?.ca_cert ?? []).toString();
  expect(rootCa).not.toBe(identity.rootCa);
  expect(cluster.token('worker')).not.toBe(oldToken);
  // The managers present chains that both roots verify: a node with the new token trusts only the new root.
  const late = await cluster.certificate(second.advertiseAddr, cluster.token('worker'));
  expect(late.rootCa).toBe(rootCa);
  await expect(cluster.certificate(manager.advertiseAddr, oldToken)).rejects.toThrow(
    'remote CA does not match fingerprint',
  );
});

it('a first manager may be certified by an authority of the user', () => {
  const mine = createBootstrapIdentity({ nowMs: Date.now(), random: systemRandom });
  const again = createBootstrapIdentity({ nowMs: Date.now(), random: systemRandom, rootCa: mine.rootCa });
  verifyChain(again.identity.cert, mine.rootCa.cert, Date.now(), again.identity.key);
});
