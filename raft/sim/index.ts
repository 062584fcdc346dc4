/** The virtual world of this simulation, for the simulation of the whole control plane (daemon/sim). */
export { SimDisk, GOOD_DISK, SimulatedCrash, type DiskTemper } from './disk.ts';
export { DiskHandle } from './disk-handle.ts';
export { Journal } from './journal.ts';
export { GOOD_LINKS, SimNetwork, type LinkTemper } from './network.ts';
export { SimProcess } from './process.ts';
export { allTurns, Scheduler } from './scheduler.ts';
