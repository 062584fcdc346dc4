import {
  Node,
  NodeSpec_Availability,
  NodeStatus_State,
  PortConfig_PublishMode,
  Task,
  TaskState,
  type Partially,
} from '../proto/index.ts';
import { groupTasks, Scheduler, type Decisions } from './scheduler.ts';

export const GIB = 2 ** 30;

/** A ready, active node with 4 CPUs and 8 GiB, whose hostname is its id. */
export function aNode(id: string, cpus = 4, labels: Record<string, string> = {}): Node {
  return Node.create({
    id,
    spec: { availability: NodeSpec_Availability.ACTIVE, annotations: { labels } },
    status: { state: NodeStatus_State.READY },
    description: { hostname: id, resources: { nano_cpus: cpus * 1e9, memory_bytes: 8 * GIB } },
  });
}

/** What a service of the tests is like. */
export interface Shape {
  service: string;
  labels?: Record<string, string>;
  cpus?: number;
  memoryGib?: number;
  constraints?: string[];
  preferences?: string[];
  maxReplicas?: number;
  hostPort?: number;
}

/** A waiting task of a service. */
export function aTask(id: string, shape: Shape, fields: Partially<Task> = {}): Task {
  const { service, labels = {}, cpus = 0, memoryGib = 0, constraints = [], preferences = [] } = shape;
  const ports =
    shape.hostPort === undefined
      ? []
      : [{ published_port: shape.hostPort, target_port: 80, publish_mode: PortConfig_PublishMode.HOST }];
  return Task.create({
    id,
    service_id: service,
    service_annotations: { name: service, labels },
    spec_version: { index: 1 },
    status: { state: TaskState.PENDING },
    desired_state: TaskState.RUNNING,
    endpoint: { ports },
    spec: {
      container: { image: 'x' },
      resources: { reservations: { nano_cpus: cpus * 1e9, memory_bytes: memoryGib * GIB } },
      placement: {
        constraints,
        max_replicas: shape.maxReplicas ?? 0,
        preferences: preferences.map((spread_descriptor) => ({ spread: { spread_descriptor } })),
      },
    },
    ...fields,
  });
}

export function someTasks(prefix: string, count: number, shape: Shape): Task[] {
  return Array.from({ length: count }, (_, i) => aTask(`${prefix}${i}`, shape));
}

/** A task that runs on a node already. */
export function running(id: string, nodeId: string, shape: Shape, fields: Partially<Task> = {}): Task {
  return aTask(id, shape, { node_id: nodeId, status: { state: TaskState.RUNNING }, ...fields });
}

export function clusterOf(nodes: readonly Node[], tasks: readonly Task[] = []): Scheduler {
  const scheduler = new Scheduler();
  for (const node of nodes) scheduler.setNode(node);
  for (const task of tasks) scheduler.addTask(task);
  return scheduler;
}

export function schedule(scheduler: Scheduler, tasks: readonly Task[], nowMs = 0): Decisions {
  return scheduler.schedule(groupTasks(tasks), nowMs);
}

/** How many tasks each node was given. */
export function counts({ assignments }: Decisions): Record<string, number> {
  const result: Record<string, number> = {};
  for (const { nodeId } of assignments) result[nodeId] = (result[nodeId] ?? 0) + 1;
  return result;
}
