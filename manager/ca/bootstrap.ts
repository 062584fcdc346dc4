import { createHash } from 'node:crypto';
import { newId, type Random } from '../../base/index.ts';
import {
  createCsr,
  createRootCa,
  DEFAULT_CERTIFICATE_LIFETIME_MS,
  identityFromPem,
  issueCertificate,
  makeJoinToken,
  type KeyedCertificate,
  type NodeIdentity,
} from '../../identity/index.ts';
import {
  Cluster,
  ClusterSpec,
  durationFromNs,
  durationToMs,
  EncryptionKey,
  IssuanceStatus_State,
  Network,
  Node,
  NodeRole,
  NodeSpec_Availability,
  NodeSpec_Membership,
  NodeStatus_State,
  type Partially,
} from '../../proto/index.ts';
import { checkAddressPools, DEFAULT_ADDRESS_POOL, DEFAULT_SUBNET_PREFIX } from '../allocator/index.ts';
import { checkHeartbeats } from '../heartbeat-settings.ts';
import { unlockKeyEntry } from '../keys/unlock-key.ts';
import { DEFAULT_TICKS } from '../../raft/index.ts';
import { checkRaftConfig } from '../raft-settings.ts';
import type { Transaction } from '../store/types.ts';
import { checkedNodeLabels } from './node-labels.ts';

/** Name of the one cluster object. */
export const CLUSTER_NAME = 'default';
/** VXLAN's port unless `swarm init` says otherwise. */
export const DEFAULT_DATA_PATH_PORT = 4789;
const NS_PER_SECOND = 1e9;
/** Keys that a stock agent's network needs of each kind (swarmkit.md §1.13). */
const KEYS_PER_SUBSYSTEM = 3;
const KEY_BYTES = 16;
const LAMPORT_START_BOUND = 65_536;
const KEY_SUBSYSTEMS = ['networking:gossip', 'networking:ipsec'] as const;

/** What `swarm init` may choose. Absent fields take the defaults. */
export interface ClusterInit {
  /** Authority made for this cluster; see `createBootstrapIdentity`. */
  rootCa: KeyedCertificate;
  /** Set fields replace the defaults, message by message. */
  spec?: Partially<ClusterSpec> | undefined;
  /** CIDRs; empty means the default. */
  defaultAddressPools?: readonly string[] | undefined;
  subnetSize?: number | undefined;
  dataPathPort?: number | undefined;
  availability?: NodeSpec_Availability | undefined;
  /** Labels of the first node. */
  nodeLabels?: Readonly<Record<string, string>> | undefined;
  /** Set for autolock, as is the spec: the key that locks managers' data. */
  unlockKey?: Uint8Array | undefined;
  /** Address of the first node, which its networks keep off. */
  nodeAddr?: string | undefined;
}

/**
 * A new root authority and, signed by it, the identity of a cluster's first manager with new node and cluster ids.
 * Nothing is stored.
 */
export function createBootstrapIdentity(options: {
  nowMs: number;
  random: Random;
  /** Life of the node's certificate, ms. */
  lifetimeMs?: number | undefined;
  /** An authority to use instead of a new one, PEM. */
  rootCa?: KeyedCertificate | undefined;
}): { identity: NodeIdentity; rootCa: KeyedCertificate } {
  const { nowMs, random } = options;
  const rootCa = options.rootCa ?? createRootCa({ nowMs, random });
  const { csr, key } = createCsr();
  const cert = issueCertificate({
    csr,
    nodeId: newId(random),
    clusterId: newId(random),
    role: 'manager',
    caCert: rootCa.cert,
    caKey: rootCa.key,
    nowMs,
    lifetimeMs: options.lifetimeMs ?? DEFAULT_CERTIFICATE_LIFETIME_MS,
    random,
  });
  return { identity: identityFromPem(cert, key, rootCa.cert), rootCa };
}

