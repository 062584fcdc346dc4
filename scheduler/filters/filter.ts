import type { Demand } from '../demand.ts';
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
  /** How far a node that `check` refuses is from a fit; compared between nodes that the same filter excludes. */
  measure(node: NodeView): number;
  /** What a node that `check` refuses lacks. */
  lack(node: NodeView): Lack;
}

/**
 * Least measure of a node that could never take the task, however empty it was: every other node is nearer.
 */
export const NEVER = 1e9;

/** The filter for what a group of tasks asks; undefined when it does not apply to it. */
export type FilterFactory = (demand: Demand) => Filter | undefined;

/** "1 node" or "n nodes". */
export function nodes(count: number): string {
  return count === 1 ? '1 node' : `${count} nodes`;
}
