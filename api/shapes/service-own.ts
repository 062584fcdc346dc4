import { timestampToIso, type AutoscaleStatus, type CanaryStatus, type Service } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import { cronToJson } from './cron.ts';
import { textOrNothing } from './fields.ts';

function canaryToJson(canary: CanaryStatus | null): JsonObject | undefined {
  if (canary === null) return undefined;
  return {
    Tasks: canary.tasks,
    WaitingSince: canary.waiting_since === null ? undefined : timestampToIso(canary.waiting_since),
    PromotedAt: canary.promoted_at === null ? undefined : timestampToIso(canary.promoted_at),
  };
}

function autoscaleToJson(status: AutoscaleStatus | null): JsonObject | undefined {
  if (status === null) return undefined;
  return {
    FromReplicas: status.from_replicas,
    ToReplicas: status.to_replicas,
    CPUPercent: status.cpu_percent,
    MemoryPercent: status.memory_percent,
    ChangedAt: timestampToIso(status.changed_at),
    Message: status.message,
  };
}

/** What Shoal knows of a service beyond Docker's fields. Clients that do not know these leave them alone. */
export function ownToJson(service: Service): JsonObject {
  const { revision, canary, rebalance_requested: rebalance, autoscale } = service;
  return {
    Revision: textOrNothing(revision),
    Canary: canaryToJson(canary),
    Cron: cronToJson(service),
    RebalanceRequested: rebalance === null ? undefined : timestampToIso(rebalance),
    Autoscale: autoscaleToJson(autoscale),
  };
}
