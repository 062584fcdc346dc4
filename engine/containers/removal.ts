import { releaseBundle } from './bundle.ts';
import { removeImages } from './image-mounts.ts';
import { removeFiles } from './injected-files.ts';
import type { Parts } from './parts.ts';
import type { ContainerRecord } from './record.ts';
import type { StoredContainer } from './store.ts';

/** Takes away all that is a container's own: root file system, files, record, and its anonymous volumes if asked. */
export async function takeAway(record: ContainerRecord, volumes: boolean): Promise<void> {
  const { parts, stored } = record;
  const { id } = record.container;
  parts.streams.abandon(id);
  // All of it once more: an earlier release may have failed half-way.
  await releaseBundle(parts, stored);
  await record.end();
  // What removes itself is removed again after a power cut.
  await parts.store.retire(id, volumes, !record.container.config.autoRemove);
  await removeImages(parts, stored);
  await parts.roots.remove(id);
  await removeFiles(parts.filesRoot, id);
  if (volumes) await removeVolumes(parts, stored);
  await parts.store.erase(id);
}

async function removeVolumes(parts: Parts, { container, mounts }: StoredContainer): Promise<void> {
  for (const mount of mounts) {
    if (mount.type !== 'volume' || mount.anonymous !== true) continue;
    await parts.volumes.remove(mount.source, true).catch((error: unknown) => {
      const facts = { id: container.id, volume: mount.source, error };
      parts.log.warn('an anonymous volume could not be removed', facts);
    });
  }
}

/** Ends the removals that a crash has cut off after they were decided. */
export async function endRemovals(parts: Parts): Promise<void> {
  for (const { id, volumes, stored } of await parts.store.retired()) {
    if (stored !== undefined) await releaseBundle(parts, stored);
    if (stored !== undefined) await removeImages(parts, stored);
    await parts.images.removeRoot(id);
    await removeFiles(parts.filesRoot, id);
    if (volumes && stored !== undefined) await removeVolumes(parts, stored);
    await parts.store.erase(id);
  }
}
