import { ManagerStatus, RaftMemberStatus_Reachability } from '../proto/index.ts';
import { explainPeer, type RaftStatus } from '../raft/index.ts';
import type { ClusterParts } from './cluster-parts.ts';

/** One manager as this one sees it. */
export interface ManagerInfo {
  nodeId: string;
  addr: string;
  reachability: 'unknown' | 'unreachable' | 'reachable';
  leader: boolean;
  /** One sentence on the connection from this manager to it; undefined for this manager itself. */
  connection?: string;
}

export interface ManagerState {
  leader: { nodeId: string; addr: string } | undefined;
  managers: ManagerInfo[];
  /** Undefined until consensus has started. */
  raft: RaftStatus | undefined;
}

const REACHABILITY = {
  [RaftMemberStatus_Reachability.UNKNOWN]: 'unknown',
  [RaftMemberStatus_Reachability.UNREACHABLE]: 'unreachable',
  [RaftMemberStatus_Reachability.REACHABLE]: 'reachable',
} as const;

/** The leader sees the others live; elsewhere the store says what the leader saw. */
function reachabilityOf(parts: ClusterParts, raftId: number, nodeId: string): RaftMemberStatus_Reachability {
  const { UNKNOWN, REACHABLE, UNREACHABLE } = RaftMemberStatus_Reachability;
  const raft = parts.consensus();
  if (raft === undefined) return UNKNOWN;
  if (raftId === raft.id) return REACHABLE;
  const live = raft.progress().find((one) => one.raftId === raftId);
  if (live !== undefined) return live.active ? REACHABLE : UNREACHABLE;
  if (parts.quorum.unreachable().some((one) => one.raftId === raftId)) return UNREACHABLE;
  return parts.store.view().get('node', nodeId)?.manager_status?.reachability ?? UNKNOWN;
}

export function managerStatuses(parts: ClusterParts): ManagerState {
  const raft = parts.consensus()?.status();
  const leaderId = raft?.leaderId ?? 0;
  const connections = new Map(parts.peers().map((peer) => [peer.raftId, { connection: explainPeer(peer) }]));
  const managers = parts.members.list().map((member) => ({
    ...connections.get(member.raftId),
    nodeId: member.nodeId,
    addr: member.addr,
    reachability: REACHABILITY[reachabilityOf(parts, member.raftId, member.nodeId)],
    leader: member.raftId === leaderId,
  }));
  const leader = managers.find((one) => one.leader);
  return { leader: leader && { nodeId: leader.nodeId, addr: leader.addr }, managers, raft };
}

/** What the Control service reports of one manager; null for a node that is none. */
export function managerStatusOf(parts: ClusterParts, nodeId: string): ManagerStatus | null {
  const member = parts.members.byNode(nodeId);
  if (member === undefined) return null;
  return ManagerStatus.create({
    raft_id: member.raftId,
    addr: member.addr,
    leader: member.raftId === parts.consensus()?.status()?.leaderId,
    reachability: reachabilityOf(parts, member.raftId, nodeId),
  });
}
