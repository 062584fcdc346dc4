import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, type Logger } from '../../base/index.ts';
import { isInside, parentPath, type GroupPlace } from './cgroup-driver.ts';
import type { Cgroups } from './cgroups.ts';

/** Share of the host's processes that all containers together may have. */
const CONTAINERS_SHARE = 0.8;

/** Processes and threads that a host can have at the most (proc(5)). */
function processesMax(): number {
  const [pids = NaN, threads = NaN] = ['pid_max', 'threads-max'].map((name) =>
    Number(readFileSync(join('/proc/sys/kernel', name), 'utf8')),
  );
  return Math.min(pids, threads);
}

/**
 * Keeps a part of the host's process numbers for the host: containers that have no `--pids-limit` of their own fork until
 * the limit of all of them is reached, and the daemon and its users can still start programs.
 */
export async function guardProcesses(cgroups: Cgroups, place: GroupPlace, log: Logger): Promise<void> {
  const tree = cgroups.layout.controllers.get('pids') ?? cgroups.layout.unified;
  if (tree === undefined) return;
  const limit = Math.floor(processesMax() * CONTAINERS_SHARE);
  const parent = parentPath(place);
  try {
    // A slice that holds the daemon and other services too must not be limited because of containers.
    if (isInside(parent)) throw new Error('this daemon itself is in the same group; name another --cgroup-parent');
    // Written to the file it would last until systemd writes its own value there.
    if (place.driver === 'systemd') return await cgroups.units.limitTasks(place.parent, limit);
    mkdirSync(join(tree, parent), { recursive: true });
    writeFileSync(join(tree, parent, 'pids.max'), String(limit), { flag: 'r+' });
  } catch (error) {
    // Without the controller there is no such file; each container still has its own limit, if any.
    log.warn('the processes of all containers together are not limited', { parent, error: errorMessage(error) });
  }
}
