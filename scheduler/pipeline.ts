import type { Demand } from './demand.ts';
import { affinityFilter, antiAffinityFilter } from './filters/affinity.ts';
import { constraintFilter } from './filters/constraint.ts';
import type { Filter, FilterFactory } from './filters/filter.ts';
import { hostPortFilter } from './filters/host-port.ts';
import { maxReplicasFilter } from './filters/max-replicas.ts';
import { platformFilter } from './filters/platform.ts';
import { pluginFilter } from './filters/plugin.ts';
import { readyFilter } from './filters/ready.ts';
import { resourceFilter } from './filters/resource.ts';
import { volumesFilter } from './filters/volumes.ts';
import type { NodeView } from './node-view.ts';

const FACTORIES: readonly FilterFactory[] = [
  readyFilter,
  volumesFilter,
  resourceFilter,
  pluginFilter,
  constraintFilter,
  platformFilter,
  affinityFilter,
  antiAffinityFilter,
  hostPortFilter,
  maxReplicasFilter,
];

/** Those whose answer depends on nothing but the node itself, beside `ready`. */
const FIXED: readonly FilterFactory[] = [volumesFilter, pluginFilter, constraintFilter, platformFilter];

/** The filters whose answer for a node stands until the node changes, whatever tasks come and go. */
export function fixedFiltersFor(demand: Demand): Filter[] {
  return FIXED.map((factory) => factory(demand)).filter((filter) => filter !== undefined);
}

/** All filters that apply to a task, in order. */
export function filtersFor(demand: Demand): Filter[] {
  return FACTORIES.map((factory) => factory(demand)).filter((filter) => filter !== undefined);
}

/** Whether every filter lets the node pass. */
export function passes(filters: readonly Filter[], node: NodeView): boolean {
  return filters.every((filter) => filter.check(node));
}
