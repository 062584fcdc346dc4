import {
  TaskState,
  timestampFromMs,
  timestampToMs,
  UpdateStatus_UpdateState,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { readServiceSettings } from './service-settings.ts';

/** What a service wants of canaries. */
export interface CanarySettings {
  /** Tasks that an update changes before it waits; 0: no canary. */
  tasks: number;
  /** Promotes by itself after this time, ms; undefined: only by hand. */
  waitMs: number | undefined;
}

function settingsOf(service: Service): CanarySettings {
  const labels = service.spec?.annotations?.labels;
  if (labels?.['shoal.update.canary'] === undefined) return { tasks: 0, waitMs: undefined };
  try {
    const { canary, canaryWaitMs } = readServiceSettings(labels);
    return { tasks: canary, waitMs: canaryWaitMs };
  } catch {
    // Labels of a newer version: control refuses them, and what means nothing to us must not stop an update.
    return { tasks: 0, waitMs: undefined };
  }
}

/** Slots that a service has: its replicas, or the nodes of its tasks. */
export function slotCount(service: Service, tasks: readonly Task[]): number {
  const replicated = service.spec?.replicated;
  if (replicated !== undefined) return replicated.replicas;
  const wanted = tasks.filter((task) => task.desired_state <= TaskState.RUNNING);
  return new Set(wanted.map((task) => task.node_id)).size;
}

/**
 * The canary of an update that is not promoted yet: it runs, or is paused, and more slots are there than it may change.
 * Undefined when there is none; then every new task follows the present spec.
 */
export function openCanary(service: Service, slots: number): CanarySettings | undefined {
  const state = service.update_status?.state;
  const { UPDATING, PAUSED } = UpdateStatus_UpdateState;
  if ((state !== UPDATING && state !== PAUSED) || service.previous_spec === null) return undefined;
  if ((service.canary?.promoted_at ?? null) !== null) return undefined;
  const settings = settingsOf(service);
  return settings.tasks > 0 && settings.tasks < slots ? settings : undefined;
}

/** Since when the canaries of a service are up and wait, ms since the epoch; 0 when they do not (yet, or any more). */
export function waitingSinceMs({ canary }: Service): number {
  if (canary === null || canary.waiting_since === null || canary.promoted_at !== null) return 0;
  return timestampToMs(canary.waiting_since);
}

/** A service whose running update says something else. */
export function withMessage(service: Service, message: string): Service {
  const { update_status: status } = service;
  return status === null ? service : { ...service, update_status: { ...status, message } };
}

/** A service whose canary is promoted: its update goes on with all other slots. */
export function promoted(service: Service, nowMs: number): Service {
  const canary = service.canary ?? { tasks: 0, waiting_since: null, promoted_at: null };
  return { ...withMessage(service, 'update in progress'), canary: { ...canary, promoted_at: timestampFromMs(nowMs) } };
}
