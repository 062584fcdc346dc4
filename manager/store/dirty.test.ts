import { describe, expect, it } from 'vitest';
import { TaskState, type Partially, type Service, type TaskSpec } from '../../proto/index.ts';
import { isTaskDirty, sameMessage } from './dirty.ts';
import { aNode, aService, aTask } from './testing.ts';

const NEW_VERSION = { index: 8 };
const OLD_VERSION = { index: 3 };

function service(task: Partially<TaskSpec>, fields: Partially<Service> = {}): Service {
  return aService('s', { spec: { annotations: { name: 's' }, task, ...fields.spec }, spec_version: NEW_VERSION });
}

const task = (spec: Partially<TaskSpec>, state: TaskState = TaskState.RUNNING) =>
  aTask('t', { service_id: 's', spec, spec_version: OLD_VERSION, status: { state } });

const image = { container: { image: 'x' } };

describe('a task is dirty', () => {
  it('never when its spec version is that of the service', () => {
    expect(isTaskDirty(service({ container: { image: 'y' } }), aTask('t', { spec_version: NEW_VERSION }))).toBe(false);
  });

  it('when the spec truly differs, whatever the order of labels', () => {
    expect(isTaskDirty(service(image), task(image))).toBe(false);
    expect(isTaskDirty(service({ ...image, force_update: 1 }), task(image))).toBe(true);
    const labels = (value: Record<string, string>): Partially<TaskSpec> => ({
      container: { image: 'x', labels: value },
    });
    expect(isTaskDirty(service(labels({ a: '1', b: '2' })), task(labels({ b: '2', a: '1' })))).toBe(false);
  });

  it('not for constraints that its node satisfies, but for more than constraints', () => {
    const wanted = (constraint: string): Service => service({ ...image, placement: { constraints: [constraint] } });
    const node = aNode('n1');
    expect(isTaskDirty(wanted('node.id == n1'), task(image), node)).toBe(false);
    expect(isTaskDirty(wanted('node.id == n2'), task(image), node)).toBe(true);
    expect(isTaskDirty(wanted('node.id == n1'), task(image))).toBe(true);
    const more = { ...image, placement: { constraints: ['node.id == n1'], max_replicas: 2 } };
    expect(isTaskDirty(service(more), task(image), node)).toBe(true);
  });

  it('not for new credentials once the image is there', () => {
    const wanted = service({ container: { image: 'x', pull_options: { registry_auth: 'new' } } });
    expect(isTaskDirty(wanted, task(image, TaskState.RUNNING))).toBe(false);
    expect(isTaskDirty(wanted, task(image, TaskState.PREPARING))).toBe(true);
  });

  it('when the endpoint differs', () => {
    const ports = { spec: { endpoint: { ports: [{ target_port: 80, published_port: 80 }] } } };
    const with80 = service(image, ports);
    const plain = { ...task(image), endpoint: { spec: null, ports: [], virtual_ips: [] } };
    expect(isTaskDirty(with80, plain)).toBe(true);
    expect(isTaskDirty(service(image), plain)).toBe(false);
    expect(isTaskDirty(with80, task(image))).toBe(false);
  });
});

describe('messages', () => {
  it('are the same by value', () => {
    expect(sameMessage({ a: [1, { b: new Uint8Array([1]) }] }, { a: [1, { b: new Uint8Array([1]) }] })).toBe(true);
    expect(sameMessage({ a: [1] }, { a: [1, 2] })).toBe(false);
    expect(sameMessage({ a: null }, {})).toBe(true);
    expect(sameMessage(null, {})).toBe(false);
    expect(sameMessage(new Uint8Array([1]), new Uint8Array([2]))).toBe(false);
  });
});
