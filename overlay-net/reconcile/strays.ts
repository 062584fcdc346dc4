/** Leftovers of a crash. */
import { join } from 'node:path';
import { undoHostOps, type IngressWiring } from '../ingress-wiring.ts';
import { undo } from '../plan.ts';
import type { Kernel, NamespaceState, Op } from '../kernel/ops.ts';
import type { LocalNetworks } from '../local-networks.ts';
import type { Loopback6 } from '../loopback6.ts';
import type { Overlays } from '../overlays.ts';
import type { NetworkStore, SandboxRecord } from '../store.ts';

/** Links named by a daemon: its two bridges, its ingress pair, the turn of ::1, veths, those of encryption and numbered bridges. @param prefix "sh" and tag */
export function isOurs(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^(?:[0gil]|[vw][0-9a-z]+|[0-9a-f]{7})$/.test(name.slice(prefix.length));
}

/** What is wanted in the host's namespace by now; all else of this daemon's is a stray. */
export interface Kept {
  /** Prefix of the daemon's links, and those wanted. */
  prefix: string;
  links: ReadonlySet<string>;
  wiring: IngressWiring;
  /** Whether the ingress network stands; without it its link, rule and route table have no use. */
  ingress: boolean;
  /** Whether encryption stands, which has links of its own. */
  secure: boolean;
}

/** Ops that take away what stands in the host's namespace and nobody wants. Pure. */
export function strayOps(state: NamespaceState, { prefix, links, wiring, ingress, secure }: Kept): Op[] {
  const ops: Op[] = [];
  for (const { name } of state.links) {
    if (!isOurs(name, prefix) || links.has(name) || (name === wiring.hostLink && ingress)) continue;
    if (secure && name.startsWith(`${prefix}w`)) continue;
    ops.push({ kind: 'link-del', name });
  }
  const rules = state.rules.filter((rule) => rule.mark === wiring.mark);
  if (!ingress && rules.length > 0)
    ops.push(
      ...undoHostOps(
        wiring,
        rules.some((rule) => rule.family === 6),
      ),
    );
  for (const rule of rules) if (rule.table !== wiring.mark) ops.push(undo({ kind: 'rule', ...rule }));
  return ops;
}

/** Who owns kernel state on this host. */
export interface OwnState {
  kernel: Kernel;
  store: NetworkStore;
  locals: LocalNetworks;
  overlays: Overlays;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  wiring: IngressWiring;
  loopback6: Loopback6;
  tag: string;
}

/** Removes namespaces, links and rules that a crash left half-way and nobody owns. */
export async function dropStrays({ kernel, store, locals, overlays, wiring, tag, ...own }: OwnState): Promise<void> {
  const sandboxes = [...own.sandboxes.values()];
  const turn = own.loopback6.standing ? [own.loopback6] : [];
  const namespaces = new Set([
    ...sandboxes.map(({ result }) => result.namespacePath),
    ...overlays.namespaces(),
    ...turn.map(({ namespace }) => namespace),
  ]);
  for (const name of store.namespaceNames()) {
    const path = join(store.namespaces, name);
    if (!namespaces.has(path)) kernel.removeNamespace(path);
  }
  const bridges = locals.bridges().map((network) => locals.bridgeName(network));
  const links = [...bridges, ...turn.map(({ rules }) => rules.link)];
  const kept: Kept = {
    prefix: `sh${tag}`,
    links: new Set([...links, ...sandboxes.flatMap(({ legs }) => legs.map((leg) => leg.hostLink))]),
    wiring,
    ingress: overlays.ingress() !== undefined,
    secure: overlays.secure.inUse,
  };
  await kernel.apply(null, strayOps(await kernel.state(null), kept));
}
