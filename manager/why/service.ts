import { TaskState, timestampToMs, UpdateStatus_UpdateState, type Service, type Task } from '../../proto/index.ts';
import { satisfiesPlacement } from '../orchestrator/constraints.ts';
import {
  isJob,
  isNodeBound,
  isReadyAndActive,
  modeOf,
  observed,
  type ServiceMode,
} from '../orchestrator/service-view.ts';
import { taskLine } from './lines.ts';
import { clashText, portClashes } from './port-clash.ts';
import { present } from './reference.ts';
import { explainTask } from './task.ts';
import type { Answer, Cause, Situation } from './types.ts';
import { count, shortIds, some } from './words.ts';

/** Ended tasks that an answer lists. */
const HISTORY_MAX = 5;
/** Tasks that one answer looks at closely; of the others only the number is told. */
const TASKS_MAX = 200;

/** The task that stands for each place of a service. */
function places(situation: Situation, service: Service): Task[] {
  const byPlace = new Map<string, Task[]>();
  for (const task of situation.view.tasksByService(service.id)) {
    if (task.desired_state >= TaskState.REMOVE) continue;
    if (isJob(service) && task.job_iteration?.index !== service.job_status?.job_iteration?.index) continue;
    const key = isNodeBound(service) ? task.node_id : String(task.slot);
    const tasks = byPlace.get(key);
    if (tasks === undefined) byPlace.set(key, [task]);
    else tasks.push(task);
  }
  return [...byPlace.values()].map((tasks) => present(tasks)).filter((task) => task !== undefined);
}

/** How many tasks a service wants to have; for a job those that have not completed. */
function wantedTasks(situation: Situation, service: Service): number {
  const mode: ServiceMode | undefined = modeOf(service);
  switch (mode) {
    case 'replicated':
      return service.spec?.replicated?.replicas ?? 1;
    case 'replicated-job':
      return service.spec?.replicated_job?.total_completions ?? 1;
    case 'global':
    case 'global-job':
      return situation.view.list('node').filter((node) => isReadyAndActive(node) && satisfiesPlacement(service, node))
        .length;
    case undefined:
      return 0;
  }
}

function isFine(situation: Situation, service: Service, task: Task): boolean {
  const state = observed(task);
  if (isJob(service) && state === TaskState.COMPLETE) return true;
  if (state !== TaskState.RUNNING || task.desired_state > TaskState.COMPLETE) return false;
  return explainTask(situation, task).headline.startsWith('runs on');
}

/** A text without the ids (whole, or the first twelve characters) that tell tasks of one service apart. */
function alike(text: string): string {
  return text.replaceAll(/\b(?=[a-z0-9]*\d)[a-z0-9]{12}(?:[a-z0-9]{13})?\b/g, '…');
}

interface Group {
  tasks: Task[];
  answer: Answer;
}

/** Tasks that are not as wanted, grouped by equal causes, the most frequent first. */
function groups(situation: Situation, tasks: readonly Task[]): Group[] {
  const byCause = new Map<string, Group>();
  for (const task of tasks.slice(0, TASKS_MAX)) {
    const answer = explainTask(situation, task);
    const key = `${answer.state}: ${alike(answer.headline)}`;
    const group = byCause.get(key);
    if (group === undefined) byCause.set(key, { tasks: [task], answer });
    else group.tasks.push(task);
  }
  return [...byCause.values()].toSorted((a, b) => b.tasks.length - a.tasks.length);
}

const UPDATE_WORDS: Readonly<Record<UpdateStatus_UpdateState, string | undefined>> = {
  [UpdateStatus_UpdateState.UNKNOWN]: undefined,
  [UpdateStatus_UpdateState.UPDATING]: 'an update is under way',
  [UpdateStatus_UpdateState.PAUSED]: 'its update is paused',
  [UpdateStatus_UpdateState.COMPLETED]: undefined,
  [UpdateStatus_UpdateState.ROLLBACK_STARTED]: 'a rollback is under way',
  [UpdateStatus_UpdateState.ROLLBACK_PAUSED]: 'its rollback is paused',
  [UpdateStatus_UpdateState.ROLLBACK_COMPLETED]: 'its update failed and was rolled back',
};

