import { newId, ShoalError, TurnPacer, type Clock, type Logger, type Random } from '../../base/index.ts';
import {
  DEFAULT_CERTIFICATE_LIFETIME_MS,
  issueCertificate,
  sameToken,
  type CertificateRole,
} from '../../identity/index.ts';
import {
  Certificate,
  durationToMs,
  GetRootCACertificateResponse,
  GetUnlockKeyResponse,
  IssuanceStatus_State,
  IssueNodeCertificateResponse,
  Node,
  NodeCertificateStatusResponse,
  NodeRole,
  NodeSpec_Membership,
  NodeStatus_State,
  timestampToMs,
  type Cluster,
  type IssueNodeCertificateRequest,
  type NodeCertificateStatusRequest,
} from '../../proto/index.ts';
import { lockOf } from '../keys/unlock-key.ts';
import type { Store } from '../store/types.ts';
import { clusterOf } from './bootstrap.ts';
import { checkedNodeLabels } from './node-labels.ts';
import { signerOf } from './rotation.ts';

/** Longest time a caller is held for a decision on its certificate, ms. */
const STATUS_HOLD_MS = 4_000;
/** Largest signing request read, bytes. */
const CSR_MAX_BYTES = 16 * 1024;
/** Certificates signed in one turn of the event loop: each takes half a millisecond. */
const SIGNATURES_PER_TURN = 4;
/** Requests that wait for their signature at the most; with more, nodes are told to try again. */
const SIGNATURES_WAITING_MAX = 10_000;

/** A call as the server hands it over; `role` is absent and `nodeId` empty for a caller without certificate. */
export interface AuthorityCall<Request> {
  readonly request: Request;
  readonly nodeId: string;
  readonly role: CertificateRole | undefined;
  readonly signal: AbortSignal;
}

export interface AuthorityDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
}

const roleName = (role: NodeRole): CertificateRole => (role === NodeRole.MANAGER ? 'manager' : 'worker');

const isFinal = (node: Node): boolean => {
  const state = node.certificate?.status?.state;
  return (
    state === IssuanceStatus_State.ISSUED ||
    state === IssuanceStatus_State.FAILED ||
    state === IssuanceStatus_State.ROTATE
  );
};

/** Whether a node's certificates are refused (it was removed from the cluster). */
export function isBlacklisted(cluster: Cluster | undefined, nodeId: string, nowMs: number): boolean {
  const entry = cluster?.blacklisted_certificates[nodeId];
  return entry !== undefined && (entry.expiry === null || timestampToMs(entry.expiry) > nowMs);
}

/**
 * The cluster's certificate authority: the services CA and NodeCA on the leader. A node object is created when a
 * certificate is first issued; the join token decides the role, later the object does.
 */
export class CertificateAuthority {
  readonly #deps: AuthorityDeps;
  readonly #signatures: TurnPacer;

