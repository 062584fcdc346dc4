import {
  durationToMs,
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  TaskState,
  taskStateName,
  type Service,
  type Task,
} from '../../proto/index.ts';
import {
  failuresInRow,
  isCrashLoop,
  isRestartable,
  restartCondition,
  restartWaitMs,
  restartWaitText,
} from '../orchestrator/restart-policy.ts';
import { crashLoopWait } from '../orchestrator/restart.ts';
import { createdAtMs, endedByItself, isNodeBound, observed, observedAtMs } from '../orchestrator/service-view.ts';
import { diagnose } from './ended.ts';
import { lostNode, taskError } from './headline.ts';
import { taskLine } from './lines.ts';
import { failuresUpTo, placeOf, serviceOf } from './slots.ts';
import type { Answer, Cause, Situation } from './types.ts';
import { ago, ahead, count, hostname, shortId, shortIds, taskLabel } from './words.ts';

/** Earlier tasks of the same place that an answer lists. */
const HISTORY_MAX = 5;
/** A task that has run for so long is not seen as part of a crash loop any more, ms. */
const SETTLED_AFTER_MS = 60_000;
const UNBLOCK = 'bring up what it waits for: "shoal why" on that service tells what keeps it';
/** Words for tasks of one place that end badly one after the other. */
export const LOOP = 'fails again and again';

/** What an answer adds to the facts that every task has. */
interface Part {
  headline: string;
  causes: Cause[];
  fix: string[];
  placement?: Pick<Answer, 'excluded' | 'nearest'>;
}

const where = (situation: Situation, task: Task): string => `node ${hostname(situation.view, task.node_id)}`;

/** Why a task was created: "created because …". */
function creation(task: Task): Cause[] {
  const text = task.created_for?.text ?? '';
  return text === '' ? [] : [{ what: `created because: ${shortIds(text)}`, atMs: createdAtMs(task) }];
}

function stopping(situation: Situation, task: Task): Part {
  const why = task.stopped_for?.text ?? 'it is not wanted any more';
  const lost = lostNode(situation.view, task);
  const graceMs = durationToMs(task.spec?.container?.stop_grace_period, 10_000);
  return {
    headline: lost ?? `is being stopped: ${why}`,
    causes: [
      { what: `told to stop: ${why}` },
      ...(lost === undefined
        ? [{ what: `its container has ${graceMs / 1000} s to end before it is killed` }]
        : [{ what: `${lost}; it stops as soon as the node is back` }]),
    ],
    fix: [],
  };
}

/** What became of the place of a task that ended. */
function aftermath(situation: Situation, task: Task): Cause[] {
  const { view, nowMs } = situation;
  const service = serviceOf(view, task);
  if (service === undefined) return [{ what: 'its service was removed' }];
  const place = placeOf(view, task);
  const next = place[place.findIndex((other) => other.id === task.id) + 1];
  if (next !== undefined) {
    const at = next.node_id === '' ? 'has no node yet' : `on ${hostname(view, next.node_id)}`;
    const state = taskStateName(observed(next));
    return [{ what: `replaced by task ${shortId(next.id)}, ${at}: ${state}`, atMs: createdAtMs(next) }];
  }
  if (!endedByItself(task)) return [];
  if (isRestartable(service, place, task)) {
    // One that ended before it was let start holds its place for the whole delay.
    const before = place[place.indexOf(task) - 1] ?? task;
    const atMs = task.desired_state === TaskState.READY ? createdAtMs(task) + restartWaitMs(before) : nowMs;
    return [{ what: `its replacement comes ${ahead(atMs, nowMs)}` }];
  }
  return [{ what: `not restarted: ${whyNotRestarted(service, task)}` }];
}

function whyNotRestarted(service: Service, task: Task): string {
  const condition = restartCondition(service, task);
  if (condition === RestartPolicy_RestartCondition.NONE) return 'the restart condition of its service is "none"';
  if (condition === RestartPolicy_RestartCondition.ON_FAILURE && observed(task) === TaskState.COMPLETE) {
    return 'it ended well, and its service restarts tasks on failure only';
  }
  const attempts = task.spec?.restart?.max_attempts ?? 0;
  return `all ${count(attempts, 'restart attempt')} of its service are used up ("service update --force" begins anew)`;
}

