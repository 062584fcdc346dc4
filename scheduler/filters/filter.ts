import type { Task } from '../../proto/index.ts';
import type { NodeView } from '../node-view.ts';

/** The conditions that placement puts on a node, by name, in the order in which they are looked at. */
export const FILTER_NAMES = [
  'ready',
  'volumes',
  'resource',
  'plugin',
  'constraint',
  'platform',
  'affinity',
  'anti-affinity',
  'host-port',
  'max-replicas',
] as const;
export type FilterName = (typeof FILTER_NAMES)[number];

/** What one node lacks for a task, when it lacks nothing else. */
export interface Lack {
  /** How far away a fit is; compared between nodes that the same filter excludes. */
  measure: number;
  /** Whether the node could never take the task, however empty it was. */
  never?: boolean;
  /** For the user, after the node's name: "lacks 512MiB of memory". */
  lacks: string;
  /** For the user: what would make the task fit there. */
  fix: string;
}

/** One condition that a task puts on its node, and how to word its failure. */
export interface Filter {
  readonly name: FilterName;
  check(node: NodeView): boolean;
  /** @param count number of nodes that failed, at least 1. */
  explain(count: number): string;
  /** Asked only of a node that `check` refuses. */
  lack(node: NodeView): Lack;
}

/** The filter for a task (and for every task of the same spec); undefined when it does not apply to it. */
export type FilterFactory = (task: Task) => Filter | undefined;

/** "1 node" or "n nodes". */
export function nodes(count: number): string {
  return count === 1 ? '1 node' : `${count} nodes`;
}
