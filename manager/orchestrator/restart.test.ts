import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RestartPolicy_RestartCondition, TaskState, timestampToMs, type Task } from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { crashLoopWait } from './restart.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

const { NONE, ON_FAILURE, ANY } = RestartPolicy_RestartCondition;

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

async function start(restart: object | undefined, mode: object = { replicated: { replicas: 1 } }): Promise<void> {
  const task = { container: { image: 'one' }, ...(restart === undefined ? {} : { restart }) };
  const service = aService('web', { spec: { annotations: { name: 'web' }, ...mode, task } });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

/** Tasks end in `state` once they have run for `ms`. */
function endsAfter(ms: number, state: TaskState): void {
  cluster.behaviour = (task) => {
    if (task.status?.state !== TaskState.RUNNING || task.desired_state > TaskState.COMPLETE) return obedient(task);
    const ranMs = cluster.clock.now() - timestampToMs(task.started_at);
    return ranMs >= ms ? { state, err: state === TaskState.FAILED ? 'task: non-zero exit (1)' : '' } : undefined;
  };
}

/** Seconds between the starts of the tasks that have run, whole. */
async function gapsBetweenStarts(ms: number): Promise<number[]> {
  const starts = new Set<number>();
  for (let passed = 0; passed < ms; passed += 500) {
    await cluster.run(500);
    for (const task of cluster.tasks('web')) if (task.started_at !== null) starts.add(timestampToMs(task.started_at));
  }
  const sorted = [...starts].sort((a, b) => a - b);
  return sorted.slice(1).map((at, i) => Math.round((at - sorted[i]!) / 1000));
}

const newest = (): Task => cluster.wanted('web').at(-1)!;

describe('restart conditions', () => {
  it.each([
    ['none', NONE, TaskState.COMPLETE, false],
    ['none', NONE, TaskState.FAILED, false],
    ['on-failure', ON_FAILURE, TaskState.COMPLETE, false],
    ['on-failure', ON_FAILURE, TaskState.FAILED, true],
    ['any', ANY, TaskState.COMPLETE, true],
    ['any', ANY, TaskState.FAILED, true],
  ])('%s (%i) with a task that ends in state %i: restarted %s', async (_name, condition, state, restarted) => {
    endsAfter(100, state);
    await start({ condition, delay: { seconds: 1 } });
    await cluster.run(3000);
    expect(cluster.tasks('web').length > 1).toBe(restarted);
    expect(cluster.wanted('web')).toHaveLength(restarted ? 1 : 0);
  });

  it('the default is any, after 5 s, without end', async () => {
    endsAfter(1000, TaskState.COMPLETE);
    await start(undefined);
    expect(await gapsBetweenStarts(62_000)).toEqual([6, 6, 6, 6, 6, 6, 6, 6, 6, 6]);
  });

  it('also when nothing of the history is kept', async () => {
    await cluster.setHistoryLimit(0);
    endsAfter(1000, TaskState.COMPLETE);
    await start({ condition: ANY, delay: { seconds: 5 } });
    expect(await gapsBetweenStarts(20_000)).toEqual([6, 6, 6]);
  });
});

describe('attempts', () => {
  it.each([
    ['replicated', { replicated: { replicas: 1 } }, 1],
    ['global', { global: {} }, 2],
  ])('are counted for each slot (node): %s', async (_name, mode, slots) => {
    endsAfter(100, TaskState.FAILED);
    await start({ condition: ANY, delay: {}, max_attempts: 2 }, mode);
    await cluster.run(5000);
    expect(cluster.tasks('web')).toHaveLength(3 * slots);
    expect(cluster.wanted('web')).toHaveLength(0);
  });

  it('begin anew with a new spec', async () => {
    endsAfter(100, TaskState.FAILED);
    await start({ condition: ANY, delay: {}, max_attempts: 1 });
    await cluster.run(2000);
    expect(cluster.tasks('web')).toHaveLength(2);
    await cluster.updateService('web', withImage('two'));
    await cluster.run(8000);
    expect(cluster.tasks('web').filter((task) => task.spec?.container?.image === 'two')).toHaveLength(2);
  });

  it('bound a loop, which keeps its delay then', async () => {
    endsAfter(0, TaskState.FAILED);
    await start({ condition: ANY, delay: { seconds: 1 }, max_attempts: 9 });
    expect(await gapsBetweenStarts(20_000)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1]);
    expect(cluster.wanted('web')).toHaveLength(0);
  });
});

