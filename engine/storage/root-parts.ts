import { join } from 'node:path';
import type { RootParts } from '../types.ts';
import type { LayerDirectory, StorageDriver } from './driver.ts';

/** The directories of a container's root at `path`. @param layers below it, lowest first */
export function partsOfRoot(path: string, driver: StorageDriver['name'], layers: readonly LayerDirectory[]): RootParts {
  const overlay = driver === 'overlay2';
  return {
    merged: join(path, 'merged'),
    upper: overlay ? join(path, 'diff') : '',
    work: overlay ? join(path, 'work') : '',
    layers: layers.toReversed().map((layer) => ({ path: join(layer.path, 'diff'), ...layer.whiteouts() })),
  };
}
