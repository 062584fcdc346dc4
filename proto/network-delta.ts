import type { NetworkEndpoint, NetworkPeer, NetworkService, NetworkTable } from './gen/types.ts';

/** Places of a list's members, by id. Handed on from version to version, so that a change costs what changed. */
const places = new WeakMap<readonly object[], Map<string, number>>();

const taskIdOf = (endpoint: NetworkEndpoint): string => endpoint.task_id;
const serviceIdOf = (service: NetworkService): string => service.service_id;
const nodeIdOf = (peer: NetworkPeer): string => peer.node_id;

/** Whether a table says only what is new since another version. */
export function isTableDelta(table: NetworkTable): boolean {
  return table.base_version !== 0;
}

/**
 * The table that a delta leads to; undefined when `base` is not the version that it starts from. Neither is changed;
 * members that are the same are the same objects. The order of members means nothing.
 */
export function applyTableDelta(base: NetworkTable | undefined, delta: NetworkTable): NetworkTable | undefined {
  if (base === undefined || base.network_id !== delta.network_id || base.version !== delta.base_version)
    return undefined;
  return {
    network_id: base.network_id,
    version: delta.version,
    network: delta.network ?? base.network,
    endpoints: changeList(base.endpoints, delta.endpoints, delta.removed_task_ids, taskIdOf),
    services: changeList(base.services, delta.services, delta.removed_service_ids, serviceIdOf),
    peers: changeList(base.peers, delta.peers, delta.removed_node_ids, nodeIdOf),
    base_version: 0,
    removed_task_ids: [],
    removed_service_ids: [],
    removed_node_ids: [],
  };
}

/** Members keep their places; the last one takes the place of one that is gone. */
function changeList<T extends object>(
  base: T[],
  changed: readonly T[],
  removed: readonly string[],
  idOf: (member: T) => string,
): T[] {
  if (changed.length === 0 && removed.length === 0) return base;
  const index = places.get(base) ?? new Map(base.map((member, at) => [idOf(member), at]));
  places.delete(base);
  const list = base.slice();
  for (const id of removed) {
    const at = index.get(id);
    const last = list.pop();
    if (at === undefined || last === undefined) {
      if (last !== undefined) list.push(last);
      continue;
    }
    index.delete(id);
    if (at === list.length) continue;
    list[at] = last;
    index.set(idOf(last), at);
  }
  for (const member of changed) {
    const at = index.get(idOf(member));
    if (at === undefined) index.set(idOf(member), list.push(member) - 1);
    else list[at] = member;
  }
  places.set(list, index);
  return list;
}
