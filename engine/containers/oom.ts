import { cgroupPathOf } from './bundle.ts';
import type { ContainerRecord } from './record.ts';

/**
 * Notes that the kernel has killed processes of a container for lack of memory, its first or any other, since it was
 * last looked: in the record, and told by an event.
 */
export function noteOutOfMemory(record: ContainerRecord): void {
  const { parts, stored, container } = record;
  const kills = parts.cgroups.oomKills(cgroupPathOf(parts, container.id));
  if (kills <= (stored.oomKills ?? 0)) return;
  stored.oomKills = kills;
  container.oomKilled = true;
  record.event('oom');
  record.saveLater();
}
