import { failedPrecondition, notFound, ShoalError } from '../../base/index.ts';
import {
  Service,
  ServiceSpec,
  TaskState,
  timestampFromMs,
  UpdateServiceRequest_Rollback,
  UpdateStatus_UpdateState,
  type UpdateServiceRequest,
  type UpdateStatus,
} from '../../proto/index.ts';
import { cronOf, runNow, scheduledStatus } from '../orchestrator/cron-runs.ts';
import { openCanary, promoted, slotCount, waitingSinceMs } from '../settings/index.ts';
import { isTaskDirty, sameMessage } from '../store/dirty.ts';
import { keepReplicas, statusAfterChange } from '../orchestrator/index.ts';
import { recordRevision, revisionOf, sameContent } from '../store/revisions.ts';
import type { ReadView, Transaction } from '../store/types.ts';
import { resolve } from './lookup.ts';
import { checkAgainstCluster } from './service-cluster.ts';
import { isJob, modeOf, validateServiceSpec } from './service-spec.ts';
import { checkVersion } from './versions.ts';

function checkUnchanged(old: ServiceSpec | null, next: ServiceSpec): void {
  if (modeOf(old) !== modeOf(next)) throw new ShoalError('Unimplemented', 'service mode change is not allowed');
  if (old?.annotations?.name !== next.annotations?.name) {
    throw new ShoalError('Unimplemented', 'renaming services is not supported');
  }
  if (!sameMessage(old?.networks, next.networks) && sameMessage(old?.task?.networks, next.task?.networks)) {
    throw new ShoalError('Unimplemented', 'networks must be migrated to TaskSpec before being changed');
  }
}

/** Whether a task that shall stay must be replaced to follow the spec. */
function mustChangeTasks(view: ReadView, service: Service): boolean {
  return view
    .tasksByService(service.id)
    .some(
      (task) => task.desired_state <= TaskState.RUNNING && isTaskDirty(service, task, view.get('node', task.node_id)),
    );
}

function statusOf(state: UpdateStatus['state'], message: string, nowMs: number): UpdateStatus {
  return { state, message, started_at: timestampFromMs(nowMs), completed_at: null };
}

/** A job with a new spec runs anew. One that runs by the clock waits for its time, unless a run is `forced`. */
function beginJob(service: Service, forced: boolean, nowMs: number): void {
  const cron = cronOf(service);
  if (cron === undefined || forced) Object.assign(service, runNow(service, nowMs));
  else service.update_status = scheduledStatus(cron, nowMs);
}

function hasOpenCanary(view: ReadView, service: Service): boolean {
  return openCanary(service, slotCount(service, view.tasksByService(service.id))) !== undefined;
}

/** Begins the update that the present spec of a service asks for. A "completed" left over would end the wait of a client. */
function beginUpdate(view: ReadView, service: Service, nowMs: number): void {
  service.canary = null;
  service.update_status = mustChangeTasks(view, service)
    ? statusOf(UpdateStatus_UpdateState.UPDATING, 'update in progress', nowMs)
    : null;
}

/** Puts a new spec in place. `service` is a copy that the caller owns. */
function replaceSpec(view: ReadView, service: Service, spec: ServiceSpec, nowMs: number): void {
  const { spec: former, spec_version: formerVersion } = service;
  const hadCanary = hasOpenCanary(view, service);
  const sameTasks = sameMessage(former?.task, spec.task) && sameMessage(former?.endpoint, spec.endpoint);
  service.spec = spec;
  service.autoscale = statusAfterChange(service, former, nowMs);
  // Not the version that the service gets now: the two are never compared with each other.
  service.spec_version = { index: service.meta?.version?.index ?? 0 };
  // A version that only canaries ever ran is nothing to roll back to.
  if (!hadCanary) {
    service.previous_spec = former;
    service.previous_spec_version = formerVersion;
  }
  const forced = (former?.task?.force_update ?? 0) !== (spec.task?.force_update ?? 0);
  if (isJob(spec)) beginJob(service, forced, nowMs);
  // Other numbers of the same tasks (a scale) end no canary.
  else if (!hadCanary || !sameTasks) beginUpdate(view, service, nowMs);
}

/**
 * The spec that the service has already. Nothing changes, but that a paused update goes on (as in Docker), and that new
 * registry credentials are kept. @returns whether something is to be written
 */
function repeatSpec(view: ReadView, service: Service, spec: ServiceSpec, nowMs: number): boolean {
  const { PAUSED, ROLLBACK_PAUSED } = UpdateStatus_UpdateState;
  const state = service.update_status?.state;
  const sameCredentials = sameMessage(service.spec, spec);
  const isPaused = state === PAUSED || state === ROLLBACK_PAUSED;
  if (sameCredentials && !isPaused) return false;
  if (!sameCredentials) {
    service.spec = spec;
    service.spec_version = { index: service.meta?.version?.index ?? 0 };
  }
  if (isPaused) beginUpdate(view, service, nowMs);
  return true;
}

/** Puts a former spec in place as a rollback. `service` is a copy that the caller owns. */
function beginRollback(service: Service, message: string, nowMs: number): void {
  service.canary = null;
  if (isJob(service.spec)) beginJob(service, false, nowMs);
  else service.update_status = statusOf(UpdateStatus_UpdateState.ROLLBACK_STARTED, message, nowMs);
}

