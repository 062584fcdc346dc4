import { ClusterSnapshot, RaftConfChangeType, RaftMember, type RaftConfChange } from '../../proto/index.ts';

/** Removed ids remembered at the most; older ones cannot come back unnoticed because ids are random 53-bit numbers. */
const REMOVED_MAX = 1024;

/** A manager that takes part in consensus. */
export interface Member {
  readonly raftId: number;
  readonly nodeId: string;
  /** `host:port` of its gRPC server. */
  readonly addr: string;
}

/**
 * The managers as committed changes of membership say, in log order, so equal on every manager at the same index. The
 * context of a change is an encoded `RaftMember`.
 */
export class MemberList {
  #members = new Map<number, Member>();
  #removed = new Set<number>();

  /** All members, learners included. */
  list(): Member[] {
    return [...this.#members.values()];
  }

  get(raftId: number): Member | undefined {
    return this.#members.get(raftId);
  }

  byNode(nodeId: string): Member | undefined {
    return this.list().find((member) => member.nodeId === nodeId);
  }

  isRemoved(raftId: number): boolean {
    return this.#removed.has(raftId);
  }

  /** Takes members that are known before any change was applied (a new cluster's first, a joiner's list). */
  seed(members: readonly Member[]): void {
    for (const member of members) this.#members.set(member.raftId, member);
  }

  /** Applies one committed change. @returns whether the list changed. */
  apply(change: RaftConfChange): boolean {
    const id = change.node_id;
    if (change.type === RaftConfChangeType.ConfChangeRemoveNode) {
      this.#removed.add(id);
      const [oldest] = this.#removed;
      if (this.#removed.size > REMOVED_MAX && oldest !== undefined) this.#removed.delete(oldest);
      return this.#members.delete(id);
    }
    if (change.context.length === 0) return false;
    const decoded = RaftMember.decode(change.context);
    this.#members.set(id, { raftId: id, nodeId: decoded.node_id, addr: decoded.addr });
    return true;
  }

  /** For a snapshot of the replicated state. */
  snapshot(): Uint8Array {
    const members = this.list().sort((a, b) => a.raftId - b.raftId);
    return ClusterSnapshot.encode({
      members: members.map((member) => memberMessage(member)),
      removed: [...this.#removed],
    });
  }

  /** Replaces everything by what `snapshot` gave. */
  restore(bytes: Uint8Array): void {
    const snapshot = ClusterSnapshot.decode(bytes);
    this.#members = new Map(
      snapshot.members.map((one) => [one.raft_id, { raftId: one.raft_id, nodeId: one.node_id, addr: one.addr }]),
    );
    this.#removed = new Set(snapshot.removed);
  }

  /** Forgets everybody but one (a cluster forced to begin anew with this manager alone). */
  keepOnly(raftId: number): void {
    for (const id of this.#members.keys()) {
      if (id === raftId) continue;
      this.#members.delete(id);
      this.#removed.add(id);
    }
  }
}

export function memberMessage(member: Member): RaftMember {
  return RaftMember.create({ raft_id: member.raftId, node_id: member.nodeId, addr: member.addr });
}

export const memberContext = (member: Member): Uint8Array => RaftMember.encode(memberMessage(member));
