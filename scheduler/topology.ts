import { labelValue } from './constraint.ts';
import type { NodeView } from './node-view.ts';

/** Lists of preferences whose trees are kept. */
const TOPOLOGIES_MAX = 32;

/** A branch of the tree of spread preferences, whoever's tasks go there. */
export interface Division {
  readonly label: string;
  /** Empty for a leaf. */
  readonly children: readonly Division[];
  /** Rows of a leaf's nodes. */
  readonly rows: Int32Array;
  /** Number of the leaf among all; -1 for a fork. */
  readonly leaf: number;
}

/** All known nodes, divided by the labels that a list of preferences names. */
export interface Topology {
  readonly root: Division;
  readonly leaves: number;
  /** Number of the leaf of each row. */
  readonly leafOf: Int32Array;
}

const NO_ROWS = new Int32Array(0);

function divide(views: readonly NodeView[], descriptors: readonly string[], capacity: number): Topology {
  const leafOf = new Int32Array(capacity);
  let leaves = 0;
  const build = (label: string, within: readonly NodeView[], level: number): Division => {
    const descriptor = descriptors[level];
    if (descriptor === undefined) {
      const rows = Int32Array.from(within, (view) => view.row);
      for (const row of rows) leafOf[row] = leaves;
      return { label, children: [], rows, leaf: leaves++ };
    }
    const groups = new Map<string, NodeView[]>();
    for (const view of within) {
      const value = labelValue(view.node, descriptor) ?? '';
      const group = groups.get(value);
      if (group === undefined) groups.set(value, [view]);
      else group.push(view);
    }
    const children = [...groups].map(([value, group]) => build(value, group, level + 1));
    return { label, children, rows: NO_ROWS, leaf: -1 };
  };
  const root = build('', views, 0);
  return { root, leaves, leafOf };
}

/** Trees of preferences, kept until a node or a label changes. */
export class TopologyCache {
  readonly #kept = new Map<string, Topology>();

  clear(): void {
    this.#kept.clear();
  }

  /** @param views all known nodes. @param capacity rows there may be. */
  of(descriptors: readonly string[], views: readonly NodeView[], capacity: number): Topology {
    const key = descriptors.join('\n');
    let topology = this.#kept.get(key);
    if (topology !== undefined) return topology;
    topology = divide(views, descriptors, capacity);
    if (this.#kept.size >= TOPOLOGIES_MAX) this.#kept.clear();
    this.#kept.set(key, topology);
    return topology;
  }
}