  constructor(deps: AuthorityDeps) {
    this.#deps = deps;
    this.#signatures = new TurnPacer({
      clock: deps.clock,
      perTurn: SIGNATURES_PER_TURN,
      waitingMax: SIGNATURES_WAITING_MAX,
      what: 'requests for certificates',
    });
  }

  /** @throws ShoalError Unavailable before the cluster exists. */
  #cluster(): Cluster & { root_ca: NonNullable<Cluster['root_ca']> } {
    const cluster = clusterOf(this.#deps.store.view());
    if (cluster === undefined || cluster.root_ca === null) {
      throw new ShoalError('Unavailable', 'the manager is starting and does not know its cluster yet; try again');
    }
    return cluster as Cluster & { root_ca: NonNullable<Cluster['root_ca']> };
  }

  /** The root bundle, byte for byte as the digest in the join tokens has it. */
  getRootCaCertificate(): GetRootCACertificateResponse {
    return GetRootCACertificateResponse.create({ certificate: this.#cluster().root_ca.ca_cert });
  }

  /** The key that unlocks managers' data; empty without autolock. */
  getUnlockKey(): GetUnlockKeyResponse {
    const { secret, version } = lockOf(this.#cluster());
    return GetUnlockKeyResponse.create({ unlock_key: secret ?? new Uint8Array(), version: { index: version } });
  }

  /**
   * Issues a certificate: to a caller with a valid one (renewal: same node id, the role that its object has now), else
   * to whoever shows a join token (a new node).
   * @throws ShoalError InvalidArgument (token, request), PermissionDenied (removed node).
   */
  async issueNodeCertificate(call: AuthorityCall<IssueNodeCertificateRequest>): Promise<IssueNodeCertificateResponse> {
    const { csr } = call.request;
    if (csr.length === 0 || csr.length > CSR_MAX_BYTES) {
      throw new ShoalError('InvalidArgument', `a certificate signing request of 1 to ${CSR_MAX_BYTES} bytes is needed`);
    }
    return call.nodeId === '' ? this.#admit(call.request) : this.#renew(call.nodeId, csr);
  }

  #tokenRole(token: string): NodeRole {
    const tokens = this.#cluster().root_ca.join_tokens;
    if (sameToken(token, tokens?.manager ?? '')) return NodeRole.MANAGER;
    if (sameToken(token, tokens?.worker ?? '')) return NodeRole.WORKER;
    throw new ShoalError('InvalidArgument', 'A valid join token is necessary to join this cluster');
  }

  async #admit(request: IssueNodeCertificateRequest): Promise<IssueNodeCertificateResponse> {
    const role = this.#tokenRole(request.token);
    const labels = checkedNodeLabels(request.node_labels);
    await this.#signatures.turn();
    const nodeId = newId(this.#deps.random);
    const certificate = this.#sign(nodeId, role, request.csr);
    const node = Node.create({
      id: nodeId,
      spec: {
        annotations: { labels },
        desired_role: role,
        membership: NodeSpec_Membership.ACCEPTED,
        availability: request.availability,
      },
      role,
      certificate,
      status: { state: NodeStatus_State.UNKNOWN },
      VXLANUDPPort: this.#cluster().VXLANUDPPort,
    });
    await this.#deps.store.update((tx) => tx.create('node', node));
    this.#deps.log.info('a node was admitted', { nodeId, role: roleName(role) });
    return IssueNodeCertificateResponse.create({ node_id: nodeId, node_membership: NodeSpec_Membership.ACCEPTED });
  }

  async #renew(nodeId: string, csr: Uint8Array): Promise<IssueNodeCertificateResponse> {
    const removed = new ShoalError(
      'PermissionDenied',
      `node ${nodeId} was removed from this cluster; leave the swarm and join it again`,
    );
    if (isBlacklisted(this.#cluster(), nodeId, this.#deps.clock.now())) throw removed;
    await this.#signatures.turn();
    const seen = this.#deps.store.view().get('node', nodeId);
    if (seen === undefined) throw removed;
    const certificate = this.#sign(nodeId, seen.role, csr);
    await this.#deps.store.update((tx) => {
      const stored = tx.get('node', nodeId);
      if (stored === undefined) throw removed;
      const node = Node.clone(stored);
      node.certificate = node.role === seen.role ? certificate : this.#sign(nodeId, node.role, csr);
      tx.update('node', node);
    });
    this.#deps.log.info('a certificate was renewed', { nodeId });
    return IssueNodeCertificateResponse.create({ node_id: nodeId, node_membership: NodeSpec_Membership.ACCEPTED });
  }

  #sign(nodeId: string, role: NodeRole, csr: Uint8Array): Certificate {
    const cluster = this.#cluster();
    const { caCert, caKey, intermediates } = signerOf(cluster.root_ca);
    const chain = issueCertificate({
      csr: Buffer.from(csr).toString(),
      nodeId,
      clusterId: cluster.id,
      role: roleName(role),
      caCert,
      caKey,
      intermediates,
      nowMs: this.#deps.clock.now(),
      lifetimeMs: durationToMs(cluster.spec?.ca_config?.node_cert_expiry, DEFAULT_CERTIFICATE_LIFETIME_MS),
      random: this.#deps.random,
    });
    return Certificate.create({
      role,
      csr,
      cn: nodeId,
      status: { state: IssuanceStatus_State.ISSUED },
      certificate: Buffer.from(chain),
    });
  }

  /**
   * The state of a node's certificate, held back until it is decided or a few seconds have passed.
   * @throws ShoalError NotFound
   */
  async nodeCertificateStatus(
    call: AuthorityCall<NodeCertificateStatusRequest>,
  ): Promise<NodeCertificateStatusResponse> {
    const { store, clock } = this.#deps;
    const nodeId = call.request.node_id;
    const find = (): Node => {
      const node = store.view().get('node', nodeId);
      if (node === undefined) throw new ShoalError('NotFound', `node ${nodeId} not found`);
      return node;
    };
    const answer = (node: Node): NodeCertificateStatusResponse =>
      NodeCertificateStatusResponse.create({
        status: node.certificate?.status ?? {},
        certificate: node.certificate ?? {},
      });
    const now = find();
    if (isFinal(now)) return answer(now);
    const watch = store.watch();
    const timer = clock.after(STATUS_HOLD_MS, () => watch.close());
    const onAbort = (): void => watch.close();
    call.signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (!isFinal(find())) {
        for await (const commit of watch) {
          const touched = commit.reset || commit.changes.some((change) => change.object.id === nodeId);
          if (touched && isFinal(find())) break;
        }
      }
      return answer(find());
    } finally {
      timer.cancel();
      call.signal.removeEventListener('abort', onAbort);
      watch.close();
    }
  }
}
