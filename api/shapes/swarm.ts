import {
  ClusterSpec,
  durationFromNs,
  durationToNs,
  type CAConfig,
  type Cluster,
  type Config,
  type DispatcherConfig,
  type ExternalCA,
  type Partially,
  type Secret,
} from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import { driverFromJson, driverToJson } from './container-spec.ts';
import { Fields, listOrNothing, textOrNothing } from './fields.ts';
import { metaToJson } from './service.ts';

function clusterSpecToJson(spec: ClusterSpec | null): JsonObject {
  const raft = spec?.raft;
  return {
    Name: spec?.annotations?.name ?? 'default',
    Labels: spec?.annotations?.labels ?? {},
    Orchestration: { TaskHistoryRetentionLimit: spec?.orchestration?.task_history_retention_limit },
    Raft: {
      SnapshotInterval: raft?.snapshot_interval,
      KeepOldSnapshots: raft?.keep_old_snapshots,
      LogEntriesForSlowFollowers: raft?.log_entries_for_slow_followers,
      ElectionTick: raft?.election_tick ?? 0,
      HeartbeatTick: raft?.heartbeat_tick ?? 0,
      // Shoal's own: the length of a tick.
      TickMs: raft?.tick_ms ?? 0,
    },
    Dispatcher: {
      HeartbeatPeriod: durationToNs(spec?.dispatcher?.heartbeat_period),
      // Shoal's own: silence after which a node is down.
      NodeDownAfter: durationToNs(spec?.dispatcher?.down_after),
    },
    CAConfig: {
      NodeCertExpiry: durationToNs(spec?.ca_config?.node_cert_expiry),
      ExternalCAs: listOrNothing(
        (spec?.ca_config?.external_cas ?? []).map((ca) => ({ Protocol: 'cfssl', URL: ca.url, Options: ca.options })),
      ),
      ForceRotate: textOrNothing(spec?.ca_config?.force_rotate ?? 0),
    },
    TaskDefaults: { LogDriver: driverToJson(spec?.task_defaults?.log_driver ?? null) },
    EncryptionConfig: { AutoLockManagers: spec?.encryption_config?.auto_lock_managers ?? false },
  };
}

/** Docker's JSON of the cluster; `tokens` only for GET /swarm. */
export function clusterToJson(
  cluster: Cluster,
  issuer: { subject: Uint8Array; publicKey: Uint8Array },
  tokens: boolean,
): JsonObject {
  const root = cluster.root_ca;
  return {
    ID: cluster.id,
    ...metaToJson(cluster.meta),
    Spec: clusterSpecToJson(cluster.spec),
    TLSInfo: {
      TrustRoot: Buffer.from(root?.ca_cert ?? []).toString('utf8'),
      CertIssuerSubject: Buffer.from(issuer.subject).toString('base64'),
      CertIssuerPublicKey: Buffer.from(issuer.publicKey).toString('base64'),
    },
    RootRotationInProgress: root !== null && root.root_rotation !== null,
    DefaultAddrPool: cluster.defaultAddressPool,
    SubnetSize: cluster.subnetSize,
    DataPathPort: cluster.VXLANUDPPort,
    JoinTokens: tokens
      ? { Worker: root?.join_tokens?.worker ?? '', Manager: root?.join_tokens?.manager ?? '' }
      : undefined,
  };
}

function caConfigFromJson(json: Fields | undefined, before: CAConfig | null): Partially<CAConfig> {
  const expiry = json?.optionalNumber('NodeCertExpiry') ?? 0;
  return {
    node_cert_expiry: expiry === 0 ? (before?.node_cert_expiry ?? null) : durationFromNs(expiry),
    external_cas:
      json?.objects('ExternalCAs').map((ca): Partially<ExternalCA> => ({
        url: ca.string('URL'),
        options: ca.stringMap('Options'),
        ca_cert: Buffer.from(ca.string('CACert')),
      })) ?? [],
    signing_ca_cert: Buffer.from(json?.string('SigningCACert') ?? ''),
    signing_ca_key: Buffer.from(json?.string('SigningCAKey') ?? ''),
    force_rotate: json?.number('ForceRotate') ?? 0,
  };
}