describe('a crash loop', () => {
  it('waits for the delay five times, then twice as long each time, up to five minutes; leaders and history do not matter', async () => {
    await cluster.setHistoryLimit(1);
    endsAfter(0, TaskState.FAILED);
    await start({ condition: ANY, delay: { seconds: 5 } });
    const first = await gapsBetweenStarts(200_000);
    expect(first).toEqual([5, 5, 5, 5, 5, 10, 20, 40, 80]);
    await cluster.changeLeader();
    const second = await gapsBetweenStarts(900_000);
    expect(second).toEqual([160, 300, 300]);
  });

  it('says what it waits for', async () => {
    endsAfter(0, TaskState.FAILED);
    await start({ condition: ANY, delay: { seconds: 5 } });
    const text = (): string | undefined => crashLoopWait(cluster.store.view(), newest(), cluster.clock.now());
    expect(text()).toBeUndefined();
    await cluster.run(30_000);
    expect(newest()).toMatchObject({ restarts: 6, desired_state: TaskState.READY });
    expect(newest().created_for?.text).toMatch(
      /^waits 10s before restart 6 \(crash loop\): task \w+ ended: task: non-zero exit \(1\)$/,
    );
    expect(text()).toBe('waits 10s before restart 6 (crash loop)');
    cluster.behaviour = obedient;
    await cluster.run(10_000);
    expect(cluster.running('web')).toHaveLength(1);
    expect(text()).toBeUndefined();
  });

  it('is over once a task has run for a minute', async () => {
    endsAfter(0, TaskState.FAILED);
    await start({ condition: ANY, delay: { seconds: 5 } });
    await cluster.run(30_000);
    endsAfter(61_000, TaskState.FAILED);
    await cluster.run(80_000);
    expect(newest()).toMatchObject({ restarts: 1, created_for: { code: 'task-ended' } });
    endsAfter(59_000, TaskState.FAILED);
    await cluster.run(62_000);
    expect(newest().restarts).toBe(2);
  });

  it('is over with a new spec', async () => {
    endsAfter(0, TaskState.FAILED);
    await start({ condition: ANY, delay: { seconds: 5 } });
    await cluster.run(50_000);
    expect(newest().restarts).toBe(7);
    cluster.behaviour = obedient;
    await cluster.updateService('web', withImage('two'));
    await cluster.run(1000);
    expect(cluster.running('web')).toMatchObject([{ restarts: 0 }]);
  });

  it('of a task that cannot even be prepared grows alike', async () => {
    cluster.behaviour = (task) =>
      task.status!.state < TaskState.READY ? { state: TaskState.REJECTED, err: 'No such image' } : obedient(task);
    await start(undefined);
    await cluster.run(75_000);
    // Restarts 1 to 6 were made every 5 s; the seventh waits for the end of the sixth's 10 s, and for 20 s itself.
    expect(newest().restarts).toBe(8);
  });

  it('does not begin with tasks that end with 0, nor from one without delay before the sixth failure', async () => {
    endsAfter(0, TaskState.FAILED);
    await start({ condition: ANY, delay: {} });
    const gaps = await gapsBetweenStarts(20_000);
    expect(gaps.slice(-3)).toEqual([2, 4, 8]);
    expect(gaps.slice(0, -3).every((gap) => gap === 0)).toBe(true);
  });
});
