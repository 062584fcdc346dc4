export { inspectBackup, readRestoreImage, type BackupFacts, type RestoreImage } from './backup/index.ts';
export { checkAddressPools, formatSubnet, parseSubnet } from './allocator/index.ts';
export * from './store/types.ts';
export {
  checkedNodeLabels,
  completeClusterSpec,
  createBootstrapIdentity,
  defaultClusterSpec,
  type ClusterInit,
} from './ca/index.ts';
export { DataKeys, formatUnlockKey, NO_DATA_KEYS, parseUnlockKey, UNLOCK_KEY_BYTES } from './keys/index.ts';
export { Manager, type ManagerOptions, type ManagerStart } from './manager.ts';
export type { DutyStatus, LeadershipStatus } from './leadership.ts';
export type { ManagerInfo, ManagerState } from './manager-state.ts';
export type { RecoveryReport } from './recovery-report.ts';
export { drainMsOf } from './settings/index.ts';
