import { invalidArgument, must } from '../../base/index.ts';
import { TaskState } from '../../proto/index.ts';
import { Filters } from '../filters.ts';
import type { Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { taskToJson } from '../shapes/task.ts';
import { sendJson } from '../stream.ts';
import { streamServiceLogs } from './service-logs.ts';

const DESIRED: Readonly<Record<string, TaskState>> = {
  running: TaskState.RUNNING,
  shutdown: TaskState.SHUTDOWN,
  accepted: TaskState.ACCEPTED,
};

function desiredState(word: string): TaskState {
  const state = DESIRED[word];
  if (state === undefined) throw invalidArgument(`invalid filter 'desired-state=${word}'`);
  return state;
}

/** Ids for references (id, name or prefix); a reference to nothing stays as it is and matches nothing. */
async function ids(references: string[], find: (reference: string) => Promise<string>): Promise<string[]> {
  return Promise.all(references.map((reference) => find(reference).catch(() => reference)));
}

async function list({ response, ports, query }: RequestContext): Promise<void> {
  const allowed = ['id', 'label', 'name', 'node', 'service', 'desired-state', '_up-to-date', 'runtime'];
  const filters = Filters.parse(query, allowed);
  const { tasks } = await ports.swarm.call('ListTasks', {
    filters: {
      names: filters.get('name'),
      id_prefixes: filters.get('id'),
      labels: filters.labels(),
      service_ids: await ids(filters.get('service'), async (reference) => serviceId(ports, reference)),
      node_ids: await ids(filters.get('node'), async (reference) => nodeId(ports, reference)),
      desired_states: filters.get('desired-state').map(desiredState),
      up_to_date: filters.get('_up-to-date').includes('true'),
    },
  });
  // As Docker: a container's place on a network is no task to users.
  sendJson(response, tasks.filter((task) => task.spec?.attachment === undefined).map(taskToJson));
}

async function serviceId(ports: Ports, reference: string): Promise<string> {
  return must((await ports.swarm.call('GetService', { reference })).service, 'service').id;
}

async function nodeId(ports: Ports, reference: string): Promise<string> {
  return must((await ports.swarm.call('GetNode', { reference })).node, 'node').id;
}

async function inspect({ response, ports, params }: RequestContext): Promise<void> {
  const { task } = await ports.swarm.call('GetTask', { reference: must(params['id'], 'id') });
  sendJson(response, taskToJson(must(task, 'task')));
}

async function logs(context: RequestContext): Promise<void> {
  const answer = await context.ports.swarm.call('GetTask', { reference: must(context.params['id'], 'id') });
  const task = must(answer.task, 'task');
  const selector = { service_ids: [], node_ids: [], task_ids: [task.id] };
  await streamServiceLogs(context, selector, task.spec?.container?.tty ?? false);
}

export const taskRoutes: readonly Route[] = [
  { method: 'GET', path: '/tasks', handler: list },
  { method: 'GET', path: '/tasks/{id}', handler: inspect },
  { method: 'GET', path: '/tasks/{id}/logs', handler: logs },
];
