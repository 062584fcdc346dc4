import type { ContainerConfig, ResourceLimits } from './container-config.ts';

/** Limits that may be changed while a container exists; what is left out stays. */
export type LimitChange = Pick<
  ResourceLimits,
  'memoryBytes' | 'memorySwapBytes' | 'memoryReservationBytes' | 'nanoCpus' | 'cpuShares' | 'cpusetCpus' | 'pidsLimit'
> & {
  cpusetMems?: string;
  /** CPU time in each period, and the period, µs. */
  cpuQuotaUs?: number;
  cpuPeriodUs?: number;
  cpuRealtimePeriodUs?: number;
  cpuRealtimeRuntimeUs?: number;
  /** 10 to 1000. */
  blkioWeight?: number;
};

export interface ContainerChange {
  limits: LimitChange;
  restart?: ContainerConfig['restart'];
}

/** What `ps` shows of the processes of one container. */
export interface ProcessTable {
  titles: string[];
  processes: string[][];
}

/** Bytes and operations of one block device. */
export interface BlockDeviceUse {
  major: number;
  minor: number;
  /** As the kernel names it, in lower case: read, write, sync, async, discard, total. */
  operation: string;
  value: number;
}

export interface InterfaceUse {
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

/** One reading of all that a running container uses. Counters count from its start. */
export interface ContainerStats {
  /** Wall-clock time of the reading, ms. */
  readMs: number;
  cpu: {
    totalNs: number;
    userNs: number;
    kernelNs: number;
    /** Per processor; undefined where the kernel does not tell (cgroup v2). */
    perCpuNs?: number[];
    /** Time of all processors of the host, idle time included, ns. */
    systemNs: number;
    onlineCpus: number;
    periods: number;
    throttledPeriods: number;
    throttledNs: number;
  };
  memory: {
    usageBytes: number;
    /** Most that was used at once; undefined on cgroup v2. */
    maxUsageBytes?: number;
    /** How often the limit was hit; undefined on cgroup v2. */
    failures?: number;
    limitBytes: number;
    /** Lines of the kernel's memory.stat. */
    stats: Readonly<Record<string, number>>;
  };
  pids: { current: number; limit?: number };
  blockBytes: readonly BlockDeviceUse[];
  blockOperations: readonly BlockDeviceUse[];
  /** By interface; undefined for a container in the host's namespace. */
  networks?: Readonly<Record<string, InterfaceUse>>;
}

/** One line of a stream of statistics; `stats` is missing while the container does not run. */
export interface StatsSample {
  id: string;
  name: string;
  stats?: ContainerStats;
  /** The reading before; missing at first. */
  before?: ContainerStats;
}

export interface PruneRequest {
  /** Only what was created before, ms since the epoch. */
  untilMs?: number;
  /** Whether labels are among those to be removed. */
  wanted: (labels: Readonly<Record<string, string>>) => boolean;
}

/** What is done to containers that exist, beside start, stop and removal. */
export interface ContainerControl {
  /** @throws ShoalError Conflict when it does not run or is paused, Unavailable when the kernel does not freeze it. */
  pause(reference: string): Promise<void>;
  unpause(reference: string): Promise<void>;
  restart(reference: string, options: { signal?: string; graceMs?: number }): Promise<void>;
  /** @throws ShoalError Conflict for a taken name, InvalidArgument. */
  rename(reference: string, name: string): Promise<void>;
  /** @returns warnings. @throws ShoalError InvalidArgument or Conflict in Docker's words; nothing has changed then. */
  update(reference: string, change: ContainerChange): Promise<string[]>;
  /** @param psArgs arguments of ps(1), as one text. */
  top(reference: string, psArgs: string): Promise<ProcessTable>;
  /** One reading now. */
  statsOnce(reference: string): StatsSample;
  /** A reading each second until `signal` aborts or the container is removed. */
  stats(reference: string, signal: AbortSignal): AsyncIterable<StatsSample>;
  /** Takes away a legacy link: `/parent/alias`. @throws ShoalError NotFound, Conflict. */
  removeLink(path: string): Promise<void>;
  /** Tells by an event that unused networks have been removed: the networks themselves know of no such command. */
  networksPruned(): void;
  /** Removes containers that do not run. @throws ShoalError Conflict while another prune is under way. */
  prune(request: PruneRequest): Promise<{ removed: string[]; reclaimedBytes: number }>;
}
