import { invalidArgument, ShoalError } from '../../base/index.ts';
import {
  durationToNs,
  EndpointSpec_ResolutionMode,
  PortConfig_PublishMode,
  ServiceSpec,
  type EndpointSpec,
  type Resources,
  type TaskSpec,
  type UpdateConfig,
} from '../../proto/index.ts';
import { parseConstraints } from '../../scheduler/index.ts';
import { readServiceSettings, readWeight } from '../settings/index.ts';
import { validateContainer } from './container-spec.ts';
import { validateDnsName } from './names.ts';

/** Smallest CPU share that can be asked for, nano-CPUs. */
const NANO_CPUS_MIN = 1e6;
/** Smallest memory that can be asked for, bytes. */
const MEMORY_BYTES_MIN = 4 * 1024 * 1024;
const PORT_MAX = 65_535;
/** Replicas of one service. */
const REPLICAS_MAX = 1_000_000;

function validateResources(resources: Resources | null | undefined): void {
  if (resources === null || resources === undefined) return;
  const { nano_cpus: nanoCpus, memory_bytes: memoryBytes } = resources;
  if (nanoCpus !== 0 && nanoCpus < NANO_CPUS_MIN) {
    throw invalidArgument(`invalid cpu value ${nanoCpus / 1e9}: Must be at least ${NANO_CPUS_MIN / 1e9}`);
  }
  if (memoryBytes !== 0 && memoryBytes < MEMORY_BYTES_MIN) {
    throw invalidArgument(`invalid memory value ${memoryBytes}: Must be at least 4MiB`);
  }
  for (const generic of resources.generic) {
    if (generic.discrete_resource_spec === undefined) {
      throw invalidArgument('invalid generic resource: only a number can be reserved, not a name');
    }
    const { kind, value } = generic.discrete_resource_spec;
    if (kind === '' || value <= 0) throw invalidArgument(`invalid generic resource '${kind}=${value}'`);
  }
}

function validateUpdate(config: UpdateConfig | null): void {
  if (config === null) return;
  if ((durationToNs(config.delay) ?? 0) < 0) throw invalidArgument('TaskSpec: update-delay cannot be negative');
  if ((durationToNs(config.monitor) ?? 0) < 0) throw invalidArgument('TaskSpec: update-monitor cannot be negative');
  const ratio = config.max_failure_ratio;
  if (ratio < 0) throw invalidArgument('TaskSpec: update-maxfailureratio cannot be less than 0');
  if (!(ratio <= 1)) throw invalidArgument('TaskSpec: update-maxfailureratio cannot be bigger than 1');
}

function validateTask(task: TaskSpec | null): void {
  if (task === null) throw invalidArgument('TaskSpec: missing runtime');
  validateResources(task.resources?.limits);
  validateResources(task.resources?.reservations);
  if ((durationToNs(task.restart?.delay) ?? 0) < 0) throw invalidArgument('TaskSpec: restart-delay cannot be negative');
  if ((durationToNs(task.restart?.window) ?? 0) < 0) {
    throw invalidArgument('TaskSpec: restart-window cannot be negative');
  }
  parseConstraints(task.placement?.constraints ?? []);
  if (task.attachment !== undefined) throw invalidArgument('TaskSpec: a service cannot be a network attachment');
  if (task.generic !== undefined) {
    throw new ShoalError('Unimplemented', 'RuntimeUnknown: only containers can run as tasks');
  }
  if (task.container === undefined) throw invalidArgument('mismatched Runtime and *Spec fields');
  validateContainer(task.container);
  readWeight(task.container.labels);
}

