import { must } from '../../base/index.ts';
import { timestampToIso } from '../../proto/index.ts';
import type { RequestContext, Route } from '../router.ts';
import { serviceSpecToJson } from '../shapes/service.ts';
import { sendEmpty, sendJson } from '../stream.ts';

/** The specs that a service has had, oldest first. Registry credentials are never part of them. */
async function history({ response, ports, params }: RequestContext): Promise<void> {
  const request = { service_id: must(params['id'], 'id') };
  const { revisions, current } = await ports.swarm.call('ListServiceRevisions', request);
  sendJson(
    response,
    revisions.map(({ number, meta, reason, spec }) => ({
      Number: number,
      CreatedAt: timestampToIso(meta?.created_at),
      Reason: reason,
      Current: number === current,
      Spec: spec === null ? {} : serviceSpecToJson(spec),
    })),
  );
}

async function promote({ response, ports, params }: RequestContext): Promise<void> {
  await ports.swarm.call('PromoteService', { service_id: must(params['id'], 'id') });
  sendEmpty(response);
}

/** Shoal's own routes for updates of services; they have no counterpart in the Docker API. */
export const serviceHistoryRoutes: readonly Route[] = [
  { method: 'GET', path: '/shoal/services/{id}/history', handler: history },
  { method: 'POST', path: '/shoal/services/{id}/promote', handler: promote },
];
