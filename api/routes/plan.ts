import { must } from '../../base/index.ts';
import type { PlanRequest, PlanResponse } from '../../proto/index.ts';
import { readJson } from '../body.ts';
import type { RequestContext, Route } from '../router.ts';
import { textOrNothing } from '../shapes/fields.ts';
import { serviceSpecFromJson } from '../shapes/service.ts';
import { sendJson } from '../stream.ts';
import { registryAuth, updateRequest } from './services.ts';

function planToJson({ services, waiting, nodes, duration_ms: durationMs, notes, text }: PlanResponse): object {
  return {
    Services: services.map((one) => ({
      ID: one.service_id,
      Name: one.name,
      Started: one.started,
      Stopped: one.stopped,
      Moved: one.moved,
      Replaced: one.replaced,
      Nodes: one.nodes.map((node) => ({
        ID: node.node_id,
        Hostname: node.hostname,
        Before: node.before,
        After: node.after,
      })),
      Ports: one.ports,
      Addresses: one.addresses,
      Update: textOrNothing(one.update),
    })),
    Waiting: waiting.map(({ service, count, reason, already }) => ({
      Service: service,
      Tasks: count,
      Reason: reason,
      Already: already,
    })),
    Nodes: nodes.map((node) => ({
      ID: node.node_id,
      Hostname: node.hostname,
      NanoCPUs: { Total: node.nano_cpus, Before: node.nano_cpus_before, After: node.nano_cpus_after },
      MemoryBytes: { Total: node.memory_bytes, Before: node.memory_before, After: node.memory_after },
      Tasks: { Before: node.tasks_before, After: node.tasks_after },
    })),
    DurationMs: durationMs,
    Notes: notes,
    Text: text,
  };
}

async function answer({ response, ports }: RequestContext, change: PlanRequest): Promise<void> {
  sendJson(response, planToJson(await ports.swarm.call('Plan', change)));
}

async function create(context: RequestContext): Promise<void> {
  const spec = serviceSpecFromJson(await readJson(context), registryAuth(context));
  await answer(context, { create_service: spec });
}

async function update(context: RequestContext): Promise<void> {
  await answer(context, { update_service: await updateRequest(context) });
}

const idOf = ({ params }: RequestContext): string => must(params['id'], 'id');

/** What a change would do; nothing is changed. No counterpart in the Docker API. */
export const planRoutes: readonly Route[] = [
  { method: 'POST', path: '/shoal/plan/services/create', handler: create },
  { method: 'POST', path: '/shoal/plan/services/{id}/update', handler: update },
  {
    method: 'POST',
    path: '/shoal/plan/services/{id}/remove',
    handler: (context) => answer(context, { remove_service: idOf(context) }),
  },
  {
    method: 'POST',
    path: '/shoal/plan/nodes/{id}/down',
    handler: (context) => answer(context, { node_down: idOf(context) }),
  },
  {
    method: 'POST',
    path: '/shoal/plan/nodes/{id}/drain',
    handler: (context) => answer(context, { node_drain: idOf(context) }),
  },
];
