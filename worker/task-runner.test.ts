import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ShoalError, VirtualClock, silentLogger, unavailable } from '../base/index.ts';
import { Task, TaskState, TaskStatus, taskStateName } from '../proto/index.ts';
import { Limiter } from './limiter.ts';
import { TaskRunner } from './task-runner.ts';
import { FakeExecutor, type FakeContainer } from './testing.ts';

describe('task runner', () => {
  let clock: VirtualClock;
  let executor: FakeExecutor;
  let container: FakeContainer;
  let seen: string[];
  let runner: TaskRunner;
  let last: TaskStatus;

  const aTask = (desired: TaskState): Task => Task.create({ id: 't1', node_id: 'n1', desired_state: desired });
  const begin = async (desired: TaskState, state: TaskState = TaskState.ASSIGNED): Promise<void> => {
    const task = aTask(desired);
    runner = new TaskRunner({
      task,
      status: TaskStatus.create({ state }),
      controller: executor.controller(task, { secret: () => undefined, config: () => undefined }),
      clock,
      log: silentLogger,
      prepares: new Limiter(1),
      ready: () => Promise.resolve(),
      onStatus: (_, status) => {
        seen.push(taskStateName(status.state));
        last = status;
      },
    });
    runner.start();
    await clock.advanceAsync(0);
  };

  beforeEach(() => {
    clock = new VirtualClock();
    executor = new FakeExecutor('h');
    container = executor.container('t1');
    seen = [];
  });
  afterEach(async () => {
    const stopped = runner.stop();
    await clock.advanceAsync(5000);
    await stopped;
  });

  it('takes a task through its life', async () => {
    await begin(TaskState.RUNNING);
    expect(seen).toEqual(['accepted', 'preparing', 'ready', 'starting', 'running']);
    expect(last.container?.pid).toBe(4242);
    container.exit({ exitCode: 0 });
    await clock.advanceAsync(0);
    expect(last).toMatchObject({ state: TaskState.COMPLETE, container: { container_id: 'container-t1', pid: 0 } });
    runner.remove();
    await runner.finished;
    expect(container.calls).toEqual(['prepare', 'start', 'wait', 'shutdown', 'remove']);
  });

  it('rejects a task whose container cannot be made, fails one that does not start', async () => {
    container.failPrepare = new ShoalError('NotFound', 'No such image: nginx');
    await begin(TaskState.RUNNING);
    expect(last).toMatchObject({ state: TaskState.REJECTED, err: 'No such image: nginx' });
    await runner.stop();
    executor = new FakeExecutor('h');
    container = executor.container('t1');
    container.failStart = new ShoalError('InvalidArgument', 'exec: "nope": executable file not found');
    await begin(TaskState.RUNNING);
    expect(last).toMatchObject({ state: TaskState.FAILED, err: 'exec: "nope": executable file not found' });
  });

  it('tries again after a second when the trouble may pass, and says why it waits', async () => {
    container.failPrepare = unavailable('registry does not answer');
    await begin(TaskState.RUNNING);
    expect(last).toMatchObject({ state: TaskState.PREPARING, err: 'registry does not answer' });
    await clock.advanceAsync(900);
    expect(last.state).toBe(TaskState.PREPARING);
    await clock.advanceAsync(200);
    expect(last.state).toBe(TaskState.RUNNING);
  });

  it('stops a running container when asked, and ignores a lower desired state', async () => {
    await begin(TaskState.RUNNING);
    runner.update(aTask(TaskState.SHUTDOWN));
    await clock.advanceAsync(0);
    expect(last).toMatchObject({ state: TaskState.SHUTDOWN, container: { exit_code: 143 } });
    runner.update(aTask(TaskState.RUNNING));
    await clock.advanceAsync(0);
    expect(runner.task.desired_state).toBe(TaskState.SHUTDOWN);
    expect(container.calls.filter((call) => call === 'start')).toHaveLength(1);
  });

  it('believes what is said of the end of a container, not only its exit code', async () => {
    await begin(TaskState.RUNNING);
    container.exit({ exitCode: 0, error: 'unhealthy container' });
    await clock.advanceAsync(0);
    expect(last).toMatchObject({ state: TaskState.FAILED, err: 'task: non-zero exit (0): unhealthy container' });
  });

  it('does not call a task running whose container ended before it was healthy', async () => {
    container.become({ state: 'created' });
    const started = container.changed(new AbortController().signal);
    void started.then(() => container.exit({ exitCode: 7 }));
    await begin(TaskState.RUNNING, TaskState.STARTING);
    expect(seen).toEqual(['failed']);
  });

  it('continues with a running container after a restart', async () => {
    container.become({ state: 'running' });
    await begin(TaskState.RUNNING, TaskState.RUNNING);
    expect(container.calls).toEqual(['wait']);
    expect(seen).toEqual([]);
  });

  it('stops the container of a task that the manager has given up', async () => {
    await begin(TaskState.RUNNING);
    runner.update({ ...aTask(TaskState.RUNNING), status: TaskStatus.create({ state: TaskState.REJECTED }) });
    await clock.advanceAsync(0);
    expect(container.calls.at(-1)).toBe('shutdown');
    expect(runner.status.state).toBe(TaskState.REJECTED);
  });
});

describe('limiter', () => {
  it('runs a few at a time, in order, and lets waiters give up', async () => {
    const limiter = new Limiter(1);
    const controller = new AbortController();
    const order: number[] = [];
    let release: () => void = () => undefined;
    const first = limiter.run(controller.signal, () => new Promise<void>((resolve) => (release = resolve)));
    const given = new AbortController();
    const second = limiter.run(given.signal, async () => void order.push(2));
    const third = limiter.run(controller.signal, async () => void order.push(3));
    given.abort(new Error('no longer'));
    await expect(second).rejects.toThrow('no longer');
    release();
    await Promise.all([first, third]);
    expect(order).toEqual([3]);
  });
});
