import { must, ShoalError, newId, type Random } from '../../base/index.ts';
import {
  createCsr,
  DEFAULT_CERTIFICATE_LIFETIME_MS,
  identityFromPem,
  issueCertificate,
  type KeyLock,
  type NodeIdentity,
} from '../../identity/index.ts';
import {
  durationToMs,
  IssuanceStatus_State,
  Node,
  NodeRole,
  NodeSpec_Membership,
  NodeStatus_State,
  timestampFromMs,
  type Cluster,
  type NodeSpec_Availability,
} from '../../proto/index.ts';
import { clusterOf, signerOf } from '../ca/index.ts';
import { lockOf } from '../keys/index.ts';
import type { LeftBehind } from '../recovery-report.ts';
import { encodeSnapshot } from '../store/codec.ts';
import type { BackupContent } from './content.ts';

/**
 * Entries by which the log of a restored cluster begins after that of its backup: versions that the lost cluster gave
 * out after the backup was taken never come up again, so no client takes a new object for one it knows.
 */
const INDEX_GAP = 1_000_000;
const AWAITED = 'restored from a backup; awaited';

/** A cluster that is ready to be begun again on this host. */
export interface RestoreImage {
  /** This host's new identity, signed by the cluster's own root. */
  identity: NodeIdentity;
  /** Lock of this host's secrets, as the cluster has it (autolock). */
  lock: KeyLock;
  /** State of the store, as a snapshot of it. */
  snapshot: Uint8Array;
  /** Position of that snapshot in the new log. */
  index: number;
  term: number;
  /** Members of the lost cluster: their raft ids are void. */
  formerRaftIds: number[];
  formerManagers: LeftBehind[];
  /** How long former nodes are waited for before they are Down, ms. */
  awaitMs: number;
  /** 0 when it is the default. */
  dataPathPort: number;
  backup: { createdMs: number; index: number; term: number; newestChangeMs: number | null };
}

function newIdentity(cluster: Cluster, nowMs: number, random: Random): NodeIdentity {
  const { caCert, caKey, intermediates } = signerOf(must(cluster.root_ca, 'root CA of a cluster'));
  if (caKey === '') {
    throw new ShoalError(
      'FailedPrecondition',
      "the backup holds no key of the cluster's root certificate (an external CA signs its nodes): this host cannot be " +
        'given a certificate',
    );
  }
  const { csr, key } = createCsr();
  const cert = issueCertificate({
    csr,
    nodeId: newId(random),
    clusterId: cluster.id,
    role: 'manager',
    caCert,
    caKey,
    intermediates,
    nowMs,
    lifetimeMs: durationToMs(cluster.spec?.ca_config?.node_cert_expiry, DEFAULT_CERTIFICATE_LIFETIME_MS),
    random,
  });
  return identityFromPem(cert, key, Buffer.from(must(cluster.root_ca, 'root CA').ca_cert).toString('utf8'));
}

/** A node of the lost cluster: a worker that is awaited; one that stays away is Down like any other. */
function formerNode(stored: Node): Node {
  const node = Node.clone(stored);
  if (node.role === NodeRole.MANAGER && node.certificate !== null) {
    node.certificate.status = { state: IssuanceStatus_State.ROTATE, err: '' };
  }
  node.role = NodeRole.WORKER;
  if (node.spec !== null) node.spec.desired_role = NodeRole.WORKER;
  node.manager_status = null;
  if (node.status !== null && node.status.state !== NodeStatus_State.DOWN) {
    node.status.state = NodeStatus_State.UNKNOWN;
    node.status.message = AWAITED;
  }
  return node;
}

function thisNode(identity: NodeIdentity, cluster: Cluster, how: RestoreOptions, index: number): Node {
  const at = timestampFromMs(how.nowMs);
  return Node.create({
    id: identity.nodeId,
    meta: { version: { index }, created_at: at, updated_at: at },
    spec: {
      annotations: {},
      desired_role: NodeRole.MANAGER,
      membership: NodeSpec_Membership.ACCEPTED,
      availability: how.availability,
    },
    status: { state: NodeStatus_State.UNKNOWN },
    role: NodeRole.MANAGER,
    certificate: {
      role: NodeRole.MANAGER,
      cn: identity.nodeId,
      certificate: Buffer.from(identity.cert),
      status: { state: IssuanceStatus_State.ISSUED },
    },
    VXLANUDPPort: cluster.VXLANUDPPort,
  });
}

export interface RestoreOptions {
  nowMs: number;
  random: Random;
  availability: NodeSpec_Availability;
  /** How long former nodes are waited for before they are Down, ms; never less than after a restart. */
  awaitMs: number;
}

/**
 * The state with which a cluster begins again: everything as in the backup, this host as the only manager, and the
 * former nodes as workers that are awaited.
 * @throws ShoalError DataLoss (no cluster in it), FailedPrecondition (no key to sign with)
 */
export function restoredImage({ header, manifest, tables }: BackupContent, how: RestoreOptions): RestoreImage {
  const cluster = clusterOf(tables);
  if (cluster === undefined) throw new ShoalError('DataLoss', 'the backup holds no cluster');
  const identity = newIdentity(cluster, how.nowMs, how.random);
  const index = manifest.raftIndex + INDEX_GAP;
  const hostname = (nodeId: string): string => tables.get('node', nodeId)?.description?.hostname ?? '';
  for (const node of tables.list('node')) tables.put('node', formerNode(node));
  tables.put('node', thisNode(identity, cluster, how, index));
  return {
    identity,
    lock: lockOf(cluster),
    snapshot: encodeSnapshot(tables),
    index,
    term: manifest.raftTerm + 1,
    formerRaftIds: manifest.members.map((member) => member.raftId),
    formerManagers: manifest.members.map(({ nodeId, addr }) => ({ nodeId, addr, hostname: hostname(nodeId) })),
    awaitMs: how.awaitMs,
    dataPathPort: cluster.VXLANUDPPort,
    backup: {
      createdMs: header.createdMs,
      index: manifest.raftIndex,
      term: manifest.raftTerm,
      newestChangeMs: manifest.newestChangeMs,
    },
  };
}
