export * from './store/types.ts';
export { completeClusterSpec, createBootstrapIdentity, defaultClusterSpec, type ClusterInit } from './ca/index.ts';
export { Manager, type ManagerOptions, type ManagerStart } from './manager.ts';
export type { DutyStatus, LeadershipStatus } from './leadership.ts';
export type { ManagerInfo, ManagerState } from './manager-state.ts';
