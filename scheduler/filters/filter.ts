import type { Task } from '../../proto/index.ts';
import type { NodeView } from '../node-view.ts';

/** One condition that a task puts on its node, and how to word its failure. */
export interface Filter {
  check(node: NodeView): boolean;
  /** @param count number of nodes that failed, at least 1. */
  explain(count: number): string;
}

/** The filter for a task (and for every task of the same spec); undefined when it does not apply to it. */
export type FilterFactory = (task: Task) => Filter | undefined;

/** "1 node" or "n nodes". */
export function nodes(count: number): string {
  return count === 1 ? '1 node' : `${count} nodes`;
}
