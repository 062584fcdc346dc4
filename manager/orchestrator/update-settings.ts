import {
  durationToMs,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  type Service,
  type ServiceSpec,
} from '../../proto/index.ts';
import { readServiceSettings, type ServiceSettings } from '../settings/index.ts';
import { updateConfigOf } from './restart.ts';
import type { ServiceState } from './service-view.ts';

/** How long an update watches each new task, ms, unless the service says otherwise. */
export const MONITOR_DEFAULT_MS = 5_000;

/** How one service wants to be updated, with everything filled in. */
export interface UpdateSettings {
  parallelism: number;
  delayMs: number;
  monitorMs: number;
  startFirst: boolean;
  action: UpdateConfig_FailureAction;
  failureRatioMax: number;
  /** Longest time without progress, ms; Infinity when the service asks for no limit (0). */
  deadlineMs: number;
}

const DEFAULTS = readServiceSettings({});

/** Shoal's own settings; the defaults for labels that control would refuse (a newer version wrote them). */
export function ownSettings(spec: ServiceSpec | null): ServiceSettings {
  try {
    return readServiceSettings(spec?.annotations?.labels);
  } catch {
    return DEFAULTS;
  }
}

/** Docker's defaults where the service is silent (swarmkit.md §3.6). */
export function updateSettingsOf(state: ServiceState): UpdateSettings {
  const config = updateConfigOf(state);
  const delayMs = durationToMs(config?.delay, 0);
  const monitorMs = durationToMs(config?.monitor, MONITOR_DEFAULT_MS);
  const parallelism = config === null || config === undefined ? 1 : config.parallelism;
  const { updateDeadlineMs } = ownSettings(state.service.spec);
  return {
    parallelism: parallelism === 0 ? Infinity : parallelism,
    delayMs,
    monitorMs: delayMs >= monitorMs ? delayMs + 1_000 : monitorMs,
    startFirst: config?.order === UpdateConfig_UpdateOrder.START_FIRST,
    action: config?.failure_action ?? UpdateConfig_FailureAction.PAUSE,
    failureRatioMax: config?.max_failure_ratio ?? 0,
    deadlineMs: updateDeadlineMs === 0 ? Infinity : updateDeadlineMs,
  };
}

/** What an update's failure leads to, whatever the state of the service is now. */
export function updateActionOf(service: Service): UpdateConfig_FailureAction {
  return service.spec?.update?.failure_action ?? UpdateConfig_FailureAction.PAUSE;
}
