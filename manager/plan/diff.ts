import {
  PlanResponse_OfService,
  PROTOCOL_NAMES,
  PortConfig_PublishMode,
  TaskState,
  UpdateStatus_UpdateState,
  type Endpoint,
  type PlanResponse,
  type PlanResponse_OnNode,
  type PlanResponse_Reserved,
  type PlanResponse_Waiting,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { occupies, reservationOf } from '../../scheduler/index.ts';
import type { ReadView } from '../store/types.ts';
import { hostname } from '../why/index.ts';

const isWanted = (task: Task): boolean =>
  task.desired_state <= TaskState.COMPLETE && (task.status?.state ?? TaskState.NEW) <= TaskState.RUNNING;
const hasNode = (task: Task): boolean =>
  task.node_id !== '' && (task.status?.state ?? TaskState.NEW) >= TaskState.ASSIGNED;

/** Tasks that are meant to run, by service and place (slot, or node of a node-bound service). */
function placesOf(view: ReadView): Map<string, Map<string, Task[]>> {
  const services = new Map<string, Map<string, Task[]>>();
  for (const task of view.list('task')) {
    if (!isWanted(task)) continue;
    let places = services.get(task.service_id);
    if (places === undefined) services.set(task.service_id, (places = new Map()));
    const key = task.slot === 0 ? task.node_id : String(task.slot);
    const tasks = places.get(key);
    if (tasks === undefined) places.set(key, [task]);
    else tasks.push(task);
  }
  return services;
}

/** The task of a place that has a node; of several the newest, as it is the one that stays. */
function placed(tasks: readonly Task[] | undefined): Task | undefined {
  return tasks
    ?.filter(hasNode)
    .toSorted((a, b) => (b.meta?.version?.index ?? 0) - (a.meta?.version?.index ?? 0))
    .at(0);
}

/** What a plan compares. */
export interface Facts {
  services: Map<string, { service: Service; places: Map<string, Task[]> }>;
  hostnames: Map<string, string>;
  reserved: Map<string, { nanoCpus: number; memoryBytes: number; tasks: number }>;
}

/** Everything that is compared, taken out of a view, so that it stays true when the copy goes on. */
export function factsOf(view: ReadView): Facts {
  const places = placesOf(view);
  const services: Facts['services'] = new Map();
  for (const service of view.list('service')) {
    services.set(service.id, { service, places: places.get(service.id) ?? new Map() });
  }
  const reserved: Facts['reserved'] = new Map();
  const hostnames = new Map<string, string>();
  for (const node of view.list('node')) {
    hostnames.set(node.id, hostname(view, node.id));
    let [nanoCpus, memoryBytes, tasks] = [0, 0, 0];
    for (const task of view.tasksByNode(node.id).filter((one) => occupies(one) && isWanted(one))) {
      const wanted = reservationOf(task);
      nanoCpus += wanted.nanoCpus;
      memoryBytes += wanted.memoryBytes;
      tasks++;
    }
    reserved.set(node.id, { nanoCpus, memoryBytes, tasks });
  }
  return { services, hostnames, reserved };
}

function onNodes(places: Map<string, Task[]>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const tasks of places.values()) {
    const nodeId = placed(tasks)?.node_id;
    if (nodeId !== undefined) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  }
  return counts;
}

function nodeCounts(before: Facts, after: Facts, id: string): PlanResponse_OnNode[] {
  const was = onNodes(before.services.get(id)?.places ?? new Map());
  const is = onNodes(after.services.get(id)?.places ?? new Map());
  return [...new Set([...was.keys(), ...is.keys()])]
    .map((nodeId) => ({
      node_id: nodeId,
      hostname: after.hostnames.get(nodeId) ?? before.hostnames.get(nodeId) ?? nodeId,
      before: was.get(nodeId) ?? 0,
      after: is.get(nodeId) ?? 0,
    }))
    .toSorted((a, b) => (a.hostname < b.hostname ? -1 : 1));
}

function portWords(endpoint: Endpoint | null | undefined): string[] {
  return (endpoint?.ports ?? [])
    .filter((port) => port.publish_mode === PortConfig_PublishMode.INGRESS && port.published_port !== 0)
    .map((port) => `${port.published_port}:${port.target_port}/${PROTOCOL_NAMES[port.protocol]}`);
}

function addressWords(view: ReadView, endpoint: Endpoint | null | undefined): string[] {
  return (endpoint?.virtual_ips ?? []).map(({ network_id: id, addr }) => {
    const name = view.get('network', id)?.spec?.annotations?.name ?? id;
    return `${addr.replace(/\/\d+$/, '')} on ${name}`;
  });
}

const UPDATE_ENDS: Readonly<Record<UpdateStatus_UpdateState, string>> = {
  [UpdateStatus_UpdateState.UNKNOWN]: '',
  [UpdateStatus_UpdateState.UPDATING]: 'its update would not come to an end',
  [UpdateStatus_UpdateState.PAUSED]: 'its update would be paused',
  [UpdateStatus_UpdateState.COMPLETED]: '',
  [UpdateStatus_UpdateState.ROLLBACK_STARTED]: 'its rollback would not come to an end',
  [UpdateStatus_UpdateState.ROLLBACK_PAUSED]: 'its rollback would be paused',
  [UpdateStatus_UpdateState.ROLLBACK_COMPLETED]: 'it would be rolled back',
};

