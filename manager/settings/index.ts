export { nextCron, parseCron, type CronSchedule } from './cron.ts';
export { openCanary, promoted, slotCount, waitingSinceMs, withMessage, type CanarySettings } from './canary.ts';
export {
  drainMsOf,
  movesStopFirst,
  prefersLocalTasks,
  publishAddressesOf,
  readServiceSettings,
  readWeight,
  SETTINGS_PREFIX,
  type AutoscaleSettings,
  type CronSettings,
  type Dependency,
  type DependencyCondition,
  type PublishAddress,
  type ServiceSettings,
  wantsRebalance,
  weightOf,
} from './service-settings.ts';
