import { errorMessage, type Clock, type Logger } from '../../base/index.ts';
import { ManagerStatus, Node, NodeRole, RaftMemberStatus_Reachability } from '../../proto/index.ts';
import type { LeaderDuty, Store } from '../store/types.ts';
import type { MemberList } from './member-list.ts';
import type { MembershipRaft } from './raft-port.ts';

/** Time between two looks, ms. */
const PASS_MS = 500;

export interface ManagerStatusDeps {
  store: Store;
  members: MemberList;
  raft: MembershipRaft;
  clock: Clock;
  log: Logger;
}

/** What each manager's node object should say of it, by node id. */
function wanted({ members, raft }: ManagerStatusDeps): Map<string, ManagerStatus> {
  const active = new Map(raft.progress().map((one) => [one.raftId, one.active]));
  const { REACHABLE, UNREACHABLE } = RaftMemberStatus_Reachability;
  return new Map(
    members.list().map((member) => [
      member.nodeId,
      ManagerStatus.create({
        raft_id: member.raftId,
        addr: member.addr,
        leader: member.raftId === raft.id,
        reachability: active.get(member.raftId) === true ? REACHABLE : UNREACHABLE,
      }),
    ]),
  );
}

function stale(node: Node, status: ManagerStatus | null): boolean {
  return status === null ? node.manager_status !== null : !ManagerStatus.equal(node.manager_status, status);
}

/** The leader's duty that keeps `manager_status` of the nodes in step with consensus: leader, reachability, address. */
export function createManagerStatus(deps: ManagerStatusDeps): LeaderDuty {
  const { store, raft, clock, log } = deps;
  const pass = async (): Promise<void> => {
    if (!raft.isLeader() || raft.progress().length === 0) return;
    const statuses = wanted(deps);
    const isStale = (node: Node): boolean => stale(node, statuses.get(node.id) ?? null);
    if (!store.view().list('node').some(isStale)) return;
    await store.update((tx) => {
      for (const stored of tx.list('node').filter(isStale)) {
        const node = Node.clone(stored);
        node.manager_status = statuses.get(node.id) ?? null;
        if (node.role !== NodeRole.MANAGER && node.manager_status !== null) continue;
        tx.update('node', node);
      }
    });
  };
  return {
    name: 'manager-status',
    async run(signal) {
      while (!signal.aborted) {
        await pass().catch((error: unknown) => {
          if (!signal.aborted) log.debug('the status of managers was not stored', { error: errorMessage(error) });
        });
        await clock.sleep(PASS_MS, signal).catch(() => undefined);
      }
    },
  };
}
