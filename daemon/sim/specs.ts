import type { Random } from '../../base/index.ts';
import {
  durationFromNs,
  PortConfig_PublishMode,
  RestartPolicy_RestartCondition,
  ServiceSpec,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  type Partially,
} from '../../proto/index.ts';
import type { ReadView } from '../../manager/index.ts';
import { IMAGES } from './image.ts';

const MIB = 2 ** 20;
const REPLICAS_MAX = 6;
/** Published ports are drawn from so many, so that services ask for the same. */
const PORTS = 6;

export function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.int(choices.length)] as T;
}

function chance(random: Random, share: number): boolean {
  return random.float() < share;
}

const seconds = (count: number) => durationFromNs(count * 1e9);

function updateConfig(random: Random): Partially<NonNullable<ServiceSpec['update']>> {
  return {
    parallelism: pick(random, [0, 1, 1, 2, 3]),
    delay: chance(random, 0.3) ? seconds(1 + random.int(4)) : null,
    monitor: chance(random, 0.5) ? seconds(1 + random.int(6)) : null,
    failure_action: pick(random, Object.values(UpdateConfig_FailureAction)),
    max_failure_ratio: pick(random, [0, 0, 0.3]),
    order: chance(random, 0.3) ? UpdateConfig_UpdateOrder.START_FIRST : UpdateConfig_UpdateOrder.STOP_FIRST,
  };
}

function image(random: Random, isJob: boolean): string {
  const kinds = isJob
    ? ['job', 'job', 'flaky-job']
    : ['web', 'web', 'web', 'heavy', 'flaky', 'flaky', 'broken', 'missing'];
  return `${pick(random, kinds)}:${random.int(1000)}`;
}

function placement(random: Random): Partially<NonNullable<NonNullable<ServiceSpec['task']>['placement']>> | null {
  switch (random.int(8)) {
    case 0:
      return { constraints: [`engine.labels.zone == zone-${random.int(3)}`] };
    case 1:
      return { constraints: [`node.labels.rack != rack-${random.int(2)}`] };
    case 2:
      return { preferences: [{ spread: { spread_descriptor: 'engine.labels.zone' } }] };
    case 3:
      return { max_replicas: 1 + random.int(2) };
    default:
      return null;
  }
}

function resources(random: Random): Partially<NonNullable<NonNullable<ServiceSpec['task']>['resources']>> | null {
  if (!chance(random, 0.5)) return null;
  const gpu = chance(random, 0.1) ? [{ discrete_resource_spec: { kind: 'gpu', value: 1 } }] : [];
  return {
    reservations: {
      nano_cpus: pick(random, [0, 0.5e9, 1e9]),
      memory_bytes: pick(random, [0, 256, 900]) * MIB,
      generic: gpu,
    },
  };
}

function restart(random: Random): Partially<NonNullable<NonNullable<ServiceSpec['task']>['restart']>> | null {
  if (chance(random, 0.3)) return null;
  const { ANY, ON_FAILURE, NONE } = RestartPolicy_RestartCondition;
  return {
    condition: pick(random, [ANY, ANY, ANY, ON_FAILURE, NONE]),
    delay: pick(random, [null, durationFromNs(0), durationFromNs(3e8), seconds(2)]),
    max_attempts: pick(random, [0, 0, 0, 3]),
    window: chance(random, 0.2) ? seconds(20) : null,
  };
}

function endpoint(random: Random, networks: boolean): Partially<NonNullable<ServiceSpec['endpoint']>> | null {
  if (chance(random, 0.5)) return null;
  const port = { protocol: 0, target_port: 80 } as const;
  switch (random.int(3)) {
    case 0:
      return { mode: 0, ports: [{ ...port, published_port: 0, publish_mode: PortConfig_PublishMode.INGRESS }] };
    case 1: {
      const published_port = 8000 + random.int(PORTS);
      return { mode: 0, ports: [{ ...port, published_port, publish_mode: PortConfig_PublishMode.INGRESS }] };
    }
    default: {
      const published_port = 9000 + random.int(PORTS);
      const mode = networks && chance(random, 0.5) ? 1 : 0;
      return { mode, ports: [{ ...port, published_port, publish_mode: PortConfig_PublishMode.HOST }] };
    }
  }
}

function someOf<T>(random: Random, all: readonly T[], share: number): T[] {
  return all.filter(() => chance(random, share));
}

function template(random: Random, view: ReadView, isJob: boolean): Partially<NonNullable<ServiceSpec['task']>> {
  const secrets = someOf(random, view.list('secret'), 0.25).map((secret) => {
    const name = secret.spec?.annotations?.name ?? '';
    return { secret_id: secret.id, secret_name: name, file: { name, uid: '0', gid: '0', mode: 0o444 } };
  });
  const networks = view.list('network').filter((network) => network.spec?.ingress !== true);
  return {
    container: {
      image: image(random, isJob),
      secrets,
      stop_grace_period: chance(random, 0.3) ? seconds(1 + random.int(9)) : null,
    },
    resources: resources(random),
    restart: restart(random),
    placement: placement(random),
    networks: someOf(random, networks, 0.3).map((network) => ({ target: network.id })),
  };
}

