export { compressionOf, decompress, detectCompression, readThrough, type Compression } from './compression.ts';
export type { OnStep } from './driver.ts';
export { LayerStore } from './layer-store.ts';
export {
  LAYERS_MAX,
  chainId,
  chainIds,
  layerDirectory,
  layerLink,
  linkTarget,
  type Layer,
  type LayerBlob,
} from './layers.ts';
export { checkRoom, noSpace, roomBelow, spaceError } from './limits.ts';
export { extractTar } from './apply.ts';
export { isMountPoint, SHIFTED, unmountAll } from './overlay-driver.ts';
export { shiftedProblem } from './shifted-probe.ts';
export { resolveInside } from './inside.ts';
export { mountPoints, unmountEvery } from './mounts.ts';
