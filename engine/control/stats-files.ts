import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import type { CgroupLayout } from '../runtime/cgroup-layout.ts';
import type { BlockDeviceUse, ContainerStats, InterfaceUse } from '../types.ts';

const NS_PER_US = 1000;
/** USER_HZ: the unit of /proc/stat and cpuacct.stat is a hundredth of a second on every Linux that Node runs on. */
const NS_PER_TICK = 1e7;

/** Taken by one file after the other: they are read at once, and made into text before the next. */
const buffer = Buffer.allocUnsafe(64 * 1024);
const GONE: readonly (string | undefined)[] = ['ENOENT', 'ENODEV', 'EOPNOTSUPP', 'ESRCH', 'EINVAL'];

/** The text of a kernel file; empty when the group is gone or has no such file. Three system calls, no new buffer. */
function read(directory: string | undefined, file: string): string {
  if (directory === undefined) return '';
  let fd: number | undefined;
  try {
    fd = openSync(`${directory}/${file}`, 'r');
    let length = 0;
    for (let got = -1; got !== 0 && length < buffer.length; length += got) {
      got = readSync(fd, buffer, length, buffer.length - length, null);
    }
    return buffer.toString('latin1', 0, length);
  } catch (error) {
    if (GONE.includes((error as NodeJS.ErrnoException).code)) return '';
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Lines `name number`. */
function keyed(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const at = line.indexOf(' ');
    if (at > 0) found[line.slice(0, at)] = Number(line.slice(at + 1));
  }
  return found;
}

type Directory = (controller: string) => string | undefined;

function cpuOf(of: Directory, v2: string | undefined): Omit<ContainerStats['cpu'], 'systemNs' | 'onlineCpus'> {
  const accounting = of('cpuacct');
  if (accounting === undefined) {
    const stat = keyed(read(v2, 'cpu.stat'));
    return {
      totalNs: (stat['usage_usec'] ?? 0) * NS_PER_US,
      userNs: (stat['user_usec'] ?? 0) * NS_PER_US,
      kernelNs: (stat['system_usec'] ?? 0) * NS_PER_US,
      periods: stat['nr_periods'] ?? 0,
      throttledPeriods: stat['nr_throttled'] ?? 0,
      throttledNs: (stat['throttled_usec'] ?? 0) * NS_PER_US,
    };
  }
  const ticks = keyed(read(accounting, 'cpuacct.stat'));
  const throttling = keyed(read(of('cpu'), 'cpu.stat'));
  const perCpu = read(accounting, 'cpuacct.usage_percpu').trim();
  return {
    totalNs: Number(read(accounting, 'cpuacct.usage')),
    userNs: (ticks['user'] ?? 0) * NS_PER_TICK,
    kernelNs: (ticks['system'] ?? 0) * NS_PER_TICK,
    ...(perCpu === '' ? {} : { perCpuNs: perCpu.split(/\s+/).map(Number) }),
    periods: throttling['nr_periods'] ?? 0,
    throttledPeriods: throttling['nr_throttled'] ?? 0,
    throttledNs: throttling['throttled_time'] ?? 0,
  };
}

function memoryOf(of: Directory, v2: string | undefined): ContainerStats['memory'] {
  const v1 = of('memory');
  const host = totalmem();
  const directory = v1 ?? v2;
  const limitText = read(directory, v1 === undefined ? 'memory.max' : 'memory.limit_in_bytes').trim();
  const limit = limitText === 'max' || limitText === '' ? host : Number(limitText);
  return {
    usageBytes: Number(read(directory, v1 === undefined ? 'memory.current' : 'memory.usage_in_bytes')),
    ...(v1 === undefined
      ? {}
      : {
          maxUsageBytes: Number(read(v1, 'memory.max_usage_in_bytes')),
          failures: Number(read(v1, 'memory.failcnt')),
        }),
    // A limit above what there is limits nothing.
    limitBytes: Math.min(limit, host),
    stats: keyed(read(directory, 'memory.stat')),
  };
}

function pidsOf(directory: string | undefined): ContainerStats['pids'] {
  const limit = read(directory, 'pids.max').trim();
  const current = Number(read(directory, 'pids.current'));
  return limit === '' || limit === 'max' ? { current } : { current, limit: Number(limit) };
}

/** cgroup v1: lines `8:0 Read 4096`, and a total without a device. */
function blockV1(text: string): BlockDeviceUse[] {
  return text.split('\n').flatMap((line) => {
    const [device = '', operation = '', value] = line.split(' ');
    const [major, minor] = device.split(':').map(Number);
    if (value === undefined || major === undefined || minor === undefined) return [];
    return [{ major, minor, operation, value: Number(value) }];
  });
}

/** cgroup v2: lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`. */
function blockV2(text: string, reads: string, writes: string): BlockDeviceUse[] {
  return text.split('\n').flatMap((line) => {
    const [device = '', ...pairs] = line.split(' ');
    const [major, minor] = device.split(':').map(Number);
    if (major === undefined || minor === undefined || pairs.length === 0) return [];
    const fields = Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string]));
    return [
      { major, minor, operation: 'read', value: Number(fields[reads] ?? 0) },
      { major, minor, operation: 'write', value: Number(fields[writes] ?? 0) },
    ];
  });
}

