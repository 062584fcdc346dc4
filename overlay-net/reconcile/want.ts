import type { NamespaceState, Op } from '../kernel/ops.ts';
import { itemsOf, VXLAN_LINK, type Items } from '../plan.ts';
import { isNamespace } from '../kernel/index.ts';
import type { LocalNetworks } from '../local-networks.ts';
import type { Loopback6 } from '../loopback6.ts';
import type { NameService } from '../name-service.ts';
import type { Overlays } from '../overlays.ts';
import type { Rules } from '../rules.ts';
import type { SandboxBuilder } from '../sandboxes.ts';
import type { Leg, SandboxRecord } from '../store.ts';
import type { LocalNetwork } from '../types.ts';
import { containerPlace, SECURE, type RepairPlace } from './repairs.ts';

/** What one owner wants in one namespace. */
export interface Want {
  place: RepairPlace;
  namespace: string | null;
  ops: readonly Op[];
  /** Links beyond which routes are the container's own matter. */
  own?: ReadonlySet<string>;
  /** All that may stand beside the links, and how to read it from a state. */
  items?: { wanted: Items; read: (state: NamespaceState) => Items };
  /** Makes anew what hangs on lost links; without it the ops are run again. */
  remake?: (lost: ReadonlySet<string>) => Promise<void>;
}

/** A table that an owner has put into a namespace. */
export interface NftWant {
  place: RepairPlace;
  namespace: string | null;
  /** As it was put in place. */
  text: string;
  /** Puts it in place again. */
  renew: () => Promise<void>;
}

/** An owner of kernel state. Its wants are asked for when they are compared, so they are never out of date. */
export interface Source<W> {
  /** Name of the lock under which it changes. */
  lock: string;
  want: () => W | undefined;
}

export interface SourcesOptions {
  locals: LocalNetworks;
  overlays: Overlays;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  builder: SandboxBuilder;
  rules: Rules;
  names: NameService;
  loopback6: Loopback6;
  /** Ops that make a local network's bridge. */
  bridgeOps: (network: LocalNetwork) => Op[];
  /** Ops of the host itself. */
  hostOps: readonly Op[];
  /** Brings the nft tables up to date. */
  update: () => Promise<void>;
  strict: () => boolean;
}

const HOST: RepairPlace = { id: '', name: '', where: 'on the host' };
/** Lock of what belongs to no network or container. */
const HOST_LOCK = 'host';
/** Of what encrypted networks run over; its owner has a lock of its own too. */
const SECURE_LOCK = 'secure';

function networkPlace(id: string, name: string): RepairPlace {
  return { id, name, where: `on network ${name}` };
}

/** Everything that is wanted of the kernel's links, addresses, routes, rules, neighbours and forwarding entries. */
export function sourcesOf(o: SourcesOptions): Source<Want>[] {
  const sources: Source<Want>[] = [{ lock: HOST_LOCK, want: () => ({ place: HOST, namespace: null, ops: o.hostOps }) }];
  sources.push(...loopback6Sources(o));
  for (const { id } of o.locals.bridges()) sources.push({ lock: id, want: () => bridgeWant(o, id) });
  sources.push({ lock: SECURE_LOCK, want: () => secureWant(o) });
  for (const { facts } of o.overlays.all()) sources.push(...overlaySources(o, facts.id));
  for (const [id, record] of o.sandboxes) {
    for (const leg of record.legs) sources.push({ lock: id, want: () => outerWant(o, id, leg) });
    sources.push({ lock: id, want: () => innerWant(o, id) });
  }
  return sources;
}

/** The turn that connections from ::1 make. */
function loopback6Sources({ loopback6 }: SourcesOptions): Source<Want>[] {
  const { namespace, hostOps, innerOps } = loopback6;
  const sides = [
    { namespace: null, ops: hostOps },
    { namespace, ops: innerOps },
  ];
  const remake = (): Promise<void> => loopback6.make();
  return sides.map((side) => ({
    lock: HOST_LOCK,
    want: () => (loopback6.standing ? { place: HOST, remake, ...side } : undefined),
  }));
}

function loopback6Table({ loopback6 }: SourcesOptions): NftWant | undefined {
  if (!loopback6.standing) return undefined;
  const { namespace, innerText: text } = loopback6;
  return { place: HOST, namespace, text, renew: () => loopback6.renewRules() };
}

function bridgeWant(o: SourcesOptions, id: string): Want | undefined {
  const network = o.locals.bridges().find((candidate) => candidate.id === id);
  if (network === undefined) return undefined;
  return { place: networkPlace(id, network.name), namespace: null, ops: o.bridgeOps(network) };
}

function secureWant({ overlays: { secure } }: SourcesOptions): Want | undefined {
  const ops = secure.wanted?.ops;
  if (ops === undefined) return undefined;
  return { place: SECURE, namespace: secure.namespace, ops, remake: () => secure.remake() };
}

function secureTable({ overlays: { secure } }: SourcesOptions): NftWant | undefined {
  const text = secure.wanted?.rules;
  if (text === undefined) return undefined;
  return { place: SECURE, namespace: secure.namespace, text, renew: () => secure.renewRules() };
}