/** Swaps the spec with the previous one; returns why the service has the new one. */
function rollBack(view: ReadView, service: Service, nowMs: number): string {
  const { spec, spec_version, previous_spec, previous_spec_version } = service;
  if (previous_spec === null) throw failedPrecondition(`service ${service.id} does not have a previous spec`);
  service.spec = previous_spec;
  service.spec_version = previous_spec_version;
  service.previous_spec = spec;
  service.previous_spec_version = spec_version;
  beginRollback(service, 'manually requested rollback', nowMs);
  const revision = revisionOf(view, service.id, previous_spec);
  return revision === undefined ? 'rollback' : `rollback to revision ${revision.number}`;
}

/** Puts the spec of a revision in place again, with the registry credentials of `spec` or, without, of the present one. */
function rollBackTo(view: ReadView, service: Service, request: UpdateServiceRequest, nowMs: number): string {
  const number = request.rollback_to;
  const name = service.spec?.annotations?.name ?? service.id;
  const kept = view.revisionsByService(service.id);
  const found = kept.find((revision) => revision.number === number)?.spec;
  if (found === undefined || found === null) {
    const numbers = kept.map((revision) => revision.number).join(', ');
    const what =
      numbers === '' ? 'it has none yet: it was not changed since there are revisions' : `there are ${numbers}`;
    throw notFound(`service ${name} has no revision ${number}: ${what}`);
  }
  // A rollback under load must not also take away what the autoscaler has added.
  const wanted = keepReplicas(service.spec, found);
  if (number === service.revision && sameContent(service.spec, wanted)) {
    throw failedPrecondition(`revision ${number} of service ${name} is the one in force`);
  }
  const credentials =
    request.spec?.task?.container?.pull_options ?? service.spec?.task?.container?.pull_options ?? null;
  const spec = ServiceSpec.clone(wanted);
  if (spec.task?.container !== undefined) spec.task.container.pull_options = credentials;
  if (!hasOpenCanary(view, service)) {
    service.previous_spec = service.spec;
    service.previous_spec_version = service.spec_version;
  }
  service.spec = spec;
  service.spec_version = { index: service.meta?.version?.index ?? 0 };
  const why = `rollback to revision ${number}`;
  beginRollback(service, `manually requested ${why}`, nowMs);
  return why;
}

/**
 * Changes a service as a request asks for; returns its id.
 * @throws ShoalError in SwarmKit's words; NotFound for a revision that is not kept
 */
export function updateService(tx: Transaction, request: UpdateServiceRequest, nowMs: number): string {
  const stored = resolve(tx, 'service', request.service_id);
  checkVersion(stored, request.service_version);
  if (stored.pending_delete) throw failedPrecondition(`service ${stored.id} is being removed`);
  const service = Service.clone(stored);
  if (request.rollback_to > 0 || request.rollback === UpdateServiceRequest_Rollback.PREVIOUS) {
    const why = request.rollback_to > 0 ? rollBackTo(tx, service, request, nowMs) : rollBack(tx, service, nowMs);
    const spec = ServiceSpec.clone(service.spec as ServiceSpec);
    checkAgainstCluster(tx, spec, service.id);
    service.spec = spec;
    service.autoscale = statusAfterChange(service, stored.spec, nowMs);
    tx.update('service', recordRevision(tx, service, why));
    return service.id;
  }
  const spec = validateServiceSpec(request.spec);
  checkAgainstCluster(tx, spec, service.id);
  checkUnchanged(stored.spec, spec);
  if (!isJob(spec) && sameContent(stored.spec, spec)) {
    if (repeatSpec(tx, service, spec, nowMs)) tx.update('service', service);
    return service.id;
  }
  replaceSpec(tx, service, spec, nowMs);
  tx.update('service', recordRevision(tx, service, 'update'));
  return service.id;
}

/**
 * Runs a job now; returns its id.
 * @throws ShoalError FailedPrecondition when the service is no job, or may not run now
 */
export function runService(tx: Transaction, reference: string, nowMs: number): string {
  const service = resolve(tx, 'service', reference);
  tx.update('service', runNow(service, nowMs));
  return service.id;
}

/**
 * Lets the update of a service go on that waits after its canaries; returns the service's id.
 * @throws ShoalError FailedPrecondition when nothing waits
 */
export function promoteService(tx: Transaction, reference: string, nowMs: number): string {
  const service = resolve(tx, 'service', reference);
  const name = service.spec?.annotations?.name ?? service.id;
  if (service.update_status?.state === UpdateStatus_UpdateState.PAUSED && hasOpenCanary(tx, service)) {
    throw failedPrecondition(
      `the update of service ${name} is paused: ${service.update_status.message}; change the service, or roll it back`,
    );
  }
  if (!hasOpenCanary(tx, service)) throw failedPrecondition(`service ${name} has no canary that waits for a promotion`);
  if (waitingSinceMs(service) === 0) {
    throw failedPrecondition(`the canary tasks of service ${name} are not all up yet; promote it when they wait`);
  }
  tx.update('service', promoted(service, nowMs));
  return service.id;
}