function validateEndpoint(endpoint: EndpointSpec | null): void {
  const published = new Set<string>();
  for (const port of endpoint?.ports ?? []) {
    const isIngress = port.publish_mode === PortConfig_PublishMode.INGRESS;
    if (isIngress && endpoint?.mode === EndpointSpec_ResolutionMode.DNSRR) {
      throw invalidArgument("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
    }
    if (port.target_port < 1 || port.target_port > PORT_MAX) {
      throw invalidArgument(`EndpointSpec: target port ${port.target_port} is not between 1 and ${PORT_MAX}`);
    }
    if (port.published_port > PORT_MAX) {
      throw invalidArgument(`EndpointSpec: published port ${port.published_port} is not between 1 and ${PORT_MAX}`);
    }
    if (port.published_port === 0) continue;
    const key = `${port.protocol}/${port.published_port}`;
    if (published.has(key)) throw invalidArgument('EndpointSpec: duplicate published ports provided');
    published.add(key);
  }
}

export type ServiceMode = 'replicated' | 'global' | 'replicated_job' | 'global_job';
const MODES: readonly ServiceMode[] = ['replicated', 'global', 'replicated_job', 'global_job'];

export function modeOf(spec: ServiceSpec | null | undefined): ServiceMode | undefined {
  return MODES.find((mode) => spec?.[mode] !== undefined);
}

export function isJob(spec: ServiceSpec | null | undefined): boolean {
  return spec?.replicated_job !== undefined || spec?.global_job !== undefined;
}

/** Fills in what a spec may leave out. Returns a copy. */
function withDefaults(spec: ServiceSpec): ServiceSpec {
  const copy = ServiceSpec.clone(spec);
  if (modeOf(copy) === undefined) copy.replicated = { replicas: 1 };
  const job = copy.replicated_job;
  if (job !== undefined) {
    if (job.max_concurrent === 0) job.max_concurrent = Math.max(1, job.total_completions);
    if (job.total_completions === 0) job.total_completions = job.max_concurrent;
  }
  return copy;
}

function validateMode(spec: ServiceSpec): void {
  const numbers = [
    spec.replicated?.replicas ?? 0,
    spec.replicated_job?.max_concurrent ?? 0,
    spec.replicated_job?.total_completions ?? 0,
  ];
  if (numbers.some((number) => number < 0)) throw invalidArgument('Number of replicas must be non-negative');
  if (numbers.some((number) => number > REPLICAS_MAX)) {
    throw invalidArgument(`Number of replicas must be at most ${REPLICAS_MAX}`);
  }
}

/** Settings that fit the service's mode. @throws ShoalError InvalidArgument */
function validateSettings(spec: ServiceSpec): void {
  const settings = readServiceSettings(spec.annotations?.labels);
  if (settings.cron !== undefined && !isJob(spec)) {
    throw invalidArgument('shoal.cron: only jobs can start by the clock; use --mode replicated-job or global-job');
  }
  const isReplicated = modeOf(spec) === 'replicated' || modeOf(spec) === undefined;
  if (settings.autoscale !== undefined && !isReplicated) {
    throw invalidArgument('shoal.autoscale: only replicated services can be scaled');
  }
  if (settings.autoscale?.memoryPercent !== undefined && (spec.task?.resources?.limits?.memory_bytes ?? 0) === 0) {
    throw invalidArgument(
      'shoal.autoscale.memory is in per cent of the memory limit, and the service has none: set one with --limit-memory',
    );
  }
  if (settings.rebalance && !isReplicated) {
    throw invalidArgument('shoal.rebalance: only tasks of replicated services can move between nodes');
  }
  const name = spec.annotations?.name ?? '';
  const stack = spec.annotations?.labels['com.docker.stack.namespace'];
  for (const { service } of settings.dependsOn) {
    if (service !== name && `${stack}_${service}` !== name) continue;
    throw invalidArgument(`label shoal.depends-on: service ${name} cannot wait for itself`);
  }
  if (settings.canary > 0 && isJob(spec)) throw invalidArgument('shoal.update.canary: jobs are not updated in steps');
}

/**
 * Checks all that can be said of a service without looking at the cluster, and fills in defaults.
 * @returns a copy that the caller owns. @throws ShoalError in SwarmKit's words.
 */
export function validateServiceSpec(spec: ServiceSpec | null): ServiceSpec {
  if (spec === null) throw invalidArgument('a service spec must be provided');
  validateDnsName(spec.annotations);
  validateTask(spec.task);
  validateUpdate(spec.update);
  validateUpdate(spec.rollback);
  validateEndpoint(spec.endpoint);
  validateMode(spec);
  validateSettings(spec);
  return withDefaults(spec);
}