/** The task whose failure stopped an update, from the update's own message. */
function culprit(situation: Situation, message: string): Task | undefined {
  const id = /\btask ([a-z0-9]{25})\b/.exec(message)?.[1];
  return id === undefined ? undefined : situation.view.get('task', id);
}

interface UpdateParts {
  headline: string | undefined;
  causes: Cause[];
  fix: string[];
}

/** A job is not updated in steps: its status tells of its runs. */
function jobParts(service: Service): UpdateParts {
  const hasFailed = service.update_status?.state === UpdateStatus_UpdateState.PAUSED;
  const name = service.spec?.annotations?.name ?? service.id;
  if (!hasFailed) return { headline: undefined, causes: [], fix: [] };
  const fix = [`mend what failed, then run it again: "shoal service run ${name}"`];
  return { headline: service.update_status?.message, causes: [], fix };
}

/** Whether a job runs by the clock and has nothing to do before its next time. */
function isIdle(service: Service, tasks: readonly Task[]): boolean {
  return service.cron !== null && tasks.length === 0 && service.cron.runs.every((run) => run.outcome !== 'running');
}

/** What the last update has to do with it. */
function updateParts(situation: Situation, service: Service): UpdateParts {
  if (isJob(service)) return jobParts(service);
  const status = service.update_status;
  const words = status === null ? undefined : UPDATE_WORDS[status.state];
  if (status === null || words === undefined) return { headline: undefined, causes: [], fix: [] };
  const { PAUSED, ROLLBACK_PAUSED } = UpdateStatus_UpdateState;
  const isPaused = status.state === PAUSED || status.state === ROLLBACK_PAUSED;
  const name = service.spec?.annotations?.name ?? service.id;
  const task = culprit(situation, status.message);
  const err = task?.status?.err ?? '';
  const atMs = status.started_at === null ? undefined : timestampToMs(status.started_at);
  const causes: Cause[] = [{ what: `${words}: ${shortIds(status.message)}`, atMs }];
  if (task !== undefined) causes.push({ what: taskLine(situation.view, task, situation.nowMs) });
  const fix = isPaused
    ? [
        `mend what failed and update again, or go back: "service update --rollback ${name}"`,
        ...(task === undefined ? [] : explainTask(situation, task).fix),
      ]
    : [];
  const why = err === '' ? status.message : err;
  return { headline: isPaused ? `${words}: ${why}` : undefined, causes, fix };
}

/** Published ports that something else has on some nodes. */
function clashParts({ view }: Situation, service: Service): Cause[] {
  const what = clashText(view, service, portClashes(view));
  return what === undefined ? [] : [{ what }];
}

/** What Shoal's own settings of the service do at the moment. */
function settingParts({ nowMs }: Situation, service: Service): Cause[] {
  const causes: Cause[] = [];
  const { canary, autoscale, cron, rebalance_requested: rebalance } = service;
  const name = service.spec?.annotations?.name ?? service.id;
  if (canary !== null && canary.waiting_since !== null && canary.promoted_at === null) {
    const what = `${count(canary.tasks, 'canary task')} run; the update waits for "shoal service promote ${name}"`;
    causes.push({ what, sinceMs: timestampToMs(canary.waiting_since) });
  }
  if (autoscale !== null && autoscale.message !== '') {
    const atMs = autoscale.changed_at === null ? undefined : timestampToMs(autoscale.changed_at);
    causes.push({ what: `autoscaling: ${autoscale.message}`, atMs });
  }
  if (cron !== null) {
    if (cron.message !== '') causes.push({ what: `schedule: ${cron.message}` });
    const next = cron.next_scheduled === null ? 0 : timestampToMs(cron.next_scheduled);
    if (next > nowMs) causes.push({ what: `its next run is due at ${new Date(next).toISOString()}` });
  }
  if (rebalance !== null) causes.push({ what: 'its tasks are being spread anew', sinceMs: timestampToMs(rebalance) });
  return causes;
}

