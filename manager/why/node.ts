import {
  NodeSpec_Availability,
  NodeStatus_State,
  TaskState,
  timestampToMs,
  type Node,
  type Task,
} from '../../proto/index.ts';
import { createdAtMs, isNodeBound, observed } from '../orchestrator/service-view.ts';
import { portName } from './port-clash.ts';
import { serviceNames } from './service.ts';
import { placeOf, serviceOf } from './slots.ts';
import type { Answer, Cause, Situation } from './types.ts';
import { bytes, count, cpus, hostname, some, taskLabel } from './words.ts';

/** Tasks whose fate an answer tells one by one. */
const MOVED_MAX = 10;

const availability = (node: Node): NodeSpec_Availability => node.spec?.availability ?? NodeSpec_Availability.ACTIVE;

function stateWord(node: Node): string {
  const byAvailability: Readonly<Record<NodeSpec_Availability, string>> = {
    [NodeSpec_Availability.ACTIVE]: '',
    [NodeSpec_Availability.PAUSE]: ', paused',
    [NodeSpec_Availability.DRAIN]: ', drained',
  };
  const words: Readonly<Record<NodeStatus_State, string>> = {
    [NodeStatus_State.UNKNOWN]: 'unknown',
    [NodeStatus_State.DOWN]: 'down',
    [NodeStatus_State.READY]: 'ready',
    [NodeStatus_State.DISCONNECTED]: 'disconnected',
  };
  return words[node.status?.state ?? NodeStatus_State.UNKNOWN] + byAvailability[availability(node)];
}

/** Tasks that the node has, and that are meant to go on. */
function tasksHere({ view }: Situation, node: Node): Task[] {
  return view
    .tasksByNode(node.id)
    .filter((task) => task.desired_state <= TaskState.COMPLETE && observed(task) <= TaskState.RUNNING);
}

/** Tasks that left the node because of what became of it, and where what replaced them is now. */
function moved(situation: Situation, node: Node, codes: readonly string[]): Cause[] {
  const { view } = situation;
  const left = view
    .tasksByNode(node.id)
    .filter((task) => codes.includes(task.stopped_for?.code ?? ''))
    .toSorted((a, b) => createdAtMs(b) - createdAtMs(a));
  if (left.length === 0) return [];
  const lines = left.slice(0, MOVED_MAX).map((task): Cause => {
    const service = serviceOf(view, task);
    const label = taskLabel(view, task);
    if (service !== undefined && isNodeBound(service)) return { what: `${label} stopped; it belongs to this node` };
    const place = placeOf(view, task);
    const next = place.slice(place.findIndex((other) => other.id === task.id) + 1).findLast(isPresent);
    if (next === undefined) return { what: `${label} was not replaced` };
    if (next.node_id === '') return { what: `${label} waits for another node: ${next.status?.err ?? ''}` };
    return { what: `${label} moved to ${hostname(view, next.node_id)}`, atMs: createdAtMs(next) };
  });
  const more = left.length - lines.length;
  return more > 0 ? [...lines, { what: `${more} more tasks left it` }] : lines;
}

const isPresent = (task: Task): boolean => task.desired_state <= TaskState.COMPLETE;

interface Part {
  headline: string;
  causes: Cause[];
  fix: string[];
}

function down(situation: Situation, node: Node): Part {
  const name = hostname(situation.view, node.id);
  const address = node.status?.addr ?? '';
  const message = node.status?.message ?? '';
  const said = message === '' ? '' : ` (${message})`;
  return {
    headline: `down: no heartbeat came from ${name}${said}`,
    causes: [
      { what: `it is down${said}`, sinceMs: changedAtMs(node) },
      { what: 'its containers may still run there; nobody can tell' },
      ...moved(situation, node, ['node-down']),
    ],
    fix: [
      `look at the host${address === '' ? '' : ` (${address})`}: is it on, does its daemon run ("systemctl status shoal"), ` +
        'does it reach the managers on port 2377',
      `if it is gone for good: "node rm --force ${name}"`,
    ],
  };
}

/** When the node's object last changed: for one that is down, when that was noticed. */
function changedAtMs(node: Node): number | undefined {
  const at = node.meta?.updated_at ?? null;
  return at === null ? undefined : timestampToMs(at);
}