/** The spec of a new cluster (docker-api.md §4; silence makes a node Down after 5 s). */
export function defaultClusterSpec(): ClusterSpec {
  return ClusterSpec.create({
    annotations: { name: CLUSTER_NAME },
    orchestration: { task_history_retention_limit: 5 },
    raft: {
      snapshot_interval: 10_000,
      keep_old_snapshots: 0,
      log_entries_for_slow_followers: 500,
      heartbeat_tick: DEFAULT_TICKS.heartbeatTicks,
      election_tick: DEFAULT_TICKS.electionTicks,
      tick_ms: DEFAULT_TICKS.tickMs,
    },
    dispatcher: { heartbeat_period: durationFromNs(NS_PER_SECOND), down_after: durationFromNs(5 * NS_PER_SECOND) },
    ca_config: { node_cert_expiry: durationFromNs(DEFAULT_CERTIFICATE_LIFETIME_MS * 1e6) },
    task_defaults: {},
    encryption_config: {},
  });
}

/**
 * The defaults with what a user set: zero, empty and absent fields keep the default.
 * @throws ShoalError InvalidArgument for settings of consensus or heartbeats that are out of bounds.
 */
export function completeClusterSpec(given: Partially<ClusterSpec> | undefined): ClusterSpec {
  const spec = defaultClusterSpec();
  const wanted = ClusterSpec.create(given);
  spec.annotations = {
    ...wanted.annotations,
    name: CLUSTER_NAME,
    labels: wanted.annotations?.labels ?? {},
    indices: [],
  };
  if (given?.orchestration !== undefined && given.orchestration !== null) spec.orchestration = wanted.orchestration;
  const [raft, chosen] = [spec.raft, wanted.raft];
  if (raft !== null && chosen !== null) {
    raft.snapshot_interval = chosen.snapshot_interval || raft.snapshot_interval;
    raft.keep_old_snapshots = chosen.keep_old_snapshots;
    raft.log_entries_for_slow_followers = chosen.log_entries_for_slow_followers || raft.log_entries_for_slow_followers;
    raft.heartbeat_tick = chosen.heartbeat_tick || raft.heartbeat_tick;
    raft.election_tick = chosen.election_tick || raft.election_tick;
    raft.tick_ms = chosen.tick_ms || raft.tick_ms;
    checkRaftConfig(raft);
  }
  if (spec.dispatcher !== null && durationToMs(wanted.dispatcher?.heartbeat_period, 0) > 0) {
    spec.dispatcher.heartbeat_period = wanted.dispatcher?.heartbeat_period ?? null;
    spec.dispatcher.down_after = scaled(wanted.dispatcher?.heartbeat_period, 5);
  }
  if (spec.dispatcher !== null && durationToMs(wanted.dispatcher?.down_after, 0) !== 0) {
    spec.dispatcher.down_after = wanted.dispatcher?.down_after ?? null;
  }
  checkHeartbeats(spec.dispatcher);
  if (wanted.ca_config !== null) {
    const expiry = durationToMs(wanted.ca_config.node_cert_expiry, 0);
    spec.ca_config = { ...wanted.ca_config };
    if (expiry === 0) spec.ca_config.node_cert_expiry = defaultClusterSpec().ca_config?.node_cert_expiry ?? null;
  }
  if (wanted.task_defaults !== null) spec.task_defaults = wanted.task_defaults;
  if (wanted.encryption_config !== null) spec.encryption_config = wanted.encryption_config;
  return spec;
}

const scaled = (period: { seconds: number; nanos: number } | null | undefined, factor: number) =>
  durationFromNs(durationToMs(period, 1_000) * 1e6 * factor);

/** Keys of agents' gossip and encryption, with Lamport times unique over both subsystems. */
function networkKeys(random: Random): { keys: EncryptionKey[]; clock: number } {
  let clock = random.int(LAMPORT_START_BOUND);
  const keys: EncryptionKey[] = [];
  for (const subsystem of KEY_SUBSYSTEMS) {
    for (let count = 0; count < KEYS_PER_SUBSYSTEM; count++) {
      clock++;
      keys.push(EncryptionKey.create({ subsystem, key: random.bytes(KEY_BYTES), lamport_time: clock }));
    }
  }
  return { keys, clock };
}

/**
 * Prefix length of subnets in a cluster that chooses no pool: 4,096 networks of 4,093 addresses. Docker's /24 is full at
 * some 120 services of one task (moby#43052), since each has a virtual address as well.
 */
