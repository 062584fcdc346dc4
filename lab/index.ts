export { writeBusyboxArchive } from './image.ts';
export { Lab, type UpOptions } from './lab.ts';
export type { HostFacts, Role } from './names.ts';
