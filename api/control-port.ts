/* What the routes need to control containers that exist. Structural, as ports.ts. */

export interface LimitChangeFacts {
  memoryBytes?: number;
  memorySwapBytes?: number;
  memoryReservationBytes?: number;
  nanoCpus?: number;
  cpuShares?: number;
  cpuQuotaUs?: number;
  cpuPeriodUs?: number;
  cpuRealtimePeriodUs?: number;
  cpuRealtimeRuntimeUs?: number;
  cpusetCpus?: string;
  cpusetMems?: string;
  blkioWeight?: number;
  pidsLimit?: number;
}

export interface ContainerChangeFacts {
  limits: LimitChangeFacts;
  restart?: { name: 'no' | 'always' | 'unless-stopped' | 'on-failure'; maximumRetryCount: number };
}

export interface BlockUseFacts {
  major: number;
  minor: number;
  operation: string;
  value: number;
}

export interface InterfaceUseFacts {
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

export interface ContainerStatsFacts {
  readMs: number;
  cpu: {
    totalNs: number;
    userNs: number;
    kernelNs: number;
    perCpuNs?: number[];
    systemNs: number;
    onlineCpus: number;
    periods: number;
    throttledPeriods: number;
    throttledNs: number;
  };
  memory: {
    usageBytes: number;
    maxUsageBytes?: number;
    failures?: number;
    limitBytes: number;
    stats: Readonly<Record<string, number>>;
  };
  pids: { current: number; limit?: number };
  blockBytes: readonly BlockUseFacts[];
  blockOperations: readonly BlockUseFacts[];
  networks?: Readonly<Record<string, InterfaceUseFacts>>;
}

export interface StatsSampleFacts {
  id: string;
  name: string;
  stats?: ContainerStatsFacts;
  before?: ContainerStatsFacts;
}

export interface ControlPort {
  pause(reference: string): Promise<void>;
  unpause(reference: string): Promise<void>;
  restart(reference: string, options: { signal?: string; graceMs?: number }): Promise<void>;
  rename(reference: string, name: string): Promise<void>;
  /** Resolves with warnings. */
  update(reference: string, change: ContainerChangeFacts): Promise<string[]>;
  top(reference: string, psArgs: string): Promise<{ titles: string[]; processes: string[][] }>;
  statsOnce(reference: string): StatsSampleFacts;
  stats(reference: string, signal: AbortSignal): AsyncIterable<StatsSampleFacts>;
  removeLink(path: string): Promise<void>;
  /** Networks that nobody uses have been removed: told by an event. */
  networksPruned(): void;
  prune(request: {
    untilMs?: number;
    wanted: (labels: Readonly<Record<string, string>>) => boolean;
  }): Promise<{ removed: string[]; reclaimedBytes: number }>;
}
