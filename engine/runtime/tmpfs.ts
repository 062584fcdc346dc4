import { invalidArgument } from '../../base/index.ts';
import type { MountRequest } from '../types.ts';

/** Options without a value, by what they decide: the last of a group holds. */
const SWITCHES: Readonly<Record<string, string>> = {
  ...{ exec: 'exec', noexec: 'exec', suid: 'suid', nosuid: 'suid', dev: 'dev', nodev: 'dev' },
  ...{ rw: 'ro', ro: 'ro', sync: 'sync', async: 'sync', atime: 'atime', noatime: 'atime' },
  ...{ diratime: 'diratime', nodiratime: 'diratime', relatime: 'relatime', norelatime: 'relatime' },
  ...{ strictatime: 'strictatime', nostrictatime: 'strictatime', dirsync: 'dirsync', defaults: 'defaults' },
  ...{ mand: 'mand', nomand: 'mand', bind: 'bind', rbind: 'bind', remount: 'remount' },
  ...{ private: 'propagation', rprivate: 'propagation', shared: 'propagation', rshared: 'propagation' },
  ...{ slave: 'propagation', rslave: 'propagation', unbindable: 'propagation', runbindable: 'propagation' },
};
/** Options with a value (tmpfs(5)). */
const VALUES = ['size', 'mode', 'uid', 'gid', 'nr_inodes', 'nr_blocks', 'mpol'];
const DEFAULTS = ['noexec', 'nosuid', 'nodev', 'rprivate'];

/**
 * Mount options of a tmpfs: Docker's defaults under the user's.
 * @throws ShoalError InvalidArgument for one that is not an option of a tmpfs.
 */
export function tmpfsOptions(mount: MountRequest): string[] {
  const chosen = new Map<string, string>();
  const words = [...DEFAULTS, ...(mount.readOnly ? ['ro'] : [])];
  if (mount.tmpfsMode !== undefined) words.push(`mode=${mount.tmpfsMode.toString(8)}`);
  if (mount.tmpfsSizeBytes) words.push(`size=${mount.tmpfsSizeBytes}`);
  for (const word of [...words, ...(mount.tmpfsOptions ?? [])]) {
    const key = word.split('=')[0] ?? '';
    const group = word.includes('=') ? (VALUES.includes(key) ? key : undefined) : SWITCHES[word];
    if (group === undefined) throw invalidArgument(`invalid tmpfs option [${JSON.stringify(word)}]`);
    chosen.set(group, word);
  }
  chosen.delete('defaults');
  return [...chosen.values()];
}
