import { isIP } from 'node:net';
import { invalidArgument, notFound } from '../../base/index.ts';
import { hostArchitecture } from '../images/image-config.ts';
import { mayRaiseLimits } from '../runtime/capabilities.ts';
import { checkDeviceMapping, deviceRule } from '../runtime/devices.ts';
import { checkNamespaces } from '../runtime/namespaces.ts';
import { ownScoreAdjustment } from '../runtime/process.ts';
import type { ContainerConfig, HealthCheckRequest, Image } from '../types.ts';

const HEALTH_MIN_MS = 1;

/** Checks options that do not depend on others. @throws ShoalError InvalidArgument in Docker's words */
export function checkOptions(config: ContainerConfig): void {
  checkNamespaces(config);
  if (config.utsMode === 'host' && config.hostname) {
    throw invalidArgument('conflicting options: hostname and the UTS mode');
  }
  if ((config.shmBytes ?? 0) < 0) throw invalidArgument('SHM size can not be less than 0');
  if (!['', 'default'].includes(config.isolation ?? '')) {
    throw invalidArgument(`invalid isolation (${config.isolation ?? ''}): linux only supports 'default'`);
  }
  for (const key of Object.keys(config.storageOptions ?? {})) checkStorageOption(key);
  for (const entry of config.env) {
    if (entry === '' || entry.startsWith('=')) throw invalidArgument(`invalid environment variable: ${entry}`);
  }
  if (config.annotations !== undefined && '' in config.annotations) {
    throw invalidArgument('invalid Annotations: the empty string is not permitted as an annotation key');
  }
  for (const entry of config.extraHosts) checkExtraHost(entry);
  for (const mapping of config.devices ?? []) checkDeviceMapping(mapping);
  for (const rule of config.deviceCgroupRules ?? []) deviceRule(rule);
  checkHealth(config.healthCheck);
  checkScore(config.resources.oomScoreAdj);
}

function checkStorageOption(key: string): void {
  if (key.toLowerCase() !== 'size') throw invalidArgument(`Unknown option ${key}`);
  throw invalidArgument(
    "--storage-opt is supported only for overlay over xfs with 'pquota' mount option: this daemon sets no quota on a " +
      "container's files; leave it out",
  );
}

/** `name:address`, or `name:host-gateway`. */
function checkExtraHost(entry: string): void {
  const cut = entry.search(/[:=]/);
  if (cut <= 0) throw invalidArgument(`bad format for add-host: ${JSON.stringify(entry)}`);
  const address = entry.slice(cut + 1).replace(/^\[(.*)\]$/, '$1');
  if (address !== 'host-gateway' && isIP(address) === 0) {
    throw invalidArgument(`invalid IP address in add-host: ${JSON.stringify(entry.slice(cut + 1))}`);
  }
}

function checkHealth(health: HealthCheckRequest | undefined): void {
  if (health === undefined) return;
  const durations = {
    Interval: health.intervalMs,
    Timeout: health.timeoutMs,
    StartPeriod: health.startPeriodMs,
    StartInterval: health.startIntervalMs ?? 0,
  };
  for (const [name, ms] of Object.entries(durations)) {
    if (ms !== 0 && ms < HEALTH_MIN_MS) throw invalidArgument(`${name} in Healthcheck cannot be less than 1ms`);
  }
  if (health.retries < 0) throw invalidArgument('Retries in Healthcheck cannot be negative');
}

/** Only a process with CAP_SYS_RESOURCE makes itself less likely to be killed than it is (proc_pid_oom_score_adj(5)). */
function checkScore(wanted: number | undefined): void {
  if (wanted === undefined || mayRaiseLimits()) return;
  const own = ownScoreAdjustment();
  if (wanted >= own) return;
  throw invalidArgument(
    `oom score adj ${wanted} is below the daemon's own of ${own}, and the daemon lacks CAP_SYS_RESOURCE: ask for at ` +
      `least ${own}`,
  );
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  i386: '386',
};

/** A platform as `os[/architecture[/variant]]`, or an architecture alone; in the words of OCI. */
function parsePlatform(text: string): { os: string; architecture: string; variant: string } {
  const parts = text.toLowerCase().split('/');
  const alone = parts.length === 1 && parts[0] !== 'linux';
  const [os = '', architecture = '', variant = ''] = alone ? ['linux', parts[0]] : parts;
  if (parts.length > 3 || os !== 'linux' || !/^[a-z0-9_-]*$/.test(architecture)) {
    throw invalidArgument(`${JSON.stringify(text)}: unknown operating system or architecture: invalid argument`);
  }
  return { os, architecture: ARCHITECTURES[architecture] ?? architecture, variant };
}

/**
 * Whether an image fits the platform that was asked for, or this machine. Gives a warning for what may not run.
 * @throws ShoalError NotFound in Docker's words
 */
export function checkPlatform(config: ContainerConfig, image: Image): string[] {
  const has = [image.os, image.architecture, image.variant].filter((part) => part !== '').join('/');
  if (!config.platform) {
    const host = hostArchitecture();
    if (image.architecture === '' || image.architecture === host) return [];
    const what = `The requested image's platform (${has}) does not match the detected host platform (linux/${host})`;
    return [`${what} and no specific platform was requested`];
  }
  const wanted = parsePlatform(config.platform);
  const fits =
    wanted.os === image.os &&
    ['', image.architecture].includes(wanted.architecture) &&
    (image.variant === '' || ['', image.variant].includes(wanted.variant));
  if (fits) return [];
  throw notFound(
    `image with reference ${config.image} was found but its platform (${has}) does not match the specified platform ` +
      `(${config.platform})`,
  );
}