function unsettled(node: Node): Part {
  const unknown = node.status?.state === NodeStatus_State.UNKNOWN;
  const headline = unknown
    ? 'the leader has not heard from it yet: it has joined just now, or the leader changed'
    : 'its manager closed the connection; it is expected to come back at once';
  return {
    headline,
    causes: [{ what: 'its tasks are left where they are; nothing new comes here until it is ready' }],
    fix: ['wait a moment: it becomes ready or down within a minute'],
  };
}

function kept(situation: Situation, node: Node): Part {
  const name = hostname(situation.view, node.id);
  const tasks = tasksHere(situation, node);
  const drained = availability(node) === NodeSpec_Availability.DRAIN;
  if (drained) {
    const leaving = situation.view
      .tasksByNode(node.id)
      .filter((task) => task.desired_state > TaskState.COMPLETE && observed(task) <= TaskState.RUNNING);
    return {
      headline: 'drained: an operator took it out of service',
      causes: [
        ...(leaving.length > 0 ? [{ what: `${count(leaving.length, 'task')} still stopping here` }] : []),
        ...moved(situation, node, ['node-drained', 'maintenance']),
      ],
      fix: [`put it back to work: "node update --availability active ${name}"`],
    };
  }
  if (availability(node) === NodeSpec_Availability.PAUSE) {
    return {
      headline: `paused: its ${count(tasks.length, 'task')} stay, and no new ones come`,
      causes: [],
      fix: [`let it take tasks again: "node update --availability active ${name}"`],
    };
  }
  return {
    headline: `ready; ${count(tasks.length, 'task')} here`,
    causes: moved(situation, node, ['node-down']),
    fix: [],
  };
}

/** What of the node is reserved. */
function load(situation: Situation, node: Node): Cause[] {
  const total = node.description?.resources;
  const tasks = situation.view.tasksByNode(node.id).filter((task) => {
    const state = observed(task);
    return state >= TaskState.ASSIGNED && state <= TaskState.RUNNING;
  });
  if (total === null || total === undefined) return [];
  let [nanoCpus, memory] = [0, 0];
  for (const task of tasks) {
    nanoCpus += task.spec?.resources?.reservations?.nano_cpus ?? 0;
    memory += task.spec?.resources?.reservations?.memory_bytes ?? 0;
  }
  const what =
    `tasks reserve ${cpus(nanoCpus)} of ${cpus(total.nano_cpus)} and ` +
    `${bytes(memory)} of ${bytes(total.memory_bytes)} of memory`;
  return [{ what }, ...(tasks.length === 0 ? [] : [{ what: `services here: ${serviceNames(situation, tasks)}` }])];
}

const isDown = (node: Node): boolean => node.status?.state === NodeStatus_State.DOWN;

function partOf(situation: Situation, node: Node): Part {
  switch (node.status?.state ?? NodeStatus_State.UNKNOWN) {
    case NodeStatus_State.DOWN:
      return down(situation, node);
    case NodeStatus_State.READY:
      return kept(situation, node);
    case NodeStatus_State.UNKNOWN:
    case NodeStatus_State.DISCONNECTED:
      return unsettled(node);
  }
}

/** Ports of the routing mesh that something else has here. */
function clashes(node: Node): Cause[] {
  return (node.description?.port_clashes ?? []).map((clash) => {
    const what = `port ${portName(clash)}, which a service publishes, is also held by ${clash.holder}`;
    return { what: `${what}: only one of the two is reached here` };
  });
}

/** Why a node is as it is, and what became of its tasks. */
export function explainNode(situation: Situation, node: Node): Answer {
  const { headline, causes, fix } = partOf(situation, node);
  const waiting = situation.view
    .list('task')
    .filter((task) => observed(task) === TaskState.PENDING && task.node_id === node.id);
  return {
    kind: 'node',
    id: node.id,
    name: hostname(situation.view, node.id),
    state: stateWord(node),
    headline,
    causes: [
      ...causes,
      ...clashes(node),
      ...(waiting.length === 0
        ? []
        : [{ what: `do not fit here: ${some(waiting.map((task) => taskLabel(situation.view, task)))}` }]),
      // What a node that is down holds, nobody knows.
      ...(isDown(node) ? [] : load(situation, node)),
    ],
    excluded: [],
    nearest: undefined,
    fix,
    history: [],
  };
}
