import type { Clock, Logger } from '../../base/index.ts';
import {
  AutoscaleStatus,
  timestampFromMs,
  UpdateStatus_UpdateState,
  type Service,
  type ServiceSpec,
} from '../../proto/index.ts';
import { NO_USAGE, type UsageSource } from '../dispatcher/index.ts';
import { readServiceSettings, type AutoscaleSettings } from '../settings/index.ts';
import type { LeaderDuty, ReadView, Store, Transaction } from '../store/types.ts';
import { average, planAutoscale, remember, type AutoscaleHistory, type AutoscalePlan } from './autoscale.ts';
import { replicasFor, scaleText, useOfService, type ServiceUse } from './autoscale-use.ts';
import type { OrchestratorDeps } from './driver.ts';

/** Time between two looks at all services that scale, ms. */
const LOOK_INTERVAL_MS = 2000;
/** Services scaled in one transaction; the rest follows at the next look. */
const SCALES_PER_TRANSACTION_MAX = 100;
/** No service without this label scales. */
const SWITCH_LABEL = 'shoal.autoscale.max';
const UINT32_MAX = 0xffffffff;

/** The settings of a replicated service that scales; undefined for every other. */
export function autoscaleOf(spec: ServiceSpec | null): AutoscaleSettings | undefined {
  const labels = spec?.annotations?.labels;
  if (spec?.replicated === undefined || labels?.[SWITCH_LABEL] === undefined) return undefined;
  return readServiceSettings(labels).autoscale;
}

/** Whether an update is under way (also one whose canaries wait) or has stopped half done: then the tasks are its matter. */
function isBusy(service: Service): boolean {
  const state = service.update_status?.state;
  return (
    state === UpdateStatus_UpdateState.UPDATING ||
    state === UpdateStatus_UpdateState.PAUSED ||
    state === UpdateStatus_UpdateState.ROLLBACK_STARTED ||
    state === UpdateStatus_UpdateState.ROLLBACK_PAUSED
  );
}

const percent = (numbers: readonly number[]): number => Math.min(UINT32_MAX, Math.round(average(numbers) ?? 0));

/** A spec with the number of replicas of another one, where both leave that number to the autoscaler. */
export function keepReplicas(from: ServiceSpec | null, to: ServiceSpec): ServiceSpec {
  if (from?.replicated === undefined || autoscaleOf(from) === undefined || autoscaleOf(to) === undefined) return to;
  return { ...to, replicated: { ...from.replicated } };
}

/**
 * What `service.autoscale` says after a user's change from `former`: a number that was set by hand is told as such, so that
 * no older decision stands for it. Null when the service does not scale (any more).
 */
export function statusAfterChange(service: Service, former: ServiceSpec | null, nowMs: number): AutoscaleStatus | null {
  if (autoscaleOf(service.spec) === undefined) return null;
  const from = former?.replicated?.replicas ?? 0;
  const to = service.spec?.replicated?.replicas ?? 0;
  if (from === to) return service.autoscale;
  return AutoscaleStatus.create({
    from_replicas: from,
    to_replicas: to,
    changed_at: timestampFromMs(nowMs),
    message: `set from ${from} to ${to} replicas by hand`,
  });
}

/**
 * The service with another number of replicas. Its spec version stays: no task follows another spec because of it. The
 * previous spec gets the number too, so that a rollback under load does not also take replicas away.
 */
function withReplicas(service: Service, status: AutoscaleStatus): Service {
  const { previous_spec: previous } = service;
  const spec = service.spec === null ? null : { ...service.spec, replicated: { replicas: status.to_replicas } };
  return {
    ...service,
    spec,
    previous_spec: previous === null ? null : keepReplicas(spec, previous),
    autoscale: status,
  };
}

interface Scale {
  service: Service;
  plan: AutoscalePlan;
  status: AutoscaleStatus;
}

/** What one period of leadership knows of all services that scale. */
class Autoscaler {
  readonly #clock: Clock;
  readonly #usage: UsageSource;
  #histories = new Map<string, AutoscaleHistory>();

