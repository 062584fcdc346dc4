/** What differs between two versions of a network's table. Pure. */
import { atOnce, MEMBERS_PER_TURN } from './paced.ts';
import { Network, NetworkPeer, NetworkService, type NetworkEndpoint, type NetworkTable } from '../proto/index.ts';

/** One member of a list: as it was (undefined: new) and as it is (undefined: gone). */
export interface Changed<T> {
  before: T | undefined;
  after: T | undefined;
}

export interface TableChange {
  /** The newer version; members that are alike are the older version's objects. */
  table: NetworkTable;
  endpoints: Changed<NetworkEndpoint>[];
  services: Changed<NetworkService>[];
  peers: Changed<NetworkPeer>[];
  /** The network itself (name, subnets, options) is another. */
  network: boolean;
}

/** @param before undefined: nothing was known. Of members with the same id the last one counts. */
export function changeOf(before: NetworkTable | undefined, after: NetworkTable): TableChange {
  return atOnce(changeSteps(before, after));
}

/** As `changeOf`, in steps: to compare two large tables that share nothing takes tens of ms. */
export function* changeSteps(before: NetworkTable | undefined, after: NetworkTable): Generator<undefined, TableChange> {
  const endpoints = yield* compareLists(before?.endpoints ?? [], after.endpoints, (one) => one.task_id, sameEndpoint);
  const services = yield* compareLists(
    before?.services ?? [],
    after.services,
    (one) => one.service_id,
    NetworkService.equal,
  );
  const peers = yield* compareLists(before?.peers ?? [], after.peers, (one) => one.node_id, NetworkPeer.equal);
  const same = before !== undefined && Network.equal(before.network, after.network);
  const network = same ? before.network : after.network;
  const table = { ...after, network, endpoints: endpoints.list, services: services.list, peers: peers.list };
  const changed = { endpoints: endpoints.changed, services: services.changed, peers: peers.changed };
  return { table, ...changed, network: !same && (before?.network ?? after.network) !== null };
}

function sameEndpoint(a: NetworkEndpoint, b: NetworkEndpoint): boolean {
  return (
    a.serving === b.serving &&
    a.weight === b.weight &&
    a.vtep === b.vtep &&
    a.node_id === b.node_id &&
    a.address === b.address &&
    a.address6 === b.address6 &&
    a.mac === b.mac &&
    a.task_name === b.task_name &&
    a.service_id === b.service_id &&
    a.aliases.length === b.aliases.length &&
    a.aliases.every((alias, i) => alias === b.aliases[i])
  );
}

/** Members in the same place are mostly the same object, so only the others are looked at. */
function* compareLists<T extends object>(
  before: T[],
  after: T[],
  idOf: (member: T) => string,
  same: (a: T, b: T) => boolean,
): Generator<undefined, { list: T[]; changed: Changed<T>[] }> {
  const changed: Changed<T>[] = [];
  if (before === after) return { list: after, changed };
  const old = new Map<string, T>();
  const others: T[] = [];
  const length = Math.max(before.length, after.length);
  for (let i = 0; i < length; i++) {
    const was = before[i];
    const is = after[i];
    if (was === is) continue;
    if (was !== undefined) old.set(idOf(was), was);
    if (is !== undefined) others.push(is);
  }
  const shared = new Map<T, T>();
  const last = new Map(others.map((member) => [idOf(member), member]));
  let count = 0;
  for (const [id, member] of last) {
    if (++count % MEMBERS_PER_TURN === 0) yield;
    const was = old.get(id);
    old.delete(id);
    if (was === member) continue;
    if (was !== undefined && same(was, member)) shared.set(member, was);
    else changed.push({ before: was, after: member });
  }
  for (const was of old.values()) changed.push({ before: was, after: undefined });
  const doubled = last.size < others.length;
  if (shared.size === 0 && !doubled) return { list: after, changed };
  const dropped = new Set(doubled ? others.filter((member) => last.get(idOf(member)) !== member) : []);
  return { list: after.filter((one) => !dropped.has(one)).map((one) => shared.get(one) ?? one), changed };
}

/** A change as the delta message that leads there. */
export function deltaOf(
  before: NetworkTable,
  { table, endpoints, services, peers, network }: TableChange,
): NetworkTable {
  const now = <T>(list: readonly Changed<T>[]): T[] =>
    list.flatMap(({ after }) => (after === undefined ? [] : [after]));
  const gone = <T>(list: readonly Changed<T>[], idOf: (one: T) => string): string[] =>
    list.flatMap(({ before: one, after }) => (one === undefined || after !== undefined ? [] : [idOf(one)]));
  return {
    network_id: table.network_id,
    version: table.version,
    network: network ? table.network : null,
    endpoints: now(endpoints),
    services: now(services),
    peers: now(peers),
    base_version: before.version,
    removed_task_ids: gone(endpoints, (one) => one.task_id),
    removed_service_ids: gone(services, (one) => one.service_id),
    removed_node_ids: gone(peers, (one) => one.node_id),
  };
}
