import { readFileSync, statSync } from 'node:fs';
import { errorMessage, invalidArgument } from '../../base/index.ts';
import type { ResourceLimits, UlimitRequest } from '../types.ts';
import { mayRaiseLimits } from './capabilities.ts';
import { deviceNumbers } from './devices.ts';
import type { OciBlockDevice, OciDeviceRule, OciResources } from './oci.ts';

const CPU_PERIOD_US = 100_000;
const NANO_PER_CPU = 1e9;

/** Devices every container may use: null, zero, full, random, urandom, tty, console, ptmx, pts; and making nodes. */
const DEFAULT_DEVICE_RULES: readonly OciDeviceRule[] = [
  { allow: false, access: 'rwm' },
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[
    [1, 3],
    [1, 5],
    [1, 7],
    [1, 8],
    [1, 9],
    [5, 0],
    [5, 1],
    [5, 2],
  ].map(([major = 0, minor = 0]) => ({ allow: true, type: 'c' as const, major, minor, access: 'rwm' })),
  { allow: true, type: 'c', major: 136, access: 'rwm' },
];

/**
 * The resource section of the runtime's configuration; the runtime translates it for cgroup v1 or v2.
 * @param swapAccounting whether the kernel can limit swap; without it only memory is limited.
 */
export function ociResources(limits: ResourceLimits, privileged: boolean, swapAccounting: boolean): OciResources {
  const resources: OciResources = {
    devices: privileged ? [{ allow: true, access: 'rwm' }] : [...DEFAULT_DEVICE_RULES],
  };
  const memory = ociMemory(limits, swapAccounting);
  if (Object.keys(memory).length > 0) resources.memory = memory;
  const cpu = ociCpu(limits);
  if (Object.keys(cpu).length > 0) resources.cpu = cpu;
  const blockIO = ociBlockIo(limits);
  if (Object.keys(blockIO).length > 0) resources.blockIO = blockIO;
  if (limits.pidsLimit !== undefined && limits.pidsLimit > 0) resources.pids = { limit: limits.pidsLimit };
  return resources;
}

function ociMemory(limits: ResourceLimits, swapAccounting: boolean): NonNullable<OciResources['memory']> {
  const memory: NonNullable<OciResources['memory']> = {};
  if (limits.memoryBytes !== undefined && limits.memoryBytes > 0) {
    memory.limit = limits.memoryBytes;
    // Docker's rule: as much swap again, unless the user said otherwise.
    if (swapAccounting) memory.swap = limits.memorySwapBytes || limits.memoryBytes * 2;
  }
  if (limits.memoryReservationBytes) memory.reservation = limits.memoryReservationBytes;
  if (limits.memorySwappiness !== undefined) memory.swappiness = limits.memorySwappiness;
  if (limits.oomKillDisable === true) memory.disableOOMKiller = true;
  return memory;
}

function ociCpu(limits: ResourceLimits): NonNullable<OciResources['cpu']> {
  const cpu: NonNullable<OciResources['cpu']> = {};
  if (limits.cpuShares) cpu.shares = limits.cpuShares;
  if (limits.nanoCpus) {
    cpu.period = CPU_PERIOD_US;
    cpu.quota = Math.max(1000, Math.round((limits.nanoCpus / NANO_PER_CPU) * CPU_PERIOD_US));
  }
  if (limits.cpuPeriodUs) cpu.period = limits.cpuPeriodUs;
  if (limits.cpuQuotaUs) cpu.quota = limits.cpuQuotaUs;
  if (limits.cpuRealtimePeriodUs) cpu.realtimePeriod = limits.cpuRealtimePeriodUs;
  if (limits.cpuRealtimeRuntimeUs) cpu.realtimeRuntime = limits.cpuRealtimeRuntimeUs;
  if (limits.cpusetCpus) cpu.cpus = limits.cpusetCpus;
  if (limits.cpusetMems) cpu.mems = limits.cpusetMems;
  return cpu;
}

/** Numbers of the block device at a path. @throws ShoalError InvalidArgument when there is none */
function blockDevice(path: string): { major: number; minor: number } {
  try {
    return deviceNumbers(statSync(path).rdev);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw invalidArgument(`stat ${path}: ${missing ? 'no such file or directory' : errorMessage(error)}`);
  }
}