function blockOf(of: Directory, v2: string | undefined): Pick<ContainerStats, 'blockBytes' | 'blockOperations'> {
  const v1 = of('blkio');
  if (v1 === undefined) {
    const text = read(v2, 'io.stat');
    return { blockBytes: blockV2(text, 'rbytes', 'wbytes'), blockOperations: blockV2(text, 'rios', 'wios') };
  }
  // A scheduler that shares by weight has its own counters; without one only those of throttling count.
  const either = (name: string): BlockDeviceUse[] => {
    // Looked for first: an error costs more than all else here.
    const own = existsSync(`${v1}/blkio.${name}`) ? blockV1(read(v1, `blkio.${name}`)) : [];
    return own.length > 0 ? own : blockV1(read(v1, `blkio.throttle.${name}`));
  };
  return { blockBytes: either('io_service_bytes_recursive'), blockOperations: either('io_serviced_recursive') };
}

/** Interfaces of the network namespace of a process, but for loopback (proc(5), /proc/pid/net/dev). */
export function parseNetDev(text: string): Record<string, InterfaceUse> {
  const found: Record<string, InterfaceUse> = {};
  for (const line of text.split('\n').slice(2)) {
    const at = line.indexOf(':');
    const name = line.slice(0, at).trim();
    if (at === -1 || name === 'lo') continue;
    const n = line
      .slice(at + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    const [rxBytes = 0, rxPackets = 0, rxErrors = 0, rxDropped = 0] = n;
    const [txBytes = 0, txPackets = 0, txErrors = 0, txDropped = 0] = n.slice(8);
    found[name] = { rxBytes, rxPackets, rxErrors, rxDropped, txBytes, txPackets, txErrors, txDropped };
  }
  return found;
}

/** Time of all processors since the boot, ns, as dockerd counts it: idle time included. */
export function systemNs(text = readFileSync('/proc/stat', 'latin1')): number {
  const line = text.slice(0, text.indexOf('\n')).trim().split(/\s+/);
  return line.slice(1, 8).reduce((sum, ticks) => sum + Number(ticks), 0) * NS_PER_TICK;
}

/**
 * Reads all that a container uses, from small kernel files in memory: at once, without a thread.
 * @param pid of a process of it, for its network namespace; undefined when that is the host's.
 */
export function readStats(
  layout: CgroupLayout,
  path: string,
  pid: number | undefined,
  now: { readMs: number; systemNs: number },
): ContainerStats {
  const of: Directory = (controller) => {
    const tree = layout.controllers.get(controller);
    return tree === undefined ? undefined : join(tree, path);
  };
  const v2 = layout.unified === undefined ? undefined : join(layout.unified, path);
  return {
    readMs: now.readMs,
    cpu: { ...cpuOf(of, v2), systemNs: now.systemNs, onlineCpus: availableParallelism() },
    memory: memoryOf(of, v2),
    pids: pidsOf(of('pids') ?? v2),
    ...blockOf(of, v2),
    ...(pid === undefined ? {} : { networks: parseNetDev(read(`/proc/${pid}/net`, 'dev')) }),
  };
}
