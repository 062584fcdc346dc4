import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, systemClock } from '../base/index.ts';
import { Bed, until, type TaskFacts } from './kit/index.ts';

/** What a service's specification makes of its containers, looked at from inside them and from the kernel's side. */
const bed = new Bed('container');
let web = '';
let counter = 0;

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2 });
  web = await bed.serveImages();
});
afterAll(() => bed.down());

const SLEEP = ['sh', '-c', 'trap "exit 0" TERM; sleep 2147483647 & wait'];

/** Creates a service without waiting; returns its name. */
async function create(flags: readonly string[], command: readonly string[] = SLEEP): Promise<string> {
  const name = `c${++counter}`;
  const all = ['--detach', '--quiet', '--name', name, '--restart-delay', '1s', ...flags];
  await bed.client.run('service', 'create', ...all, `${web}:v1`, ...command);
  return name;
}

/** What a service with these flags prints; its container has ended when this returns. */
async function output(flags: readonly string[], script: string): Promise<string> {
  const name = await create(['--restart-condition', 'none', ...flags], ['sh', '-c', script]);
  await ended(name, 1);
  const text = await until('its log', 5_000, async () => await bed.client.run('service', 'logs', '--raw', name));
  await bed.client.run('service', 'rm', name);
  return text;
}

const ended = (name: string, count: number): Promise<TaskFacts[]> =>
  until(`${count} ended tasks of ${name}`, 20_000, async () => {
    const tasks = await bed.tasks(name);
    const done = tasks.filter((task) => ['complete', 'failed', 'rejected'].includes(task.Status.State));
    if (done.length < count) throw new Error(tasks.map((t) => `${t.Status.State} ${t.Status.Err ?? ''}`).join('; '));
    return done;
  });

const ids = (tasks: readonly TaskFacts[]): string[] => tasks.map((task) => task.ID).sort();

