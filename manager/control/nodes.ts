import { failedPrecondition, invalidArgument } from '../../base/index.ts';
import {
  Cluster,
  durationToMs,
  Node,
  NodeRole,
  NodeStatus_State,
  Task,
  TaskState,
  timestampFromMs,
  timestampToMs,
  type NodeSpec,
} from '../../proto/index.ts';
import type { Transaction } from '../store/types.ts';
import { hasLabels, oneOf, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import type { Control, ControlOptions, MembershipPort } from './types.ts';
import { checkVersion } from './versions.ts';

/** Life of a node certificate when the cluster's spec names none, ms. */
const CERTIFICATE_EXPIRY_MS = 90 * 24 * 3600 * 1000;
/** Certificates may be valid this much longer than asked, for clocks that differ, ms. */
const CERTIFICATE_SLACK_MS = 3600 * 1000;

/** A node with the live state of its manager. */
function withStatus(node: Node, membership: MembershipPort | undefined): Node {
  return membership === undefined ? node : { ...node, manager_status: membership.managerStatus(node.id) };
}

function isMember(node: Node, membership: MembershipPort | undefined): boolean {
  if (membership !== undefined) return membership.managerStatus(node.id) !== null;
  return node.manager_status !== null || node.role === NodeRole.MANAGER;
}

function checkDemotion(tx: Transaction, node: Node, membership: MembershipPort | undefined): void {
  const others = tx
    .list('node')
    .filter((other) => other.id !== node.id && other.spec?.desired_role === NodeRole.MANAGER);
  if (others.length === 0) throw failedPrecondition('attempting to demote the last manager of the swarm');
  if (membership !== undefined && isMember(node, membership) && !membership.canRemove(node.id)) {
    throw failedPrecondition("can't remove member from the raft: this would result in a loss of quorum");
  }
}

/** A removed node's certificate stays refused until it has run out; entries that have are dropped. */
function refuseCertificate(tx: Transaction, nodeId: string, nowMs: number): void {
  for (const cluster of tx.list('cluster')) {
    const copy = Cluster.clone(cluster);
    for (const [name, entry] of Object.entries(copy.blacklisted_certificates)) {
      if (timestampToMs(entry.expiry) < nowMs) delete copy.blacklisted_certificates[name];
    }
    const lifeMs = durationToMs(cluster.spec?.ca_config?.node_cert_expiry, CERTIFICATE_EXPIRY_MS);
    const expiry = timestampFromMs(nowMs + lifeMs + CERTIFICATE_SLACK_MS);
    copy.blacklisted_certificates[nodeId] = { expiry };
    tx.update('cluster', copy);
  }
}

/** Nobody reports the tasks of a removed node any more: their end is written here. */
function orphanTasks(tx: Transaction, nodeId: string, nowMs: number): void {
  for (const stored of tx.tasksByNode(nodeId)) {
    const task = Task.clone(stored);
    if (task.status === null || task.status.state >= TaskState.COMPLETE) continue;
    task.status.state = TaskState.ORPHANED;
    task.status.message = 'Task belonged to a node that has been deleted';
    task.status.timestamp = timestampFromMs(nowMs);
    tx.update('task', task);
  }
}

function updated(stored: Node, spec: NodeSpec): Node {
  const node = Node.clone(stored);
  // Membership is decided when a node joins, not here.
  node.spec = { ...spec, membership: stored.spec?.membership ?? spec.membership };
  node.spec.annotations ??= { name: '', labels: {}, indices: [] };
  node.spec.annotations.name = stored.spec?.annotations?.name ?? '';
  return node;
}

function remove(tx: Transaction, reference: string, force: boolean, options: ControlOptions): void {
  const node = resolve(tx, 'node', reference);
  if (isMember(node, options.membership)) {
    throw failedPrecondition(
      `node ${node.id} is a cluster manager and is a member of the raft cluster. ` +
        'It must be demoted to worker before removal',
    );
  }
  if (!force && node.status?.state === NodeStatus_State.READY) {
    throw failedPrecondition(`node ${node.id} is not down and can't be removed`);
  }
  const nowMs = options.clock.now();
  refuseCertificate(tx, node.id, nowMs);
  orphanTasks(tx, node.id, nowMs);
  tx.remove('node', node.id);
}

/** Nodes: labels, role, availability, removal. */
export function nodeMethods(
  options: ControlOptions,
): Pick<Control, 'GetNode' | 'ListNodes' | 'UpdateNode' | 'RemoveNode'> {
  const { store, membership } = options;
  return {
    GetNode: async ({ reference }) => ({ node: withStatus(resolve(store.view(), 'node', reference), membership) }),

    ListNodes: async ({ filters }) => {
      const found = store
        .view()
        .list('node')
        .filter((node) => {
          if (filters === null) return true;
          return (
            passesCommon(filters, node.description?.hostname ?? '', node.id) &&
            hasLabels(node.description?.engine?.labels, filters.labels) &&
            hasLabels(node.spec?.annotations?.labels, filters.node_labels) &&
            (node.spec === null || oneOf(filters.memberships, node.spec.membership)) &&
            oneOf(filters.roles, node.role)
          );
        });
      return { nodes: found.map((node) => withStatus(node, membership)) };
    },

    UpdateNode: async ({ node_id, node_version, spec }) => {
      if (spec === null) throw invalidArgument('a node spec must be provided');
      const id = await store.update((tx) => {
        const stored = resolve(tx, 'node', node_id);
        checkVersion(stored, node_version);
        const demoted = stored.spec?.desired_role === NodeRole.MANAGER && spec.desired_role === NodeRole.WORKER;
        if (demoted) checkDemotion(tx, stored, membership);
        tx.update('node', updated(stored, spec));
        return stored.id;
      });
      return { node: withStatus(resolve(store.view(), 'node', id), membership) };
    },

    RemoveNode: async ({ node_id, force }) => {
      await store.update((tx) => remove(tx, node_id, force, options));
      return {};
    },
  };
}
