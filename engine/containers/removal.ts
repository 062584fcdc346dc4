import { releaseBundle } from './bundle.ts';
import { removeFiles } from './injected-files.ts';
import type { ContainerRecord } from './record.ts';

/** Takes away all that is a container's own: root file system, files, record, and its anonymous volumes if asked. */
export async function takeAway(record: ContainerRecord, volumes: boolean): Promise<void> {
  const { parts, stored } = record;
  const { id } = record.container;
  // All of it once more: an earlier release may have failed half-way.
  await releaseBundle(parts, stored);
  await parts.roots.remove(id);
  await removeFiles(parts.filesRoot, id);
  await record.written();
  await parts.store.remove(id);
  for (const mount of volumes ? stored.mounts : []) {
    if (mount.type !== 'volume' || mount.anonymous !== true) continue;
    await parts.volumes.remove(mount.source, true).catch((error: unknown) => {
      parts.log.warn('an anonymous volume could not be removed', { id, volume: mount.source, error });
    });
  }
}
