import { formatDuration } from '../../base/index.ts';
import { CronRun, timestampFromMs, type Service } from '../../proto/index.ts';
import {
  bounded,
  dueAtMs,
  jobStatus,
  latestDueMs,
  nextScheduled,
  runDue,
  scheduleText,
  withCron,
  withSkipped,
  workingRuns,
  type Cron,
} from './cron-runs.ts';
import { isOver, presentIteration, progressOf, runOf, type Progress } from './progress.ts';
import type { ServiceState } from './service-view.ts';

/** "2 of 3 tasks failed for good: task: non-zero exit (1)". */
export function failureText({ failed, total, err }: Progress): string {
  return `${failed} of ${total} tasks failed for good${err === '' ? '' : `: ${err}`}`;
}

/** A job that only just runs by the clock: it waits for its first time. A run that is at work goes on to its end. */
function initial(state: ServiceState, cron: Cron): Service {
  const iteration = presentIteration(state);
  const runs = [];
  if (runOf(state, iteration).tasks.length > 0) {
    const scheduled = state.service.job_status?.last_execution ?? timestampFromMs(state.nowMs);
    runs.push(CronRun.create({ job_iteration: iteration, scheduled, outcome: 'running' }));
  }
  const next_scheduled = nextScheduled(cron, state.nowMs);
  return withCron(state.service, { runs, next_scheduled, schedule: scheduleText(cron) });
}

/** Notes the end of runs that have come to it. */
function withEnds(state: ServiceState, service: Service): Service {
  let next = service;
  for (const run of workingRuns(service)) {
    const progress = progressOf(runOf(state, run.job_iteration));
    if (!isOver(progress)) continue;
    const succeeded = progress.failed === 0;
    const message = succeeded ? '' : failureText(progress);
    const finished = timestampFromMs(state.nowMs);
    const ended = { ...run, finished, message, outcome: succeeded ? 'complete' : 'failed' };
    const runs = (next.cron?.runs ?? []).map((one) =>
      one.job_iteration === run.job_iteration && one.outcome === 'running' ? ended : one,
    );
    const text = succeeded ? `run ${run.job_iteration} complete` : `run ${run.job_iteration}: ${message}`;
    next = { ...withCron(next, { runs }), update_status: jobStatus(succeeded, text, state.nowMs) };
  }
  return next;
}

/** Begins what is due. Of several times that were missed the latest counts, if it is young enough; never a burst. */
function withDue(state: ServiceState, service: Service, cron: Cron): Service {
  const { nowMs } = state;
  const dueMs = dueAtMs(service);
  if (dueMs === undefined || dueMs > nowMs) return service;
  const latestMs = latestDueMs(cron, dueMs, nowMs);
  const missed = `nothing ran at ${new Date(dueMs).toISOString()}: no manager led the swarm then`;
  const next =
    latestMs === undefined
      ? withSkipped(
          service,
          cron,
          dueMs,
          nowMs,
          `missed by ${formatDuration(Math.floor((nowMs - dueMs) / 1000) * 1e9)}`,
        )
      : runDue(service, cron, latestMs, nowMs);
  const message = latestMs === dueMs ? '' : missed;
  const last_scheduled = timestampFromMs(latestMs ?? dueMs);
  return withCron(next, { next_scheduled: nextScheduled(cron, nowMs), last_scheduled, message });
}

/**
 * The service of a job that runs by the clock as it should be stored now: a run begun, ended or passed over, the next
 * time known. The same object when there is nothing to write. Pure.
 */
export function planCron(state: ServiceState, cron: Cron): Service {
  const { service, nowMs } = state;
  if (service.cron === null) return initial(state, cron);
  let next = withEnds(state, service);
  if (service.cron.schedule !== scheduleText(cron)) {
    next = withCron(next, { next_scheduled: nextScheduled(cron, nowMs), schedule: scheduleText(cron), message: '' });
  }
  next = withDue(state, next, cron);
  const runs = next.cron?.runs ?? [];
  const kept = bounded(runs, cron.history);
  return kept.length === runs.length ? next : withCron(next, { runs: kept });
}