function overlaySources(o: SourcesOptions, id: string): Source<Want>[] {
  const remake = (lost: ReadonlySet<string>): Promise<void> => o.overlays.remake(id, o.strict(), lost.has(VXLAN_LINK));
  const host = (): Want | undefined => {
    const wanted = o.overlays.wanted(id, o.strict());
    if (wanted === undefined || wanted.host.length === 0) return undefined;
    return { place: networkPlace(id, wanted.overlay.facts.name), namespace: null, ops: wanted.host, remake };
  };
  const inner = (): Want | undefined => {
    const wanted = o.overlays.wanted(id, o.strict());
    if (wanted === undefined) return undefined;
    const { namespace, facts } = wanted.overlay;
    const items = { wanted: wanted.items, read: itemsOf };
    return { place: networkPlace(id, facts.name), namespace, ops: wanted.inner, items, remake };
  };
  return [
    { lock: id, want: host },
    { lock: id, want: inner },
  ];
}

function living(o: SourcesOptions, id: string): SandboxRecord | undefined {
  const record = o.sandboxes.get(id);
  return record !== undefined && isNamespace(record.result.namespacePath) ? record : undefined;
}

/** The end of a leg in its bridge. */
function outerWant(o: SourcesOptions, id: string, leg: Leg): Want | undefined {
  const record = living(o, id);
  if (record === undefined || leg.made === undefined || !record.legs.includes(leg)) return undefined;
  const remake = (): Promise<void> => o.builder.remake(record, leg);
  return { place: containerPlace(record), namespace: leg.made.bridgeNamespace, ops: leg.made.outer, remake };
}

/** A container's own side. */
function innerWant(o: SourcesOptions, id: string): Want | undefined {
  const record = living(o, id);
  if (record === undefined) return undefined;
  const legs = record.legs.flatMap((leg) => (leg.made === undefined ? [] : [{ leg, ops: leg.made.inner }]));
  const links = (ops: readonly Op[]): string[] => ops.flatMap((op) => (op.kind === 'link' ? [op.name] : []));
  const remake = async (lost: ReadonlySet<string>): Promise<void> => {
    for (const { leg, ops } of legs) if (links(ops).some((name) => lost.has(name))) await o.builder.remake(record, leg);
  };
  const lo: Op = { kind: 'link', name: 'lo', up: true };
  const ops = [lo, ...legs.flatMap((leg) => leg.ops), ...(record.routes ?? [])];
  const own = new Set(links(ops));
  return { place: containerPlace(record), namespace: record.result.namespacePath, ops, own, remake };
}

/** Whose namespace is at a path. */
export function placeOfNamespace(o: SourcesOptions, path: string): RepairPlace {
  const overlay = o.overlays.all().find(({ namespace }) => namespace === path);
  if (overlay !== undefined) return networkPlace(overlay.facts.id, overlay.facts.name);
  const record = [...o.sandboxes.values()].find(({ result }) => result.namespacePath === path);
  if (record !== undefined) return containerPlace(record);
  return path === o.overlays.secure.namespace ? SECURE : HOST;
}

/** Everything that is wanted of nft. */
export function nftSourcesOf(o: SourcesOptions): Source<NftWant>[] {
  const host = (): NftWant | undefined => {
    if (o.rules.hostText === '') return undefined;
    const renew = async (): Promise<void> => {
      o.rules.forgetHost();
      await o.update();
    };
    return { place: HOST, namespace: null, text: o.rules.hostText, renew };
  };
  const sources: Source<NftWant>[] = [
    { lock: HOST_LOCK, want: host },
    { lock: HOST_LOCK, want: () => loopback6Table(o) },
    { lock: SECURE_LOCK, want: () => secureTable(o) },
  ];
  for (const { facts } of o.overlays.all()) sources.push({ lock: facts.id, want: () => overlayTable(o, facts.id) });
  for (const id of o.sandboxes.keys()) sources.push(...sandboxTables(o, id));
  return sources;
}

function overlayTable(o: SourcesOptions, id: string): NftWant | undefined {
  const wanted = o.overlays.wanted(id, o.strict());
  if (wanted === undefined || wanted.rules === '') return undefined;
  const { namespace, facts } = wanted.overlay;
  const renew = (): Promise<void> => o.overlays.renewRules(id, o.strict());
  return { place: networkPlace(id, facts.name), namespace, text: wanted.rules, renew };
}

function sandboxTables(o: SourcesOptions, id: string): Source<NftWant>[] {
  return [
    { lock: id, want: () => balancingWant(o, id) },
    { lock: id, want: () => resolverWant(o, id) },
  ];
}

/** The way to the resolver. */
function resolverWant(o: SourcesOptions, id: string): NftWant | undefined {
  const record = living(o, id);
  const text = record === undefined ? '' : o.names.rulesText(record);
  if (record === undefined || text === '') return undefined;
  const renew = (): Promise<void> => o.names.repair(id);
  return { place: containerPlace(record), namespace: record.result.namespacePath, text, renew };
}

function balancingWant(o: SourcesOptions, id: string): NftWant | undefined {
  const record = living(o, id);
  const text = o.rules.sandboxText(id);
  if (record === undefined || text === undefined) return undefined;
  const renew = async (): Promise<void> => {
    o.rules.forget(id);
    await o.update();
  };
  return { place: containerPlace(record), namespace: record.result.namespacePath, text, renew };
}

/** Containers whose resolvers must answer. */
export function resolversOf(o: SourcesOptions): (RepairPlace & { namespace: string })[] {
  return [...o.sandboxes.values()].map((record) => ({
    ...containerPlace(record),
    namespace: record.result.namespacePath,
  }));
}