function groupCause(group: Group, total: number): Cause {
  const { tasks, answer } = group;
  const which = tasks.length === 1 ? answer.name : `${tasks.length} of ${count(total, 'task')}`;
  return { what: `${which}: ${answer.state}: ${answer.headline}` };
}

/** Details that all tasks of the greatest group share; those of one example. */
function details(group: Group | undefined): Pick<Answer, 'causes' | 'excluded' | 'nearest' | 'fix'> {
  if (group === undefined) return { causes: [], excluded: [], nearest: undefined, fix: [] };
  const { causes, excluded, nearest, fix } = group.answer;
  return { causes: causes.filter(({ what }) => what !== group.answer.headline), excluded, nearest, fix };
}

function nothingYet(situation: Situation, service: Service, missing: number): Cause[] {
  if (missing <= 0) return [];
  const wait = situation.dependencyWait(service);
  return [{ what: `${count(missing, 'task')} not created yet${wait === undefined ? '' : `: ${wait}`}` }];
}

/** Tasks that ended, but for those that the answer tells of already. */
function endings(situation: Situation, service: Service, told: readonly Task[]): string[] {
  return situation.view
    .tasksByService(service.id)
    .filter((task) => observed(task) > TaskState.RUNNING && !told.includes(task))
    .toSorted((a, b) => timestampToMs(b.status?.timestamp) - timestampToMs(a.status?.timestamp))
    .slice(0, HISTORY_MAX)
    .map((task) => taskLine(situation.view, task, situation.nowMs));
}

const allRun = (total: number, word: string): string => `${total === 1 ? 'its' : `all ${total}`} ${word}`;

/** Why a service is as it is: every place that is not as wanted, equal causes together. */
export function explainService(situation: Situation, service: Service): Answer {
  const tasks = places(situation, service);
  const idle = isIdle(service, tasks);
  const total = idle ? 0 : Math.max(wantedTasks(situation, service), tasks.length);
  const troubled = tasks.filter((task) => !isFine(situation, service, task));
  const fine = tasks.length - troubled.length;
  const found = groups(situation, troubled);
  const update = updateParts(situation, service);
  const name = service.spec?.annotations?.name ?? service.id;
  const first = found[0];
  const word =
    total === 1
      ? isJob(service)
        ? 'task runs or is complete'
        : 'task runs'
      : isJob(service)
        ? 'tasks run or are complete'
        : 'tasks run';
  const state = `${fine} of ${total} ${word}`;
  const inDetail = details(first);
  const missing = nothingYet(situation, service, total - tasks.length);
  const headline =
    update.headline ??
    (idle ? 'no run is at work' : undefined) ??
    (first === undefined ? (missing[0]?.what ?? allRun(total, word)) : groupCause(first, total).what);
  return {
    kind: 'service',
    id: service.id,
    name,
    state,
    headline,
    causes: [
      ...update.causes,
      ...found.map((group) => groupCause(group, total)),
      ...missing,
      ...inDetail.causes,
      ...clashParts(situation, service),
      ...settingParts(situation, service),
    ].filter(({ what }) => what !== headline),
    excluded: inDetail.excluded,
    nearest: inDetail.nearest,
    fix: [...new Set([...update.fix, ...inDetail.fix])],
    history: endings(situation, service, troubled),
  };
}

/** Names of services with a task on a list, for answers on nodes. */
export function serviceNames(situation: Situation, tasks: readonly Task[]): string {
  const names = tasks.map((task) => situation.view.get('service', task.service_id)?.spec?.annotations?.name ?? 'none');
  return some([...new Set(names)].toSorted());
}
