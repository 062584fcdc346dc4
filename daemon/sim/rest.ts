import {
  NodeSpec_Availability,
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  TaskState,
  UpdateStatus_UpdateState,
  type Node,
  type Service,
  type Task,
} from '../../proto/index.ts';
import type { ReadView } from '../../manager/index.ts';
import { imageKind, SOUND_IMAGES } from './image.ts';
import { observed, stateName, taskText } from './words.ts';
import type { World } from './world.ts';

type Wait = string | undefined;

/** What keeps the cluster from its rest; undefined when everything is as it should be. */
export function unrest(world: World): Wait {
  return machines(world) ?? state(world);
}

/** Every program runs, every manager follows the one leader, every agent has its session. */
function machines(world: World): Wait {
  const leader = world.leader();
  if (leader?.run === undefined) return 'no manager leads';
  const { frontier } = world.oracle;
  for (const manager of world.managers) {
    const status = manager.run?.manager.consensus.status();
    if (status === undefined) return `${manager.nodeId} does not run`;
    if (status.leaderId !== leader.id) return `${manager.nodeId} does not follow ${leader.nodeId}`;
    if (status.applied + 5 < frontier) return `${manager.nodeId} is at entry ${status.applied} of ${frontier}`;
  }
  for (const worker of world.members) {
    if (!worker.connected) return `${worker.name} has no session`;
  }
  return undefined;
}

function state(world: World): Wait {
  const { view } = world.oracle;
  if (view === undefined) return 'nothing is stored';
  for (const worker of world.members) {
    const node = view.get('node', worker.nodeId);
    if (node === undefined) return `${worker.name} has not joined`;
    if (node.status?.state !== NodeStatus_State.READY) return `${worker.name} is not ready`;
  }
  const alive = new Set(world.members.map((worker) => worker.nodeId));
  for (const node of view.list('node')) {
    if (!alive.has(node.id) && node.status?.state !== NodeStatus_State.DOWN) return `${node.id} is gone and not Down`;
  }
  for (const service of view.list('service')) {
    const wait = serviceUnrest(view, service);
    if (wait !== undefined) return `service ${service.spec?.annotations?.name}: ${wait}`;
  }
  return leftovers(world, view);
}

/** Nothing runs that should not, anywhere. */
function leftovers(world: World, view: ReadView): Wait {
  for (const task of view.list('task')) {
    const state = observed(task);
    const node = view.get('node', task.node_id);
    const isStopping =
      task.desired_state > TaskState.COMPLETE && state >= TaskState.ASSIGNED && state <= TaskState.RUNNING;
    if (isStopping && node?.status?.state === NodeStatus_State.READY) return `${taskText(task)} has not stopped`;
    if (isStopping && node === undefined) return `${taskText(task)} is on no node of the cluster`;
  }
  for (const worker of world.members) {
    for (const container of worker.containers.values()) {
      if (container.state !== 'running') continue;
      const task = view.get('task', container.task.id);
      if (task === undefined) return `${worker.name} runs ${taskText(container.task)}, which is not stored any more`;
      if (task.desired_state > TaskState.COMPLETE || observed(task) > TaskState.RUNNING) {
        return `${worker.name} still runs ${taskText(task)}`;
      }
    }
  }
  return undefined;
}

function serviceUnrest(view: ReadView, service: Service): Wait {
  const { UPDATING, ROLLBACK_STARTED } = UpdateStatus_UpdateState;
  const tasks = view.tasksByService(service.id);
  const wanted = tasks.filter((task) => task.desired_state <= TaskState.COMPLETE);
  const waiting = wanted.filter((task) => observed(task) < TaskState.ASSIGNED);
  const pair = doubled(service, wanted);
  if (pair !== undefined) return pair;
  const mute = waiting.find((task) => (task.status?.err ?? '') === '');
  if (mute !== undefined) return `${taskText(mute)} waits, and nothing says why`;
  const update = service.update_status?.state;
  const hopeless = !isSound(service) || tasks.some((task) => !SOUND_IMAGES.has(imageKind(task)));
  // Those that cannot work go on failing; those that wait for a node hold their update.
  if (hopeless || waiting.length > 0) return undefined;
  // What a user may still have to promote, what waits for another service, and what starts by the clock.
  const labels = service.spec?.annotations?.labels ?? {};
  if (service.canary !== null || labels['shoal.cron'] !== undefined) return undefined;
  if (labels['shoal.depends-on'] !== undefined && service.first_converged === null) return undefined;
  if (update === UPDATING || update === ROLLBACK_STARTED) return 'its update does not end';
  const { spec } = service;
  if (spec?.replicated !== undefined) return replicatedUnrest(service, tasks, spec.replicated.replicas);
  if (spec?.global !== undefined) return globalUnrest(view, service, tasks);
  return jobUnrest(service, tasks, spec?.replicated_job?.total_completions);
}

