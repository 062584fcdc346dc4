import type { PeerStatus } from '../raft/index.ts';
import type { Consensus } from './consensus.ts';
import type { MemberList, QuorumWatch } from './membership/index.ts';
import type { ReplicatedStore } from './store/store.ts';

/** The parts that know the state of the cluster. */
export interface ClusterParts {
  readonly store: ReplicatedStore;
  readonly members: MemberList;
  readonly quorum: QuorumWatch;
  /** How the connections to the other managers are; empty until consensus has started. */
  peers(): PeerStatus[];
  /** Undefined until it is started. */
  consensus(): Consensus | undefined;
}