function mode(random: Random): Partially<ServiceSpec> {
  switch (random.int(8)) {
    case 0:
    case 1:
      return { global: {} };
    case 2:
      return { replicated_job: { max_concurrent: 1 + random.int(3), total_completions: 1 + random.int(6) } };
    case 3:
      return { global_job: {} };
    default:
      return { replicated: { replicas: random.int(REPLICAS_MAX + 1) } };
  }
}

/** Settings of Shoal that go with a mode. */
function modeLabels(random: Random, how: Partially<ServiceSpec>): Record<string, string> {
  if (how.replicated_job !== undefined || how.global_job !== undefined) {
    if (!chance(random, 0.3)) return {};
    const concurrency = pick(random, ['allow', 'forbid', 'replace']);
    return { 'shoal.cron': '* * * * *', 'shoal.cron.concurrency': concurrency, 'shoal.cron.history': '2' };
  }
  const labels: Record<string, string> = {};
  if (chance(random, 0.2)) {
    labels['shoal.update.canary'] = String(1 + random.int(2));
    if (chance(random, 0.8)) labels['shoal.update.canary-wait'] = `${2 + random.int(8)}s`;
  }
  if (chance(random, 0.2)) labels['shoal.update.deadline'] = `${20 + random.int(60)}s`;
  if (how.replicated === undefined) return labels;
  if (chance(random, 0.3)) labels['shoal.rebalance'] = 'true';
  if (chance(random, 0.15)) {
    Object.assign(labels, {
      'shoal.autoscale.min': '1',
      'shoal.autoscale.max': String(REPLICAS_MAX),
      'shoal.autoscale.cpu': '50',
      'shoal.autoscale.up-after': '3s',
      'shoal.autoscale.down-after': '10s',
    });
  }
  return labels;
}

/** Settings of Shoal. */
function drawLabels(random: Random, how: Partially<ServiceSpec>, view: ReadView): Record<string, string> {
  const labels = modeLabels(random, how);
  const others = view.list('service').map((service) => service.spec?.annotations?.name ?? '');
  const other = others.length === 0 ? '' : pick(random, others.toSorted());
  if (chance(random, 0.1) && other !== '')
    labels['shoal.depends-on'] = `${other}:${pick(random, ['started', 'healthy'])}`;
  if (chance(random, 0.08) && other !== '') labels['shoal.anti-affinity'] = `service.name == ${other}`;
  if (chance(random, 0.05) && other !== '') labels['shoal.affinity'] = `service.name == ${other}`;
  if (chance(random, 0.2)) labels['shoal.priority'] = String(random.int(3) * 100);
  if (chance(random, 0.2)) labels['shoal.preempt'] = 'true';
  if (chance(random, 0.15)) labels['shoal.move.order'] = 'stop-first';
  if (chance(random, 0.2)) labels['shoal.placement.strategy'] = pick(random, ['spread', 'binpack']);
  return labels;
}

/** A service of any kind. */
export function drawService(random: Random, name: string, view: ReadView): ServiceSpec {
  const how = mode(random);
  const isJob = how.replicated_job !== undefined || how.global_job !== undefined;
  const task = template(random, view, isJob);
  return ServiceSpec.create({
    annotations: { name, labels: drawLabels(random, how, view) },
    task,
    ...how,
    update: chance(random, 0.7) ? updateConfig(random) : null,
    rollback: chance(random, 0.4) ? updateConfig(random) : null,
    endpoint: isJob ? null : endpoint(random, (task.networks ?? []).length > 0),
  });
}

/** Another spec for a service, as a user's update makes it. */
export function changeService(random: Random, old: ServiceSpec, view: ReadView): ServiceSpec {
  const spec = ServiceSpec.clone(old);
  const isJob = spec.replicated_job !== undefined || spec.global_job !== undefined;
  const task = spec.task;
  if (task === null) return spec;
  switch (random.int(10)) {
    case 0:
    case 1:
    case 2:
      if (spec.replicated !== undefined) spec.replicated.replicas = random.int(REPLICAS_MAX + 1);
      else task.force_update++;
      return spec;
    case 3:
      task.force_update++;
      return spec;
    case 4:
      return ServiceSpec.create({ ...spec, update: updateConfig(random), rollback: updateConfig(random) });
    case 5:
      return ServiceSpec.create({
        ...spec,
        task: { ...template(random, view, isJob), force_update: task.force_update },
      });
    case 6:
      return isJob ? spec : ServiceSpec.create({ ...spec, endpoint: endpoint(random, task.networks.length > 0) });
    default:
      if (task.container !== undefined) task.container.image = image(random, isJob);
      return spec;
  }
}

/** Makes it work, if its image never will: so that users' mistakes do not pile up. */
export function isHopeless(spec: ServiceSpec | null): boolean {
  const kind = (spec?.task?.container?.image ?? '').split(':')[0] ?? '';
  return IMAGES[kind] === undefined || kind === 'broken' || kind === 'missing';
}
