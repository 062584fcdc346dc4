export { labelValue, nodeMatches, parseConstraints, type Constraint } from './constraint.ts';
export {
  AFFINITY_LABEL,
  ANTI_AFFINITY_LABEL,
  parsePlacementHints,
  PREEMPT_LABEL,
  PRIORITY_LABEL,
  type PlacementHints,
} from './hints.ts';
export { explanationLine, type Excluded, type Explanation, type Nearest } from './explanation.ts';
export { FILTER_NAMES, type FilterName } from './filters/filter.ts';
export { normaliseArchitecture, normaliseOs } from './platform.ts';
export { occupies } from './node-view.ts';
export { FreeResources, reservationOf, type Reservation } from './resources.ts';
export {
  groupTasks,
  Scheduler,
  type Assignment,
  type Decisions,
  type Failure,
  type TaskGroup,
  type Unplaced,
} from './scheduler.ts';
