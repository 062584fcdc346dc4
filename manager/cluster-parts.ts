import type { Consensus } from './consensus.ts';
import type { MemberList } from './membership/index.ts';
import type { ReplicatedStore } from './store/store.ts';

/** The parts that know the state of the cluster. */
export interface ClusterParts {
  readonly store: ReplicatedStore;
  readonly members: MemberList;
  /** Undefined until it is started. */
  consensus(): Consensus | undefined;
}
