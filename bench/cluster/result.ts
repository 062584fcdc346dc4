import type { Latency } from './api-probe.ts';
import type { ProcessUse } from './processes.ts';

/** Use of one process during a load. */
export interface LoadUse extends ProcessUse {
  process: string;
  /** Share of one processor. */
  cpuShare: number;
}

/** One load: services created, until the last of their tasks is Running. */
export interface LoadResult {
  what: string;
  tasks: number;
  createSeconds: number;
  seconds: number;
  tasksPerSecond: number;
  api: Latency[];
  uses: LoadUse[];
  heartbeats: number;
  heartbeatMaxMs: number;
  heartbeatsSlow: number;
  sessionsLost: number;
  reports: number;
  messages: number;
}

export interface ClusterResult {
  agents: number;
  spread: boolean;
  atOnce: number;
  startMs: number;
  loadBefore: number;
  joinSeconds: number;
  connectSeconds: number;
  /** Processor time while the nodes joined, and while the agents connected. */
  joining: LoadUse[];
  connecting: LoadUse[];
  /** Share of one processor that each process takes with all agents connected and nothing to do. */
  idle: LoadUse[];
  loads: LoadResult[];
  nodesNotReady: number;
  /** How often each manager's event loop was held up for longer than half an election, as its log says. */
  heldUp: number[];
}
