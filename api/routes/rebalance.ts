import { must } from '../../base/index.ts';
import type { RequestContext, Route } from '../router.ts';
import { sendJson } from '../stream.ts';

async function rebalance({ response, ports, params }: RequestContext): Promise<void> {
  const { service } = await ports.swarm.call('RebalanceService', { service_id: must(params['id'], 'id') });
  sendJson(response, { ID: must(service, 'service').id });
}

/** Shoal's own: tasks of a service are levelled out by hand. */
export const rebalanceRoutes: readonly Route[] = [
  { method: 'POST', path: '/shoal/services/{id}/rebalance', handler: rebalance },
];
