import { cgroupPathOf } from './bundle.ts';
import { inScope } from '../runtime/cgroup-driver.ts';
import type { ContainerRecord } from './record.ts';

/**
 * Notes that the kernel has killed processes of a container for lack of memory, its first or any other, since it was
 * last looked: in the record, and told by an event.
 */
export function noteOutOfMemory(record: ContainerRecord): void {
  const { parts, stored, container } = record;
  const kills = parts.cgroups.oomKills(cgroupPathOf(parts, container.id)) ?? killsSeenByMonitor(record);
  if (kills <= (stored.oomKills ?? 0)) return;
  stored.oomKills = kills;
  container.oomKilled = true;
  record.event('oom');
  record.saveLater();
}

/**
 * Systemd removes a group as soon as its last process has ended; what the monitor saw until then is left. With the
 * killer switched off it tells of a lack of memory for which nobody was killed.
 */
function killsSeenByMonitor({ parts, container }: ContainerRecord): number {
  const { oomKillDisable } = container.config.resources;
  return inScope(container) && oomKillDisable !== true && parts.runtime.sawOutOfMemory(container.id) ? 1 : 0;
}
