export { nextCron, parseCron, type CronSchedule } from './cron.ts';
export { openCanary, promoted, slotCount, waitingSinceMs, withMessage, type CanarySettings } from './canary.ts';
export {
  drainMsOf,
  movesStopFirst,
  readServiceSettings,
  SETTINGS_PREFIX,
  type AutoscaleSettings,
  type CronSettings,
  type Dependency,
  type DependencyCondition,
  type ServiceSettings,
  wantsRebalance,
} from './service-settings.ts';
