import { errorMessage, type Clock, type Logger } from '../../base/index.ts';
import { IssuanceStatus_State, Node, NodeRole } from '../../proto/index.ts';
import type { LeaderDuty, Store } from '../store/types.ts';
import type { MemberList } from './member-list.ts';
import type { MembershipRaft } from './raft-port.ts';
import type { MembershipService } from './service.ts';

/** Time between two looks, ms. Learners that catch up are noticed by these looks. */
const PASS_MS = 250;
/** Entries that a learner may lack when it becomes a voter. */
const PROMOTION_LAG_ENTRIES = 100;

export interface RoleManagerDeps {
  store: Store;
  members: MemberList;
  raft: MembershipRaft;
  service: MembershipService;
  clock: Clock;
  log: Logger;
}

/** The role takes effect when the agent has a certificate that states it: it is told to renew. */
function withRole(stored: Node, role: NodeRole): Node {
  const node = Node.clone(stored);
  node.role = role;
  if (node.certificate !== null) node.certificate.status = { state: IssuanceStatus_State.ROTATE, err: '' };
  if (role === NodeRole.WORKER) node.manager_status = null;
  return node;
}

/**
 * The leader's duty that brings each node's role to the desired one (swarmkit.md §2.7). A promoted node gets the role
 * and joins consensus by itself; a demoted one leaves consensus first, so that its certificate never outlives its
 * membership. Learners become voters here, and members whose node is gone are removed.
 */
export function createRoleManager(deps: RoleManagerDeps): LeaderDuty {
  return { name: 'role-manager', run: (signal) => new RoleManager(deps).run(signal) };
}

class RoleManager {
  readonly #deps: RoleManagerDeps;
  /** Last complaint per node, so that a lasting obstacle is logged once. */
  readonly #complaints = new Map<string, string>();

  constructor(deps: RoleManagerDeps) {
    this.#deps = deps;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#pass(signal);
      await this.#deps.clock.sleep(PASS_MS, signal).catch(() => undefined);
    }
  }

  async #pass(signal: AbortSignal): Promise<void> {
    await this.#promoteLearners(signal);
    for (const node of this.#deps.store.view().list('node')) {
      if (signal.aborted) return;
      const desired = node.spec?.desired_role ?? node.role;
      if (desired === node.role) continue;
      await this.#attempt(node.id, signal, () =>
        desired === NodeRole.MANAGER ? this.#promote(node.id) : this.#demote(node.id),
      );
    }
    await this.#removeStrays(signal);
  }

  async #attempt(subject: string, signal: AbortSignal, run: () => Promise<void>): Promise<void> {
    try {
      await run();
      this.#complaints.delete(subject);
    } catch (error) {
      const text = errorMessage(error);
      if (signal.aborted || this.#complaints.get(subject) === text) return;
      this.#complaints.set(subject, text);
      this.#deps.log.warn('a role cannot be changed yet', { subject, error });
    }
  }

  async #promoteLearners(signal: AbortSignal): Promise<void> {
    const { raft, members, service } = this.#deps;
    for (const one of raft.progress()) {
      const member = members.get(one.raftId);
      if (!one.learner || !one.active || one.lag > PROMOTION_LAG_ENTRIES || member === undefined) continue;
      await this.#attempt(member.nodeId, signal, () => service.promote(member));
    }
  }

  async #promote(nodeId: string): Promise<void> {
    await this.#deps.store.update((tx) => {
      const node = tx.get('node', nodeId);
      if (node !== undefined && node.spec?.desired_role === NodeRole.MANAGER && node.role !== NodeRole.MANAGER) {
        tx.update('node', withRole(node, NodeRole.MANAGER));
      }
    });
    this.#deps.log.info('a node is promoted', { nodeId });
  }

  async #demote(nodeId: string): Promise<void> {
    const { members, service, store, log } = this.#deps;
    const member = members.byNode(nodeId);
    if (member !== undefined) await service.remove(member);
    await store.update((tx) => {
      const node = tx.get('node', nodeId);
      if (node !== undefined && node.spec?.desired_role === NodeRole.WORKER && node.role !== NodeRole.WORKER) {
        tx.update('node', withRole(node, NodeRole.WORKER));
      }
    });
    log.info('a node is demoted', { nodeId });
  }

  /** Members whose node object was removed: they would count for the quorum for ever. */
  async #removeStrays(signal: AbortSignal): Promise<void> {
    const { members, store, service } = this.#deps;
    for (const member of members.list()) {
      if (store.view().get('node', member.nodeId) !== undefined) continue;
      await this.#attempt(member.nodeId, signal, () => service.remove(member));
    }
  }
}
