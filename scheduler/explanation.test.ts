import { describe, expect, it } from 'vitest';
import {
  Mount_Type,
  Node,
  NodeSpec_Availability,
  NodeStatus_State,
  PortConfig_PublishMode,
  Task,
  TaskState,
  type Partially,
} from '../proto/index.ts';
import { explanationLine, Scheduler, type Explanation } from './index.ts';

const MIB = 2 ** 20;

function node(id: string, fields: Partially<Node> = {}): Node {
  return Node.create({
    id,
    spec: { availability: NodeSpec_Availability.ACTIVE },
    status: { state: NodeStatus_State.READY },
    description: {
      hostname: id,
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: { nano_cpus: 2e9, memory_bytes: 1024 * MIB },
    },
    ...fields,
  });
}

function task(id: string, spec: Partially<Task['spec']> = {}, fields: Partially<Task> = {}): Task {
  return Task.create({
    id,
    service_id: 's',
    spec_version: { index: 1 },
    status: { state: TaskState.PENDING },
    desired_state: TaskState.RUNNING,
    spec: { container: { image: 'x' }, ...spec },
    ...fields,
  });
}

function memory(mib: number): Partially<Task['spec']> {
  return { resources: { reservations: { memory_bytes: mib * MIB } } };
}

function holding(id: string, nodeId: string, spec: Partially<Task['spec']>, fields: Partially<Task> = {}): Task {
  const other = { service_id: 'o', service_annotations: { name: 'db' } };
  return task(id, spec, { ...other, node_id: nodeId, status: { state: TaskState.RUNNING }, ...fields });
}

function explain(nodes: Node[], held: Task[], waiting: Task): Explanation {
  const scheduler = new Scheduler();
  for (const one of nodes) scheduler.setNode(one);
  for (const one of held) scheduler.addTask(one);
  return scheduler.explain(waiting, 0);
}

describe('an explanation', () => {
  it('names the node that lacks least, and what would free it', () => {
    const held = [holding('a', 'w1', memory(900)), holding('b', 'w2', memory(700))];
    const told = explain([node('w1'), node('w2')], held, task('t', memory(512)));
    expect(told).toEqual({
      text: 'no suitable node (insufficient resources on 2 nodes)',
      excluded: [{ filter: 'resource', nodes: 2, detail: 'insufficient resources on 2 nodes' }],
      nearest: { nodeId: 'w2', name: 'w2', filter: 'resource', lacks: 'lacks 188MiB of memory' },
      fix: 'free 188MiB of memory on w2, add a node, or lower --reserve-memory',
    });
    expect(explanationLine(told)).toBe(
      'no suitable node (insufficient resources on 2 nodes); nearest fit: w2 lacks 188MiB of memory; ' +
        'to fix: free 188MiB of memory on w2, add a node, or lower --reserve-memory',
    );
  });

  it('does not offer to free what was never there', () => {
    const told = explain([node('w1')], [], task('t', { resources: { reservations: { nano_cpus: 4.5e9 } } }));
    expect(told.nearest?.lacks).toBe('is too small, even when empty, by 2.5 CPUs');
    expect(told.fix).toBe('add a larger node, or lower --reserve-cpu');
  });

  it('names the constraint that alone excludes a node, and how to satisfy it', () => {
    const spec = { placement: { constraints: ['node.labels.zone == b', 'node.role == worker'] } };
    const told = explain([node('w1')], [], task('t', spec));
    expect(told.nearest?.lacks).toBe('does not satisfy the constraint node.labels.zone == b');
    expect(told.fix).toBe(
      'give it the label (node update --label-add zone=b w1), or take the constraint away (--constraint-rm)',
    );
  });

  it('tells who holds a port, in words', () => {
    const endpoint = {
      ports: [{ published_port: 80, target_port: 80, publish_mode: PortConfig_PublishMode.HOST }],
    };
    const told = explain([node('w1')], [holding('a', 'w1', {}, { endpoint })], task('t', {}, { endpoint }));
    expect(told.nearest?.lacks).toBe('has no free port: port 80/tcp is held by a task of service db');
  });

  it('counts each node once, at its first filter, and has no nearest when all fail twice', () => {
    const down = node('w1', { status: { state: NodeStatus_State.DOWN } });
    const told = explain([down], [], task('t', memory(4096)));
    expect(told.text).toBe('no suitable node (1 node not available for new tasks)');
    expect(told.nearest).toBeUndefined();
    expect(told.fix).toBe('bring nodes back, make them active, or add a node');
  });

  it.each([
    [{ status: { state: NodeStatus_State.DOWN } }, 'is down'],
    [{ status: { state: NodeStatus_State.UNKNOWN } }, 'is not ready'],
    [{ spec: { availability: NodeSpec_Availability.DRAIN } }, 'is drained'],
    [{ spec: { availability: NodeSpec_Availability.PAUSE } }, 'is paused'],
  ])('says what a node is that takes nothing: %j', (fields, lacks) => {
    expect(explain([node('w1', fields)], [], task('t')).nearest?.lacks).toBe(lacks);
  });

  it('says that cluster volumes are not supported', () => {
    const mounts = [{ type: Mount_Type.CLUSTER, source: 'v', target: '/v' }];
    const told = explain([node('w1')], [], task('t', { container: { image: 'x', mounts } }));
    expect(told.text).toBe('no suitable node (cannot fulfill requested CSI volume mounts on 1 node)');
    expect(told.nearest?.lacks).toBe('cannot mount v: cluster volumes are not supported');
  });

  it('says so when the cluster has no nodes, when a given node is gone, and when the task fits', () => {
    expect(explain([], [], task('t')).fix).toBe('the cluster has no nodes: join one');
    expect(explain([node('w1')], [], task('t', {}, { node_id: 'gone' })).fix).toBe(
      'node gone is not in the cluster any more',
    );
    expect(explain([node('w1')], [], task('t'))).toEqual({ text: 'w1 can take the task', excluded: [], fix: '' });
  });
});
