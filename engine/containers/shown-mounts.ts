import { posix } from 'node:path';
import type { ContainerMount, Volumes } from '../types.ts';
import type { StoredMount } from './store.ts';

/** A mount as `docker inspect` tells of it; a place of `--tmpfs` is told of in the host configuration only. */
export function shownMount(mount: StoredMount, source: string): ContainerMount[] {
  if (mount.from === 'tmpfs') return [];
  const common = { type: mount.type, source, destination: posix.normalize(mount.target), readOnly: mount.readOnly };
  switch (mount.type) {
    case 'tmpfs':
      return [{ ...common, propagation: '' }];
    case 'bind':
      return [{ ...common, propagation: mount.propagation || 'rprivate', mode: mount.mode ?? '' }];
    case 'image':
      return [
        {
          ...{ ...common, name: mount.source, propagation: 'rprivate', readOnly: true },
          ...(mount.imageId === undefined ? {} : { imageId: mount.imageId }),
        },
      ];
    case 'volume': {
      const driver = mount.volumeDriver || 'local';
      // Docker's mark of a volume that only needs its label changed, where nothing else is said.
      const mode = mount.mode ?? (driver === 'local' && mount.declared !== true ? 'z' : '');
      return [{ ...common, name: mount.source, driver, propagation: '', mode }];
    }
  }
}

/** Mounts of a container that has not run: volumes stand where they will be. */
export function plannedMounts(mounts: readonly StoredMount[], volumes: Pick<Volumes, 'get'>): ContainerMount[] {
  return mounts.flatMap((mount) => {
    const source = mount.type === 'volume' ? volumes.get(mount.source).mountpoint : mount.source;
    return shownMount(mount, source);
  });
}
