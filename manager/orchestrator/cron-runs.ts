import { failedPrecondition } from '../../base/index.ts';
import {
  CronRun,
  timestampFromMs,
  timestampToMs,
  UpdateStatus_UpdateState,
  type Service,
  type UpdateStatus,
} from '../../proto/index.ts';
import { nextCron, parseCron, readServiceSettings, type CronSchedule, type CronSettings } from '../settings/index.ts';
import { labelsOf } from './held.ts';
import { isJob } from './service-view.ts';

/** Runs of one job that may be at work at the same time with concurrency `allow`. */
export const RUNS_AT_ONCE_MAX = 20;
/** How late a run may begin, ms, because there was no leader when it was due; later ones are passed over. */
export const LATE_RUN_MAX_MS = 10 * 60_000;

/** When and how a job runs by the clock. */
export interface Cron extends CronSettings {
  parsed: CronSchedule;
}

/** Stored services never change: what was read from one holds for as long as it is the same object. */
const crons = new WeakMap<Service, { cron: Cron | undefined }>();

function readCron(service: Service): Cron | undefined {
  if (labelsOf(service)['shoal.cron'] === undefined || !isJob(service)) return undefined;
  try {
    const settings = readServiceSettings(labelsOf(service)).cron;
    return settings === undefined ? undefined : { ...settings, parsed: parseCron(settings.schedule) };
  } catch {
    // Labels are checked when they are set; these come from a version of Shoal, or of the zones, that knew others.
    return undefined;
  }
}

/** The schedule of a job; undefined for a service that does not run by the clock. */
export function cronOf(service: Service): Cron | undefined {
  let known = crons.get(service);
  if (known === undefined) crons.set(service, (known = { cron: readCron(service) }));
  return known.cron;
}

/** Whether a job has a schedule that nobody here can read: not known any more, or not yet. It must not run as if it had none. */
export function isUnreadable(service: Service): boolean {
  return isJob(service) && labelsOf(service)['shoal.cron'] !== undefined && cronOf(service) === undefined;
}

/** The runs that are at work, oldest first. */
export function workingRuns(service: Service): CronRun[] {
  return (service.cron?.runs ?? []).filter((run) => run.outcome === 'running');
}

/** Drops what is more than the history: finished runs, and apart from them the times that were passed over. */
export function bounded(runs: readonly CronRun[], history: number): CronRun[] {
  const surplus = new Map<boolean, number>();
  const isSkipped = (run: CronRun): boolean => run.outcome === 'skipped';
  for (const skipped of [true, false]) {
    const finished = runs.filter((run) => run.outcome !== 'running' && isSkipped(run) === skipped).length;
    surplus.set(skipped, finished - history);
  }
  return runs.filter((run) => {
    const left = surplus.get(isSkipped(run)) ?? 0;
    if (run.outcome === 'running' || left <= 0) return true;
    surplus.set(isSkipped(run), left - 1);
    return false;
  });
}

/** How a job's own state is told to clients that wait for it: they know `UpdateStatus`, and end on these two. */
export function jobStatus(succeeded: boolean, message: string, nowMs: number): UpdateStatus {
  const { COMPLETED, PAUSED } = UpdateStatus_UpdateState;
  const at = timestampFromMs(nowMs);
  return { state: succeeded ? COMPLETED : PAUSED, started_at: at, completed_at: succeeded ? at : null, message };
}

/** Told of a job that has not run since it was created or changed. */
export function scheduledStatus(cron: CronSettings, nowMs: number): UpdateStatus {
  return jobStatus(true, `runs by the clock: ${cron.schedule} (${cron.timeZone})`, nowMs);
}

/** Why no run may begin now; undefined when one may. */
function obstacle(service: Service, cron: Cron): string | undefined {
  const working = workingRuns(service);
  const [oldest] = working;
  if (oldest === undefined || cron.concurrency === 'replace') return undefined;
  if (cron.concurrency === 'forbid') return `run ${oldest.job_iteration} is still at work`;
  return working.length < RUNS_AT_ONCE_MAX ? undefined : `${working.length} runs are still at work`;
}

function withRuns(service: Service, runs: readonly CronRun[], cron: Cron): Service {
  const { last_scheduled = null, next_scheduled = null, message = '', schedule = '' } = service.cron ?? {};
  return { ...service, cron: { last_scheduled, next_scheduled, message, schedule, runs: bounded(runs, cron.history) } };
}

