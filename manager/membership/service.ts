import { errorMessage, ShoalError, type Logger, type Random } from '../../base/index.ts';
import type { TlsIdentity } from '../../identity/index.ts';
import {
  JoinResponse,
  NodeRole,
  RaftConfChange,
  RaftConfChangeType,
  type JoinRequest,
  type LeaveRequest,
  type LeaveResponse,
} from '../../proto/index.ts';
import type { UnaryCall } from '../server/index.ts';
import type { Store } from '../store/types.ts';
import { dialBack } from './dial-back.ts';
import { memberContext, memberMessage, type Member, type MemberList } from './member-list.ts';
import { canRemove } from './quorum.ts';
import type { MembershipRaft } from './raft-port.ts';

export { HEALTH_RAFT } from './dial-back.ts';
/** Members of a cluster at the most; consensus slows with each. */
const MEMBERS_MAX = 64;

export interface MembershipDeps {
  raft: MembershipRaft;
  members: MemberList;
  store: Store;
  tls: TlsIdentity;
  random: Random;
  log: Logger;
}

/** Splits `host:port`, also `[v6]:port`. @throws ShoalError InvalidArgument */
export function splitAddress(addr: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(addr);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) {
    throw new ShoalError('InvalidArgument', `${addr} is no address of the form host:port`);
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

export const joinAddress = (host: string, port: number): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/** An advertised address; one without a host is completed by where the call came from (`host:port`, `[v6]:port`). */
export function completeAddress(addr: string, peer: string): string {
  const { host, port } = splitAddress(addr);
  const unspecified = host === '' || host === '0.0.0.0' || host === '::';
  return unspecified ? joinAddress(splitAddress(peer).host, port) : addr;
}

/** The services RaftMembership.Join and Leave on the leader (swarmkit.md §2.1). */
export class MembershipService {
  readonly #deps: MembershipDeps;
  /** Joins and leaves go one after the other: consensus takes one change at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(deps: MembershipDeps) {
    this.#deps = deps;
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(run, run);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  /**
   * Takes a manager in, as a learner; the role manager makes it a voter once it has caught up.
   * @throws ShoalError PermissionDenied, FailedPrecondition (it cannot be reached from here), Unavailable.
   */
  join(call: UnaryCall<JoinRequest>): Promise<JoinResponse> {
    return this.#inTurn(() => this.#join(call));
  }

  async #join(call: UnaryCall<JoinRequest>): Promise<JoinResponse> {
    const { members, store, log } = this.#deps;
    const node = store.view().get('node', call.nodeId);
    if (node === undefined || node.role !== NodeRole.MANAGER) {
      throw new ShoalError('PermissionDenied', `node ${call.nodeId} is not a manager of this cluster`);
    }
    const addr = completeAddress(call.request.addr, call.address);
    await this.#dialBack(addr, call.nodeId, call.signal);
    const known = members.byNode(call.nodeId);
    if (known !== undefined && this.#isLearner(known)) {
      // The answer to an earlier try was lost; nothing was stored under the id yet that could be lost.
      if (known.addr !== addr) await this.#change(RaftConfChangeType.ConfChangeUpdateNode, { ...known, addr });
      return this.#response(known.raftId);
    }
    // A voter that joins anew has lost its log, and with it the votes it gave: it must come back as another member.
    if (known !== undefined) await this.#remove(known);
    if (members.list().length >= MEMBERS_MAX) {
      throw new ShoalError('FailedPrecondition', `the cluster has ${MEMBERS_MAX} managers; demote one first`);
    }
    const member: Member = { raftId: this.#newRaftId(), nodeId: call.nodeId, addr };
    await this.#change(RaftConfChangeType.ConfChangeAddLearnerNode, member);
    log.info('a manager joined', { nodeId: call.nodeId, addr, raftId: member.raftId });
    return this.#response(member.raftId);
  }

  #isLearner(member: Member): boolean {
    return this.#deps.raft.progress().some((one) => one.raftId === member.raftId && one.learner);
  }

  #newRaftId(): number {
    const { random, members } = this.#deps;
    for (;;) {
      const id = 1 + random.int(Number.MAX_SAFE_INTEGER - 1);
      if (members.get(id) === undefined && !members.isRemoved(id)) return id;
    }
  }

  #response(raftId: number): JoinResponse {
    const { members } = this.#deps;
    return JoinResponse.create({ raft_id: raftId, members: members.list().map((member) => memberMessage(member)) });
  }

  /** The joiner must be reachable from here, or it would only weaken the quorum. */
  async #dialBack(addr: string, nodeId: string, signal: AbortSignal): Promise<void> {
    try {
      await dialBack(this.#deps.tls, addr, nodeId, signal);
    } catch (error) {
      const why = `the leader cannot reach the joining manager at ${addr}: ${errorMessage(error)}; `;
      const way = 'check its --advertise-addr and that the port is open between the managers';
      throw new ShoalError('FailedPrecondition', why + way, { cause: error });
    }
  }

  /**
   * Brings the new address of a member into the log.
   * @throws ShoalError FailedPrecondition or Unavailable when the member cannot be reached there from here.
   */
  move(member: Member, signal: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      const known = this.#deps.members.get(member.raftId);
      if (known === undefined || known.addr === member.addr) return;
      await dialBack(this.#deps.tls, member.addr, known.nodeId, signal);
      await this.#change(RaftConfChangeType.ConfChangeUpdateNode, { ...known, addr: member.addr });
    });
  }

  #change(type: RaftConfChangeType, member: Member): Promise<void> {
    const context = type === RaftConfChangeType.ConfChangeRemoveNode ? new Uint8Array() : memberContext(member);
    return this.#deps.raft.proposeConfChange(RaftConfChange.create({ type, node_id: member.raftId, context }));
  }

  /** Makes a learner a voter. */
  promote(member: Member): Promise<void> {
    return this.#inTurn(() => this.#change(RaftConfChangeType.ConfChangeAddNode, member));
  }

  /**
   * Removes a member. The leader itself hands the lead over and asks to be tried again.
   * @throws ShoalError FailedPrecondition when a quorum would be lost.
   */
  remove(member: Member): Promise<void> {
    return this.#inTurn(() => this.#remove(member));
  }

  async #remove(member: Member): Promise<void> {
    const { raft, members, log } = this.#deps;
    if (members.get(member.raftId) === undefined) return;
    const progress = raft.progress();
    if (!canRemove(progress, member.raftId)) {
      const why = `removing manager ${member.nodeId} would leave the cluster without a quorum of live managers`;
      throw new ShoalError('FailedPrecondition', `${why}; bring other managers back first`);
    }
    if (member.raftId === raft.id) {
      const heir = progress.find((one) => !one.learner && one.active && one.raftId !== raft.id);
      if (heir === undefined) throw new ShoalError('FailedPrecondition', 'no other manager can take the lead');
      await raft.transferLeadership(heir.raftId);
      throw new ShoalError('Unavailable', 'the leader handed over the lead before its removal; try again');
    }
    await this.#change(RaftConfChangeType.ConfChangeRemoveNode, member);
    log.info('a manager left consensus', { nodeId: member.nodeId, raftId: member.raftId });
  }

  /**
   * A manager leaves by its own will; it may only take out itself.
   * @throws ShoalError PermissionDenied, FailedPrecondition
   */
  async leave(call: UnaryCall<LeaveRequest>): Promise<LeaveResponse> {
    const named = call.request.node;
    const member = named === null ? undefined : this.#deps.members.get(named.raft_id);
    if (member === undefined) return {};
    if (member.nodeId !== call.nodeId) {
      throw new ShoalError('PermissionDenied', `node ${call.nodeId} may not remove manager ${member.nodeId}`);
    }
    await this.remove(member);
    return {};
  }
}
