import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until, type TaskFacts } from './kit/index.ts';

const bed = new Bed('jobs');
let image = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1 });
  image = `${await bed.serveImages()}:v1`;
});

afterAll(() => bed.down());

/** Creates a service whose tasks run a line of shell. The stock client waits unless it is told not to. */
async function create(name: string, line: string, ...flags: string[]): Promise<void> {
  const all = ['--detach', '--no-resolve-image', '--stop-grace-period', '1s', '--name', name, ...flags];
  await bed.client.run('service', 'create', ...all, image, 'sh', '-c', line);
}

/** Tasks of a service by when they were made. */
async function history(service: string): Promise<TaskFacts[]> {
  const tasks = await bed.tasks(service);
  return tasks.sort((a, b) => Date.parse(a.CreatedAt) - Date.parse(b.CreatedAt));
}

const statesOf = (tasks: readonly TaskFacts[]): string[] => tasks.map((task) => task.Status.State);

async function comeTo(service: string, states: readonly string[], timeoutMs = 30_000): Promise<TaskFacts[]> {
  return await until(`${service} comes to ${states.join(', ')}`, timeoutMs, async () => {
    const tasks = await history(service);
    const seen = statesOf(tasks).sort();
    if (seen.join() !== [...states].sort().join()) throw new Error(`it has ${seen.join(', ')}`);
    return tasks;
  });
}

const inspect = (service: string, format: string): Promise<string> =>
  bed.client.run('service', 'inspect', '--format', format, service);

const runs = async (): Promise<string[]> =>
  await bed.on('m1', 'shoal').lines('service', 'runs', 'tidy', '--format', '{{.Outcome}}');
let runsBefore = Infinity;

describe('a job that runs by the clock', () => {
  it('is created by the stock client without a wait, and without a run', async () => {
    const labels = ['--label', 'shoal.cron=* * * * *', '--label', 'shoal.cron.timezone=Europe/Berlin'];
    // A run by hand and one by the clock may meet.
    labels.push('--label', 'shoal.cron.concurrency=allow');
    const flags = ['--mode', 'replicated-job', '--no-resolve-image', ...labels];
    await bed.client.run('service', 'create', '--quiet', '--name', 'tidy', ...flags, image, 'sh', '-c', 'echo tidied');
    expect(await inspect('tidy', '{{.UpdateStatus.Message}}')).toBe('runs by the clock: * * * * * (Europe/Berlin)');
    expect(await bed.on('m1', 'shoal').run('service', 'ls', '--filter', 'name=tidy')).toContain(
      'replicated job (* * * * * Europe/Berlin)',
    );
    expect(await bed.on('m1', 'shoal').run('service', 'inspect', '--pretty', 'tidy')).toMatch(/Next run:\tin .*Z\)/);
  });

  it('runs by hand, with its output', async () => {
    await bed.on('m1', 'shoal').run('service', 'run', '--quiet', 'tidy');
    expect(await runs()).toContain('complete');
    expect(await bed.client.run('service', 'logs', '--raw', 'tidy')).toContain('tidied');
    runsBefore = (await runs()).length;
  });

  it('is refused with the name of the label when the schedule makes no sense', async () => {
    const create = [
      'service',
      'create',
      '--name',
      'never',
      '--detach',
      '--mode',
      'replicated-job',
      '--label',
      'shoal.cron=0 0 30 2 *',
      image,
    ];
    expect(await bed.client.fails(...create)).toContain("label shoal.cron: '0 0 30 2 *': there is no such day");
  });
});

describe('jobs', () => {
  it('a replicated job runs as often as asked, at most so many at once; the stock client waits for its end', async () => {
    const flags = ['--mode', 'replicated-job', '--replicas', '4', '--max-concurrent', '2', '--no-resolve-image'];
    let most = 0;
    const created = bed.client.run('service', 'create', '--quiet', '--name', 'four', ...flags, image, 'sleep', '1');
    const isOver = created.then(() => true);
    while (!(await Promise.race([isOver, new Promise<false>((resolve) => setTimeout(() => resolve(false), 200))]))) {
      const tasks = await bed.tasks('four').catch(() => []);
      const working = tasks.filter((task) => !['complete', 'shutdown', 'failed'].includes(task.Status.State));
      most = Math.max(most, working.length);
    }
    expect(statesOf(await history('four'))).toEqual(['complete', 'complete', 'complete', 'complete']);
    expect(most).toBeLessThanOrEqual(2);
    expect(await bed.client.run('service', 'ls', '--filter', 'name=four', '--format', '{{.Mode}} {{.Replicas}}')).toBe(
      'replicated job 0/2 (4/4 completed)',
    );
  });

  it('a forced update runs it again', async () => {
    const before = (await history('four')).map((task) => task.ID);
    await bed.client.run('service', 'update', '--force', '--quiet', 'four');
    await until('four new tasks are all there is', 20_000, async () => {
      const tasks = await history('four');
      return tasks.length === 4 && tasks.every((task) => !before.includes(task.ID) && task.Status.State === 'complete');
    });
  });

  it('a global job runs once on each node', async () => {
    await create('each', 'exit 0', '--mode', 'global-job');
    const tasks = await comeTo('each', ['complete', 'complete']);
    expect(new Set(tasks.map((task) => task.NodeID)).size).toBe(2);
  });

  it('one whose retries are used up says so, and ends the wait of the stock client', async () => {
    const retries = ['--restart-condition', 'on-failure', '--restart-max-attempts', '1', '--restart-delay', '200ms'];
    const flags = ['--mode', 'replicated-job', '--no-resolve-image', ...retries];
    const words = await bed.client.fails(
      'service',
      'create',
      '--name',
      'hopeless',
      ...flags,
      image,
      'sh',
      '-c',
      'exit 7',
    );
    expect(words).toContain('1 of 1 tasks failed for good: task: non-zero exit (7)');
    expect(statesOf(await history('hopeless'))).toEqual(['failed', 'failed']);
  });
});

