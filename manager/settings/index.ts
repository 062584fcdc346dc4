export { nextCron, parseCron, type CronSchedule } from './cron.ts';
export {
  movesStopFirst,
  readServiceSettings,
  SETTINGS_PREFIX,
  type AutoscaleSettings,
  type CronSettings,
  type Dependency,
  type DependencyCondition,
  type ServiceSettings,
} from './service-settings.ts';
