import { posix } from 'node:path';
import { invalidArgument } from '../../base/index.ts';
import type { PublishedPort } from '../../overlay-net/index.ts';
import { logPolicy } from '../logs/policy.ts';
import { containerCapabilities } from '../runtime/capabilities.ts';
import { checkMount, prepareBindSource } from '../runtime/mounts.ts';
import { signalNumber } from '../runtime/process.ts';
import { containerRlimits } from '../runtime/resources.ts';
import { parseSeccompProfile } from '../runtime/seccomp.ts';
import type { ContainerConfig, HealthCheckRequest, ImageConfig, MountRequest, UlimitRequest } from '../types.ts';
import { checkOptions } from './check-options.ts';
import { cleanPath } from './complete.ts';
import { checkName } from './names.ts';
import type { StoredMount } from './store.ts';

const NS_PER_MS = 1e6;
const HEALTH_DEFAULTS = { intervalMs: 30_000, timeoutMs: 30_000, startPeriodMs: 0, retries: 3, startIntervalMs: 5_000 };

/** The command line of a container. An entrypoint of its own drops the image's command. */
export function commandLine(config: ContainerConfig, image: ImageConfig): { path: string; args: string[] } {
  const own = config.entrypoint;
  const entrypoint = own === undefined || own.length === 0 ? (image.Entrypoint ?? []) : own;
  const replaced = own !== undefined && own.length > 0;
  const given = config.cmd !== undefined && config.cmd.length > 0;
  const command = given ? (config.cmd ?? []) : replaced ? [] : (image.Cmd ?? []);
  // An entrypoint of one empty text stands for "none at all".
  const [path, ...args] = [...(entrypoint.length === 1 && entrypoint[0] === '' ? [] : entrypoint), ...command];
  if (path === undefined || path === '') throw invalidArgument('no command specified');
  return { path, args };
}

/** The health check that applies: the container's own over the image's; undefined for none. */
export function healthCheckOf(config: ContainerConfig, image: ImageConfig): HealthCheckRequest | undefined {
  const own = config.healthCheck;
  const base = image.Healthcheck;
  const test = own !== undefined && own.test.length > 0 ? own.test : (base?.Test ?? []);
  if (test.length === 0 || test[0] === 'NONE') return undefined;
  const ms = (ns: number | undefined): number => (ns ?? 0) / NS_PER_MS;
  return {
    test,
    intervalMs: own?.intervalMs || ms(base?.Interval) || HEALTH_DEFAULTS.intervalMs,
    timeoutMs: own?.timeoutMs || ms(base?.Timeout) || HEALTH_DEFAULTS.timeoutMs,
    startPeriodMs: own?.startPeriodMs || ms(base?.StartPeriod) || HEALTH_DEFAULTS.startPeriodMs,
    startIntervalMs: own?.startIntervalMs || ms(base?.StartInterval) || HEALTH_DEFAULTS.startIntervalMs,
    retries: own?.retries || base?.Retries || HEALTH_DEFAULTS.retries,
  };
}

/** The signal that asks the container to end, and the time it then has, ms. */
export function stopRules(config: ContainerConfig, image: ImageConfig): { signal: string; graceMs: number } {
  return { signal: config.stopSignal || image.StopSignal || 'SIGTERM', graceMs: config.stopGraceMs ?? 10_000 };
}

/** With the image's exposed ports, and a free port of the host for each of them when all are to be published. */
export function withPorts(config: ContainerConfig, image: ImageConfig): ContainerConfig {
  const exposed = [...new Set([...(config.exposedPorts ?? []), ...Object.keys(image.ExposedPorts ?? {})])];
  const exposedPorts = exposed.map((text) => (text.includes('/') ? text : `${text}/tcp`));
  const { network } = config;
  if (config.publishAll !== true || network.mode !== 'sandbox') return { ...config, exposedPorts };
  const bound = new Set(network.ports.map(({ targetPort, protocol }) => `${targetPort}/${protocol}`));
  const more = exposedPorts
    .filter((text) => !bound.has(text))
    .map((text) => {
      const [port = '', word = ''] = text.split('/');
      const protocol: PublishedPort['protocol'] = word === 'udp' || word === 'sctp' ? word : 'tcp';
      return { protocol, targetPort: Number(port), publishedPort: 0, hostIp: '' };
    });
  return { ...config, exposedPorts, network: { ...network, ports: [...network.ports, ...more] } };
}

/**
 * The user's mounts over those of other containers, and an anonymous volume for each declared place that is left.
 * @param taken mounts taken over from other containers
 */
export function wantedMounts(config: ContainerConfig, taken: readonly StoredMount[] = []): StoredMount[] {
  const place = (mount: MountRequest): string => cleanPath(mount.target);
  const own = config.mounts.map((mount) => ({ ...mount, target: place(mount) }));
  const byPlace = new Map<string, StoredMount>([...taken, ...own].map((mount) => [place(mount), mount]));
  for (const declared of config.volumes ?? []) {
    const target = cleanPath(declared);
    const driver = config.volumeDriver === undefined ? {} : { volumeDriver: config.volumeDriver };
    if (byPlace.has(target)) continue;
    byPlace.set(target, { type: 'volume', source: '', target, readOnly: false, declared: true, ...driver });
  }
  return [...byPlace.values()];
}

/**
 * Checks everything of a request that can be checked before anything is made.
 * @param owner root of the container on the host, to whom sources of binds belong that are made
 * @throws ShoalError InvalidArgument in Docker's words.
 */
export async function checkConfig(
  config: ContainerConfig,
  defaultUlimits: readonly UlimitRequest[],
  owner: { uid: number; gid: number },
): Promise<void> {
  if (config.name !== '') checkName(config.name);
  checkOptions(config);
  containerRlimits(config.resources.ulimits ?? [], defaultUlimits);
  containerCapabilities(config);
  logPolicy(config.logDriver);
  if (config.stopSignal) signalNumber(config.stopSignal);
  if (!['', 'default', 'builtin', 'unconfined'].includes(config.seccomp)) parseSeccompProfile(config.seccomp);
  if (config.autoRemove && config.restart.name !== 'no') {
    throw invalidArgument("can't create 'AutoRemove' container with restart policy");
  }
  if (config.restart.maximumRetryCount > 0 && config.restart.name !== 'on-failure') {
    throw invalidArgument("maximum retry count cannot be used with restart policy '" + config.restart.name + "'");
  }
  const targets = new Set<string>();
  for (const mount of config.mounts) {
    checkMount(mount);
    const target = cleanPath(mount.target);
    if (targets.has(target)) throw invalidArgument(`Duplicate mount point: ${target}`);
    targets.add(target);
  }
  for (const file of config.files) {
    if (!posix.isAbsolute(file.target)) throw invalidArgument(`file target ${file.target} must be an absolute path`);
  }
  if (config.network.mode === 'host') {
    const sysctl = Object.keys(config.sysctls).find((key) => key.startsWith('net.'));
    if (sysctl !== undefined) throw invalidArgument(`sysctl "${sysctl}" not allowed in host network namespace`);
  }
  if (config.workingDir !== undefined && config.workingDir !== '' && !posix.isAbsolute(config.workingDir)) {
    throw invalidArgument(`the working directory '${config.workingDir}' is invalid, it needs to be an absolute path`);
  }
  for (const mount of config.mounts) if (mount.type === 'bind') await prepareBindSource(mount, owner);
}
