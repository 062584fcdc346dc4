import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  TaskState,
  timestampToMs,
  UpdateStatus_UpdateState,
  type CronRun,
  type ServiceSpec,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { runNow } from './cron-runs.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

const MINUTE_MS = 60_000;

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
  // To a whole minute, so that the tests can count.
  await cluster.clock.advanceAsync(MINUTE_MS - (cluster.clock.now() % MINUTE_MS));
  lasts(1000);
});

afterEach(() => cluster.stop());

/** Tasks run for `ms`, then end in `state`. */
function lasts(ms: number, state: TaskState = TaskState.COMPLETE): void {
  cluster.behaviour = (task) => {
    if (task.status?.state !== TaskState.RUNNING || task.desired_state > TaskState.COMPLETE) return obedient(task);
    const isOver = cluster.clock.now() - timestampToMs(task.started_at) >= ms;
    return isOver ? { state, err: state === TaskState.FAILED ? 'task: non-zero exit (1)' : '' } : undefined;
  };
}

async function create(labels: Record<string, string>, mode: object = {}, task: object = {}): Promise<void> {
  const replicated_job = { total_completions: 1, max_concurrent: 1 };
  const spec = {
    annotations: { name: 'tidy', labels: { 'shoal.cron': '* * * * *', ...labels } },
    task: { container: { image: 'one' }, restart: { condition: 0 as const }, ...task },
    ...(Object.keys(mode).length === 0 ? { replicated_job } : mode),
  };
  const service = aService('tidy', { spec, job_status: { job_iteration: { index: 0 } } });
  await cluster.store.update((tx) => tx.create('service', service));
}

const runs = (): CronRun[] => cluster.service('tidy').cron?.runs ?? [];
const outcomes = (): string[] => runs().map((run) => run.outcome);
const working = (): number => cluster.tasks('tidy').filter((task) => task.status!.state <= TaskState.RUNNING).length;

/** Minutes from the start of the present minute to each run's scheduled time. */
const minutesSince = (startMs: number): number[] =>
  runs().map((run) => (timestampToMs(run.scheduled) - startMs) / MINUTE_MS);

const withLabels =
  (labels: Record<string, string>) =>
  (spec: ServiceSpec): ServiceSpec => ({ ...spec, annotations: { ...spec.annotations!, labels } });

async function runByHand(): Promise<void> {
  await cluster.store.update((tx) => tx.update('service', runNow(tx.get('service', 'tidy')!, cluster.clock.now())));
  await cluster.run(100);
}

describe('a job that runs by the clock', () => {
  it('does not run when it is created, then once at each due time', async () => {
    const start = cluster.clock.now();
    await create({});
    await cluster.run(59_000);
    expect(cluster.tasks('tidy')).toEqual([]);
    expect(timestampToMs(cluster.service('tidy').cron?.next_scheduled)).toBe(start + MINUTE_MS);
    await cluster.run(2 * MINUTE_MS + 5000);
    expect(minutesSince(start)).toEqual([1, 2, 3]);
    expect(outcomes()).toEqual(['complete', 'complete', 'complete']);
    expect(new Set(runs().map((run) => run.job_iteration)).size).toBe(3);
    expect(cluster.tasks('tidy')).toHaveLength(3);
  });

  it('remembers as many finished runs, and their tasks, as its history says', async () => {
    await create({ 'shoal.cron.history': '2' });
    await cluster.run(5 * MINUTE_MS + 5000);
    expect(outcomes()).toEqual(['complete', 'complete']);
    const iterations = cluster.tasks('tidy').map((task) => task.job_iteration?.index);
    expect(new Set(iterations)).toEqual(new Set(runs().map((run) => run.job_iteration)));
  });

  it('runs all tasks of each run: several completions, global jobs', async () => {
    await create({}, { replicated_job: { total_completions: 5, max_concurrent: 2 } });
    await cluster.run(MINUTE_MS + 10_000);
    expect(new Set(cluster.tasks('tidy').map((task) => task.slot))).toEqual(new Set([0, 1, 2, 3, 4]));
    expect(outcomes()).toEqual(['complete']);
    await cluster.store.update((tx) => tx.remove('service', 'tidy'));
    await cluster.run(1000);
    await create({}, { global_job: {} });
    await cluster.run(MINUTE_MS);
    expect(
      cluster
        .tasks('tidy')
        .map((task) => task.node_id)
        .toSorted(),
    ).toEqual(['n1', 'n2']);
    expect(outcomes()).toEqual(['complete']);
  });

  it('tells of a run whose retries are used up, also to clients that wait', async () => {
    lasts(0, TaskState.FAILED);
    await create({}, {}, { restart: { condition: 1, max_attempts: 2, delay: { seconds: 1 } } });
    await cluster.run(MINUTE_MS + 10_000);
    expect(cluster.tasks('tidy')).toHaveLength(3);
    expect(runs()).toMatchObject([
      { outcome: 'failed', message: '1 of 1 tasks failed for good: task: non-zero exit (1)' },
    ]);
    expect(cluster.service('tidy').update_status?.state).toBe(UpdateStatus_UpdateState.PAUSED);
    lasts(0);
    await cluster.run(MINUTE_MS);
    expect(outcomes()).toEqual(['failed', 'complete']);
    expect(cluster.service('tidy').update_status?.state).toBe(UpdateStatus_UpdateState.COMPLETED);
  });
});