function ended(situation: Situation, task: Task): Part {
  const state = observed(task);
  const err = task.status?.err ?? '';
  const stopped = task.stopped_for?.text ?? '';
  const byItself = endedByItself(task);
  const told = stopped === '' ? taskStateName(state) : `stopped: ${stopped}`;
  const headline = err !== '' ? err : state === TaskState.COMPLETE ? 'finished with exit code 0' : told;
  const causes: Cause[] = [];
  const diagnosis = diagnose(task);
  if (diagnosis !== undefined) causes.push({ what: diagnosis.what, atMs: observedAtMs(task) });
  const failures = failuresUpTo(placeOf(situation.view, task), task);
  if (byItself && failures.length > 1) causes.push(crashes(situation, failures));
  if (!byItself && stopped !== '') causes.push({ what: `told to stop: ${stopped}` });
  causes.push(...aftermath(situation, task));
  return { headline, causes, fix: diagnosis?.fix ?? [] };
}

/** "3 failures in a row, the first of those on record 20 seconds ago". */
function crashes({ nowMs }: Situation, failures: readonly Task[]): Cause {
  const first = failures[0] as Task;
  const inRow = Math.max(failures.length, failuresInRow(failures.at(-1) as Task));
  return {
    what: `it ${LOOP}: ${inRow} failures in a row, the first on record ${ago(observedAtMs(first), nowMs)}`,
  };
}

/** A task that is told to get ready, and not yet to run. */
function held(situation: Situation, task: Task): Part {
  const { view, nowMs } = situation;
  const place = placeOf(view, task);
  const before = place[place.findIndex((other) => other.id === task.id) - 1];
  const causes: Cause[] = [];
  const service = serviceOf(view, task);
  const dependency = service === undefined ? undefined : situation.dependencyWait(service);
  if (dependency !== undefined) {
    return { headline: dependency, causes: [{ what: dependency, sinceMs: createdAtMs(task) }], fix: [UNBLOCK] };
  }
  let headline = 'is ready and waits for its turn';
  const running = place.find((other) => other.id !== task.id && observed(other) === TaskState.RUNNING);
  if (running !== undefined) {
    headline = `waits until task ${shortId(running.id)}, which it replaces, has stopped`;
    causes.push({ what: headline });
  } else if (before !== undefined && endedByItself(before)) {
    const delayMs = restartWaitMs(before);
    const wait = isCrashLoop(before) ? restartWaitText(before) : `waits out the restart delay of ${delayMs / 1000} s`;
    const err = before.status?.err ?? '';
    headline = err === '' ? wait : `${wait}, for the task before it ended with: ${err}`;
    causes.push({ what: `${wait}: it starts ${ahead(createdAtMs(task) + delayMs, nowMs)}` });
  }
  return { headline, causes, fix: [] };
}

/** What made the task before this one end, while that matters: the same may befall this one. */
function afterFailure(situation: Situation, task: Task): Part | undefined {
  const { view, nowMs } = situation;
  const place = placeOf(view, task);
  const before = place[place.findIndex((other) => other.id === task.id) - 1];
  if (before === undefined || !failuresUpTo(place, before).includes(before)) return undefined;
  const hasHeld = observed(task) === TaskState.RUNNING && nowMs - observedAtMs(task) > SETTLED_AFTER_MS;
  if (hasHeld || before.spec_version?.index !== task.spec_version?.index) return undefined;
  const err = before.status?.err ?? '';
  const causes: Cause[] = [
    { what: `the task before it ended${err === '' ? '' : `: ${err}`}`, atMs: observedAtMs(before) },
  ];
  const diagnosis = diagnose(before);
  if (diagnosis !== undefined) causes.push({ what: diagnosis.what });
  const failures = failuresUpTo(place, before);
  if (failures.length > 1) causes.push(crashes(situation, failures));
  const loop = failures.length > 1 ? `${LOOP}, the last time with: ${err === '' ? 'no error' : err}` : '';
  // The wait of a crash loop is what lists show.
  const headline = crashLoopWait(view, task, nowMs) ?? loop;
  return { headline, causes, fix: diagnosis?.fix ?? [] };
}

/** A task that has no addresses or no node yet. */
function unplaced(situation: Situation, task: Task): Part {
  const state = observed(task);
  const service = serviceOf(situation.view, task);
  const dependency = service === undefined ? undefined : situation.dependencyWait(service);
  const stored = taskError(situation.view, task, dependency);
  const sinceMs = createdAtMs(task);
  if (dependency !== undefined && stored === dependency) {
    return { headline: stored, causes: [{ what: dependency, sinceMs }], fix: [UNBLOCK] };
  }
  if (state === TaskState.NEW) {
    const headline = stored === '' ? 'waits for its addresses and ports' : stored;
    return { headline, causes: [{ what: 'it has no addresses and ports yet', sinceMs }], fix: remedies(headline) };
  }
  const placement = situation.explainPlacement(task);
  const headline = stored === '' ? placement.headline : stored;
  return {
    headline,
    causes: [{ what: 'it waits for a node', sinceMs }, ...placement.details.map((what) => ({ what }))],
    fix: placement.fix,
    placement,
  };
}

