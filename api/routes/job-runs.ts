import { failedPrecondition, must } from '../../base/index.ts';
import type { RequestContext, Route } from '../router.ts';
import { cronToJson } from '../shapes/cron.ts';
import { sendJson } from '../stream.ts';

async function run({ response, ports, params }: RequestContext): Promise<void> {
  const { service } = await ports.swarm.call('RunService', { service_id: must(params['id'], 'id') });
  const job = must(service, 'service');
  sendJson(response, { ID: job.id, JobIteration: { Index: job.job_status?.job_iteration?.index ?? 0 } });
}

async function runs({ response, ports, params }: RequestContext): Promise<void> {
  const answer = await ports.swarm.call('GetService', { reference: must(params['id'], 'id') });
  const service = must(answer.service, 'service');
  const cron = cronToJson(service);
  if (cron === undefined) {
    const name = service.spec?.annotations?.name ?? service.id;
    throw failedPrecondition(`service ${name} does not run by the clock: it has no label shoal.cron`);
  }
  sendJson(response, cron);
}

/** Shoal's own routes for jobs: run now, and the runs of a job that runs by the clock. */
export const jobRunRoutes: readonly Route[] = [
  { method: 'POST', path: '/shoal/services/{id}/run', handler: run },
  { method: 'GET', path: '/shoal/services/{id}/runs', handler: runs },
];
