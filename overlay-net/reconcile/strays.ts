/** Leftovers of a crash. */
import { join } from 'node:path';
import { undoHostOps, type IngressWiring } from '../ingress-wiring.ts';
import { undo } from '../plan.ts';
import type { Kernel, NamespaceState, Op } from '../kernel/ops.ts';

/** Links named by a daemon: its two bridges, its ingress pair, veths and numbered bridges. @param prefix "sh" and tag */
export function isOurs(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^(?:[0gi]|v[0-9a-z]+|[0-9a-f]{7})$/.test(name.slice(prefix.length));
}

/** What is wanted of this host by now; all else of this daemon's is a stray. */
export interface Kept {
  /** Directory of the daemon's namespaces, and the names in it. */
  directory: string;
  names: readonly string[];
  /** Paths of namespaces that records name. */
  namespaces: ReadonlySet<string>;
  /** Prefix of the daemon's links, and those wanted. */
  prefix: string;
  links: ReadonlySet<string>;
  wiring: IngressWiring;
  /** Whether the ingress network stands; without it its link, rule and route table have no use. */
  ingress: boolean;
}

/** Ops that take away what stands in the host's namespace and nobody wants. Pure. */
export function strayOps(state: NamespaceState, { prefix, links, wiring, ingress }: Kept): Op[] {
  const ops: Op[] = [];
  for (const { name } of state.links) {
    if (!isOurs(name, prefix) || links.has(name) || (name === wiring.hostLink && ingress)) continue;
    ops.push({ kind: 'link-del', name });
  }
  const rules = state.rules.filter((rule) => rule.mark === wiring.mark);
  if (!ingress && rules.length > 0) ops.push(...undoHostOps(wiring));
  for (const rule of rules) if (rule.table !== wiring.mark) ops.push(undo({ kind: 'rule', ...rule }));
  return ops;
}

/** Removes namespaces, links and rules that are strays. */
export async function dropStrays(kernel: Kernel, kept: Kept): Promise<void> {
  for (const name of kept.names) {
    const path = join(kept.directory, name);
    if (!kept.namespaces.has(path)) kernel.removeNamespace(path);
  }
  await kernel.apply(null, strayOps(await kernel.state(null), kept));
}
