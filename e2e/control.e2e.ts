import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../base/index.ts';
import { Bed, until } from './kit/index.ts';

/** Containers that exist are controlled, watched and cleaned up by the stock client, beside the tasks of a swarm. */
const bed = new Bed('control');
const docker = (...args: string[]): Promise<string> => bed.client.run(...args);
const fails = (...args: string[]): Promise<string> => bed.client.fails(...args);
const BUSY = 'while :; do :; done';

beforeAll(async () => {
  writeFileSync(bed.file('daemon.json'), '{}');
  const daemonFlags = ['--config-file', bed.file('daemon.json')];
  await bed.up({ managers: 1, workers: 0, swarm: false, daemonFlags });
  await docker('import', '--change', 'CMD ["sleep","1000"]', await bed.archive(), 'busybox');
});
afterAll(() => bed.down());

const inspect = (name: string, format: string): Promise<string> => docker('inspect', '--format', format, name);

/** Events of some objects since a time, `type action` each, without those of probes. */
async function eventsSince(since: string, ...filters: string[]): Promise<string[]> {
  const flags = filters.flatMap((filter) => ['--filter', filter]);
  const text = await docker(
    'events',
    '--since',
    since,
    '--until',
    String(Date.now() / 1000),
    ...flags,
    '--format',
    '{{.Type}} {{.Action}}',
  );
  return text.split('\n').filter((line) => line !== '' && !line.includes('exec_'));
}

