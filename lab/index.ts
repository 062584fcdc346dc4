export { cgroupRoots, killCgroup, makeCgroup, processesIn, removeCgroup } from './cgroups.ts';
export { get, Traffic } from './demo/steps.ts';
export { dockerdAnswers, findDockerd, launchDockerd, makeMountPoints, removeMountPoints } from './dockerd.ts';
export { writeBusyboxArchive, writeBusyboxImage, type BusyboxImage } from './image.ts';
export { Lab, type UpOptions } from './lab.ts';
export { leftovers } from './leftovers.ts';
export type { HostFacts, Role } from './names.ts';
export { formSwarm } from './swarm.ts';
