import {
  timestampFromMs,
  timestampToMs,
  UpdateConfig_FailureAction,
  UpdateStatus_UpdateState,
  type Service,
} from '../../proto/index.ts';
import type { Op } from './driver.ts';
import type { ServiceState } from './service-view.ts';
import { updateActionOf } from './update-settings.ts';

/**
 * How long a failed update is shown as paused before it is rolled back, ms. Stock clients that wait for an update end
 * with an error only when they see it paused: without this moment a rolled back update would pass for a success.
 */
export const ROLLBACK_NOTICE_MS = 1_500;

const ROLLED_BACK = 'update rolled back due to ';

/** Whether a rollback is under way. */
export function isRollback(service: Service): boolean {
  return service.update_status?.state === UpdateStatus_UpdateState.ROLLBACK_STARTED;
}

/** When the running update (rollback) began, ms since the epoch. */
export function startedAtMs(service: Service): number {
  return timestampToMs(service.update_status?.started_at);
}

function withStatus(
  service: Service,
  update: UpdateStatus_UpdateState,
  message: string,
  times: { startedAtMs?: number; completedAtMs?: number },
): Service {
  const former = service.update_status;
  const started = times.startedAtMs === undefined ? former?.started_at : timestampFromMs(times.startedAtMs);
  const completed = times.completedAtMs === undefined ? null : timestampFromMs(times.completedAtMs);
  const update_status = { state: update, started_at: started ?? null, completed_at: completed, message };
  return { ...service, update_status };
}

const write = (service: Service): Op => ({ op: 'update-service', service });

/** An update begins. */
export function started({ service, nowMs }: ServiceState): Op {
  const { UPDATING } = UpdateStatus_UpdateState;
  const begun = { ...service, canary: null };
  return write(withStatus(begun, UPDATING, 'update in progress', { startedAtMs: nowMs }));
}

/** The update or rollback that control asked for gets its time. */
export function dated({ service, nowMs }: ServiceState): Op {
  const { UNKNOWN } = UpdateStatus_UpdateState;
  const { state = UNKNOWN, message = '' } = service.update_status ?? {};
  return write(withStatus(service, state, message, { startedAtMs: nowMs }));
}

/** The update or rollback is done. One that was rolled back because it failed goes on saying so. */
export function completed({ service, nowMs }: ServiceState): Op {
  const { COMPLETED, ROLLBACK_COMPLETED } = UpdateStatus_UpdateState;
  const times = { completedAtMs: nowMs };
  if (!isRollback(service))
    return write(withStatus({ ...service, canary: null }, COMPLETED, 'update completed', times));
  const said = service.update_status?.message ?? '';
  const message = said.startsWith(ROLLED_BACK) ? said : 'rollback completed';
  return write(withStatus(service, ROLLBACK_COMPLETED, message, times));
}

/** @param cause what it is due to: "failure or early termination of task …" */
function paused({ service }: ServiceState, cause: string): Op {
  if (isRollback(service)) {
    return write(withStatus(service, UpdateStatus_UpdateState.ROLLBACK_PAUSED, `rollback paused due to ${cause}`, {}));
  }
  return write(withStatus(service, UpdateStatus_UpdateState.PAUSED, `update paused due to ${cause}`, {}));
}

/** Whether the failure of the present update is to be answered by a rollback. */
function wantsRollback(service: Service): boolean {
  const isAsked = updateActionOf(service) === UpdateConfig_FailureAction.ROLLBACK;
  return isAsked && service.previous_spec !== null && !isRollback(service);
}

/** The end of an update that failed: paused, for good or until it is rolled back (`rollbackDueAtMs`). */
export function failed(state: ServiceState, cause: string): Op {
  if (!wantsRollback(state.service)) return paused(state, cause);
  return write(withStatus(state.service, UpdateStatus_UpdateState.PAUSED, `${ROLLED_BACK}${cause}`, {}));
}

/** When a paused update is to be rolled back; undefined when it stays as it is. */
export function rollbackDueAtMs({ service }: ServiceState): number | undefined {
  const isPaused = service.update_status?.state === UpdateStatus_UpdateState.PAUSED;
  if (!isPaused || !wantsRollback(service)) return undefined;
  return timestampToMs(service.meta?.updated_at) + ROLLBACK_NOTICE_MS;
}

/** Exchanges the spec with the previous one (swarmkit.md §3.6). */
export function rolledBack({ service, nowMs }: ServiceState): Op {
  const swapped: Service = {
    ...service,
    spec: service.previous_spec,
    spec_version: service.previous_spec_version,
    previous_spec: service.spec,
    previous_spec_version: service.spec_version,
    canary: null,
  };
  const { ROLLBACK_STARTED } = UpdateStatus_UpdateState;
  const message = service.update_status?.message ?? '';
  const update = withStatus(swapped, ROLLBACK_STARTED, message, { startedAtMs: nowMs });
  const cause = message.startsWith(ROLLED_BACK) ? message.slice(ROLLED_BACK.length) : message;
  return { op: 'update-service', service: update, revisionReason: `rolled back: ${cause}` };
}
