export { labelValue, nodeMatches, parseConstraints, type Constraint } from './constraint.ts';
export {
  AFFINITY_LABEL,
  ANTI_AFFINITY_LABEL,
  CLUSTER_STRATEGY_LABEL,
  parsePlacementHints,
  parseStrategy,
  PREEMPT_LABEL,
  PRIORITY_LABEL,
  STRATEGY_LABEL,
  type PlacementHints,
  type PlacementStrategy,
} from './hints.ts';
export { groupKeyOf } from './demand.ts';
export { explanationLine, type Excluded, type Explanation, type Nearest } from './explanation.ts';
export { FILTER_NAMES, type FilterName } from './filters/filter.ts';
export { normaliseArchitecture, normaliseOs } from './platform.ts';
export { occupies, type NodeView } from './node-view.ts';
export { reservationOf, type FreeResources, type Reservation } from './resources.ts';
export {
  groupTasks,
  priorityOf,
  Scheduler,
  type Assignment,
  type Decisions,
  type Failure,
  type Preemption,
  type TaskGroup,
  type Unplaced,
} from './scheduler.ts';
