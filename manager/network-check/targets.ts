/** Which networks, hosts and tasks a question is about, from the store. Pure. */
import { failedPrecondition, invalidArgument, notFound } from '../../base/index.ts';
import { NetworkTraceOrder, TaskState, type CheckNetworksRequest, type Network, type Task } from '../../proto/index.ts';
import { resolve } from '../control/lookup.ts';
import { isOverlay, taskName } from '../dispatcher/network-members.ts';
import type { ReadView } from '../store/types.ts';
import { findSubject } from '../why/reference.ts';

/** Tasks of a service that a trace follows. */
const TARGETS_MAX = 8;

const runs = (task: Task): boolean =>
  task.node_id !== '' && task.status?.state === TaskState.RUNNING && task.desired_state <= TaskState.COMPLETE;

/** Overlay networks that a task has an address on. */
function overlaysOf(task: Task): Network[] {
  return task.networks.flatMap(({ network, addresses }) =>
    network !== null && addresses.length > 0 && isOverlay(network) ? [network] : [],
  );
}

/**
 * Hosts with running tasks, for each network that is to be checked.
 * @param reference id, name or beginning of an id; empty for all networks that have running tasks.
 * @throws ShoalError NotFound; InvalidArgument for networks that no table exists of
 */
export function nodesByNetwork(view: ReadView, reference: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  if (reference !== '') {
    const network = resolve(view, 'network', reference);
    if (!isOverlay(network)) throw invalidArgument(`network ${reference} is no overlay; there is nothing to check`);
    found.set(network.id, new Set());
  }
  for (const task of view.list('task')) {
    if (!runs(task)) continue;
    for (const { id } of overlaysOf(task)) {
      let nodes = found.get(id);
      if (nodes === undefined) {
        if (reference !== '') continue;
        found.set(id, (nodes = new Set()));
      }
      nodes.add(task.node_id);
    }
  }
  return found;
}

/** What the two sides of a trace are ordered to look at: `source` once, `target` once for each host of the targets. */
export interface TracePlan {
  orders: { nodeId: string; order: NetworkTraceOrder }[];
}

function runningTask(view: ReadView, reference: string): Task {
  const subject = findSubject(view, 'task', reference);
  if (subject.kind !== 'task') throw notFound(`no task has the id or name ${reference}`);
  if (!runs(subject.task))
    throw failedPrecondition(`task ${reference} does not run; only a running task can be traced`);
  return subject.task;
}

/** The tasks behind a reference to a task or a service, and the name under which they are looked up. */
function targetTasks(view: ReadView, reference: string): { tasks: Task[]; name: string } {
  const subject = findSubject(view, '', reference);
  switch (subject.kind) {
    case 'task': {
      const task = runningTask(view, reference);
      return { tasks: [task], name: taskName(task) };
    }
    case 'service': {
      const name = subject.service.spec?.annotations?.name ?? '';
      const tasks = view.tasksByService(subject.service.id).filter(runs).slice(0, TARGETS_MAX);
      if (tasks.length === 0) throw failedPrecondition(`service ${name} has no running task`);
      return { tasks, name };
    }
    case 'node':
      throw invalidArgument(`${reference} is a node; a trace leads to a task or a service`);
  }
}

/** The network that both are on: one of their own before the ingress network, which names nothing. */
function sharedNetwork(from: Task, to: readonly Task[]): Network | undefined {
  const shared = overlaysOf(from).filter((network) =>
    to.some((task) => overlaysOf(task).some((other) => other.id === network.id)),
  );
  return shared.find((network) => network.spec?.ingress !== true) ?? shared[0];
}

/** @throws ShoalError NotFound, InvalidArgument or FailedPrecondition, in words for the user */
export function planTrace(view: ReadView, request: CheckNetworksRequest): TracePlan {
  const { trace_from: fromReference, trace_to: toReference, trace_port: port, trace_protocol: protocol } = request;
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw invalidArgument(`invalid port ${port}: TASK:PORT with a port of 1 to 65535`);
  const from = runningTask(view, fromReference);
  const { tasks, name } = targetTasks(view, toReference);
  const network = sharedNetwork(from, tasks);
  if (network === undefined) {
    throw failedPrecondition(
      `${fromReference} and ${toReference} share no overlay network: there is no way between them`,
    );
  }
  const order = NetworkTraceOrder.create({
    network_id: network.id,
    from_task_id: from.id,
    to_task_ids: tasks.map((task) => task.id),
    name: network.spec?.ingress === true ? '' : name,
    port,
    protocol,
  });
  const byNode = new Map<string, Task[]>();
  for (const task of tasks) byNode.set(task.node_id, [...(byNode.get(task.node_id) ?? []), task]);
  const targets = [...byNode].map(([nodeId, own]) => ({
    nodeId,
    order: { ...order, to_task_ids: own.map((task) => task.id), target_side: true },
  }));
  return { orders: [{ nodeId: from.node_id, order }, ...targets] };
}
