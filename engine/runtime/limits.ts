import { availableParallelism } from 'node:os';
import { invalidArgument } from '../../base/index.ts';
import type { ResourceLimits } from '../types.ts';
import type { SysInfo } from './sysinfo.ts';

/** Docker's smallest memory limit, bytes. */
export const MEMORY_MIN_BYTES = 6 * 1024 * 1024;
const NANO_PER_CPU = 1e9;
const PERIOD_MIN_US = 1000;
const PERIOD_MAX_US = 1_000_000;
const CPUS_MAX = 8192;

/** Limits that can be set here, and what was left out with the reason. */
export interface VerifiedLimits {
  limits: ResourceLimits;
  warnings: string[];
}

type Field = keyof ResourceLimits;

const NO_CGROUP = 'or the cgroup is not mounted';
/** What is left out with a warning where the kernel cannot do it: field, fact, words. */
const DISCARDED: readonly (readonly [Field, keyof SysInfo, string])[] = [
  ['memorySwappiness', 'memorySwappiness', `memory swappiness capabilities ${NO_CGROUP}. Memory swappiness discarded.`],
  ['memoryReservationBytes', 'memoryReservation', `memory soft limit capabilities ${NO_CGROUP}. Limitation discarded.`],
  ['oomKillDisable', 'oomKillDisable', 'OomKillDisable. OomKillDisable discarded.'],
  ['pidsLimit', 'pidsLimit', `PIDs limit capabilities ${NO_CGROUP}. PIDs limit discarded.`],
  ['cpuShares', 'cpuShares', `CPU shares ${NO_CGROUP}. Shares discarded.`],
  ['cpuPeriodUs', 'cpuCfs', 'CPU CFS scheduler. CPU period/quota discarded.'],
  ['cpuQuotaUs', 'cpuCfs', 'CPU CFS scheduler. CPU period/quota discarded.'],
  ['cpusetCpus', 'cpuset', `cpuset ${NO_CGROUP}. Cpuset discarded.`],
  ['cpusetMems', 'cpuset', `cpuset ${NO_CGROUP}. Cpuset discarded.`],
  ['blkioWeight', 'blkioWeight', `Block I/O weight ${NO_CGROUP}. Weight discarded.`],
  ['blkioWeightDevices', 'blkioWeightDevice', `Block I/O weight_device ${NO_CGROUP}. Weight-device discarded.`],
  ['blkioReadBps', 'blkioReadBps', `BPS Block I/O read limit ${NO_CGROUP}. Block I/O BPS read limit discarded.`],
  ['blkioWriteBps', 'blkioWriteBps', `BPS Block I/O write limit ${NO_CGROUP}. Block I/O BPS write limit discarded.`],
  ['blkioReadIops', 'blkioReadIops', `IOPS Block read limit ${NO_CGROUP}. Block I/O IOPS read limit discarded.`],
  ['blkioWriteIops', 'blkioWriteIops', `IOPS Block write limit ${NO_CGROUP}. Block I/O IOPS write limit discarded.`],
];

/**
 * Checks limits in Docker's words and leaves out what this kernel cannot do.
 * @param update swap may be set without memory, as memory was set before.
 * @throws ShoalError InvalidArgument
 */
