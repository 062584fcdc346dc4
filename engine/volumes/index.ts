export { openVolumes, type VolumeStore, type VolumesOptions } from './volumes.ts';