const ROOMY_SUBNET_PREFIX = 20;

/** Docker's clients always send a size, 24 unless told otherwise: without a pool that is no choice. */
function subnetPrefix(pools: readonly string[], given: number): number {
  if (pools.length > 0) return given || DEFAULT_SUBNET_PREFIX;
  return given === 0 || given === DEFAULT_SUBNET_PREFIX ? ROOMY_SUBNET_PREFIX : given;
}

function clusterObject(identity: NodeIdentity, init: ClusterInit, random: Random): Cluster {
  const { keys, clock } = networkKeys(random);
  const { rootCa } = init;
  const pools = init.defaultAddressPools ?? [];
  checkAddressPools({ pools, subnetPrefix: init.subnetSize ?? 0 });
  return Cluster.create({
    id: identity.clusterId,
    spec: completeClusterSpec(init.spec),
    root_ca: {
      ca_cert: Buffer.from(rootCa.cert),
      ca_key: Buffer.from(rootCa.key),
      ca_cert_hash: `sha256:${createHash('sha256').update(rootCa.cert).digest('hex')}`,
      join_tokens: { worker: makeJoinToken(rootCa.cert, random), manager: makeJoinToken(rootCa.cert, random) },
    },
    network_bootstrap_keys: keys,
    encryption_key_lamport_clock: clock,
    unlock_keys: init.unlockKey === undefined ? [] : [unlockKeyEntry(init.unlockKey)],
    defaultAddressPool: pools.length > 0 ? pools : [DEFAULT_ADDRESS_POOL],
    subnetSize: subnetPrefix(pools, init.subnetSize ?? 0),
    VXLANUDPPort: init.dataPathPort || DEFAULT_DATA_PATH_PORT,
  });
}

function ingressNetwork(random: Random): Network {
  return Network.create({
    id: newId(random),
    spec: {
      annotations: { name: 'ingress' },
      driver_config: { name: 'overlay' },
      ipam: { driver: { name: 'default' } },
      ipv6_enabled: true,
      ingress: true,
    },
  });
}

/** Networks that every host has on its own; services may name them (swarmkit.md §1.13). */
function predefinedNetworks(random: Random): Network[] {
  return ['bridge', 'host'].map((name) =>
    Network.create({
      id: newId(random),
      spec: {
        annotations: { name, labels: { 'com.docker.swarm.predefined': 'true' } },
        driver_config: { name },
      },
    }),
  );
}

/** The node object of a manager that made its own certificate. */
function firstNode(identity: NodeIdentity, init: ClusterInit): Node {
  return Node.create({
    id: identity.nodeId,
    spec: {
      annotations: { labels: checkedNodeLabels(init.nodeLabels ?? {}) },
      desired_role: NodeRole.MANAGER,
      membership: NodeSpec_Membership.ACCEPTED,
      availability: init.availability ?? NodeSpec_Availability.ACTIVE,
    },
    status: { state: NodeStatus_State.UNKNOWN, addr: init.nodeAddr ?? '' },
    role: NodeRole.MANAGER,
    certificate: {
      role: NodeRole.MANAGER,
      cn: identity.nodeId,
      certificate: Buffer.from(identity.cert),
      status: { state: IssuanceStatus_State.ISSUED },
    },
    VXLANUDPPort: init.dataPathPort || DEFAULT_DATA_PATH_PORT,
  });
}

/**
 * Writes the objects of a new cluster: the cluster (tokens, keys, spec), the ingress and the predefined networks, and the
 * first manager's node. Does nothing when a cluster exists.
 */
export function createCluster(tx: Transaction, identity: NodeIdentity, init: ClusterInit, random: Random): void {
  if (tx.list('cluster').length > 0) return;
  tx.create('cluster', clusterObject(identity, init, random));
  tx.create('network', ingressNetwork(random));
  for (const network of predefinedNetworks(random)) tx.create('network', network);
  tx.create('node', firstNode(identity, init));
}

/** The cluster object, once there is one. */
export function clusterOf(view: { list(kind: 'cluster'): Cluster[] }): Cluster | undefined {
  return view.list('cluster')[0];
}
