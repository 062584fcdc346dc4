import { describe, expect, it } from 'vitest';
import type { Service, ServiceMode, Task } from './objects.ts';
import { Convergence, type ProgressLine } from './progress.ts';

const service = (Mode: ServiceMode, more: Partial<Service> = {}): Service => ({
  ID: 'id',
  Version: { Index: 1 },
  Spec: { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'x' } }, Mode },
  ...more,
});

const task = (Slot: number, State: string, more: Partial<Task> = {}): Task => ({
  ID: `t${Slot}`,
  CreatedAt: '',
  Spec: {},
  ServiceID: 'id',
  Slot,
  NodeID: 'n1',
  DesiredState: 'running',
  Status: { Timestamp: '', State },
  ...more,
});

function follow(): {
  lines: string[];
  convergence: Convergence;
  step: (s: Service, tasks: Task[], ms: number) => unknown;
} {
  const lines: string[] = [];
  const show = ({ id, status, current, total }: ProgressLine): number =>
    lines.push(`${id}|${status.trimEnd()}|${current}/${total}`);
  const convergence = new Convergence('web', show);
  const activeNodes = new Set(['n1', 'n2']);
  const step = (one: Service, tasks: Task[], ms: number): unknown => {
    const outcome = convergence.seeService(one, ms);
    return outcome.done ? outcome : convergence.seeTasks({ service: one, tasks, activeNodes }, ms);
  };
  return { lines, convergence, step };
}

