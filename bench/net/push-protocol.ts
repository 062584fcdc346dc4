/** What the part `push` and the process that holds its agents say to each other. */

/** Name of the network whose tables are followed. */
export const NETWORK_NAME = 'push';

export type PushOrder =
  | { order: 'connect'; manager: string; token: string; rootCa: string; agents: number }
  /** All tasks that the agents hold become RUNNING at once: so many endpoints change. */
  | { order: 'run'; endpoints: number }
  | { order: 'stop' };

/** One burst of changes, from the agents' reports to the last table. */
export interface PushRun {
  endpoints: number;
  /** Until the last agent had received the table with all changes. */
  seconds: number;
  /** Until the last report was committed and acknowledged. */
  committedSeconds: number;
  /** Tables that agents got meanwhile: together, those of the agent that got most, and how many said only what changed. */
  tables: number;
  tablesMost: number;
  deltas: number;
  /** Of all messages of assignments meanwhile. */
  bytes: number;
}

export type PushReport =
  | { state: 'connected' }
  /** Tasks that the agents hold, and whether the managers know their states; told several times a second. */
  | { state: 'holding'; tasks: number; settled: boolean }
  | { state: 'pushed'; run: PushRun }
  | { state: 'failed'; words: string };