describe('control of containers', () => {
  it('pause, unpause, restart, rename, kill and their events', async () => {
    const since = String(Date.now() / 1000);
    await docker('run', '-d', '--name', 'one', '-v', 'things:/things', 'busybox');
    await docker('pause', 'one');
    expect(await docker('ps', '--format', '{{.Names}} {{.Status}}')).toMatch(/^one Up .*\(Paused\)$/);
    expect(await fails('pause', 'one')).toContain('is already paused');
    expect(await fails('rm', 'one')).toContain('container is paused: unpause and then stop the container');
    await docker('unpause', 'one');
    await docker('rename', 'one', 'uno');
    await docker('restart', '-t', '0', 'uno');
    await docker('kill', 'uno');
    expect(await inspect('uno', '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}')).toBe('exited 137 0');
    expect(await fails('kill', 'uno')).toContain('cannot kill container: uno: container');
    await docker('rm', '-v', 'uno');
    const run = ['volume mount', 'network connect', 'container start'];
    const end = ['network disconnect', 'volume unmount', 'container die'];
    expect(await eventsSince(since)).toEqual([
      ...['volume create', 'container create', ...run],
      ...['container pause', 'container unpause', 'container rename'],
      ...['container kill', 'container kill', ...end, 'container stop', ...run, 'container restart'],
      ...['container kill', ...end, 'container destroy'],
    ]);
    await docker('volume', 'rm', 'things');
  });

  it('update, top, port and stats show what is', async () => {
    await docker('run', '-d', '--name', 'busy', '-p', '18099:80', '--memory', '64m', 'busybox', 'sh', '-c', BUSY);
    await docker(
      'update',
      '--memory',
      '80m',
      '--memory-swap',
      '80m',
      '--pids-limit',
      '20',
      '--restart',
      'always',
      'busy',
    );
    expect(await inspect('busy', '{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}')).toBe('83886080 always');
    expect(await fails('update', '--memory', '200m', 'busy')).toContain('update the memoryswap at the same time');
    const pid = await inspect('busy', '{{.State.Pid}}');
    expect(await docker('top', 'busy', '-o', 'pid,comm')).toMatch(new RegExp(`^PID +COMMAND\\n${pid} +sh$`));
    expect(await docker('port', 'busy', '80')).toContain(':18099');
    const fields = '{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}';
    const line = await docker('stats', '--no-stream', '--format', fields, 'busy');
    const [name, cpu = '', memory = '', net = '', block = '', pids] = line.split('|');
    expect([name, pids]).toEqual(['busy', '1']);
    expect(Number.parseFloat(cpu)).toBeGreaterThan(5);
    expect(memory).toMatch(/(B|iB) \/ 80MiB$/);
    expect(net).toMatch(/B \/ .*B$/);
    expect(block).toMatch(/B \/ .*B$/);
    const answer = await bed.api<{ networks: object; precpu_stats: { system_cpu_usage?: number } }>(
      '/containers/busy/stats?stream=0&one-shot=1',
    );
    expect(Object.keys(answer.networks)).toEqual(['eth0']);
    expect(answer.precpu_stats.system_cpu_usage).toBeUndefined();
    await docker('rm', '-f', 'busy');
  });

  it('ps filters, wait, and prune', async () => {
    const first = await docker('run', '-d', '--name', 'p1', '--label', 'a=1', 'busybox', 'sh', '-c', 'exit 3');
    expect(await docker('wait', 'p1')).toBe('3');
    await docker('create', '--name', 'p2', '--label', 'a=2', 'busybox');
    await docker('run', '-d', '--name', 'p3', '--expose', '90', 'busybox');
    const names = async (...filters: string[]): Promise<string> =>
      (await docker('ps', '-a', '--format', '{{.Names}}', ...filters.flatMap((f) => ['-f', f]))).replaceAll('\n', ' ');
    expect(await names('ancestor=busybox')).toBe('p3 p2 p1');
    expect(await names('exited=3')).toBe('p1');
    expect(await names('before=p2')).toBe('p1');
    expect(await names('since=p1')).toBe('p3 p2');
    expect(await names('expose=90')).toBe('p3');
    expect(await names('status=created')).toBe('p2');
    expect(await names('label=a')).toBe('p2 p1');
    expect(await fails('ps', '-f', 'status=bogus')).toContain('bogus');
    const since = String(Date.now() / 1000);
    expect(await docker('container', 'prune', '-f', '--filter', 'label=a=1')).toContain(
      `Deleted Containers:\n${first}`,
    );
    expect(await eventsSince(since)).toEqual(['container destroy', 'container prune']);
    await docker('container', 'prune', '-f');
    expect(await names()).toBe('p3');
    await docker('rm', '-f', 'p3');
  });

  it('names and links follow a rename at once', async () => {
    await docker('network', 'create', 'n1');
    await docker('run', '-d', '--name', 'srv', '--network', 'n1', 'busybox');
    await docker('run', '-d', '--name', 'cli', '--network', 'n1', '--link', 'srv:db', 'busybox');
    await docker('run', '-d', '--name', 'mate', '--network', 'container:srv', 'busybox');
    const address = await inspect('srv', '{{.NetworkSettings.Networks.n1.IPAddress}}');
    await docker('rename', 'srv', 'server');
    for (const name of ['server', 'db']) expect(await docker('exec', 'cli', 'nslookup', name)).toContain(address);
    expect(await fails('exec', 'cli', 'timeout', '2', 'nslookup', 'srv')).not.toContain(address);
    expect(await inspect('cli', '{{.HostConfig.Links}}')).not.toContain('srv');
    await docker('restart', '-t', '0', 'cli', 'mate');
    expect(await docker('exec', 'cli', 'nslookup', 'db')).toContain(address);
    await docker('rm', '-f', 'mate', 'cli', 'server');
    await docker('network', 'rm', 'n1');
  });

  it('health checks, memory that runs out, and restarts that wait', async () => {
    const since = String(Date.now() / 1000);
    const probe = ['--health-cmd', 'test -e /ok && echo fine', '--health-interval', '200ms', '--health-retries', '1'];
    await docker('run', '-d', '--name', 'sick', ...probe, 'busybox');
    await until(
      'a failed probe',
      5_000,
      async () => (await inspect('sick', '{{.State.Health.Status}}')) === 'unhealthy',
    );
    await docker('exec', 'sick', 'touch', '/ok');
    await until('a good probe', 5_000, async () => (await inspect('sick', '{{.State.Health.Status}}')) === 'healthy');
    expect(await inspect('sick', '{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}|{{end}}')).toMatch(
      /\|0 fine\s*\|$/,
    );
    expect(await eventsSince(since, 'container=sick', 'event=health_status')).toEqual([
      'container health_status: unhealthy',
      'container health_status: healthy',
    ]);
    await docker(
      'run',
      '-d',
      '--name',
      'fat',
      '-m',
      '8m',
      '--memory-swap',
      '8m',
      'busybox',
      'sh',
      '-c',
      'head -c 99m /dev/zero | tail',
    );
    await docker('wait', 'fat');
    expect(await inspect('fat', '{{.State.OOMKilled}}')).toBe('true');
    expect(await eventsSince(since, 'container=fat', 'event=oom')).toEqual(['container oom']);
    await docker('run', '-d', '--name', 'again', '--restart', 'on-failure:2', 'busybox', 'false');
    await until(
      'its restarts',
      5_000,
      async () => (await inspect('again', '{{.State.Status}} {{.RestartCount}}')) === 'exited 2',
    );
    await docker('run', '-d', '--name', 'ever', '--restart', 'always', 'busybox', 'false');
    await until('its wait', 5_000, async () =>
      (await docker('ps', '--format', '{{.Status}}')).includes('Restarting (1)'),
    );
    await docker('stop', 'ever');
    await docker('rm', 'ever', 'again', 'fat');
    await docker('rm', '-f', 'sick');
  });
});

