export { ANONYMOUS_LABEL, openVolumes, volumeUsers, type VolumesOptions } from './volumes.ts';
export { releaseSubpaths, bindSubpath } from './subpath.ts';
