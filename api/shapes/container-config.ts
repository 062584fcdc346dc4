import { hostname } from 'node:os';
import type { ContainerFacts, HealthCheckFacts, JsonObject } from '../ports.ts';

const NS_PER_MS = 1e6;

/** A health check as Docker shows it: what is not set is left out. */
function healthToJson(health: HealthCheckFacts | undefined): JsonObject | undefined {
  if (health === undefined) return undefined;
  const ns = (ms = 0): number | undefined => (ms === 0 ? undefined : Math.round(ms * NS_PER_MS));
  return {
    Test: health.test.length === 0 ? undefined : health.test,
    Interval: ns(health.intervalMs),
    Timeout: ns(health.timeoutMs),
    StartPeriod: ns(health.startPeriodMs),
    StartInterval: ns(health.startIntervalMs),
    Retries: health.retries || undefined,
  };
}

const keySet = (keys: readonly string[] | undefined): JsonObject =>
  Object.fromEntries((keys ?? []).map((k) => [k, {}]));

const listOrNull = (list: readonly string[] | undefined): readonly string[] | null =>
  list === undefined || list.length === 0 ? null : list;

/** The member Config of an inspected container: what was asked for, with its image's settings. */
export function configToJson({ id, config }: Pick<ContainerFacts, 'id' | 'config'>): JsonObject {
  const usual = config.network.mode === 'host' ? hostname() : id.slice(0, 12);
  return {
    Hostname: config.hostname ?? (config.utsMode === 'host' ? hostname() : usual),
    Domainname: config.domainname ?? '',
    User: config.user ?? '',
    AttachStdin: config.attachStdin ?? false,
    AttachStdout: config.attachStdout ?? false,
    AttachStderr: config.attachStderr ?? false,
    ExposedPorts: config.exposedPorts?.length ? keySet(config.exposedPorts) : undefined,
    Tty: config.tty,
    OpenStdin: config.openStdin,
    StdinOnce: config.stdinOnce ?? false,
    Env: listOrNull(config.env),
    Cmd: listOrNull(config.cmd),
    Healthcheck: healthToJson(config.healthCheck),
    Image: config.image,
    Volumes: config.volumes?.length ? keySet(config.volumes) : null,
    WorkingDir: config.workingDir ?? '',
    Entrypoint: listOrNull(config.entrypoint),
    OnBuild: null,
    Labels: config.labels,
    StopSignal: config.stopSignal || undefined,
    StopTimeout: config.stopGraceMs === undefined ? undefined : Math.round(config.stopGraceMs / 1000),
    Shell: config.shell?.length ? config.shell : undefined,
  };
}