describe('the daemon', () => {
  it('tells facts, and what takes space', async () => {
    const info = JSON.parse(await docker('info', '--format', '{{json .}}')) as Record<string, unknown>;
    expect(info).toMatchObject({ Driver: 'overlay2', LiveRestoreEnabled: true, Images: 1 });
    expect(info['SecurityOptions']).toContain('name=seccomp,profile=builtin');
    const version = JSON.parse(await docker('version', '--format', '{{json .Server}}')) as {
      Components: { Name: string }[];
    };
    expect(version.Components.map(({ Name }) => Name)).toEqual(['Engine', 'runc', 'conmon']);
    await docker(
      'run',
      '-d',
      '--name',
      'big',
      '-v',
      'store:/s',
      'busybox',
      'sh',
      '-c',
      'head -c 50000 /dev/zero | tee /s/f >/f; sleep 99',
    );
    await until('its files', 5_000, async () => (await docker('ps', '-s', '--format', '{{.Size}}')).startsWith('50'));
    const df = await docker('system', 'df', '--format', '{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}');
    expect(df).toMatch(
      /^Images 1 1 [\d.]+MB\nContainers 1 1 50[\d.]*kB\nLocal Volumes 1 1 50[\d.]*kB\nBuild Cache 0 0 0B$/,
    );
    await docker('rm', '-f', 'big');
    await docker('volume', 'rm', 'store');
  });

  it('reads its configuration again, and says when credentials cannot be checked', async () => {
    const since = String(Date.now() / 1000);
    writeFileSync(bed.file('daemon.json'), JSON.stringify({ labels: ['floor=2'], debug: true }));
    process.kill(must(bed.host('m1').pid, 'pid of the daemon'), 'SIGHUP');
    await until(
      'the labels',
      5_000,
      async () => (await docker('info', '--format', '{{.Labels}} {{.Debug}}')) === '[floor=2] true',
    );
    expect(await eventsSince(since, 'type=daemon')).toEqual(['daemon reload']);
    writeFileSync(bed.file('daemon.json'), '{"labels": 1}');
    process.kill(must(bed.host('m1').pid, 'pid of the daemon'), 'SIGHUP');
    expect(await docker('info', '--format', '{{.Labels}}')).toBe('[floor=2]');
    expect(await fails('login', '-u', 'me', '-p', 'secret', '127.0.0.1:9')).toContain('connection refused');
  });

  it('lists and controls the tasks of a swarm as other containers', async () => {
    await docker('swarm', 'init');
    await docker('service', 'create', '--detach', '--no-resolve-image', '--name', 'task', 'busybox', 'sleep', '1000');
    const running = (): Promise<string> => docker('ps', '-q', '-f', 'is-task=true', '-f', 'status=running');
    const id = await until('the task', 20_000, async () => (await running()) || undefined);
    await docker('pause', id);
    await docker('unpause', id);
    expect(await docker('top', id)).toContain('sleep 1000');
    await docker('kill', id);
    const next = await until('its replacement', 20_000, async () => {
      const found = await running();
      return found !== '' && found !== id ? found : undefined;
    });
    expect(next).not.toBe(id);
    await docker('service', 'rm', 'task');
  });
});