function ociBlockIo(limits: ResourceLimits): NonNullable<OciResources['blockIO']> {
  const rates = (list: ResourceLimits['blkioReadBps']): OciBlockDevice[] =>
    (list ?? []).map(({ path, rate }) => ({ ...blockDevice(path), rate }));
  const weights = (limits.blkioWeightDevices ?? []).map(({ path, weight }) => ({ ...blockDevice(path), weight }));
  const lists = {
    weightDevice: weights,
    throttleReadBpsDevice: rates(limits.blkioReadBps),
    throttleWriteBpsDevice: rates(limits.blkioWriteBps),
    throttleReadIOPSDevice: rates(limits.blkioReadIops),
    throttleWriteIOPSDevice: rates(limits.blkioWriteIops),
  };
  return {
    ...(limits.blkioWeight ? { weight: limits.blkioWeight } : {}),
    ...Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0)),
  };
}

/** /proc/self/limits names of the ulimits that Docker knows. */
const LIMIT_TITLES: Readonly<Record<string, string>> = {
  core: 'Max core file size',
  cpu: 'Max cpu time',
  data: 'Max data size',
  fsize: 'Max file size',
  locks: 'Max file locks',
  memlock: 'Max locked memory',
  msgqueue: 'Max msgqueue size',
  nice: 'Max nice priority',
  nofile: 'Max open files',
  nproc: 'Max processes',
  rss: 'Max resident set',
  rtprio: 'Max realtime priority',
  rttime: 'Max realtime timeout',
  sigpending: 'Max pending signals',
  stack: 'Max stack size',
};

/** Hard limits of this process by ulimit name; Infinity for unlimited. */
export function ownHardLimits(text = readFileSync('/proc/self/limits', 'utf8')): ReadonlyMap<string, number> {
  const limits = new Map<string, number>();
  for (const [name, title] of Object.entries(LIMIT_TITLES)) {
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${title} `));
    const hard = line?.slice(title.length).trim().split(/\s+/)[1];
    if (hard !== undefined) limits.set(name, hard === 'unlimited' ? Infinity : Number(hard));
  }
  return limits;
}

const asNumber = (limit: number): number => (limit < 0 ? Infinity : limit);
/** RLIM_INFINITY as the runtime wants it would need 64 bits; the largest safe integer is as good as unlimited. */
const asRlimit = (limit: number): number => (limit === Infinity ? Number.MAX_SAFE_INTEGER : limit);

/**
 * The rlimits of a container: its own over the host's defaults. A daemon without CAP_SYS_RESOURCE cannot raise its own
 * hard limits: defaults are cut to them, a limit asked for by the user above them is refused.
 * @throws ShoalError InvalidArgument.
 */
export function containerRlimits(
  requested: readonly UlimitRequest[],
  defaults: readonly UlimitRequest[],
  own = ownHardLimits(),
  raise = mayRaiseLimits(),
): { type: string; soft: number; hard: number }[] {
  const result = new Map<string, { soft: number; hard: number }>();
  for (const { name, soft, hard } of defaults) {
    const most = raise ? Infinity : (own.get(name) ?? Infinity);
    result.set(name, { soft: Math.min(asNumber(soft), most), hard: Math.min(asNumber(hard), most) });
  }
  for (const { name, soft, hard } of requested) {
    if (LIMIT_TITLES[name] === undefined) throw invalidArgument(`invalid ulimit type: ${name}`);
    if (asNumber(soft) > asNumber(hard)) {
      throw invalidArgument(`ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`);
    }
    const most = raise ? Infinity : (own.get(name) ?? Infinity);
    if (asNumber(hard) > most && hard >= 0) {
      throw invalidArgument(
        `ulimit ${name}=${hard} is above the daemon's own hard limit of ${most}, and the daemon lacks CAP_SYS_RESOURCE:` +
          ` ask for at most ${most}, or start the daemon with a higher limit`,
      );
    }
    result.set(name, { soft: Math.min(asNumber(soft), most), hard: Math.min(asNumber(hard), most) });
  }
  return [...result].map(([name, { soft, hard }]) => ({
    type: `RLIMIT_${name.toUpperCase()}`,
    soft: asRlimit(soft),
    hard: asRlimit(hard),
  }));
}