describe('a run that is due while one is at work', () => {
  beforeEach(() => lasts(150_000));

  it('is passed over (forbid), and that is noted', async () => {
    const start = cluster.clock.now();
    await create({});
    await cluster.run(4 * MINUTE_MS + 5000);
    expect(working()).toBe(1);
    expect(minutesSince(start)).toEqual([1, 2, 3, 4]);
    expect(outcomes()).toEqual(['complete', 'skipped', 'skipped', 'running']);
    expect(runs()[1]?.message).toBe(`run ${runs()[0]?.job_iteration} is still at work`);
  });

  it('takes its place (replace)', async () => {
    await create({ 'shoal.cron.concurrency': 'replace' });
    await cluster.run(3 * MINUTE_MS + 5000);
    expect(outcomes()).toEqual(['replaced', 'replaced', 'running']);
    expect(cluster.tasks('tidy')).toHaveLength(1);
    expect(working()).toBe(1);
  });

  it('runs beside it (allow), each to its own end, failed tasks of either tried again', async () => {
    await create({ 'shoal.cron.concurrency': 'allow' }, {}, { restart: { condition: 1, delay: { seconds: 1 } } });
    await cluster.run(2 * MINUTE_MS + 5000);
    expect(outcomes()).toEqual(['running', 'running']);
    expect(working()).toBe(2);
    const [first] = runs();
    await cluster.store.update((tx) => {
      const task = tx.list('task').find((one) => one.job_iteration?.index === first?.job_iteration)!;
      tx.update('task', { ...task, status: { ...task.status!, state: TaskState.FAILED } });
    });
    await cluster.run(5000);
    const ofFirst = cluster.tasks('tidy').filter((task) => task.job_iteration?.index === first?.job_iteration);
    expect(ofFirst.map((task) => task.status?.state)).toEqual(
      expect.arrayContaining([TaskState.RUNNING, TaskState.FAILED]),
    );
    await cluster.run(4 * MINUTE_MS);
    expect(outcomes().slice(0, 2)).toEqual(['complete', 'complete']);
  });

  it('is passed over when too many are at work already', async () => {
    lasts(3_600_000);
    await create({ 'shoal.cron.concurrency': 'allow' });
    await cluster.run(22 * MINUTE_MS + 1000);
    expect(outcomes().filter((outcome) => outcome === 'running')).toHaveLength(20);
    expect(runs().at(-1)?.message).toBe('20 runs are still at work');
  });
});

describe('a change of leader', () => {
  it('at any moment costs no run and doubles none', async () => {
    const start = cluster.clock.now();
    await create({});
    for (let i = 0; i < 56; i++) {
      await cluster.run(i % 8 === 0 ? 50 : 7450);
      await cluster.changeLeader();
    }
    await cluster.run(2000);
    const minutes = Math.floor((cluster.clock.now() - start) / MINUTE_MS);
    expect(minutesSince(start)).toEqual(Array.from({ length: 5 }, (_, i) => minutes - 4 + i));
    expect(new Set(outcomes())).toEqual(new Set(['complete']));
    for (const { job_iteration } of runs()) {
      expect(cluster.tasks('tidy').filter((task) => task.job_iteration?.index === job_iteration)).toHaveLength(1);
    }
  });

  it('that took a while runs the latest missed time once', async () => {
    const start = cluster.clock.now();
    await create({});
    await cluster.run(1000);
    await cluster.stop();
    await cluster.clock.advanceAsync(7 * MINUTE_MS + 10_000);
    cluster.lead();
    await cluster.run(5000);
    expect(minutesSince(start)).toEqual([7]);
    expect(outcomes()).toEqual(['complete']);
    expect(cluster.service('tidy').cron?.message).toContain('no manager led the swarm then');
    await cluster.run(MINUTE_MS);
    expect(minutesSince(start)).toEqual([7, 8]);
    expect(cluster.service('tidy').cron?.message).toBe('');
  });

  it('that took too long runs nothing late, and says so', async () => {
    await create({ 'shoal.cron': '14 22 14 11 *' });
    await cluster.run(1000);
    await cluster.stop();
    const year = 365 * 24 * 60 * MINUTE_MS;
    await cluster.clock.advanceAsync(year + 30 * 24 * 60 * MINUTE_MS);
    cluster.lead();
    await cluster.run(1000);
    expect(runs()).toMatchObject([{ outcome: 'skipped', message: expect.stringMatching(/^missed by \d+h/) }]);
    expect(cluster.tasks('tidy')).toEqual([]);
    expect(timestampToMs(cluster.service('tidy').cron?.next_scheduled)).toBeGreaterThan(cluster.clock.now());
  });
});

