import { invalidArgument } from '../../base/index.ts';
import type { IdMapping, IdRange } from '../types.ts';

/** What the kernel shows for an id that a mapping does not have (/proc/sys/kernel/overflowuid). */
const NOBODY = 65_534;

/** The id of the host; undefined when the mapping has none. */
function toHost(ranges: readonly IdRange[], id: number): number | undefined {
  const range = ranges.find(({ inside, count }) => id >= inside && id < inside + count);
  return range === undefined ? undefined : range.outside + (id - range.inside);
}

/** @throws ShoalError InvalidArgument in Docker's words for an id that the mapping does not have */
export function hostId(ranges: readonly IdRange[], id: number): number {
  const found = toHost(ranges, id);
  if (found === undefined) throw invalidArgument(`Container ID ${id} cannot be mapped to a host ID`);
  return found;
}

/** The id that a container sees; nobody's for one that it does not have. */
export function insideId(ranges: readonly IdRange[], id: number): number {
  const range = ranges.find(({ outside, count }) => id >= outside && id < outside + count);
  return range === undefined ? NOBODY : range.inside + (id - range.outside);
}

/** The ids of the host that owners in a container stand for; without a mapping they are the same. */
export function hostOwner(
  mapping: IdMapping | undefined,
  owner: { uid: number; gid: number },
): { uid: number; gid: number } {
  if (mapping === undefined) return owner;
  return { uid: hostId(mapping.uids, owner.uid), gid: hostId(mapping.gids, owner.gid) };
}

/** Who a process of a container is on the host, for what is given to it; undefined when that is the same. */
export function hostProcessUser(
  mapping: IdMapping | undefined,
  user: { uid: number; gid: number },
): { outputOwner?: { uid: number; gid: number } } {
  return mapping === undefined ? {} : { outputOwner: hostOwner(mapping, user) };
}

/** Who root of a container is on the host. */
export function hostRoot(mapping: IdMapping | undefined): { uid: number; gid: number } {
  return hostOwner(mapping, { uid: 0, gid: 0 });
}

/** The lines of a map file (user_namespaces(7)): inside, outside, count. */
export function mapText(ranges: readonly IdRange[]): string {
  return ranges.map(({ inside, outside, count }) => `${inside} ${outside} ${count}\n`).join('');
}

/** A text that mappings share if they are alike. */
export function mappingKey({ uids, gids }: IdMapping): string {
  return `${mapText(uids)}:${mapText(gids)}`;
}

/** Whether two containers have the same ids. */
export function sameMapping(a: IdMapping | undefined, b: IdMapping | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return mappingKey(a) === mappingKey(b);
}