/** How an update that the plan saw ends; empty when it ends well, or there was none. */
function updateEnd(was: Service | undefined, is: Service | undefined): string {
  const status = is?.update_status ?? null;
  if (status === null || status.state === was?.update_status?.state) return '';
  // A canary waits for a word, as it should.
  if (is?.canary?.waiting_since !== null && is?.canary !== null && is?.canary !== undefined) {
    return 'its update would wait for "service promote"';
  }
  const words = UPDATE_ENDS[status.state];
  return words === '' ? '' : `${words}: ${status.message}`;
}

/** The label of jobs that run by the clock. */
export const CRON_LABEL = 'shoal.cron';

/** What becomes of each place of a service. */
function countPlaces(
  was: Map<string, Task[]>,
  is: Map<string, Task[]>,
): Pick<PlanResponse_OfService, 'started' | 'stopped' | 'moved' | 'replaced'> {
  const counts = { started: 0, stopped: 0, moved: 0, replaced: 0 };
  for (const key of new Set([...was.keys(), ...is.keys()])) {
    const [from, to] = [placed(was.get(key)), placed(is.get(key))];
    if (from === undefined) counts.started += to === undefined ? 0 : 1;
    else if (to === undefined) counts.stopped++;
    else if (from.node_id !== to.node_id) counts.moved++;
    else if (from.id !== to.id) counts.replaced++;
  }
  return counts;
}

function serviceDiff(before: Facts, after: Facts, view: ReadView, id: string): PlanResponse_OfService | undefined {
  const [was, is] = [before.services.get(id), after.services.get(id)];
  const counts = countPlaces(was?.places ?? new Map(), is?.places ?? new Map());
  // Runs that begin and end by the clock while time passes in the copy have nothing to do with the change.
  if (was !== undefined && is !== undefined && CRON_LABEL in (is.service.spec?.annotations?.labels ?? {})) {
    counts.started = 0;
    counts.stopped = 0;
  }
  const newOf = (words: (endpoint: Endpoint | null | undefined) => string[]): string[] => {
    const old = new Set(words(was?.service.endpoint));
    return words(is?.service.endpoint).filter((word) => !old.has(word));
  };
  const answer = PlanResponse_OfService.create({
    ...counts,
    service_id: id,
    name: (is ?? was)?.service.spec?.annotations?.name ?? id,
    nodes: nodeCounts(before, after, id),
    ports: newOf(portWords),
    addresses: newOf((endpoint) => addressWords(view, endpoint)),
    update: updateEnd(was?.service, is?.service),
  });
  const changed = counts.started + counts.stopped + counts.moved + counts.replaced > 0;
  return changed || answer.ports.length + answer.addresses.length > 0 || answer.update !== '' || was === undefined
    ? answer
    : undefined;
}

/** Places of a service whose task has no node, with its reason. */
function waitingPlaces(places: Map<string, Task[]>): Map<string, string> {
  const waiting = new Map<string, string>();
  for (const [key, tasks] of places) {
    if (placed(tasks) !== undefined) continue;
    waiting.set(key, tasks.find((task) => (task.status?.err ?? '') !== '')?.status?.err ?? 'it waits for a node');
  }
  return waiting;
}

function waitingDiff(before: Facts, after: Facts): PlanResponse_Waiting[] {
  const found = new Map<string, PlanResponse_Waiting>();
  for (const [id, { service, places }] of after.services) {
    const old = waitingPlaces(before.services.get(id)?.places ?? new Map());
    for (const [key, reason] of waitingPlaces(places)) {
      const already = old.has(key);
      const name = service.spec?.annotations?.name ?? id;
      const group = `${id} ${already} ${reason}`;
      const one = found.get(group);
      if (one === undefined) found.set(group, { service: name, count: 1, reason, already });
      else one.count++;
    }
  }
  return [...found.values()];
}

function nodeDiff(before: Facts, after: Facts, view: ReadView): PlanResponse_Reserved[] {
  const none = { nanoCpus: 0, memoryBytes: 0, tasks: 0 };
  return view
    .list('node')
    .map((node) => {
      const [was, is] = [before.reserved.get(node.id) ?? none, after.reserved.get(node.id) ?? none];
      const total = node.description?.resources;
      return {
        node_id: node.id,
        hostname: hostname(view, node.id),
        nano_cpus: total?.nano_cpus ?? 0,
        nano_cpus_before: was.nanoCpus,
        nano_cpus_after: is.nanoCpus,
        memory_bytes: total?.memory_bytes ?? 0,
        memory_before: was.memoryBytes,
        memory_after: is.memoryBytes,
        tasks_before: was.tasks,
        tasks_after: is.tasks,
      };
    })
    .toSorted((a, b) => (a.hostname < b.hostname ? -1 : 1));
}

/** What has changed between two sets of facts; `view` is the reading that `after` came from. */
export function diffOf(
  before: Facts,
  after: Facts,
  view: ReadView,
): Pick<PlanResponse, 'services' | 'waiting' | 'nodes'> {
  const ids = new Set([...before.services.keys(), ...after.services.keys()]);
  return {
    services: [...ids]
      .map((id) => serviceDiff(before, after, view, id))
      .filter((one) => one !== undefined)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    waiting: waitingDiff(before, after),
    nodes: nodeDiff(before, after, view),
  };
}
