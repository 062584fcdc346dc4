import { ShoalError, type Logger } from '../../base/index.ts';
import { certificateIdentity, peerIdentity, type AuthenticatedCall, type PeerIdentity } from '../../identity/index.ts';
import { REMOVED_MESSAGE, type RaftHandlerOptions } from '../../raft/index.ts';
import { peerAddress } from '../server/index.ts';
import type { LearntAddresses } from './learnt-addresses.ts';
import type { MemberList } from './member-list.ts';
import { completeAddress } from './service.ts';

/** Ids that are not in the list (yet) and have spoken, remembered at the most. */
const UNLISTED_MAX = 64;

type RaftCall = Parameters<RaftHandlerOptions['authorize']>[0];

export interface RaftAccessDeps {
  clusterId: string;
  members: MemberList;
  addresses: LearntAddresses;
  /** Whether the certificate of a node is refused because the node was removed. */
  isRemovedNode: (nodeId: string) => boolean;
  log: Logger;
}

/**
 * Who may take part in consensus, and as whom: the certificate of a manager of this cluster speaks for the raft id that
 * the member list gives its node, and for no other.
 */
export class RaftAccess {
  readonly #deps: RaftAccessDeps;
  /** The certificate is looked at once per call. */
  readonly #peers = new WeakMap<RaftCall, PeerIdentity>();
  /**
   * Ids that are not in our list, by the node that spoke first for each. A manager that joined a moment ago may lead
   * before our log tells of it; nobody else may then take its id.
   */
  readonly #unlisted = new Map<number, string>();

  constructor(deps: RaftAccessDeps) {
    this.#deps = deps;
  }

  #peerOf(call: RaftCall): PeerIdentity {
    let peer = this.#peers.get(call);
    if (peer === undefined) {
      peer = peerIdentity(call);
      if (peer?.role !== 'manager' || peer.clusterId !== this.#deps.clusterId) {
        throw new ShoalError('PermissionDenied', 'only managers of this cluster take part in consensus');
      }
      this.#peers.set(call, peer);
    }
    return peer;
  }

  /** @throws ShoalError PermissionDenied unless the caller may speak for a member. */
  authorize(call: RaftCall, raftId: number): void {
    const { nodeId } = this.#peerOf(call);
    const owner = this.#deps.members.get(raftId)?.nodeId ?? this.#unlistedOwner(raftId, nodeId);
    if (owner === nodeId) return;
    throw new ShoalError('PermissionDenied', `node ${nodeId} may not speak for manager ${owner}`);
  }

  #unlistedOwner(raftId: number, nodeId: string): string {
    const owner = this.#unlisted.get(raftId);
    if (owner !== undefined) return owner;
    for (const [id, node] of this.#unlisted) {
      // A node has one id at a time, and those that are listed now need no memory here.
      const full = this.#unlisted.size >= UNLISTED_MAX;
      if (node === nodeId || full || this.#deps.members.get(id) !== undefined) this.#unlisted.delete(id);
    }
    this.#unlisted.set(raftId, nodeId);
    this.#deps.log.info('a manager speaks that is not in the log here yet', { nodeId, raftId });
    return nodeId;
  }

  /** Whoever was removed from the cluster is told so, in the words that make a manager give up. */
  refusal(call: AuthenticatedCall): ShoalError | undefined {
    const peer = peerIdentity(call);
    const removed = peer?.clusterId === this.#deps.clusterId && this.#deps.isRemovedNode(peer.nodeId);
    return removed ? new ShoalError('NotFound', REMOVED_MESSAGE) : undefined;
  }

  /** Members only may ask where others are. @throws ShoalError PermissionDenied */
  authorizeResolve(call: RaftCall): void {
    const { nodeId } = this.#peerOf(call);
    if (this.#deps.members.byNode(nodeId) !== undefined) return;
    throw new ShoalError('PermissionDenied', `node ${nodeId} is no manager of this cluster now`);
  }

  /** A member that was authorised says where it is. An address without a host is completed by where it calls from. */
  learn(raftId: number, address: string, call: RaftCall): void {
    const { addresses, log } = this.#deps;
    try {
      addresses.learn(raftId, completeAddress(address, peerAddress(call.getPeer())));
    } catch (error) {
      log.warn('a manager tells an address that is none', { raftId, address, error });
    }
  }

  /** For the transport: whether a certificate is that of the member which is called. */
  checkPeer(raftId: number, certificate: Uint8Array | undefined): string | undefined {
    const expected = this.#deps.members.get(raftId)?.nodeId;
    if (expected === undefined || certificate === undefined) return undefined;
    const nodeId = certificateIdentity(certificate)?.nodeId;
    return nodeId === expected ? undefined : `another manager answers there: node ${nodeId ?? '(unknown)'}`;
  }
}