export function verifyLimits(wanted: ResourceLimits, info: SysInfo, update = false): VerifiedLimits {
  const limits: ResourceLimits = { ...wanted };
  const warnings = new Set<string>();
  verifyMemory(limits, info, warnings, update);
  verifyCpu(limits, info);
  for (const [field, fact, words] of DISCARDED) {
    const value = limits[field];
    if (value === undefined || info[fact] === true) continue;
    // Nothing is lost when it was not wanted.
    if (value !== false) warnings.add(`Your kernel does not support ${words}`);
    delete limits[field];
  }
  const { memoryBytes = 0, oomKillDisable = false, blkioWeight } = limits;
  if (oomKillDisable && memoryBytes === 0) {
    warnings.add(
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out ' +
        'of resources.',
    );
  }
  verifyList(limits.cpusetCpus, info.cpus, 'cpuset cpus', 'CPUs');
  verifyList(limits.cpusetMems, info.mems, 'cpuset mems', 'memory nodes');
  if (blkioWeight !== undefined && (blkioWeight < 10 || blkioWeight > 1000)) {
    throw invalidArgument('Range of blkio weight is from 10 to 1000');
  }
  const { oomScoreAdj = 0 } = limits;
  if (oomScoreAdj < -1000 || oomScoreAdj > 1000) {
    throw invalidArgument(`Invalid value ${oomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
  return { limits, warnings: [...warnings] };
}

function verifyMemory(limits: ResourceLimits, info: SysInfo, warnings: Set<string>, update: boolean): void {
  const lost = `capabilities ${NO_CGROUP}.`;
  const { memoryBytes = 0, memoryReservationBytes = 0, memorySwappiness: swappiness } = limits;
  if (memoryBytes !== 0 && memoryBytes < MEMORY_MIN_BYTES) {
    throw invalidArgument('Minimum memory limit allowed is 6MB');
  }
  if (memoryBytes > 0 && !info.memoryLimit) {
    warnings.add(`Your kernel does not support memory limit ${lost} Limitation discarded.`);
    delete limits.memoryBytes;
    limits.memorySwapBytes = -1;
    return;
  }
  if (memoryBytes > 0 && limits.memorySwapBytes !== -1 && !info.swapLimit) {
    warnings.add(`Your kernel does not support swap limit ${lost} Memory limited without swap.`);
    limits.memorySwapBytes = -1;
  }
  const { memorySwapBytes = 0 } = limits;
  if (memoryBytes > 0 && memorySwapBytes > 0 && memorySwapBytes < memoryBytes) {
    throw invalidArgument('Minimum memoryswap limit should be larger than memory limit, see usage');
  }
  if (memoryBytes === 0 && memorySwapBytes > 0 && !update) {
    throw invalidArgument('You should always set the Memory limit when using Memoryswap limit, see usage');
  }
  if (swappiness !== undefined && (swappiness < 0 || swappiness > 100)) {
    throw invalidArgument(`Invalid value: ${swappiness}, valid memory swappiness range is 0-100`);
  }
  if (memoryReservationBytes > 0 && memoryReservationBytes < MEMORY_MIN_BYTES) {
    throw invalidArgument('Minimum memory reservation allowed is 6MB');
  }
  if (memoryBytes > 0 && memoryReservationBytes > memoryBytes) {
    throw invalidArgument('Minimum memory limit can not be less than memory reservation limit, see usage');
  }
}

function verifyCpu(limits: ResourceLimits, info: SysInfo): void {
  const { nanoCpus = 0, cpuPeriodUs = 0, cpuQuotaUs = 0, cpuShares = 0 } = limits;
  const { cpuRealtimePeriodUs = 0, cpuRealtimeRuntimeUs = 0 } = limits;
  if (nanoCpus > 0 && cpuPeriodUs > 0) {
    throw invalidArgument('Conflicting options: Nano CPUs and CPU Period cannot both be set');
  }
  if (nanoCpus > 0 && cpuQuotaUs > 0) {
    throw invalidArgument('Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  }
  const cpus = availableParallelism();
  if (nanoCpus < 0 || nanoCpus > cpus * NANO_PER_CPU) {
    throw invalidArgument(`range of CPUs is from 0.01 to ${cpus.toFixed(2)}, as there are only ${cpus} CPUs available`);
  }
  if (nanoCpus > 0 && !info.cpuCfs) {
    throw invalidArgument(
      'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
    );
  }
  if (cpuShares < 0) throw invalidArgument(`invalid CPU shares (${cpuShares}): value must be a positive integer`);
  if (cpuPeriodUs !== 0 && (cpuPeriodUs < PERIOD_MIN_US || cpuPeriodUs > PERIOD_MAX_US)) {
    throw invalidArgument('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)');
  }
  if (cpuQuotaUs > 0 && cpuQuotaUs < PERIOD_MIN_US) {
    throw invalidArgument('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  }
  if ((cpuRealtimePeriodUs !== 0 || cpuRealtimeRuntimeUs !== 0) && !info.cpuRealtime) {
    throw invalidArgument('kernel does not support CPU real-time scheduler');
  }
  if (cpuRealtimePeriodUs !== 0 && cpuRealtimeRuntimeUs > cpuRealtimePeriodUs) {
    throw invalidArgument('cpu real-time runtime cannot be higher than cpu real-time period');
  }
}

/** Numbers of a list as `0-3,7`; undefined when it is no such list. */
function listNumbers(text: string): number[] | undefined {
  const numbers: number[] = [];
  for (const part of text.split(',')) {
    const form = /^\s*(\d{1,6})(?:-(\d{1,6}))?\s*$/.exec(part);
    const [first, last] = [Number(form?.[1]), Number(form?.[2] ?? form?.[1])];
    if (form === null || last < first || last > CPUS_MAX) return undefined;
    for (let number = first; number <= last; number++) numbers.push(number);
  }
  return numbers;
}

function verifyList(wanted: string | undefined, available: string, option: string, what: string): void {
  if (wanted === undefined) return;
  const numbers = listNumbers(wanted);
  if (numbers === undefined) throw invalidArgument(`Invalid value ${wanted} for ${option}`);
  const usable = new Set(listNumbers(available));
  if (available === '' || numbers.every((number) => usable.has(number))) return;
  throw invalidArgument(`Requested ${what} are not available - requested ${wanted}, available: ${available}`);
}