/** Overlaps end. */
function doubled(service: Service, wanted: readonly Task[]): Wait {
  const isNodeBound = service.spec?.global !== undefined || service.spec?.global_job !== undefined;
  const updating = service.update_status?.state;
  // A pair of an update that waits (for a node, for its user) stays.
  if (updating !== undefined && updating !== UpdateStatus_UpdateState.COMPLETED) return undefined;
  const slots = new Map<string, Task>();
  for (const task of wanted) {
    // One that waits for a node says so, and may wait for ever.
    if (observed(task) > TaskState.RUNNING || observed(task) < TaskState.ASSIGNED) continue;
    const key = `${isNodeBound ? task.node_id : task.slot} ${task.job_iteration?.index}`;
    const other = slots.get(key);
    if (other !== undefined) return `${taskText(task)} is in one slot with ${taskText(other)}`;
    slots.set(key, task);
  }
  return undefined;
}

function isSound(service: Service): boolean {
  const image = service.spec?.task?.container?.image ?? '';
  return SOUND_IMAGES.has(image.split(':')[0] ?? '');
}

/** Tasks need not come back under every policy. */
function mayRest(service: Service): boolean {
  const restart = service.spec?.task?.restart;
  const { ANY } = RestartPolicy_RestartCondition;
  return (restart?.condition ?? ANY) !== ANY || (restart?.max_attempts ?? 0) > 0;
}

function isRunning(task: Task): boolean {
  return observed(task) === TaskState.RUNNING && task.desired_state === TaskState.RUNNING;
}

function replicatedUnrest(service: Service, tasks: readonly Task[], replicas: number): Wait {
  const slots = new Map<number, Task>();
  for (const task of tasks) if (isRunning(task)) slots.set(task.slot, task);
  const running = tasks.filter(isRunning).length;
  if (running > slots.size) return `${running} tasks run in ${slots.size} slots`;
  if (running === replicas) return undefined;
  if (running > replicas) return `${running} of ${replicas} replicas run`;
  if (!mayRest(service)) return `${running} of ${replicas} replicas run: ${summary(tasks)}`;
  const resting = new Set(tasks.filter((task) => observed(task) > TaskState.RUNNING).map((task) => task.slot));
  for (const slot of slots.keys()) resting.delete(slot);
  const some = running + resting.size >= replicas;
  return some ? undefined : `${running} of ${replicas} replicas run, ${resting.size} rest: ${summary(tasks)}`;
}

function summary(tasks: readonly Task[]): string {
  return tasks
    .filter((task) => task.desired_state <= TaskState.COMPLETE)
    .map((task) => `${task.slot} ${stateName(observed(task))} wanted ${stateName(task.desired_state)}`)
    .join(', ');
}

function isActive(node: Node): boolean {
  return node.spec?.availability === NodeSpec_Availability.ACTIVE && node.status?.state === NodeStatus_State.READY;
}

/** Constraints of the load name one key each: none of them makes this check necessary for every node. */
function globalUnrest(view: ReadView, service: Service, tasks: readonly Task[]): Wait {
  if ((service.spec?.task?.placement?.constraints ?? []).length > 0 || mayRest(service)) return undefined;
  for (const node of view.list('node').filter(isActive)) {
    const here = tasks.filter((task) => task.node_id === node.id && isRunning(task)).length;
    if (here !== 1) return `${here} tasks run on node ${node.id}`;
  }
  return undefined;
}

function jobUnrest(service: Service, tasks: readonly Task[], total: number | undefined): Wait {
  const iteration = service.job_status?.job_iteration?.index ?? 0;
  const own = tasks.filter((task) => (task.job_iteration?.index ?? 0) === iteration);
  const busy = own.find((task) => task.desired_state <= TaskState.COMPLETE && observed(task) <= TaskState.RUNNING);
  if (busy !== undefined) return `${taskText(busy)} does not end`;
  if (total === undefined || mayRest(service)) return undefined;
  const done = new Set(own.filter((task) => observed(task) === TaskState.COMPLETE).map((task) => task.slot));
  return done.size >= total ? undefined : `${done.size} of ${total} completions`;
}
