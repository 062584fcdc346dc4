import { must } from '../../base/index.ts';
import type { GetServiceStatsResponse } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { textOrNothing } from '../shapes/fields.ts';
import { serviceToJson } from '../shapes/service.ts';
import { sendJson } from '../stream.ts';

const rounded = (value: number): number => Math.round(value * 100) / 100;

function statsToJson({ service, tasks, fresh, autoscale, ...use }: GetServiceStatsResponse): JsonObject {
  const present = must(service, 'service');
  return {
    ServiceID: present.id,
    Name: present.spec?.annotations?.name ?? '',
    Running: tasks.length,
    Fresh: fresh,
    CPUPercent: rounded(use.cpu_percent),
    MemoryPercent: rounded(use.memory_percent),
    Autoscale:
      autoscale === null
        ? undefined
        : {
            Replicas: present.spec?.replicated?.replicas ?? 0,
            Min: autoscale.min,
            Max: autoscale.max,
            CPUTarget: textOrNothing(autoscale.cpu_target),
            MemoryTarget: textOrNothing(autoscale.memory_target),
            Last: serviceToJson(present)['Autoscale'],
          },
    Tasks: tasks.map((task) => ({
      ID: task.task_id,
      Slot: textOrNothing(task.slot),
      NodeID: task.node_id,
      ...(task.known
        ? { CPUPercent: rounded(task.cpu_percent), MemoryBytes: task.memory_bytes, AgeMs: task.age_ms }
        : {}),
      NanoCPUsLimit: textOrNothing(task.nano_cpus_limit),
      MemoryLimitBytes: textOrNothing(task.memory_limit_bytes),
    })),
  };
}

async function stats({ response, ports, params }: RequestContext): Promise<void> {
  const reference = must(params['id'], 'id');
  sendJson(response, statsToJson(await ports.swarm.call('GetServiceStats', { reference })));
}

/** What tasks use: Shoal's own. */
export const statsRoutes: readonly Route[] = [{ method: 'GET', path: '/shoal/services/{id}/stats', handler: stats }];
