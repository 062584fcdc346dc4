import { invalidArgument, notFound } from '../../base/index.ts';
import { TaskState, type Node, type Service, type Task } from '../../proto/index.ts';
import { taskName } from '../control/names.ts';
import { createdAtMs } from '../orchestrator/service-view.ts';
import type { ReadView } from '../store/types.ts';
import { hostname, some, taskLabel } from './words.ts';
import type { SubjectKind } from './types.ts';

/** What a reference stands for. */
export type Subject =
  { kind: 'task'; task: Task } | { kind: 'service'; service: Service } | { kind: 'node'; node: Node };

const KINDS: readonly SubjectKind[] = ['task', 'service', 'node'];

const ofTask = (task: Task): Subject => ({ kind: 'task', task });
const ofService = (service: Service): Subject => ({ kind: 'service', service });
const ofNode = (node: Node): Subject => ({ kind: 'node', node });

/** The task that stands for a place: the newest that is meant to run, else the newest. */
export function present(tasks: readonly Task[]): Task | undefined {
  const byAge = tasks.toSorted((a, b) => createdAtMs(b) - createdAtMs(a) || (a.id < b.id ? -1 : 1));
  return byAge.find((task) => task.desired_state <= TaskState.COMPLETE) ?? byAge[0];
}

/** `SERVICE.SLOT`, or `SERVICE.NODE` of a node-bound service. */
function tasksOfPlace(view: ReadView, reference: string): Task[] {
  const dot = reference.lastIndexOf('.');
  if (dot <= 0) return [];
  const service = view.byName('service', reference.slice(0, dot)) ?? view.get('service', reference.slice(0, dot));
  const place = reference.slice(dot + 1);
  if (service === undefined) return [];
  if (/^[1-9]\d*$/.test(place)) {
    const task = present(view.tasksBySlot(service.id, Number(place)));
    if (task !== undefined) return [task];
  }
  const onNode = view
    .tasksByService(service.id)
    .filter((task) => task.slot === 0 && (task.node_id === place || hostname(view, task.node_id) === place));
  const task = present(onNode);
  return task === undefined ? [] : [task];
}

function tasksOfName(view: ReadView, reference: string): Task[] {
  const task = view.get('task', reference.slice(reference.lastIndexOf('.') + 1));
  return task !== undefined && reference.includes('.') && taskName(task) === reference ? [task] : [];
}

function wanted<T>(kind: string, of: SubjectKind, find: () => T[]): T[] {
  return kind === '' || kind === of ? find() : [];
}

function byId(view: ReadView, kind: string, reference: string): Subject[] {
  const one = <T>(object: T | undefined): T[] => (object === undefined ? [] : [object]);
  return [
    ...wanted(kind, 'task', () => one(view.get('task', reference))).map(ofTask),
    ...wanted(kind, 'service', () => one(view.get('service', reference))).map(ofService),
    ...wanted(kind, 'node', () => one(view.get('node', reference))).map(ofNode),
  ];
}

function byName(view: ReadView, kind: string, reference: string): Subject[] {
  const services = wanted(kind, 'service', () => [view.byName('service', reference)].filter((s) => s !== undefined));
  const nodes = wanted(kind, 'node', () =>
    view.list('node').filter((node) => node.description?.hostname === reference),
  );
  const tasks = wanted(kind, 'task', () => {
    const named = tasksOfName(view, reference);
    return named.length > 0 ? named : tasksOfPlace(view, reference);
  });
  return [...services.map(ofService), ...nodes.map(ofNode), ...tasks.map(ofTask)];
}

function byPrefix(view: ReadView, kind: string, reference: string): Subject[] {
  return [
    ...wanted(kind, 'task', () => view.byIdPrefix('task', reference)).map(ofTask),
    ...wanted(kind, 'service', () => view.byIdPrefix('service', reference)).map(ofService),
    ...wanted(kind, 'node', () => view.byIdPrefix('node', reference)).map(ofNode),
  ];
}

function described(view: ReadView, subject: Subject): string {
  switch (subject.kind) {
    case 'task':
      return `task ${taskLabel(view, subject.task)} (${subject.task.id})`;
    case 'service':
      return `service ${subject.service.spec?.annotations?.name ?? ''} (${subject.service.id})`;
    case 'node':
      return `node ${hostname(view, subject.node.id)} (${subject.node.id})`;
  }
}

/**
 * What a user's reference stands for: a full id, else a name (service, hostname, task, `SERVICE.SLOT`), else the
 * beginning of one id only.
 * @param kind 'task', 'service', 'node', or '' for any.
 * @throws ShoalError NotFound, or InvalidArgument when it is empty or stands for several things, which are named.
 */
export function findSubject(view: ReadView, kind: string, reference: string): Subject {
  if (kind !== '' && !KINDS.some((one) => one === kind)) {
    throw invalidArgument(`"${kind}" is none of ${KINDS.join(', ')}`);
  }
  if (reference === '') throw invalidArgument('the id or name of a task, a service or a node must be provided');
  for (const find of [byId, byName, byPrefix]) {
    const found = find(view, kind, reference);
    const [only, second] = found;
    if (only === undefined) continue;
    if (second === undefined) return only;
    const all = some(
      found.map((subject) => described(view, subject)),
      4,
    );
    throw invalidArgument(`${reference} is ambiguous, it stands for ${found.length} things: ${all}; give a full id`);
  }
  const what = kind === '' ? 'no task, service or node' : `no ${kind}`;
  throw notFound(`${what} has the id or name ${reference}`);
}
