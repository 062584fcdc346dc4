import { failedPrecondition, invalidArgument, ShoalError } from '../../base/index.ts';
import {
  Cluster,
  durationFromNs,
  durationToMs,
  durationToNs,
  timestampToMs,
  type AddressPools,
  type ClusterSpec,
  type Duration,
  type KeyRotation,
} from '../../proto/index.ts';
import { CLUSTER_STRATEGY_LABEL, parseStrategy } from '../../scheduler/index.ts';
import { checkAddressPools } from '../allocator/index.ts';
import { beginRootRotation } from '../ca/index.ts';
import { checkHeartbeats } from '../heartbeat-settings.ts';
import { UNLOCK_KEY_BYTES, unlockKeyEntry } from '../keys/unlock-key.ts';
import { checkRaftConfig } from '../raft-settings.ts';
import { sameMessage } from '../store/dirty.ts';
import { hasLabels, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import { rotateToken } from './tokens.ts';
import type { Control, ControlOptions } from './types.ts';
import { checkVersion } from './versions.ts';

/** Shortest life of a node certificate, ms. */
const CERTIFICATE_EXPIRY_MIN_MS = 3600 * 1000;
/** Heartbeats that a node may miss before it is down, when the cluster names no time itself. */
const DOWN_AFTER_PERIODS = 5;

/** A cluster as callers may see it: no private keys. Join tokens stay: `docker swarm join-token` shows them. */
function redacted(stored: Cluster): Cluster {
  const cluster = Cluster.clone(stored);
  const none = new Uint8Array(0);
  if (cluster.root_ca !== null) {
    cluster.root_ca.ca_key = none;
    if (cluster.root_ca.root_rotation !== null) cluster.root_ca.root_rotation.ca_key = none;
  }
  if (cluster.spec?.ca_config) cluster.spec.ca_config.signing_ca_key = none;
  cluster.network_bootstrap_keys = [];
  cluster.unlock_keys = [];
  return cluster;
}

function validate(spec: ClusterSpec, stored: Cluster): void {
  const name = spec.annotations?.name ?? '';
  if (name !== '' && name !== stored.spec?.annotations?.name) {
    throw invalidArgument('modification of cluster name is not allowed');
  }
  const expiryMs = durationToMs(spec.ca_config?.node_cert_expiry, 0);
  if (expiryMs !== 0 && expiryMs < CERTIFICATE_EXPIRY_MIN_MS) {
    throw invalidArgument('minimum certificate expiry time is: 1h0m0s');
  }
  checkHeartbeats(spec.dispatcher);
}

/**
 * Begins a root rotation when the spec asks for one: a higher `force_rotate`, or another signing certificate with its
 * key. The rotation duty ends it.
 */
function rotateRoot(cluster: Cluster, stored: Cluster, options: ControlOptions): void {
  const ca = cluster.spec?.ca_config ?? null;
  if (ca === null) return;
  if (ca.external_cas.length > 0) {
    throw new ShoalError('Unimplemented', 'external certificate authorities are not supported');
  }
  const old = stored.spec?.ca_config;
  const own = ca.signing_ca_cert.length > 0;
  const newSigner = own && !sameMessage(ca.signing_ca_cert, old?.signing_ca_cert);
  if (!newSigner && ca.force_rotate <= (old?.force_rotate ?? 0)) return;
  if (own && ca.signing_ca_key.length === 0) {
    throw invalidArgument('the key of the signing certificate must be provided');
  }
  if (cluster.root_ca === null) {
    throw failedPrecondition('the cluster has no root certificate to rotate: its certificate authority is not set up');
  }
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
  const rootCa = own ? { cert: text(ca.signing_ca_cert), key: text(ca.signing_ca_key) } : undefined;
  beginRootRotation(cluster, { nowMs: options.clock.now(), random: options.random, rootCa });
}

/** A node is down after some heartbeats: the silence follows the period unless it is given itself. */
function mergedDispatcher(spec: ClusterSpec, stored: Cluster): ClusterSpec['dispatcher'] {
  const old = stored.spec?.dispatcher ?? null;
  const given = spec.dispatcher;
  if (given === null) return old;
  const isSet = (duration: Duration | null): boolean => (durationToNs(duration) ?? 0) !== 0;
  const heartbeat_period = isSet(given.heartbeat_period) ? given.heartbeat_period : (old?.heartbeat_period ?? null);
  if (isSet(given.down_after)) return { ...given, heartbeat_period };
  const periodNs = durationToNs(heartbeat_period) ?? 0;
  const isSame = periodNs === durationToNs(old?.heartbeat_period);
  const down_after = isSame ? (old?.down_after ?? null) : durationFromNs(periodNs * DOWN_AFTER_PERIODS);
  return { ...given, heartbeat_period, down_after };
}

/** Zero times of consensus keep what is stored. */
function mergedRaft(given: ClusterSpec['raft'], old: ClusterSpec['raft']): ClusterSpec['raft'] {
  if (given === null) return old;
  return {
    ...given,
    tick_ms: given.tick_ms || (old?.tick_ms ?? 0),
    election_tick: given.election_tick || (old?.election_tick ?? 0),
    heartbeat_tick: given.heartbeat_tick || (old?.heartbeat_tick ?? 0),
  };
}

function checkStrategy(labels: Readonly<Record<string, string>>): void {
  const strategy = labels[CLUSTER_STRATEGY_LABEL];
  if (strategy !== undefined) parseStrategy(CLUSTER_STRATEGY_LABEL, strategy);
}

/** The spec to store: what callers never see (Docker's API has no field for it) is kept when they leave it out. */
function merged(spec: ClusterSpec, stored: Cluster): ClusterSpec {
  const old = stored.spec;
  const result: ClusterSpec = { ...spec };
  result.annotations = {
    name: old?.annotations?.name ?? 'default',
    labels: spec.annotations?.labels ?? {},
    indices: spec.annotations?.indices ?? [],
  };
  checkStrategy(result.annotations.labels);
  result.dispatcher = mergedDispatcher(spec, stored);
  checkHeartbeats(result.dispatcher);
  result.raft = mergedRaft(spec.raft, old?.raft ?? null);
  checkRaftConfig(result.raft);
  if (result.ca_config !== null && durationToMs(result.ca_config.node_cert_expiry, 0) === 0) {
    result.ca_config = { ...result.ca_config, node_cert_expiry: old?.ca_config?.node_cert_expiry ?? null };
  }
  const [ca, oldCa] = [result.ca_config, old?.ca_config ?? null];
  const sameSigner = ca !== null && oldCa !== null && sameMessage(ca.signing_ca_cert, oldCa.signing_ca_cert);
  if (sameSigner && ca.signing_ca_key.length === 0) {
    result.ca_config = { ...ca, signing_ca_key: oldCa.signing_ca_key };
  }
  return result;
}

function rotateUnlockKey(cluster: Cluster, wasOn: boolean, rotate: boolean, options: ControlOptions): void {
  const isOn = cluster.spec?.encryption_config?.auto_lock_managers === true;
  if (rotate && !isOn) throw failedPrecondition('there is no unlock key to rotate: autolock is off');
  if (!isOn) {
    cluster.unlock_keys = [];
  } else if (!wasOn || rotate) {
    cluster.unlock_keys = [unlockKeyEntry(options.random.bytes(UNLOCK_KEY_BYTES))];
  }
}

function rotate(cluster: Cluster, rotation: KeyRotation | null, options: ControlOptions): void {
  const tokens = cluster.root_ca?.join_tokens;
  const { random } = options;
  const missing = 'the cluster has no join tokens: its certificate authority is not set up';
  if (rotation?.worker_join_token === true) {
    if (!tokens) throw failedPrecondition(missing);
    tokens.worker = rotateToken(tokens.worker, random);
  }
  if (rotation?.manager_join_token === true) {
    if (!tokens) throw failedPrecondition(missing);
    tokens.manager = rotateToken(tokens.manager, random);
  }
}

/** Certificates that have run out need no refusal any more. */
function dropExpired(cluster: Cluster, nowMs: number): void {
  for (const [name, entry] of Object.entries(cluster.blacklisted_certificates)) {
    if (timestampToMs(entry.expiry) < nowMs) delete cluster.blacklisted_certificates[name];
  }
}

/** New pools are for networks to come; those that there are keep their subnets. */
function setAddressPools(cluster: Cluster, wanted: AddressPools | null): void {
  if (wanted === null) return;
  const pools = wanted.pools.length > 0 ? wanted.pools : cluster.defaultAddressPool;
  const subnetPrefix = wanted.subnet_size || cluster.subnetSize;
  checkAddressPools({ pools, subnetPrefix });
  cluster.defaultAddressPool = [...pools];
  cluster.subnetSize = subnetPrefix;
}

/** The cluster's own settings, join tokens and unlock key. */
export function clusterMethods(
  options: ControlOptions,
): Pick<Control, 'GetCluster' | 'ListClusters' | 'UpdateCluster'> {
  const { store } = options;
  return {
    GetCluster: async ({ reference }) => ({ cluster: redacted(resolve(store.view(), 'cluster', reference)) }),

    ListClusters: async ({ filters }) => {
      const found = store
        .view()
        .list('cluster')
        .filter((cluster) => {
          if (filters === null) return true;
          const annotations = cluster.spec?.annotations;
          return (
            passesCommon(filters, annotations?.name ?? '', cluster.id) && hasLabels(annotations?.labels, filters.labels)
          );
        });
      return { clusters: found.map(redacted) };
    },

    UpdateCluster: async ({ cluster_id, cluster_version, spec, rotation, address_pools }) => {
      if (spec === null) throw invalidArgument('a cluster spec must be provided');
      const id = await store.update((tx) => {
        const stored = resolve(tx, 'cluster', cluster_id);
        checkVersion(stored, cluster_version);
        validate(spec, stored);
        const cluster = Cluster.clone(stored);
        const wasOn = stored.spec?.encryption_config?.auto_lock_managers === true;
        cluster.spec = merged(spec, stored);
        rotateRoot(cluster, stored, options);
        rotate(cluster, rotation, options);
        rotateUnlockKey(cluster, wasOn, rotation?.manager_unlock_key === true, options);
        setAddressPools(cluster, address_pools);
        dropExpired(cluster, options.clock.now());
        tx.update('cluster', cluster);
        return stored.id;
      });
      return { cluster: redacted(resolve(store.view(), 'cluster', id)) };
    },
  };
}
