export { createControl } from './control.ts';
export { resolve, tryResolve } from './lookup.ts';
export { newTokenSecret, rotateToken } from './tokens.ts';
export type { Control, ControlOptions, MembershipPort, Planner } from './types.ts';