/** Value of a cgroup file of a process, in whichever hierarchy has it. */
function cgroupValue(pid: number, controller: string, file: string): string {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
  const line = must(
    lines.find((text) => text.split(':')[1]?.split(',').includes(controller)) ??
      lines.find((text) => text.startsWith('0::')),
    'cgroup',
  );
  const [, names = '', ...path] = line.split(':');
  const root = names === '' ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${names}`;
  return readFileSync(`${root}${path.join(':')}/${file}`, 'utf8').trim();
}

const cgroupV1 = (pid: number, controller: string): boolean =>
  readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .some((text) => text.split(':')[1]?.split(',').includes(controller));

describe('what a container is given', () => {
  it('secrets and configs arrive as files', async () => {
    writeFileSync(bed.file('secret'), 'hush\n');
    writeFileSync(bed.file('config'), 'colour = blue\n');
    await bed.client.run('secret', 'create', 'password', bed.file('secret'));
    await bed.client.run('config', 'create', 'settings', bed.file('config'));
    const flags = ['--secret', 'password', '--secret', 'source=password,target=own,uid=65534,mode=0400'];
    const script = 'cat /run/secrets/password /etc/app.conf; stat -c "%u %a %n" /run/secrets/*; df -T /run/secrets/own';
    const text = await output([...flags, '--config', 'source=settings,target=/etc/app.conf'], script);
    expect(text).toContain('hush\ncolour = blue\n');
    expect(text).toContain('65534 400 /run/secrets/own');
    expect(text).toContain('0 444 /run/secrets/password');
    expect(text).toContain('tmpfs');
    expect(JSON.stringify(await bed.client.inspect('secret', 'inspect', 'password'))).not.toContain('hush');
    const kept = await create(['--secret', 'password']);
    await bed.replicas(kept, 1);
    expect(await bed.client.fails('secret', 'rm', 'password')).toMatch(/secret 'password' is in use by the following/);
    await bed.client.run('service', 'rm', kept);
    await bed.client.run('secret', 'rm', 'password');
  });

  it('environment, labels and host name, with templates filled in', async () => {
    const env = [
      '--env',
      'SLOT={{.Task.Slot}}',
      '--env',
      'NODE={{.Node.Hostname}}',
      '--env',
      'SERVICE={{.Service.Name}}',
    ];
    const flags = [...env, '--env', 'PLAIN=a b', '--hostname', '{{.Service.Name}}-{{.Task.Slot}}'];
    const name = await create(
      ['--replicas', '3', '--restart-condition', 'none', ...flags],
      [...['sh', '-c', 'echo $SLOT $NODE $SERVICE $PLAIN $(hostname) $VERSION']],
    );
    await ended(name, 3);
    const lines = await until('three lines', 5_000, async () => {
      const found = await bed.client.lines('service', 'logs', name);
      return found.length === 3 ? found : undefined;
    });
    for (const line of lines) {
      const [, slot, node] = /^\w+\.(\d)\.\w+@(\S+)\s+\|/.exec(line) ?? [];
      expect(line.replace(/^.*\| /, '')).toBe(`${slot} ${node} ${name} a b ${name}-${slot} v1`);
    }
    await bed.client.run('service', 'rm', name);
  });

  it('bind mounts, volumes and memory file systems', async () => {
    mkdirSync(bed.file('shared'), { recursive: true });
    writeFileSync(bed.file('shared/hello'), 'from the host\n');
    const bind = ['--mount', `type=bind,source=${bed.file('shared')},target=/in,readonly`];
    const volume = ['--mount', 'type=volume,source=data,target=/data'];
    const tmpfs = ['--mount', 'type=tmpfs,target=/scratch,tmpfs-size=1048576'];
    const pin = ['--constraint', 'node.hostname==w1'];
    const script =
      'cat /in/hello; touch /in/x 2>/dev/null && echo writable || echo read-only; date >>/data/runs; wc -l </data/runs; ' +
      'dd if=/dev/zero of=/scratch/big bs=1k count=2048 2>/dev/null && echo endless || echo full';
    const flags = [...bind, ...volume, ...tmpfs, ...pin];
    expect(await output(flags, script)).toBe('from the host\nread-only\n1\nfull');
    expect(await output(flags, script)).toBe('from the host\nread-only\n2\nfull');
    expect(await bed.on('w1').lines('volume', 'ls', '-q')).toContain('data');
  });

  it('a mount whose source is missing is told', async () => {
    const name = await create(['--mount', 'type=bind,source=/no/such/dir,target=/in']);
    const [task] = await until('a rejected task', 15_000, async () => {
      const tasks = (await bed.tasks(name)).filter((t) => t.Status.State === 'rejected');
      return tasks.length > 0 ? tasks : undefined;
    });
    expect(task?.Status.Err).toMatch(/bind source path does not exist: \/no\/such\/dir/);
    await bed.client.run('service', 'rm', name);
  });

  it('a user, a directory, a read-only root', async () => {
    const flags = ['--user', '65534:65534', '--workdir', '/tmp', '--read-only'];
    const script = 'id -u; id -g; pwd; touch /tmp/x 2>/dev/null && echo writable || echo read-only';
    expect(await output(flags, script)).toBe('65534\n65534\n/tmp\nread-only');
  });

  it('capabilities, sysctls, limits and hosts', async () => {
    const flags = ['--cap-drop', 'ALL', '--sysctl', 'net.core.somaxconn=77', '--ulimit', 'nofile=123:456'];
    const script =
      'grep CapEff /proc/self/status; cat /proc/sys/net/core/somaxconn; ulimit -n; ulimit -Hn; grep db /etc/hosts; cat /etc/resolv.conf';
    const dns = ['--host', 'db:10.9.8.7', '--dns', '127.0.0.9', '--dns-search', 'example.test'];
    const text = await output([...flags, ...dns], script);
    expect(text).toMatch(/CapEff:\s+0{16}\n77\n123\n456\n10\.9\.8\.7\s+db/);
    expect(text).toMatch(/search example\.test/);
  });
});

describe('limits', () => {
  it('of memory and processors are set in the cgroup', async () => {
    const name = await create(['--limit-memory', '64m', '--limit-cpu', '0.5', '--limit-pids', '50']);
    const task = await bed.theTask(name);
    const pid = must(task.Status.ContainerStatus, 'container').PID;
    if (cgroupV1(pid, 'memory')) expect(cgroupValue(pid, 'memory', 'memory.limit_in_bytes')).toBe(String(64 * 2 ** 20));
    else expect(cgroupValue(pid, 'memory', 'memory.max')).toBe(String(64 * 2 ** 20));
    if (cgroupV1(pid, 'cpu')) {
      const quota = Number(cgroupValue(pid, 'cpu', 'cpu.cfs_quota_us'));
      expect(quota / Number(cgroupValue(pid, 'cpu', 'cpu.cfs_period_us'))).toBe(0.5);
    } else expect(cgroupValue(pid, 'cpu', 'cpu.max')).toBe('50000 100000');
    expect(cgroupValue(pid, 'pids', 'pids.max')).toBe('50');
    await bed.client.run('service', 'rm', name);
  });

  it('end a container that takes too much memory, and say so', async () => {
    const hog = ['sh', '-c', 'tail -c 200m /dev/zero | tail'];
    const name = await create(['--limit-memory', '16m', '--restart-condition', 'none'], hog);
    const [task] = await ended(name, 1);
    expect(task?.Status.State).toBe('failed');
    await bed.client.run('service', 'rm', name);
  });

  it('that no node can reserve leave the task pending, with the reason', async () => {
    const name = await create(['--reserve-memory', '500g']);
    const err = await until('a reason', 10_000, async () => (await bed.tasks(name))[0]?.Status.Err);
    expect(err).toMatch(/no suitable node \(insufficient resources on 3 nodes\)/);
    await bed.client.run('service', 'rm', name);
  });
});

describe('health checks', () => {
  it('let a task run only once it is healthy', async () => {
    const check = ['--health-cmd', 'test -f /tmp/ready', '--health-interval', '200ms', '--health-start-period', '60s'];
    const name = await create([...check, '--constraint', 'node.hostname==w2']);
    const w2 = bed.on('w2');
    const container = await until('a container that is starting', 10_000, async () => {
      const id = (await w2.lines('ps', '-q', '--filter', `name=${name}.`))[0];
      if (id === undefined) return undefined;
      return (await w2.run('inspect', '--format', '{{.State.Health.Status}}', id)) === 'starting' ? id : undefined;
    });
    // Three looks of the check.
    await systemClock.sleep(600);
    expect((await bed.tasks(name)).map((task) => task.Status.State)).toEqual(['starting']);
    await bed.inProcess(
      Number(await w2.run('inspect', '--format', '{{.State.Pid}}', container)),
      'touch',
      '/tmp/ready',
    );
    await bed.replicas(name, 1, 5_000);
    await bed.client.run('service', 'rm', name);
  });

  it('replace a task that becomes unhealthy', async () => {
    const check = ['--health-cmd', '! test -f /tmp/ill', '--health-interval', '200ms', '--health-retries', '2'];
    const name = await create(check);
    const task = await bed.theTask(name);
    await bed.inTask(task, 'touch', '/tmp/ill');
    await until('it failed', 10_000, async () => {
      const found = (await bed.tasks(name)).find((candidate) => candidate.ID === task.ID);
      return found?.Status.State === 'failed' && /unhealthy/.test(found.Status.Err ?? '');
    });
    expect((await bed.theTask(name)).ID).not.toBe(task.ID);
    await bed.client.run('service', 'rm', name);
  });
});

describe('stopping', () => {
  it('sends the stop signal', async () => {
    mkdirSync(bed.file('marks'), { recursive: true });
    const mount = ['--mount', `type=bind,source=${bed.file('marks')},target=/marks`];
    const script =
      'trap "echo usr1 >/marks/signal; exit 0" USR1; trap "echo term >/marks/signal; exit 0" TERM; ' +
      'touch /marks/up; while :; do sleep 0.1; done';
    const name = await create(['--stop-signal', 'SIGUSR1', ...mount], ['sh', '-c', script]);
    await bed.replicas(name, 1);
    await until('the trap is set', 5_000, () => readFileSync(bed.file('marks/up'), 'utf8') === '');
    await bed.client.run('service', 'rm', name);
    const signal = await until('the mark', 10_000, () => readFileSync(bed.file('marks/signal'), 'utf8'));
    expect(signal).toBe('usr1\n');
  });

  it('kills what does not end within the grace period, not before', async () => {
    const name = await create(['--stop-grace-period', '2s'], ['sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done']);
    const task = await bed.theTask(name);
    const host = await bed.hostOf(task);
    const began = systemClock.monotonic();
    await bed.client.run('service', 'rm', name);
    await until(
      'it is gone',
      10_000,
      async () => (await bed.on(host).lines('ps', '-q', '--filter', `name=${name}.`)).length === 0,
    );
    const tookMs = systemClock.monotonic() - began;
    expect(tookMs).toBeGreaterThan(1_900);
    expect(tookMs).toBeLessThan(6_000);
  });
});

describe('restart policy', () => {
  it('none: a failed task stays the only one, with its exit code', async () => {
    const name = await create(['--restart-condition', 'none'], ['sh', '-c', 'exit 42']);
    const [task] = await ended(name, 1);
    expect(task?.Status.State).toBe('failed');
    expect(task?.Status.ContainerStatus?.ExitCode).toBe(42);
    expect(task?.Status.Err).toMatch(/non-zero exit \(42\)/);
    await systemClock.sleep(1_500);
    expect(await bed.tasks(name)).toHaveLength(1);
    await bed.client.run('service', 'rm', name);
  });

  it('on-failure: success is final', async () => {
    const name = await create(['--restart-condition', 'on-failure'], ['true']);
    const [task] = await ended(name, 1);
    expect(task?.Status.State).toBe('complete');
    await systemClock.sleep(1_500);
    expect(ids(await bed.tasks(name))).toEqual([task?.ID]);
    await bed.client.run('service', 'rm', name);
  });

  it('on-failure with max-attempts: tries again so many times', async () => {
    const flags = ['--restart-condition', 'on-failure', '--restart-max-attempts', '2', '--restart-delay', '200ms'];
    const name = await create(flags, ['false']);
    await ended(name, 3);
    await systemClock.sleep(1_000);
    expect(await bed.tasks(name)).toHaveLength(3);
    await bed.client.run('service', 'rm', name);
  });

  it('any: a task that ends is replaced after the delay', async () => {
    const name = await create(['--restart-delay', '2s'], ['sh', '-c', 'sleep 0.2']);
    const [first] = await ended(name, 1);
    const second = await until('a second container', 10_000, async () => {
      const tasks = (await bed.tasks(name)).filter((task) => task.ID !== first?.ID);
      return tasks.find((task) => ['running', 'complete'].includes(task.Status.State));
    });
    interface Inspected {
      State: { StartedAt: string; FinishedAt: string };
    }
    const inspect = async (task: TaskFacts): Promise<Inspected> =>
      await bed
        .on(await bed.hostOf(task))
        .inspect<Inspected>('inspect', must(task.Status.ContainerStatus, 'container').ContainerID);
    const gapMs =
      Date.parse((await inspect(second)).State.StartedAt) -
      Date.parse((await inspect(must(first, 'first task'))).State.FinishedAt);
    expect(gapMs).toBeGreaterThan(1_900);
    expect(gapMs).toBeLessThan(10_000);
    await bed.client.run('service', 'rm', name);
  });
});

describe('other modes', () => {
  it('global: one task on every node, and on those that come', async () => {
    await bed.client.run('node', 'update', '--availability', 'drain', 'w2');
    const name = await create(['--mode', 'global']);
    const tasks = await bed.replicas(name, 2);
    expect(new Set(tasks.map((task) => task.NodeID)).size).toBe(2);
    await bed.client.run('node', 'update', '--availability', 'active', 'w2');
    const all = await bed.replicas(name, 3);
    expect(new Set(all.map((task) => task.NodeID)).size).toBe(3);
    expect(
      await bed.client.run('service', 'ls', '--filter', `name=${name}`, '--format', '{{.Mode}} {{.Replicas}}'),
    ).toBe('global 3/3');
    await bed.client.run('service', 'rm', name);
  });

  it('replicated-job: runs its tasks to completion, so many at once', async () => {
    const flags = ['--mode', 'replicated-job', '--replicas', '5', '--max-concurrent', '2', '--name', 'job', '--quiet'];
    const outcome = await bed.client.try([
      'service',
      'create',
      ...flags,
      `${web}:v1`,
      'sh',
      '-c',
      'echo done; sleep 0.3',
    ]);
    expect(outcome.stderr).toBe('');
    expect(outcome.code).toBe(0);
    await ended('job', 5);
    const tasks = await bed.tasks('job');
    expect(tasks.map((task) => task.Status.State)).toEqual(Array(5).fill('complete'));
    expect(await bed.client.run('service', 'ls', '--filter', 'name=job', '--format', '{{.Mode}} {{.Replicas}}')).toBe(
      'replicated job 0/2 (5/5 completed)',
    );
    await bed.client.run('service', 'rm', 'job');
  });

  it('global-job: runs once on each node', async () => {
    const name = await create(['--mode', 'global-job'], ['true']);
    const tasks = await ended(name, 3);
    expect(new Set(tasks.map((task) => task.NodeID)).size).toBe(3);
    await bed.client.run('service', 'rm', name);
  });

  it('replicas-max-per-node holds', async () => {
    const name = await create(['--replicas', '4', '--replicas-max-per-node', '1']);
    await bed.replicas(name, 3);
    const pending = (await bed.tasks(name)).find((task) => task.Status.State === 'pending');
    expect(pending?.Status.Err).toMatch(/no suitable node \(max replicas per node limit exceed/);
    await bed.client.run('service', 'rm', name);
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