/** A job with a new run. Its iteration is the version the service had before, as with every job. */
function withNewRun(service: Service, cron: Cron, scheduledMs: number, nowMs: number): Service {
  const now = timestampFromMs(nowMs);
  const index = service.meta?.version?.index ?? 0;
  const runs = (service.cron?.runs ?? []).map((run) =>
    run.outcome === 'running' && cron.concurrency === 'replace'
      ? { ...run, outcome: 'replaced', finished: now, message: `run ${index} took its place` }
      : run,
  );
  runs.push(CronRun.create({ job_iteration: index, scheduled: timestampFromMs(scheduledMs), outcome: 'running' }));
  const begun = { job_iteration: { index }, last_execution: now };
  return { ...withRuns(service, runs, cron), job_status: begun, update_status: null };
}

/**
 * A job whose scheduled time has come: with a new run, or with a note why there is none. Part of one write with
 * `last_scheduled`, so that no time counts twice.
 */
export function runDue(service: Service, cron: Cron, scheduledMs: number, nowMs: number): Service {
  const why = obstacle(service, cron);
  const next =
    why === undefined
      ? withNewRun(service, cron, scheduledMs, nowMs)
      : withSkipped(service, cron, scheduledMs, nowMs, why);
  return withCron(next, { last_scheduled: timestampFromMs(scheduledMs) });
}

/** A job with a scheduled time that was passed over. */
export function withSkipped(service: Service, cron: Cron, scheduledMs: number, nowMs: number, why: string): Service {
  const [scheduled, finished] = [timestampFromMs(scheduledMs), timestampFromMs(nowMs)];
  const run = CronRun.create({ scheduled, finished, outcome: 'skipped', message: why });
  return withRuns(service, [...(service.cron?.runs ?? []), run], cron);
}

/** A copy with other values in its `cron`. */
export function withCron(service: Service, change: Partial<NonNullable<Service['cron']>>): Service {
  const cron = service.cron ?? { last_scheduled: null, next_scheduled: null, message: '', schedule: '', runs: [] };
  return { ...service, cron: { ...cron, ...change } };
}

/**
 * A job that is to run now, by hand, whatever its schedule.
 * @throws ShoalError FailedPrecondition when the service is no job, or its concurrency does not allow a run now.
 */
export function runNow(service: Service, nowMs: number): Service {
  const name = service.spec?.annotations?.name ?? service.id;
  if (!isJob(service)) throw failedPrecondition(`service ${name} is no job: only jobs can be run`);
  const cron = cronOf(service);
  if (cron === undefined) {
    const job_iteration = { index: service.meta?.version?.index ?? 0 };
    return { ...service, update_status: null, job_status: { job_iteration, last_execution: timestampFromMs(nowMs) } };
  }
  const why = obstacle(service, cron);
  if (why !== undefined) {
    const way =
      cron.concurrency === 'forbid' ? '; wait for its end, or set label shoal.cron.concurrency to replace' : '';
    throw failedPrecondition(`job ${name} cannot run now: ${why}${way}`);
  }
  return withNewRun(service, cron, nowMs, nowMs);
}

/** The latest time at which the job was due, when it is not too long ago; undefined when all of them were missed. */
export function latestDueMs(cron: Cron, fromMs: number, nowMs: number): number | undefined {
  let latest: number | undefined;
  let due: number | undefined = Math.max(fromMs, nowMs - LATE_RUN_MAX_MS) - 1;
  // A schedule is due once a minute at most: this ends after a few rounds.
  while ((due = nextCron(cron.parsed, cron.timeZone, due)) !== undefined && due <= nowMs) latest = due;
  return latest;
}

/** The next time the job is due after `afterMs`, as it is stored; null when there is none. */
export function nextScheduled(cron: Cron, afterMs: number) {
  const ms = nextCron(cron.parsed, cron.timeZone, afterMs);
  return ms === undefined ? null : timestampFromMs(ms);
}

/** What `next_scheduled` was told from. */
export function scheduleText(cron: Cron): string {
  return `${cron.schedule} ${cron.timeZone}`;
}

/** When the job is due next, ms; undefined when that is not known. */
export function dueAtMs(service: Service): number | undefined {
  const next = service.cron?.next_scheduled ?? null;
  return next === null ? undefined : timestampToMs(next);
}
