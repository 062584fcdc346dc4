import type { Task } from '../proto/index.ts';
import { constraintFilter } from './filters/constraint.ts';
import type { Filter, FilterFactory } from './filters/filter.ts';
import { hostPortFilter } from './filters/host-port.ts';
import { maxReplicasFilter } from './filters/max-replicas.ts';
import { platformFilter } from './filters/platform.ts';
import { pluginFilter } from './filters/plugin.ts';
import { readyFilter } from './filters/ready.ts';
import { resourceFilter } from './filters/resource.ts';
import type { NodeView } from './node-view.ts';

const FACTORIES: readonly FilterFactory[] = [
  readyFilter,
  resourceFilter,
  pluginFilter,
  constraintFilter,
  platformFilter,
  hostPortFilter,
  maxReplicasFilter,
];

/** All filters that apply to a task. Counts which of them turned nodes away, for the explanation. */
export class Pipeline {
  readonly #filters: { filter: Filter; failedOn: Set<string> }[];

  constructor(task: Task) {
    this.#filters = FACTORIES.map((factory) => factory(task))
      .filter((filter) => filter !== undefined)
      .map((filter) => ({ filter, failedOn: new Set<string>() }));
  }

  /** Whether the node can take the task. The first filter that refuses it is its reason. */
  check(node: NodeView): boolean {
    for (const { filter, failedOn } of this.#filters) {
      if (filter.check(node)) continue;
      failedOn.add(node.node.id);
      return false;
    }
    return true;
  }

  /** "no suitable node (…)" with the reasons, the most frequent first. */
  explain(): string {
    const reasons = this.#filters
      .filter(({ failedOn }) => failedOn.size > 0)
      .toSorted((a, b) => b.failedOn.size - a.failedOn.size)
      .map(({ filter, failedOn }) => filter.explain(failedOn.size));
    return reasons.length === 0 ? 'no suitable node' : `no suitable node (${reasons.join('; ')})`;
  }
}
