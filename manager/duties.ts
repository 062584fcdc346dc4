import type { Clock, Logger, Random } from '../base/index.ts';
import { orchestratorDuties } from './orchestrator/index.ts';
import type { LeaderDuty, Store } from './store/types.ts';

export interface DutyDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** The duties that bring the cluster to its desired state: allocation, orchestration, placement. */
export function createDuties(deps: DutyDeps): LeaderDuty[] {
  const named = (component: string): DutyDeps => ({ ...deps, log: deps.log.with({ component }) });
  return [...orchestratorDuties(named('orchestrator'))];
}
