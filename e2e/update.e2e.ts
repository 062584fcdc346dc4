import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until, type Outcome, type TaskFacts } from './kit/index.ts';

/**
 * Updates of one service through the stock client: each case goes on with what the one before it left. The monitoring
 * times are short, so that the whole file takes little more than a minute.
 */
const bed = new Bed('update');
const FAILS = ['--args', 'sh -c "sleep 0.2; exit 3"'];
const WORKS = ['--args', 'sh /start.sh'];
let web = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1 });
  web = await bed.serveImages();
});
afterAll(() => bed.down());

interface ServiceFacts {
  Version: { Index: number };
  Revision?: number;
  Canary?: { Tasks: number; WaitingSince?: string };
  UpdateStatus?: { State: string; Message: string };
}

const service = (): Promise<ServiceFacts> => bed.api<ServiceFacts>('/services/web');
const update = (...args: string[]): Promise<Outcome> => bed.client.try(['service', 'update', ...args, 'web']);
const shoal = () => bed.on('m1', 'shoal');

async function status(state: string, timeoutMs = 20_000): Promise<string> {
  return await until(`update ${state}`, timeoutMs, async () => {
    const { UpdateStatus } = await service();
    if (UpdateStatus?.State !== state) throw new Error(`${UpdateStatus?.State}: ${UpdateStatus?.Message}`);
    return UpdateStatus.Message;
  });
}

const versionOf = (task: TaskFacts): string =>
  task.Spec.ContainerSpec?.Image.replace(/@.*/, '').split(':').at(-1) ?? '';

async function versions(): Promise<string> {
  return (await bed.running('web')).map(versionOf).sort().join(' ');
}

/** Runs an update while it counts running tasks; all of them must have come up before. */
async function watched(run: () => Promise<Outcome>): Promise<{ outcome: Outcome; least: number; most: number }> {
  let [least, most, isDone] = [Infinity, 0, false];
  const watch = async (): Promise<void> => {
    while (!isDone) {
      const tasks = await bed.tasks('web');
      const count = tasks.filter((task) => task.Status.State === 'running').length;
      [least, most] = [Math.min(least, count), Math.max(most, count)];
    }
  };
  const watching = watch();
  const outcome = await run().finally(() => (isDone = true));
  await watching;
  return { outcome, least, most };
}

describe('an update', () => {
  it('stop-first never lets more than one task of three be missing', async () => {
    const flags = ['--name', 'web', '--replicas', '3', '--restart-delay', '500ms', '--stop-grace-period', '2s'];
    const settings = ['--update-monitor', '500ms', '--rollback-monitor', '500ms', '--rollback-parallelism', '0'];
    await bed.client.run('service', 'create', '--quiet', ...flags, ...settings, `${web}:v1`, 'sh', '/start.sh');
    const { outcome, least, most } = await watched(() => update('--image', `${web}:v2`));
    expect([outcome.code, outcome.stderr]).toEqual([0, '']);
    expect(await versions()).toBe('v2 v2 v2');
    expect(least).toBeGreaterThanOrEqual(2);
    expect(most).toBe(3);
    expect(await status('completed')).toBe('update completed');
  });

  it('start-first keeps all tasks up and adds one at a time', async () => {
    const { outcome, least, most } = await watched(() =>
      update('--image', `${web}:v1`, '--update-order', 'start-first'),
    );
    expect(outcome.code).toBe(0);
    expect(await versions()).toBe('v1 v1 v1');
    expect(least).toBeGreaterThanOrEqual(3);
    expect(most).toBeLessThanOrEqual(5);
  });

  it('to the same spec changes nothing', async () => {
    const tasks = (await bed.tasks('web')).map((task) => task.ID).sort();
    const before = await service();
    const outcome = await update();
    expect(outcome.code).toBe(0);
    expect(await service()).toEqual(before);
    expect((await bed.tasks('web')).map((task) => task.ID).sort()).toEqual(tasks);
  });

  it('of the number of replicas alone replaces no task', async () => {
    const tasks = (await bed.running('web')).map((task) => task.ID);
    await bed.client.run('service', 'scale', '--detach', 'web=4');
    const four = await bed.replicas('web', 4);
    expect(four.map((task) => task.ID)).toEqual(expect.arrayContaining(tasks));
    await bed.client.run('service', 'scale', '--detach', 'web=3');
    await bed.replicas('web', 3);
  });
});

