import type { Task } from '../proto/index.ts';
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
  hostPortFilter,
  maxReplicasFilter,
];

/** All filters that apply to a task, in order. */
export function filtersFor(task: Task): Filter[] {
  return FACTORIES.map((factory) => factory(task)).filter((filter) => filter !== undefined);
}

/** Whether every filter lets the node pass. */
export function passes(filters: readonly Filter[], node: NodeView): boolean {
  return filters.every((filter) => filter.check(node));
}
