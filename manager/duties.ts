import type { Clock, Logger, Random } from '../base/index.ts';
import { createAllocator } from './allocator/index.ts';
import type { UsageSource } from './dispatcher/index.ts';
import { orchestratorDuties } from './orchestrator/index.ts';
import { createPlacement } from './placement.ts';
import type { LeaderDuty, Store } from './store/types.ts';

export interface DutyDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  /** What tasks use. */
  usage?: UsageSource | undefined;
}

/** The duties that bring the cluster to its desired state: allocation, orchestration, placement. */
export function createDuties(deps: DutyDeps): LeaderDuty[] {
  const named = (component: string): DutyDeps => ({ ...deps, log: deps.log.with({ component }) });
  return [
    createAllocator(named('allocator')),
    ...orchestratorDuties(named('orchestrator')),
    createPlacement(named('scheduler')),
  ];
}
