import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupLayout } from './cgroups.ts';

/** What this kernel and its control groups can limit. */
export interface SysInfo {
  memoryLimit: boolean;
  swapLimit: boolean;
  memoryReservation: boolean;
  memorySwappiness: boolean;
  oomKillDisable: boolean;
  cpuShares: boolean;
  cpuCfs: boolean;
  cpuRealtime: boolean;
  cpuset: boolean;
  /** Lists as `0-3`; empty when unknown. */
  cpus: string;
  mems: string;
  blkioWeight: boolean;
  blkioWeightDevice: boolean;
  blkioReadBps: boolean;
  blkioWriteBps: boolean;
  blkioReadIops: boolean;
  blkioWriteIops: boolean;
  pidsLimit: boolean;
  cgroupNamespaces: boolean;
  ipv4Forwarding: boolean;
  appArmor: boolean;
  /** Control groups are v2 alone. */
  unified: boolean;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

type Limits = Omit<SysInfo, 'cgroupNamespaces' | 'ipv4Forwarding' | 'appArmor' | 'unified'>;

function limitsV1({ controllers }: CgroupLayout): Limits {
  const has = (controller: string, file: string): boolean => {
    const at = controllers.get(controller);
    return at !== undefined && existsSync(join(at, file));
  };
  const cpuset = controllers.get('cpuset');
  return {
    memoryLimit: has('memory', 'memory.limit_in_bytes'),
    swapLimit: has('memory', 'memory.memsw.limit_in_bytes'),
    memoryReservation: has('memory', 'memory.soft_limit_in_bytes'),
    memorySwappiness: has('memory', 'memory.swappiness'),
    oomKillDisable: has('memory', 'memory.oom_control'),
    cpuShares: has('cpu', 'cpu.shares'),
    cpuCfs: has('cpu', 'cpu.cfs_quota_us'),
    cpuRealtime: has('cpu', 'cpu.rt_period_us'),
    cpuset: cpuset !== undefined,
    cpus: cpuset === undefined ? '' : textOf(join(cpuset, 'cpuset.cpus')),
    mems: cpuset === undefined ? '' : textOf(join(cpuset, 'cpuset.mems')),
    blkioWeight: has('blkio', 'blkio.weight') || has('blkio', 'blkio.bfq.weight'),
    blkioWeightDevice: has('blkio', 'blkio.weight_device') || has('blkio', 'blkio.bfq.weight_device'),
    blkioReadBps: has('blkio', 'blkio.throttle.read_bps_device'),
    blkioWriteBps: has('blkio', 'blkio.throttle.write_bps_device'),
    blkioReadIops: has('blkio', 'blkio.throttle.read_iops_device'),
    blkioWriteIops: has('blkio', 'blkio.throttle.write_iops_device'),
    pidsLimit: controllers.has('pids'),
  };
}

/** Controllers of the root, and files that only groups below it have. */
function limitsV2(root: string): Limits {
  const controllers = textOf(join(root, 'cgroup.controllers')).split(/\s+/);
  const [memory, cpu, io, cpuset] = ['memory', 'cpu', 'io', 'cpuset'].map((name) => controllers.includes(name));
  const weight = io === true && anyGroupHas(root, ['io.weight', 'io.bfq.weight']);
  const throttle = io === true;
  return {
    memoryLimit: memory === true,
    swapLimit: memory === true && anyGroupHas(root, ['memory.swap.max']),
    memoryReservation: memory === true,
    memorySwappiness: false,
    oomKillDisable: false,
    cpuShares: cpu === true,
    cpuCfs: cpu === true,
    cpuRealtime: false,
    cpuset: cpuset === true,
    cpus: textOf(join(root, 'cpuset.cpus.effective')),
    mems: textOf(join(root, 'cpuset.mems.effective')),
    blkioWeight: weight,
    blkioWeightDevice: weight,
    blkioReadBps: throttle,
    blkioWriteBps: throttle,
    blkioReadIops: throttle,
    blkioWriteIops: throttle,
    pidsLimit: controllers.includes('pids'),
  };
}

function anyGroupHas(root: string, files: readonly string[]): boolean {
  try {
    const groups = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    // With no group yet there is nothing to look at: the kernel has these files unless it was told otherwise.
    return groups.length === 0 || groups.some(({ name }) => files.some((file) => existsSync(join(root, name, file))));
  } catch {
    return false;
  }
}

/** Looks at the kernel once. */
export function readSysInfo(layout: CgroupLayout): SysInfo {
  const unified = layout.version === 'v2';
  return {
    ...(unified ? limitsV2(layout.unified ?? '/sys/fs/cgroup') : limitsV1(layout)),
    cgroupNamespaces: existsSync('/proc/self/ns/cgroup'),
    ipv4Forwarding: textOf('/proc/sys/net/ipv4/ip_forward') !== '0',
    appArmor: textOf('/sys/module/apparmor/parameters/enabled') === 'Y',
    unified,
  };
}
