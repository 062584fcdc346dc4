import type { Clock, Logger, Random } from '../../base/index.ts';
import type {
  ControlService,
  ManagerStatus,
  PlanRequest,
  PlanResponse,
  RequestOf,
  ResponseOf,
} from '../../proto/index.ts';
import type { UsageSource } from '../dispatcher/index.ts';
import type { Store } from '../store/types.ts';

type Methods = typeof ControlService;

/** Every method of the Control service. Each rejects with a ShoalError whose message is fit for users. */
export type Control = {
  readonly [Name in keyof Methods]: (request: RequestOf<Methods[Name]>) => Promise<ResponseOf<Methods[Name]>>;
};

/** What is asked of the raft membership. */
export interface MembershipPort {
  /** Live status of a manager; null for a node that is no member of the raft group. */
  managerStatus(nodeId: string): ManagerStatus | null;
  /** Whether the group keeps its quorum without this member. */
  canRemove(nodeId: string): boolean;
}

/** Finds out what a change would do. */
export type Planner = (request: PlanRequest) => Promise<PlanResponse>;

export interface ControlOptions {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Absent: what stands in the node objects counts, and no quorum is checked. */
  membership?: MembershipPort;
  /** Absent: plans are refused. */
  planner?: Planner;
  /** What tasks use; absent: nothing is known. */
  usage?: UsageSource;
}
