/** What the benchmark and its member processes say to each other over the channel of the fork. */

export interface MemberSettings {
  id: number;
  dir: string;
  /** `host:port` for the other members. */
  raftAddress: string;
  /** `host:port` for clients. */
  clientAddress: string;
  /** `host:port` for clients that are served through grpc-js; none when absent. */
  libraryAddress?: string;
  /** The other members, which a new one cannot know from its log yet. */
  peers: { id: number; address: string }[];
  /** The first member of the group, when its log is empty. */
  bootstrap: boolean;
  /** False: the state machine only counts. */
  keepValues: boolean;
  /** Defaults of RaftNode where not given. */
  electionTicks?: number;
  snapshotEntries?: number;
  keepEntries?: number;
}

export interface MemberStatus {
  leaderId: number;
  term: number;
  role: string;
  commit: number;
  applied: number;
  voters: number[];
}

/** After a garbage collection when the process has `--expose-gc`. */
export interface MemberMemory {
  rssBytes: number;
  heapBytes: number;
  externalBytes: number;
}

export type MemberQuestion = { number: number } & (
  | { kind: 'status' }
  | { kind: 'memory' }
  | { kind: 'add'; id: number; address: string }
  | { kind: 'stall'; ms: number }
  | { kind: 'transfer'; to: number }
);

export type MemberAnswer =
  | { ready: true; startMs: number; applied: number }
  | { number: number; value: unknown }
  | { number: number; error: string };