describe('a change of the job', () => {
  it('runs nothing, and counts from the next time on', async () => {
    const start = cluster.clock.now();
    await create({ 'shoal.cron': '*/5 * * * *' });
    await cluster.run(1000);
    await cluster.updateService('tidy', (spec) => withLabels({ 'shoal.cron': '*/3 * * * *' })(withImage('two')(spec)));
    await cluster.run(1000);
    expect(cluster.tasks('tidy')).toEqual([]);
    const next = timestampToMs(cluster.service('tidy').cron?.next_scheduled);
    expect(new Date(next).getUTCMinutes() % 3).toBe(0);
    await cluster.run(next - cluster.clock.now() + 3000);
    expect(minutesSince(start)).toEqual([(next - start) / MINUTE_MS]);
    expect(cluster.tasks('tidy')).toMatchObject([{ spec: { container: { image: 'two' } } }]);
  });

  it('to one by the clock lets its present run end; back from it, nothing of the schedule is left', async () => {
    lasts(20_000);
    await create({ 'shoal.cron': '@yearly' });
    await cluster.updateService('tidy', withLabels({}));
    await cluster.run(1000);
    expect(cluster.service('tidy').cron).toBeNull();
    expect(working()).toBe(1);
    await cluster.updateService('tidy', withLabels({ 'shoal.cron': '@yearly' }));
    await cluster.run(5000);
    expect(outcomes()).toEqual(['running']);
    await cluster.run(20_000);
    expect(outcomes()).toEqual(['complete']);
    expect(cluster.tasks('tidy')).toHaveLength(1);
  });
});

it('a schedule that this manager cannot read runs nothing, and goes on when it can', async () => {
  await create({ 'shoal.cron.timezone': 'Europe/Atlantis' });
  await cluster.run(2 * MINUTE_MS);
  expect(cluster.tasks('tidy')).toEqual([]);
  expect(cluster.service('tidy').cron?.message).toContain('cannot read the schedule');
  await cluster.updateService('tidy', withLabels({ 'shoal.cron': '* * * * *' }));
  await cluster.run(MINUTE_MS + 3000);
  expect(outcomes()).toEqual(['complete']);
  expect(cluster.service('tidy').cron?.message).toBe('');
});

describe('a run by hand', () => {
  it('begins at once and changes nothing about the schedule', async () => {
    await create({ 'shoal.cron': '@yearly' });
    await cluster.run(1000);
    const next = cluster.service('tidy').cron?.next_scheduled;
    await runByHand();
    expect(working()).toBe(1);
    await cluster.run(2000);
    expect(outcomes()).toEqual(['complete']);
    expect(cluster.service('tidy').cron).toMatchObject({ next_scheduled: next, last_scheduled: null });
  });

  it('is refused while one is at work, unless the job says otherwise', async () => {
    lasts(20_000);
    await create({ 'shoal.cron': '@yearly' });
    await runByHand();
    await expect(runByHand()).rejects.toThrow(/^job tidy cannot run now: run \d+ is still at work; wait for its end/);
    await cluster.updateService('tidy', withLabels({ 'shoal.cron': '@yearly', 'shoal.cron.concurrency': 'replace' }));
    await cluster.run(1000);
    await runByHand();
    expect(outcomes()).toEqual(['replaced', 'running']);
  });

  it('is for jobs only', () => {
    const spec = { annotations: { name: 'web' }, replicated: { replicas: 1 } };
    expect(() => runNow(aService('web', { spec }), 0)).toThrow('service web is no job: only jobs can be run');
  });
});