describe('restart conditions', () => {
  const policy = (condition: string): string[] => ['--restart-condition', condition, '--restart-delay', '300ms'];

  it('none, and on-failure with exit 0: the task ends and stays', async () => {
    await create('none-ok', 'exit 0', ...policy('none'));
    await create('none-bad', 'exit 3', ...policy('none'));
    await create('failure-ok', 'exit 0', ...policy('on-failure'));
    await comeTo('none-ok', ['complete']);
    await comeTo('none-bad', ['failed']);
    await comeTo('failure-ok', ['complete']);
    // Long enough for several restarts.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    for (const name of ['none-ok', 'none-bad', 'failure-ok']) expect(await history(name)).toHaveLength(1);
  });

  it('on-failure with exit 1, and any with both: again and again', async () => {
    await create('failure-bad', 'exit 1', ...policy('on-failure'));
    await create('any-ok', 'exit 0', ...policy('any'));
    await create('any-bad', 'exit 1', ...policy('any'));
    for (const [name, state] of [
      ['failure-bad', 'failed'],
      ['any-ok', 'complete'],
      ['any-bad', 'failed'],
    ] as const) {
      await until(`${name} was restarted`, 30_000, async () => {
        const tasks = await history(name);
        return tasks.filter((task) => task.Status.State === state).length >= 2;
      });
    }
    await bed.client.run('service', 'rm', 'failure-bad', 'any-ok');
  });

  it('attempts that are used up leave the last failure', async () => {
    await create('thrice', 'exit 1', ...policy('any'), '--restart-max-attempts', '2');
    await comeTo('thrice', ['failed', 'failed', 'failed']);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(await history('thrice')).toHaveLength(3);
  });

  it('a crash loop waits longer each time, and lists tell', async () => {
    const words = await until('any-bad waits', 40_000, async () => {
      const lines = await bed.client.lines(
        'service',
        'ps',
        '--no-trunc',
        '--format',
        '{{.DesiredState}} {{.Error}}',
        'any-bad',
      );
      return lines.find((line) => line.includes('crash loop'));
    });
    expect(words).toMatch(/^Ready "waits \d+s before restart \d+ \(crash loop\)"$/);
    expect(await bed.on('m1', 'shoal').run('why', 'any-bad')).toContain('crash');
    await bed.client.run('service', 'rm', 'any-bad');
  });
});

describe('services of a stack that wait for others', () => {
  const STACK = (): string => `services:
  web:
    image: ${image}
    deploy: { labels: { shoal.depends-on: "migrate:completed" } }
  migrate:
    image: ${image}
    command: ["sh", "-c", "sleep 1"]
    deploy:
      mode: replicated-job
      labels: { shoal.depends-on: "db:healthy" }
      restart_policy: { condition: on-failure, max_attempts: 3 }
  db:
    image: ${image}
    command: ["sh", "-c", "sleep 4; touch /tmp/up; sleep 600"]
    stop_grace_period: 1s
    healthcheck: { test: ["CMD", "test", "-e", "/tmp/up"], interval: 500ms, timeout: 2s, retries: 60 }
`;

  it('start in their order, and tell meanwhile what they wait for', async () => {
    const file = bed.file('chain.yml');
    writeFileSync(file, STACK());
    await bed.client.run('stack', 'deploy', '--detach=true', '--resolve-image', 'never', '-c', file, 'shop');
    const waits = await until('web and migrate wait', 20_000, async () => {
      const lines = await bed.client.lines(
        'stack',
        'ps',
        '--no-trunc',
        '--format',
        '{{.Name}} {{.DesiredState}} {{.Error}}',
        'shop',
      );
      const waiting = lines.filter((line) => line.includes('"waits for'));
      return waiting.length === 2 ? waiting.sort() : undefined;
    });
    expect(waits[0]).toMatch(/^shop_migrate\S* Ready "waits for service shop_db to be healthy \(0 of 1\)"$/);
    expect(waits[1]).toBe('shop_web.1 Ready "waits for service shop_migrate to complete (0 of 1)"');
    expect(await bed.on('m1', 'shoal').run('why', 'shop_web')).toContain('waits for service shop_migrate');
    await bed.replicas('shop_web', 1, 40_000);
    expect(statesOf(await bed.tasks('shop_migrate'))).toEqual(['complete']);
    expect(statesOf(await bed.running('shop_db'))).toEqual(['running']);
    await bed.client.run('stack', 'rm', 'shop');
  });
});

// At the end, so that the minute passes while the others run.
describe('a job that was made before', () => {
  it('runs at the next minute', async () => {
    await until('a run by the clock', 65_000, async () => {
      const outcomes = await runs();
      return outcomes.length > runsBefore && outcomes.every((outcome) => outcome === 'complete');
    });
    await bed.client.run('service', 'rm', 'tidy');
  });
});
