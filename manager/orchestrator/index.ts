import type { LeaderDuty } from '../store/types.ts';
import { createAutoscaler } from './autoscale-duty.ts';
import { createConstraintEnforcer } from './constraint-enforcer.ts';
import type { OrchestratorDeps } from './driver.ts';
import { createDependencies } from './dependencies.ts';
import { createGlobalOrchestrator } from './global.ts';
import { createJobsOrchestrator } from './jobs.ts';
import { createNodeTasks } from './node-tasks.ts';
import { createTaskReaper } from './reaper.ts';
import { createReplicatedOrchestrator } from './replicated.ts';

export { dependencyWait } from './dependencies.ts';
export { crashLoopWait } from './restart.ts';
export { average } from './autoscale.ts';
export { autoscaleOf, keepReplicas, statusAfterChange } from './autoscale-duty.ts';
export { useOfService } from './autoscale-use.ts';
export type { OrchestratorDeps } from './driver.ts';
export { reason } from './reasons.ts';
export { calledOff, isWanted } from './service-view.ts';

/** Everything of this room that the leader runs: services of every mode, restarts, updates, and the clearing up. */
export function orchestratorDuties(deps: OrchestratorDeps): LeaderDuty[] {
  return [
    createReplicatedOrchestrator(deps),
    createGlobalOrchestrator(deps),
    createJobsOrchestrator(deps),
    createDependencies(deps),
    createNodeTasks(deps),
    createConstraintEnforcer(deps),
    createAutoscaler(deps),
    createTaskReaper(deps),
  ];
}