describe('an update that fails', () => {
  it('is paused: the client says so and ends with an error', async () => {
    const outcome = await update('--update-failure-action', 'pause', '--update-order', 'stop-first', ...FAILS);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(
      /service update paused: update paused due to failure or early termination of task \w{25}/,
    );
    // The slot after the failed one may have been begun, as in Swarm: only `--update-delay` waits between them.
    expect((await bed.running('web')).length).toBeGreaterThanOrEqual(1);
    expect(await bed.client.run('service', 'inspect', '--pretty', 'web')).toMatch(/State:\s+paused/);
    expect((await update(...WORKS)).code).toBe(0);
    await bed.replicas('web', 3);
  });

  it('is rolled back, and that is reported as a failure', async () => {
    const outcome = await update('--update-failure-action', 'rollback', ...FAILS);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/update rolled back due to failure or early termination of task \w{25}/);
    expect(await status('rollback_completed')).toMatch(/^update rolled back due to failure or early termination/);
    const pretty = await bed.client.run('service', 'inspect', '--pretty', 'web');
    expect(pretty).toMatch(/State:\s+rollback_completed[\s\S]*Message:\s+update rolled back due to failure/);
    await bed.replicas('web', 3);
  });

  it('is followed to the end of its rollback by our client', async () => {
    // The failure action is part of the spec that was rolled back, so it is given again.
    const flags = ['--update-failure-action', 'rollback', ...FAILS];
    const outcome = await shoal().try(['service', 'update', ...flags, 'web']);
    expect([outcome.code, outcome.stderr]).toEqual([
      1,
      expect.stringMatching(/service update rolled back due to failure or early termination of task/),
    ]);
    expect((await service()).UpdateStatus?.State).toBe('rollback_completed');
    expect(await bed.replicas('web', 3)).toHaveLength(3);
  });

  it('goes on with the action continue', async () => {
    const outcome = await update(
      '--update-failure-action',
      'continue',
      '--update-parallelism',
      '0',
      '--detach',
      ...FAILS,
    );
    expect(outcome.code).toBe(0);
    expect(await status('completed')).toBe('update completed');
    expect((await update('--update-parallelism', '1', ...WORKS)).code).toBe(0);
    await bed.replicas('web', 3);
  });

  it('is found out by its health check, however short the monitoring time', async () => {
    const health = ['--health-cmd', 'false', '--health-interval', '700ms', '--health-retries', '3'];
    const flags = ['--update-failure-action', 'rollback', '--update-order', 'start-first', '--update-monitor', '100ms'];
    const { outcome, least } = await watched(() => update(...flags, ...health));
    expect([outcome.code, outcome.stderr]).toEqual([1, expect.stringMatching(/rolled back due to failure/)]);
    expect(least).toBeGreaterThanOrEqual(3);
    await status('rollback_completed');
    const failed = (await bed.tasks('web')).filter((task) => task.Status.Err?.includes('unhealthy'));
    expect(failed.length).toBeGreaterThan(0);
    await bed.replicas('web', 3);
  });

  it('gets nowhere, and fails at its deadline; the old tasks go on', async () => {
    const flags = ['--label-add', 'shoal.update.deadline=4s', '--constraint-add', 'node.labels.zone==moon'];
    const how = ['--update-order', 'start-first', '--update-failure-action', 'pause'];
    const outcome = await update(...flags, ...how);
    expect([outcome.code, outcome.stderr]).toEqual([
      1,
      expect.stringMatching(/update paused due to no progress for 4s: task \w{25} \(web\.\d\) is pending: no suitable/),
    ]);
    expect(await bed.running('web')).toHaveLength(3);
    const taken = await bed.client.try(['service', 'rollback', 'web']);
    expect([taken.code, taken.stdout]).toEqual([
      0,
      expect.stringMatching(/rollback: (manually requested rollback|rollback completed)/),
    ]);
  });
});