describe('convergence', () => {
  it('draws the bars, then verifies for the monitor period', () => {
    const { lines, step } = follow();
    const web = service({ Replicated: { Replicas: 2 } });
    expect(step(web, [task(7, 'preparing')], 0)).toEqual({ done: false });
    expect(lines.splice(0)).toEqual([
      'overall progress|0 out of 2 tasks|0/0',
      '1/2||0/0',
      '2/2||0/0',
      '1/2|preparing|6/9',
      'overall progress|0 out of 2 tasks|0/0',
    ]);
    const both = [task(7, 'running'), task(9, 'running')];
    expect(step(web, both, 200)).toEqual({ done: false });
    expect(lines.splice(0)).toEqual([
      '1/2|running|9/9',
      '2/2|running|9/9',
      'overall progress|2 out of 2 tasks|0/0',
      'verify|Waiting 5 seconds to verify that tasks are stable...|0/0',
    ]);
    expect(step(web, both, 5_100)).toEqual({ done: false });
    expect(step(web, both, 5_200)).toEqual({ done: true });
    expect(lines.at(-1)).toBe('verify|Service web converged|0/0');
  });

  it('starts the period anew when a task fails', () => {
    const { lines, step } = follow();
    const web = service({ Replicated: { Replicas: 1 } });
    step(web, [task(1, 'running')], 0);
    step(web, [task(1, 'failed', { Status: { Timestamp: '', State: 'failed', Err: 'boom' } })], 1_000);
    expect(lines.at(-1)).toBe('verify|Detected task failure|0/0');
    step(web, [task(1, 'running')], 2_000);
    expect(step(web, [task(1, 'running')], 6_000)).toEqual({ done: false });
    expect(step(web, [task(1, 'running')], 7_000)).toEqual({ done: true });
  });

  it('prefers the lowest desired state of a slot and ignores tasks on lost nodes', () => {
    const { convergence, step } = follow();
    const web = service({ Replicated: { Replicas: 1 } });
    step(web, [task(1, 'running', { DesiredState: 'shutdown' }), task(1, 'starting', { DesiredState: 'ready' })], 0);
    expect(convergence.converged).toBe(false);
    step(web, [task(1, 'running', { NodeID: 'gone' })], 200);
    expect(convergence.converged).toBe(false);
  });

  it('shows errors cut to one line, and no bars above twenty replicas', () => {
    const { lines, step } = follow();
    const Err = `a\n${'x'.repeat(100)}`;
    step(
      service({ Replicated: { Replicas: 1 } }),
      [task(1, 'pending', { Status: { Timestamp: '', State: 'pending', Err } })],
      0,
    );
    expect(lines[2]).toBe(`1/1|a ${'x'.repeat(72)}…|0/0`);
    const many = follow();
    many.step(service({ Replicated: { Replicas: 21 } }), [task(1, 'running')], 0);
    expect(many.lines).toEqual(['overall progress|0 out of 21 tasks|0/0', 'overall progress|1 out of 21 tasks|0/0']);
  });

  it('counts the nodes of a global service by its tasks', () => {
    const { lines, step } = follow();
    const web = service({ Global: {} });
    step(web, [], 0);
    expect(lines).toEqual(['overall progress|waiting for new tasks|0/0']);
    step(web, [task(0, 'running'), task(0, 'starting', { NodeID: 'n2' })], 200);
    expect(lines.at(-1)).toBe('overall progress|1 out of 2 tasks|0/0');
  });

  it('ends a job as soon as it is complete', () => {
    const { lines, step } = follow();
    const job = service(
      { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 2 } },
      { JobStatus: { JobIteration: { Index: 4 } } },
    );
    const of = (Slot: number, State: string): Task => task(Slot, State, { JobIteration: { Index: 4 } });
    expect(
      step(job, [of(0, 'complete'), of(1, 'running'), task(0, 'running', { JobIteration: { Index: 3 } })], 0),
    ).toEqual({ done: false });
    expect(lines.slice(-2)).toEqual(['job progress|1 out of 2 complete|1/2', 'active tasks|1 out of 1 tasks|0/0']);
    expect(step(job, [of(0, 'complete'), of(1, 'complete')], 200)).toEqual({ done: true });
    expect(lines.at(-1)).toBe('|job complete|0/0');
  });

  it('follows a failed update to the end of its rollback, which is an error', () => {
    const { lines, step } = follow();
    const web = (State: string, Message: string): Service =>
      service({ Replicated: { Replicas: 1 } }, { UpdateStatus: { State, Message } });
    const cause = 'update rolled back due to failure or early termination of task t';
    expect(step(web('updating', 'update in progress'), [], 0)).toEqual({ done: false });
    expect(step(web('paused', cause), [], 200)).toEqual({ done: false });
    expect(step(web('rollback_started', cause), [task(1, 'running')], 400)).toEqual({ done: false });
    expect(lines).toContain(`rollback|${cause}|0/0`);
    const end = { done: true, error: `service ${cause}` };
    expect(step(web('rollback_completed', cause), [task(1, 'running')], 600)).toEqual(end);
  });

  it('takes the failure of an update before for none of its own', () => {
    const { step } = follow();
    const cause = 'update rolled back due to failure or early termination of task t';
    const UpdateStatus = { State: 'rollback_completed', Message: cause };
    const web = service({ Replicated: { Replicas: 1 } }, { UpdateStatus });
    expect(step(web, [task(1, 'running')], 0)).toEqual({ done: false });
    expect(step(web, [task(1, 'running')], 6_000)).toEqual({ done: true });
  });

  it('ends when a canary waits, and says what for', () => {
    const { lines, step } = follow();
    const canary = { Tasks: 1, WaitingSince: 'now' };
    const UpdateStatus = { State: 'updating', Message: 'waiting for promotion: 1 of 2 tasks run the new version' };
    const web = service({ Replicated: { Replicas: 2 } }, { UpdateStatus, Canary: canary });
    expect(step(web, [], 0)).toEqual({ done: true });
    expect(lines).toEqual([`canary|${UpdateStatus.Message}; go on with "shoal service promote web"|0/0`]);
    const promoted = { ...web, Canary: { ...canary, PromotedAt: 'now' } };
    expect(follow().step(promoted, [], 0)).toEqual({ done: false });
  });

  it('is ended by the update: paused, rolled back, or over', () => {
    const state = (State: string): Service =>
      service({ Replicated: { Replicas: 1 } }, { UpdateStatus: { State, Message: 'why' } });
    expect(follow().step(state('paused'), [], 0)).toEqual({ done: true, error: 'service update paused: why' });
    expect(follow().step(state('rollback_paused'), [], 0)).toEqual({
      done: true,
      error: 'service rollback paused: why',
    });
    expect(follow().step(state('completed'), [], 0)).toEqual({ done: true });
    const { lines, step } = follow();
    step(state('rollback_started'), [], 0);
    expect(lines.slice(0, 2)).toEqual([
      'rollback|why|0/0',
      'overall progress|rolling back update: 0 out of 1 tasks|0/0',
    ]);
  });
});
