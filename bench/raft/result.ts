import type { CalmResult, KillResult } from './elections.ts';
import type { FootprintResult } from './footprint.ts';
import type { ThroughputResult } from './throughput.ts';

/** What is stored; a part that was not asked for keeps what an earlier run stored. */
export interface RaftResult {
  benchmark: 'raft';
  machine: {
    cpu: string;
    cpus: number;
    memoryBytes: number;
    kernel: string;
    system: string;
    syncMedianMs: number;
  };
  what: string;
  etcdVersion: string | null;
  throughput: (ThroughputResult & Stamp) | null;
  elections:
    | ({
        shoal: KillResult;
        etcd: KillResult | null;
        calm: CalmResult[];
      } & Stamp)
    | null;
  footprint: (FootprintResult & Stamp) | null;
}

export interface Stamp {
  date: string;
  /** Load average of the last minute before: what else ran on the machine. */
  loadBefore: number;
}
