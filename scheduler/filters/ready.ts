import { NodeSpec_Availability, NodeStatus_State } from '../../proto/index.ts';
import type { NodeView } from '../node-view.ts';
import { nodes, type FilterFactory, type Lack } from './filter.ts';

/** How far a node is from taking tasks: paused, drained, silent, down. */
function distance({ node }: NodeView): number {
  if (node.status?.state === NodeStatus_State.DOWN) return 4;
  if (node.status?.state !== NodeStatus_State.READY) return 3;
  return node.spec?.availability === NodeSpec_Availability.DRAIN ? 2 : 1;
}

function lackOf({ node, name }: NodeView): Lack {
  if (node.status?.state !== NodeStatus_State.READY) {
    const down = node.status?.state === NodeStatus_State.DOWN;
    return {
      lacks: down ? 'is down' : 'is not ready',
      fix: `bring ${name} back: look at its daemon and its network`,
    };
  }
  const drained = node.spec?.availability === NodeSpec_Availability.DRAIN;
  return {
    lacks: drained ? 'is drained' : 'is paused',
    fix: `make it active (node update --availability active ${name})`,
  };
}

/** The node is up and takes new tasks. */
export const readyFilter: FilterFactory = () => ({
  name: 'ready',
  check: ({ node }) =>
    node.status?.state === NodeStatus_State.READY && node.spec?.availability === NodeSpec_Availability.ACTIVE,
  explain: (count) => `${nodes(count)} not available for new tasks`,
  measure: distance,
  lack: lackOf,
});