describe('a canary', () => {
  it('waits with one task of the new version, and says so', async () => {
    const outcome = await shoal().try(['service', 'update', '--update-canary', '1', '--image', `${web}:v2`, 'web']);
    expect(outcome.stderr).toBe('');
    expect([outcome.code, outcome.stdout]).toEqual([
      0,
      expect.stringMatching(
        /waiting for promotion: 1 of 3 tasks run the new version; go on with "shoal service promote/,
      ),
    ]);
    expect(await versions()).toBe('v1 v1 v2');
    expect((await service()).Canary).toMatchObject({ Tasks: 1 });
    const pretty = await shoal().run('service', 'inspect', '--pretty', 'web');
    expect(pretty).toMatch(/Canary:\s+Tasks:\s+1\s+Waiting since:/);
    expect((await shoal().try(['service', 'ps', 'web'])).stderr).toContain('web: waiting for promotion: 1 of 3');
  });

  it('brings old tasks back as they were, and goes on when it is promoted', async () => {
    const old = (await bed.running('web')).find((task) => versionOf(task) === 'v1');
    process.kill(old?.Status.ContainerStatus?.PID ?? 0, 'SIGKILL');
    await until('a new task in the place of the killed one', 10_000, async () => {
      const tasks = await bed.running('web');
      return tasks.length === 3 && !tasks.some((task) => task.ID === old?.ID);
    });
    expect(await versions()).toBe('v1 v1 v2');
    const outcome = await shoal().try(['service', 'promote', 'web']);
    expect([outcome.code, outcome.stderr]).toEqual([0, '']);
    await status('completed');
    expect(await versions()).toBe('v2 v2 v2');
    expect(await shoal().fails('service', 'promote', 'web')).toContain('has no canary that waits for a promotion');
  });
});

describe('the history', () => {
  it('lists every spec with why it came', async () => {
    const table = await shoal().run('service', 'history', 'web');
    expect(table.split('\n')[0]).toMatch(/^REVISION\s+CREATED\s+WHY\s+IMAGE\s+CHANGES/);
    expect(table).toMatch(/^1 .* create .*web:v1/m);
    expect(table).toMatch(/^2 .* update .*web:v2\s+.*Image/m);
    expect(table).toMatch(/rolled back: failure or early termi/);
    expect(table).toMatch(/rollback to revision \d+/);
    const { Revision = 0 } = await service();
    expect(table).toMatch(new RegExp(`^${Revision} \\* .*web:v2`, 'm'));
  });

  it('shows what differs between two of them', async () => {
    const text = await shoal().run('service', 'diff', 'web', '1', '2');
    expect(text).toContain('--- web revision 1 (create)\n+++ web revision 2 (update)');
    expect(text).toMatch(/^-\s+Image: \S+web:v1/m);
    expect(text).toMatch(/^\+\s+Image: \S+web:v2/m);
    expect(text).not.toContain('\u001b');
    expect(await shoal().fails('service', 'diff', 'web', '1', '99')).toContain('no revision 99: there are 1, 2,');
  });

  it('is what a rollback can go to', async () => {
    expect(await shoal().fails('service', 'rollback', '--to', '99', 'web')).toContain(
      'has no revision 99: there are 1',
    );
    const outcome = await shoal().try(['service', 'rollback', '--to', '1', 'web']);
    expect([outcome.code, outcome.stdout]).toEqual([
      0,
      expect.stringMatching(/manually requested rollback to revision 1/),
    ]);
    await status('rollback_completed');
    expect(await versions()).toBe('v1 v1 v1');
    const rows = await shoal().lines('service', 'history', 'web', '--format', '{{.Revision}} {{.Why}}');
    expect(rows[0]).toMatch(/^\d+ \* rollback to revision 1$/);
  });
});
