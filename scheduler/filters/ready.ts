import { NodeSpec_Availability, NodeStatus_State } from '../../proto/index.ts';
import { nodes, type FilterFactory } from './filter.ts';

/** The node is up and takes new tasks. */
export const readyFilter: FilterFactory = () => ({
  check: ({ node }) =>
    node.status?.state === NodeStatus_State.READY && node.spec?.availability === NodeSpec_Availability.ACTIVE,
  explain: (count) => `${nodes(count)} not available for new tasks`,
});
