import { describe, expect, it } from 'vitest';
import { Assignment, PortConfig_Protocol, Task, TaskState, type MessageType } from './index.ts';

describe('message types', () => {
  it('fill every default in, so that a decoded message can be printed and copied', () => {
    const task = Task.create({ id: 't1', desired_state: TaskState.RUNNING });
    expect(task.networks).toEqual([]);
    expect(task.spec).toBeNull();
    expect({ ...task }).toEqual(Task.decode(Task.encode(task)));
  });

  it('leave absent members of a oneof out', () => {
    const assignment = Assignment.create({ network_table: { network_id: 'n', version: 3 } });
    expect(assignment.task).toBeUndefined();
    expect(assignment.network_table?.version).toBe(3);
  });

  it('carry whole numbers up to 2^53', () => {
    const task = Task.create({ slot: Number.MAX_SAFE_INTEGER });
    expect(Task.clone(task).slot).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('compare by value', () => {
    const one = Task.create({ id: 'a', endpoint: { ports: [{ protocol: PortConfig_Protocol.UDP, target_port: 53 }] } });
    expect(Task.equal(one, Task.clone(one))).toBe(true);
    expect(Task.equal(one, Task.create({ id: 'a' }))).toBe(false);
    expect(Task.equal(one, null)).toBe(false);
  });

  it('refuse bytes that are no message', () => {
    const type: MessageType<Task> = Task;
    expect(() => type.decode(new Uint8Array([0xff, 0xff, 0xff]))).toThrow();
  });
});