/** The way out where the error itself, behind its last semicolon, names it. */
function remedies(text: string): string[] {
  const at = text.lastIndexOf('; ');
  return at < 0 ? [] : [text.slice(at + 2)];
}

/** A task that its node prepares or starts. */
function starting(situation: Situation, task: Task): Part {
  const at = where(situation, task);
  const image = task.spec?.container?.image ?? '';
  const sinceMs = observedAtMs(task);
  const check = task.spec?.container?.healthcheck;
  const checked = check !== undefined && check !== null && check.test.length > 0 && check.test[0] !== 'NONE';
  const state = observed(task);
  if (state === TaskState.ASSIGNED) return part(`waits for ${at} to take it`, sinceMs);
  if (state < TaskState.READY) return part(`${at} pulls its image ${image} and makes its container`, sinceMs);
  if (state < TaskState.STARTING) return part(`is ready on ${at} and about to start`, sinceMs);
  return part(checked ? `runs on ${at}, and is not yet healthy` : `is being started on ${at}`, sinceMs);
}

function part(headline: string, sinceMs: number): Part {
  return { headline, causes: [{ what: headline, sinceMs }], fix: [] };
}

function running(situation: Situation, task: Task): Part {
  const { view } = situation;
  const node = view.get('node', task.node_id);
  const sinceMs = observedAtMs(task);
  const headline = `runs on ${where(situation, task)}`;
  const causes: Cause[] = [{ what: headline, sinceMs }];
  const state = node?.status?.state ?? NodeStatus_State.READY;
  if (state === NodeStatus_State.UNKNOWN || state === NodeStatus_State.DISCONNECTED) {
    causes.push({ what: `${where(situation, task)} has not reported to this leader yet: this is what it said last` });
  }
  return { headline, causes, fix: [] };
}

function lost(situation: Situation, task: Task, headline: string): Part {
  const causes: Cause[] = [{ what: headline }];
  const service = serviceOf(situation.view, task);
  if (service !== undefined && isNodeBound(service)) {
    causes.push({ what: 'a task of a global service moves nowhere: it goes on when its node is back' });
  }
  return { headline, causes, fix: [`bring the node back: "shoal why ${hostname(situation.view, task.node_id)}"`] };
}

function partOf(situation: Situation, task: Task): Part {
  const state = observed(task);
  if (state > TaskState.RUNNING) return ended(situation, task);
  if (task.desired_state > TaskState.COMPLETE) {
    return state >= TaskState.ASSIGNED ? stopping(situation, task) : ended(situation, task);
  }
  const gone = lostNode(situation.view, task);
  if (gone !== undefined) return lost(situation, task, gone);
  if (state < TaskState.ASSIGNED) return unplaced(situation, task);
  const service = serviceOf(situation.view, task);
  // What a service waits for keeps its tasks back, however far their nodes are with preparing them.
  const waits =
    task.desired_state === TaskState.READY &&
    (state === TaskState.READY || (service !== undefined && situation.dependencyWait(service) !== undefined));
  const now = waits
    ? held(situation, task)
    : state === TaskState.RUNNING
      ? running(situation, task)
      : starting(situation, task);
  const past = afterFailure(situation, task);
  if (past === undefined) return now;
  const headline = past.headline === '' ? now.headline : past.headline;
  return { headline, causes: [...now.causes, ...past.causes], fix: [...now.fix, ...past.fix] };
}

/** Why a task is as it is. */
export function explainTask(situation: Situation, task: Task): Answer {
  const { view, nowMs } = situation;
  const { headline, causes, fix, placement } = partOf(situation, task);
  const history = placeOf(view, task)
    .filter((other) => other.id !== task.id && createdAtMs(other) <= createdAtMs(task))
    .toReversed()
    .slice(0, HISTORY_MAX)
    .map((other) => taskLine(view, other, nowMs));
  const stored = taskError(view, task);
  return {
    kind: 'task',
    id: task.id,
    name: taskLabel(view, task),
    state: taskStateName(observed(task)),
    // What lists show as its error comes first, whatever else there is to say.
    headline: stored === '' || task.desired_state === TaskState.READY ? headline : stored,
    causes: [...causes, ...creation(task)],
    excluded: placement?.excluded ?? [],
    nearest: placement?.nearest,
    fix,
    history,
  };
}
