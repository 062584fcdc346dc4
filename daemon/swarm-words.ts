import { ShoalError } from '../base/index.ts';
import { NodeSpec_Availability } from '../proto/index.ts';

/** LocalNodeState of `docker info`. */
export type LocalState = 'inactive' | 'pending' | 'active' | 'error' | 'locked';

/** Docker's sentences about a node's place in a swarm. */
export const NOT_IN_SWARM = 'This node is not part of a swarm';

/** Why a locked manager may not leave without force. */
export const LEAVE_LOCKED =
  'Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.';

/** Why no new cluster can be forced here. */
export const NO_SURVIVOR =
  'This node is no manager with data of a swarm: --force-new-cluster needs one that survived. With a backup: shoal swarm ' +
  'restore FILE.';

/** Why a manager is not told of other managers. */
export const REJOIN_MANAGER =
  'This node is a manager and knows its own swarm. A former manager of a restored swarm leaves (docker swarm leave ' +
  '--force) and joins it anew.';

/** Why no new cluster is forced while others would go on without this one; undefined when nobody would. */
export function otherManagersAlive(
  status: { leader: { nodeId: string } | undefined; managers: readonly { nodeId: string; addr: string }[] } | undefined,
): string | undefined {
  if (status?.leader === undefined || status.managers.length <= 1) return undefined;
  return (
    'The swarm has a leader and a quorum: --force-new-cluster would split it in two. Demote the managers that shall go ' +
    '(docker node demote), or have this one leave (docker swarm leave --force).'
  );
}

/** Why a call that needs a manager is refused. */
export function notManager(state: LocalState, error: string): string {
  if (state === 'error') return `This node cannot take part in its swarm: ${error}`;
  if (state === 'locked') {
    return (
      'Swarm is encrypted and needs to be unlocked before it can be used. ' +
      'Please use "docker swarm unlock" to unlock it.'
    );
  }
  if (state === 'inactive' || state === 'pending') {
    return (
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm ' +
      'and try again.'
    );
  }
  return (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. " +
    'Please run this command on a manager node or promote the current node to a manager.'
  );
}

/** Why a manager may not leave without force. */
export function leaveRefusal(managers: readonly { reachability: string }[]): string {
  const begin = 'You are attempting to leave the swarm on a node that is participating as a manager. ';
  const total = managers.length;
  if (total <= 1) {
    return `${begin}Removing the last manager erases all current state of the swarm. Use \`--force\` to ignore this message. `;
  }
  const reachable = managers.filter((manager) => manager.reachability === 'reachable').length;
  const quorum = Math.floor(total / 2) + 1;
  if (reachable - 1 < quorum) {
    return (
      `${begin}Removing this node leaves ${reachable - 1} managers out of ${total}. Without a Raft quorum your swarm will ` +
      'be inaccessible. The only way to restore a swarm that has lost consensus is to reinitialize it with ' +
      '`--force-new-cluster`. Use `--force` to suppress this message.'
    );
  }
  return `${begin}Demote it first (docker node demote), or use \`--force\` to leave at once.`;
}

const AVAILABILITY: Readonly<Record<string, NodeSpec_Availability>> = {
  '': NodeSpec_Availability.ACTIVE,
  active: NodeSpec_Availability.ACTIVE,
  pause: NodeSpec_Availability.PAUSE,
  drain: NodeSpec_Availability.DRAIN,
};

/** What a node does with tasks, from Docker's word. @throws ShoalError InvalidArgument */
export function availability(word: string): NodeSpec_Availability {
  const value = AVAILABILITY[word];
  if (value === undefined) {
    throw new ShoalError(
      'InvalidArgument',
      `invalid availability "${word}", only "active", "pause" and "drain" are supported`,
    );
  }
  return value;
}
