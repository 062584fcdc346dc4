/** What the benchmark and the processes that hold its agents say to each other. */

/** Orders to a process of agents. */
export type HostOrder =
  | {
      order: 'join';
      /** Where certificates are asked for, `host:port`. */
      manager: string;
      token: string;
      /** PEM of the cluster's root. */
      rootCa: string;
      agents: number;
      /** Number of this process's first agent, over all processes. */
      first: number;
      /** Time that a container takes to start, ms. */
      startMs: number;
      /** Agents of one process that join, and later connect, at the same time. */
      atOnce: number;
    }
  /** Agents connect to these in turns. */
  | { order: 'connect'; managers: string[] }
  | { order: 'stop' };

/** State of a process of agents, told several times a second. */
export interface HostReport {
  joined: number;
  /** Agents whose session, heartbeats and assignments stand. */
  connected: number;
  /** Sessions that ended since the start: a node has left READY, or its connection broke. */
  sessionsLost: number;
  /** Tasks given to the agents. */
  assigned: number;
  /** Tasks whose RUNNING the leader has acknowledged, which it does once that is committed. */
  running: number;
  reports: number;
  messages: number;
  heartbeats: number;
  /** Longest time from a heartbeat to its answer, ms. */
  heartbeatMaxMs: number;
  /** Heartbeats whose answer took longer than a second. */
  heartbeatsSlow: number;
  errors: string[];
}
