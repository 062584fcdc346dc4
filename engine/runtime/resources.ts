import { readFileSync } from 'node:fs';
import { invalidArgument } from '../../base/index.ts';
import type { ResourceLimits, UlimitRequest } from '../types.ts';
import { mayRaiseLimits } from './capabilities.ts';
import type { OciDeviceRule, OciResources } from './oci.ts';

/** Docker's smallest memory limit, bytes. */
export const MEMORY_MIN_BYTES = 6 * 1024 * 1024;
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

/** Checks limits in Docker's words. @throws ShoalError InvalidArgument. */
export function checkResources(limits: ResourceLimits, cpus: number): void {
  const { memoryBytes = 0, memorySwapBytes = 0, memoryReservationBytes = 0, nanoCpus = 0 } = limits;
  if (memoryBytes > 0 && memoryBytes < MEMORY_MIN_BYTES) {
    throw invalidArgument('Minimum memory limit allowed is 6MB');
  }
  if (memoryBytes > 0 && memorySwapBytes > 0 && memorySwapBytes < memoryBytes) {
    throw invalidArgument('Minimum memoryswap limit should be larger than memory limit, see usage');
  }
  if (memoryBytes === 0 && memorySwapBytes > 0) {
    throw invalidArgument('You should always set the Memory limit when using Memoryswap limit, see usage');
  }
  if (memoryBytes > 0 && memoryReservationBytes > memoryBytes) {
    throw invalidArgument('Minimum memory limit can not be less than memory reservation limit, see usage');
  }
  if (nanoCpus < 0 || nanoCpus > cpus * NANO_PER_CPU) {
    const most = cpus.toFixed(2);
    throw invalidArgument(`range of CPUs is from 0.01 to ${most}, as there are only ${cpus} CPUs available`);
  }
  if (limits.cpuShares !== undefined && limits.cpuShares < 0) {
    throw invalidArgument(`invalid CPU shares (${limits.cpuShares}): value must be a positive integer`);
  }
}

/**
 * The resource section of the runtime's configuration; the runtime translates it for cgroup v1 or v2.
 * @param swapAccounting whether the kernel can limit swap; without it only memory is limited.
 */
export function ociResources(limits: ResourceLimits, privileged: boolean, swapAccounting: boolean): OciResources {
  const resources: OciResources = {
    devices: privileged ? [{ allow: true, access: 'rwm' }] : [...DEFAULT_DEVICE_RULES],
  };
  const memory: NonNullable<OciResources['memory']> = {};
  if (limits.memoryBytes !== undefined && limits.memoryBytes > 0) {
    memory.limit = limits.memoryBytes;
    // Docker's rule: as much swap again, unless the user said otherwise.
    if (swapAccounting) memory.swap = limits.memorySwapBytes || limits.memoryBytes * 2;
  }
  if (limits.memoryReservationBytes) memory.reservation = limits.memoryReservationBytes;
  if (Object.keys(memory).length > 0) resources.memory = memory;
  const cpu: NonNullable<OciResources['cpu']> = {};
  if (limits.cpuShares) cpu.shares = limits.cpuShares;
  if (limits.nanoCpus) {
    cpu.period = CPU_PERIOD_US;
    cpu.quota = Math.max(1000, Math.round((limits.nanoCpus / NANO_PER_CPU) * CPU_PERIOD_US));
  }
  if (limits.cpusetCpus) cpu.cpus = limits.cpusetCpus;
  if (Object.keys(cpu).length > 0) resources.cpu = cpu;
  if (limits.pidsLimit !== undefined && limits.pidsLimit > 0) resources.pids = { limit: limits.pidsLimit };
  return resources;
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