/** Clients that do not know of the silence leave it out: then it stays, or follows a new period (in the manager). */
function dispatcherFromJson(json: Fields | undefined, before: DispatcherConfig | null): Partially<DispatcherConfig> {
  const heartbeat = json?.optionalNumber('HeartbeatPeriod') ?? 0;
  const downAfter = json?.optionalNumber('NodeDownAfter') ?? 0;
  return {
    heartbeat_period: heartbeat === 0 ? (before?.heartbeat_period ?? null) : durationFromNs(heartbeat),
    down_after: downAfter === 0 ? null : durationFromNs(downAfter),
  };
}

/** ClusterSpec from Docker's JSON; members that are absent or zero keep the value of `before`. */
export function clusterSpecFromJson(body: JsonObject, before: ClusterSpec): ClusterSpec {
  const json = new Fields(body);
  const raft = json.object('Raft');
  const keep = (value: number | undefined, old: number | undefined): number => (value ? value : (old ?? 0));
  const history = json.object('Orchestration')?.optionalNumber('TaskHistoryRetentionLimit');
  return ClusterSpec.create({
    ...before,
    annotations: { name: 'default', labels: json.stringMap('Labels') },
    orchestration: {
      task_history_retention_limit: history ?? before.orchestration?.task_history_retention_limit ?? 5,
    },
    raft: {
      snapshot_interval: keep(raft?.number('SnapshotInterval'), before.raft?.snapshot_interval),
      keep_old_snapshots: raft?.optionalNumber('KeepOldSnapshots') ?? before.raft?.keep_old_snapshots ?? 0,
      log_entries_for_slow_followers: keep(
        raft?.number('LogEntriesForSlowFollowers'),
        before.raft?.log_entries_for_slow_followers,
      ),
      election_tick: keep(raft?.number('ElectionTick'), before.raft?.election_tick),
      heartbeat_tick: keep(raft?.number('HeartbeatTick'), before.raft?.heartbeat_tick),
      tick_ms: keep(raft?.number('TickMs'), before.raft?.tick_ms),
    },
    dispatcher: dispatcherFromJson(json.object('Dispatcher'), before.dispatcher),
    ca_config: caConfigFromJson(json.object('CAConfig'), before.ca_config),
    task_defaults: { log_driver: driverFromJson(json.object('TaskDefaults')?.object('LogDriver')) },
    encryption_config: { auto_lock_managers: json.object('EncryptionConfig')?.bool('AutoLockManagers') ?? false },
  });
}

/** Docker's JSON of a secret; its data is never shown. */
export function secretToJson(secret: Secret): JsonObject {
  return {
    ID: secret.id,
    ...metaToJson(secret.meta),
    Spec: {
      Name: secret.spec?.annotations?.name ?? '',
      Labels: secret.spec?.annotations?.labels ?? {},
      Driver: driverToJson(secret.spec?.driver ?? null),
      Templating: driverToJson(secret.spec?.templating ?? null),
    },
  };
}

/** Docker's JSON of a config. */
export function configToJson(config: Config): JsonObject {
  return {
    ID: config.id,
    ...metaToJson(config.meta),
    Spec: {
      Name: config.spec?.annotations?.name ?? '',
      Labels: config.spec?.annotations?.labels ?? {},
      Data: Buffer.from(config.spec?.data ?? []).toString('base64'),
      Templating: driverToJson(config.spec?.templating ?? null),
    },
  };
}

/** Spec of a secret or a config. */
export function dataSpecFromJson(body: JsonObject): {
  annotations: { name: string; labels: Record<string, string> };
  data: Uint8Array;
  driver: ReturnType<typeof driverFromJson>;
  templating: ReturnType<typeof driverFromJson>;
} {
  const json = new Fields(body);
  return {
    annotations: { name: json.string('Name'), labels: json.stringMap('Labels') },
    data: json.bytes('Data'),
    driver: driverFromJson(json.object('Driver')),
    templating: driverFromJson(json.object('Templating')),
  };
}