  constructor(clock: Clock, usage: UsageSource) {
    this.#clock = clock;
    this.#usage = usage;
  }

  /** Takes a sample of every service that scales, and returns those whose number is to change now. */
  look(view: ReadView, onError: (service: Service, error: unknown) => void): Scale[] {
    const histories = new Map<string, AutoscaleHistory>();
    const scales: Scale[] = [];
    for (const service of view.list('service')) {
      try {
        const settings = autoscaleOf(service.spec);
        if (settings === undefined || service.pending_delete || isBusy(service)) continue;
        const scale = this.#lookAt(service, settings, view, histories);
        if (scale !== undefined) scales.push(scale);
      } catch (error) {
        onError(service, error);
      }
    }
    // Services that are gone, busy or scale no more leave nothing behind.
    this.#histories = histories;
    return scales;
  }

  #lookAt(
    service: Service,
    settings: AutoscaleSettings,
    view: ReadView,
    histories: Map<string, AutoscaleHistory>,
  ): Scale | undefined {
    const nowMs = this.#clock.monotonic();
    const replicas = service.spec?.replicated?.replicas ?? 0;
    const use = useOfService(view.tasksByService(service.id), this.#usage, nowMs);
    const needed = replicasFor(settings, use, replicas);
    const before = this.#histories.get(service.id);
    // Without a sample the windows stand still: a gap that is too long begins them anew.
    let history = before?.replicas === replicas ? before : { replicas, samples: [] };
    if (needed !== undefined) {
      history = remember(before, replicas, needed, settings, nowMs);
      histories.set(service.id, history);
    } else if (before !== undefined) histories.set(service.id, before);
    const isInBounds = replicas >= settings.min && replicas <= settings.max;
    const plan = needed === undefined && isInBounds ? undefined : planAutoscale(history, settings, nowMs);
    return plan === undefined ? undefined : { service, plan, status: this.#status(replicas, plan, settings, use) };
  }

  #status(from: number, plan: AutoscalePlan, settings: AutoscaleSettings, use: ServiceUse): AutoscaleStatus {
    return {
      cpu_percent: percent(use.cpu),
      memory_percent: percent(use.memory),
      from_replicas: from,
      to_replicas: plan.replicas,
      changed_at: timestampFromMs(this.#clock.now()),
      message: scaleText(from, plan, settings, use),
    };
  }
}

/** Writes what was decided, unless a service has changed since: then the next look decides anew. */
function write(tx: Transaction, scales: readonly Scale[]): Scale[] {
  return scales.filter(({ service, status }) => {
    const now = tx.get('service', service.id);
    if (now === undefined || now.meta?.version?.index !== service.meta?.version?.index) return false;
    tx.update('service', withReplicas(now, status));
    return true;
  });
}

async function pass(autoscaler: Autoscaler, store: Store, log: Logger): Promise<void> {
  const onError = (service: Service, error: unknown): void =>
    log.error('a service cannot be scaled', { service: service.id, error });
  const scales = autoscaler.look(store.view(), onError).slice(0, SCALES_PER_TRANSACTION_MAX);
  if (scales.length === 0) return;
  const written = await store.update((tx) => write(tx, scales));
  for (const { service, status } of written) {
    log.info('service scaled', { service: service.spec?.annotations?.name, reason: status.message });
  }
}

/**
 * Changes the replicas of services that ask for it (`shoal.autoscale.…`) by what their tasks use. All it remembers are
 * samples: a new leader begins the windows anew, and changes nothing before it knows what the tasks use.
 */
export function createAutoscaler(deps: OrchestratorDeps): LeaderDuty {
  const { store, clock, log, usage = NO_USAGE } = deps;
  return {
    name: 'autoscaler',
    run: async (signal) => {
      const autoscaler = new Autoscaler(clock, usage);
      while (!signal.aborted) {
        await clock.sleep(LOOK_INTERVAL_MS, signal).catch(() => undefined);
        if (signal.aborted) return;
        await pass(autoscaler, store, log).catch((error: unknown) => {
          if (!signal.aborted) log.warn('replicas could not be changed and will be tried again', { error });
        });
      }
    },
  };
}
