import { timestampToIso, type Service, type Timestamp } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';

const isoOrNothing = (time: Timestamp | null): string | undefined => (time === null ? undefined : timestampToIso(time));

/** The state of a job that runs by the clock; Shoal's own. */
export function cronToJson({ cron }: Service): JsonObject | undefined {
  if (cron === null) return undefined;
  return {
    Schedule: cron.schedule,
    LastScheduled: isoOrNothing(cron.last_scheduled),
    NextScheduled: isoOrNothing(cron.next_scheduled),
    Message: cron.message,
    Runs: cron.runs.map((run) => ({
      JobIteration: { Index: run.job_iteration },
      Scheduled: isoOrNothing(run.scheduled),
      Finished: isoOrNothing(run.finished),
      Outcome: run.outcome,
      Message: run.message,
    })),
  };
}
