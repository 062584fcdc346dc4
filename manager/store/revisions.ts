import { ServiceRevision, type Service, type ServiceSpec } from '../../proto/index.ts';
import { sameMessage } from './dirty.ts';
import type { ReadView, Transaction } from './types.ts';

/** Specs of one service that are kept; older ones go. */
export const REVISIONS_MAX = 20;
/** Longest reason of a revision, characters. */
const REASON_MAX = 300;

/** A spec without the registry credentials: they are no part of a service's history, and must not outlive their use. */
export function withoutCredentials(spec: ServiceSpec): ServiceSpec {
  const container = spec.task?.container;
  if (spec.task === null || container === undefined || container.pull_options === null) return spec;
  return { ...spec, task: { ...spec.task, container: { ...container, pull_options: null } } };
}

/** Whether two specs ask for the same, whatever the registry credentials. */
export function sameContent(a: ServiceSpec | null, b: ServiceSpec | null): boolean {
  if (a === null || b === null) return a === b;
  return sameMessage(withoutCredentials(a), withoutCredentials(b));
}

/** The newest revision of a service that holds this content; undefined when none that is kept does. */
export function revisionOf(view: ReadView, serviceId: string, spec: ServiceSpec): ServiceRevision | undefined {
  return view.revisionsByService(serviceId).findLast((revision) => sameContent(revision.spec, spec));
}

function create(tx: Transaction, serviceId: string, number: number, spec: ServiceSpec, reason: string): void {
  const text = reason.length <= REASON_MAX ? reason : `${reason.slice(0, REASON_MAX - 1)}…`;
  const fields = { service_id: serviceId, number, spec: withoutCredentials(spec), reason: text };
  tx.create('revision', ServiceRevision.create({ id: `${serviceId}.${number}`, ...fields }));
}

/**
 * Adds the spec of a service to its history when it differs from the one in force, in the transaction that writes it.
 * A service from before there was a history gets its former spec as the first revision.
 * @param service as it is to be stored. @param reason why it has this spec, for people.
 * @returns the service with the number of its revision
 */
export function recordRevision(tx: Transaction, service: Service, reason: string): Service {
  const stored = tx.get('service', service.id);
  const { spec } = service;
  if (spec === null || (stored !== undefined && sameContent(stored.spec, spec))) return service;
  let number = stored?.revision ?? 0;
  if (number === 0 && stored !== undefined && stored.spec !== null) {
    create(tx, service.id, ++number, stored.spec, 'in force when the history began');
  }
  create(tx, service.id, ++number, spec, reason);
  const kept = tx.revisionsByService(service.id);
  for (const old of kept.slice(0, Math.max(0, kept.length - REVISIONS_MAX))) tx.remove('revision', old.id);
  return { ...service, revision: number };
}

/** Removes the history of a service that is removed. */
export function removeRevisions(tx: Transaction, serviceId: string): void {
  for (const { id } of tx.revisionsByService(serviceId)) tx.remove('revision', id);
}
