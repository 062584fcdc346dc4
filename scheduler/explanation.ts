import { NEVER, type Filter, type FilterName } from './filters/filter.ts';
import type { NodeView } from './node-view.ts';

/** Nodes that one filter excluded. */
export interface Excluded {
  filter: FilterName;
  /** How many; each node counts at the first filter that excludes it. */
  nodes: number;
  /** In Docker's words: "insufficient resources on 3 nodes". */
  detail: string;
}

/** The node that only one filter excludes, and by least. */
export interface Nearest {
  nodeId: string;
  /** Its hostname, or its id when it has told none. */
  name: string;
  filter: FilterName;
  /** For the user, after the name: "lacks 512MiB of memory". */
  lacks: string;
}

/** Why a task has no node. */
export interface Explanation {
  /** Docker's words: "no suitable node (…)". */
  text: string;
  /** The most frequent reason first. */
  excluded: Excluded[];
  /** Absent when every node fails more than one filter, when there is none, and when the task fits. */
  nearest?: Nearest;
  /** What would help, in plain words; empty when the task fits. */
  fix: string;
}

/** The whole explanation in one line, as it stands in the task's `status.err`. */
export function explanationLine({ text, nearest, fix }: Explanation): string {
  const near = nearest === undefined ? '' : `; nearest fit: ${nearest.name} ${nearest.lacks}`;
  return fix === '' ? text : `${text}${near}; to fix: ${fix}`;
}

/** What a person changes most easily comes first. */
const EASE: Readonly<Record<FilterName, number>> = {
  resource: 0,
  'max-replicas': 1,
  'host-port': 2,
  'anti-affinity': 3,
  affinity: 4,
  constraint: 5,
  ready: 6,
  plugin: 7,
  platform: 8,
  volumes: 9,
};

interface Candidate {
  view: NodeView;
  filter: Filter;
  measure: number;
}

function nearer(a: Candidate, b: Candidate): boolean {
  const never = Number(a.measure >= NEVER) - Number(b.measure >= NEVER);
  if (never !== 0) return never < 0;
  const ease = EASE[a.filter.name] - EASE[b.filter.name];
  if (ease !== 0) return ease < 0;
  if (a.measure !== b.measure) return a.measure < b.measure;
  return a.view.id < b.view.id;
}

/** When no node fails at one filter only: what to look at, by the filter that excludes most. */
const GENERAL_FIX: Readonly<Record<FilterName, string>> = {
  ready: 'bring nodes back, make them active, or add a node',
  volumes: 'use mounts of type volume, bind or tmpfs instead of type cluster',
  resource: 'add a node, or lower the reservations',
  plugin: 'install the plugin, or choose another driver',
  constraint: 'add a node that satisfies the constraints, or take constraints away',
  platform: 'add a node of the platform, or use an image for the platforms there are',
  affinity: 'start the service that the affinity names where this one may run, or take the affinity away',
  'anti-affinity': 'add a node, or take the anti-affinity away',
  'host-port': 'add a node, or publish the port in ingress mode',
  'max-replicas': 'add a node, or raise --replicas-max-per-node',
};

/**
 * Looks at every node for a task that fits nowhere: how many each filter excludes, and which node comes nearest.
 * @param filters in order. @param views all nodes; when one passes every filter the explanation says so.
 */
export function explainFilters(filters: readonly Filter[], views: Iterable<NodeView>): Explanation {
  const counts = new Map<Filter, number>();
  let best: Candidate | undefined;
  let total = 0;
  for (const view of views) {
    total++;
    const at = filters.findIndex((filter) => !filter.check(view));
    const first = filters[at];
    if (first === undefined) return { text: `${view.name} can take the task`, excluded: [], fix: '' };
    counts.set(first, (counts.get(first) ?? 0) + 1);
    if (filters.some((filter, i) => i > at && !filter.check(view))) continue;
    const candidate = { view, filter: first, measure: first.measure(view) };
    if (best === undefined || nearer(candidate, best)) best = candidate;
  }
  if (total === 0) return { text: 'no suitable node', excluded: [], fix: 'the cluster has no nodes: join one' };
  const excluded = filters
    .filter((filter) => counts.has(filter))
    .map((filter) => ({ filter, count: counts.get(filter) ?? 0 }))
    .toSorted((a, b) => b.count - a.count)
    .map(({ filter, count }) => ({ filter: filter.name, nodes: count, detail: filter.explain(count) }));
  const text = `no suitable node (${excluded.map((one) => one.detail).join('; ')})`;
  if (best === undefined) return { text, excluded, fix: GENERAL_FIX[excluded[0]?.filter ?? 'ready'] };
  const { view, filter } = best;
  const lack = filter.lack(view);
  const nearest = { nodeId: view.id, name: view.name, filter: filter.name, lacks: lack.lacks };
  return { text, excluded, nearest, fix: lack.fix };
}
