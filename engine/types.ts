/* The words of the engine: what it is asked for, and what it tells. */
export type * from './types/container-config.ts';
export type * from './types/container.ts';
export type * from './types/control.ts';
export type * from './types/event.ts';
export type * from './types/host-options.ts';
export type * from './types/id-mapping.ts';
export type * from './types/image.ts';
export type * from './types/swarm-networks.ts';
export type * from './types/terminal.ts';
export type * from './types/volume.ts';
