import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, systemClock, type SpawnResult } from '../base/index.ts';
import { Bed, bodies, Client, get, SHOAL, until } from './kit/index.ts';

/** The daemon as a program: its flags, signals and files, and what it does on a full disk. */
const bed = new Bed('daemon');
let web = '';

/** Size of the disks of both hosts: room for a few images and the log, soon full. */
const DISK_MB = 160;

/** Gives a host a small disk of its own; it goes with the host. */
async function smallDisk(host: string): Promise<void> {
  await bed.lab.kill(host);
  const dir = bed.lab.names.hostDataDir(host);
  await bed.inside(host, ['mount', '-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'small', dir]);
  await bed.lab.start(host);
}

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1, swarm: false });
  await smallDisk('m1');
  await smallDisk('w1');
  await bed.on('m1').run('swarm', 'init', '--advertise-addr', bed.address('m1'));
  const token = await bed.on('m1').run('swarm', 'join-token', '-q', 'worker');
  await bed.on('w1').run('swarm', 'join', '--token', token, `${bed.address('m1')}:2377`);
  web = await bed.serveImages();
});
afterAll(() => bed.down());

/** Runs the daemon program on a host to its end. */
async function daemon(...flags: string[]): Promise<{ code: number | null; words: string }> {
  const result: SpawnResult = await bed.lab.capture('m1', [...SHOAL, 'daemon', ...flags], { timeoutMs: 15_000 });
  expect(result.timedOut).toBe(false);
  return { code: result.code, words: `${result.stdout.toString()}${result.stderr.toString()}` };
}

/** Flags of one more daemon on host m1, with everything of its own. */
const own = (name: string): string[] => {
  const dir = join(bed.lab.names.hostRunDir('m1'), name);
  const files = ['--data-root', `${dir}/data`, '--exec-root', `${dir}/exec`, '--pidfile', `${dir}/pid`];
  const cgroup = `/${bed.lab.names.hostCgroup('m1')}/${name}`;
  return [...files, '-H', `unix://${dir}.sock`, '--cgroup-parent', cgroup, '--insecure-registry', bed.registry];
};

/** Starts one more daemon on host m1 and leaves it running; returns its client. */
async function startBeside(name: string, ...more: string[]): Promise<Client> {
  const log = join(bed.lab.names.hostRunDir('m1'), `${name}.log`);
  const script = 'setsid "$@" >"$0" 2>&1 </dev/null &';
  await bed.inside('m1', ['sh', '-c', script, log, ...SHOAL, 'daemon', ...own(name), ...more], { leavesDaemon: true });
  const client = new Client(`unix://${join(bed.lab.names.hostRunDir('m1'), name)}.sock`);
  await until(`daemon ${name}`, 15_000, async () => {
    const outcome = await client.try(['version']);
    if (outcome.code !== 0) throw new Error(`${outcome.stderr} ${readFileSync(log, 'utf8').slice(-500)}`);
    return true;
  });
  return client;
}

describe('flags', () => {
  it('that are unknown or bad end it with a message', async () => {
    for (const [flags, words] of [
      [['--no-such-flag'], /unknown flag: --no-such-flag/],
      [['--log-level', 'loud'], /unable to parse logging level: loud/],
      [['--mtu', 'big'], /invalid argument "big" for "--mtu" flag/],
      [['--config-file', '/no/such/file'], /\/no\/such\/file/],
      [['stray'], /accepts no arguments/],
      [['--tlsverify'], /TLS on the API socket is not supported/],
    ] as const) {
      const end = await daemon(...flags);
      expect(end.words).toMatch(words);
      expect(end.code).not.toBe(0);
    }
  });

  it('tell help and version', async () => {
    expect(await daemon('--version')).toMatchObject({ code: 0, words: expect.stringMatching(/version \d+\.\d+/) });
    const help = await daemon('--help');
    expect(help.code).toBe(0);
    expect(help.words).toContain('--data-root');
  });

  it('of a configuration file are read; one given twice is refused', async () => {
    writeFileSync(bed.file('daemon.json'), JSON.stringify({ labels: ['rack=7'], 'log-level': 'warn' }));
    const twice = await daemon('--config-file', bed.file('daemon.json'), '--log-level', 'info');
    expect(twice.words).toContain('specified both as a flag and in the configuration file: log-level');
    expect(twice.code).not.toBe(0);
    writeFileSync(bed.file('daemon.json'), JSON.stringify({ nonsense: 1 }));
    const unknown = await daemon('--config-file', bed.file('daemon.json'));
    expect(unknown.words).toMatch(/nonsense/);
    expect(unknown.code).not.toBe(0);
  });

  it('that have no meaning here are warned of', async () => {
    const containerd = ['--containerd', '/run/containerd/containerd.sock', '--containerd-namespace', 'moby'];
    const client = await startBeside('warned', ...containerd);
    const log = readFileSync(join(bed.lab.names.hostRunDir('m1'), 'warned.log'), 'utf8');
    expect(log).toContain('flag --containerd has no meaning for shoal and is ignored');
    expect(log).toContain('--containerd-namespace');
    expect(await client.run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
    const pid = Number(readFileSync(join(bed.lab.names.hostRunDir('m1'), 'warned/pid'), 'utf8'));
    process.kill(pid, 'SIGTERM');
    await until('it ends and takes its pid file away', 10_000, async () => (await client.try(['version'])).code !== 0);
  });
});

describe('measurements', () => {
  it('are served at an address of their own, and nothing else is', async () => {
    const client = await startBeside('measured', '--metrics-addr', '127.0.0.1:9323');
    const read = (path: string): Promise<SpawnResult> =>
      bed.lab.capture('m1', ['busybox', 'wget', '-qO-', `http://127.0.0.1:9323${path}`], { timeoutMs: 5_000 });
    const text = (await read('/metrics')).stdout.toString();
    expect(text).toContain('# TYPE shoal_network_repairs_total counter\n');
    expect(text).toMatch(/^shoal_network_repairs_total\{kind="fdb"\} 0$/m);
    expect(text).toMatch(/^process_resident_memory_bytes [1-9]\d+$/m);
    expect((await read('/version')).code).not.toBe(0);
    const pid = Number(readFileSync(join(bed.lab.names.hostRunDir('m1'), 'measured/pid'), 'utf8'));
    process.kill(pid, 'SIGTERM');
    await until('it ends', 10_000, async () => (await client.try(['version'])).code !== 0);
  });
});

describe('a second daemon', () => {
  it('on the same pid file refuses', async () => {
    const pidfile = join(bed.lab.names.hostRunDir('m1'), 'daemon.pid');
    const flags = own('rival').filter((word, i, all) => word !== '--pidfile' && all[i - 1] !== '--pidfile');
    const end = await daemon(...flags, '--pidfile', pidfile);
    expect(end.code).not.toBe(0);
    expect(end.words).toMatch(/process with PID \d+ is still running/);
    expect(bed.lab.list()[0]?.pid).toBeGreaterThan(0);
    expect(await bed.client.lines('node', 'ls', '-q')).toHaveLength(2);
  });

  it('without root says what it needs', async () => {
    const drop = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--inh-caps=-all'];
    const result = await bed.lab.capture('m1', [...drop, ...SHOAL, 'daemon', ...own('nobody')], { timeoutMs: 15_000 });
    expect(result.code).not.toBe(0);
    expect(result.stderr.toString()).toContain('needs root');
  });

  it('in the same network namespace, with other ports and sockets, forms a swarm with a third', async () => {
    const [a, b] = [await startBeside('a'), await startBeside('b')];
    const at = bed.address('m1');
    const dataPath = ['--data-path-port', '4790'];
    await a.run('swarm', 'init', '--listen-addr', '0.0.0.0:2478', '--advertise-addr', `${at}:2478`, ...dataPath);
    const token = await a.run('swarm', 'join-token', '-q', 'manager');
    const ports = ['--listen-addr', '0.0.0.0:2479', '--advertise-addr', `${at}:2479`];
    await b.run('swarm', 'join', '--token', token, ...ports, `${at}:2478`);
    await until('two ready managers', 15_000, async () => {
      const rows = await b.lines('node', 'ls', '--format', '{{.Status}} {{.ManagerStatus}}');
      expect(rows.sort()).toEqual(['Ready Leader', 'Ready Reachable']);
      return true;
    });
    const image = `${web}:v1`;
    const create = ['--detach', '--quiet', '--network', 'host', '--mode', 'global', '--name', 'here', image];
    await a.run('service', 'create', ...create, 'sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait');
    await until('a task on each', 20_000, async () => {
      const rows = await b.lines('service', 'ps', 'here', '--no-trunc', '--format', '{{.CurrentState}} {{.Error}}');
      if (rows.filter((row) => row.startsWith('Running')).length !== 2) throw new Error(rows.join('; '));
      return true;
    });
    await a.run('service', 'rm', 'here');
    expect(await bed.client.lines('node', 'ls', '-q')).toHaveLength(2);
    for (const client of [b, a]) await client.run('swarm', 'leave', '--force');
    for (const name of ['a', 'b']) {
      process.kill(Number(readFileSync(join(bed.lab.names.hostRunDir('m1'), name, 'pid'), 'utf8')), 'SIGTERM');
    }
    for (const client of [b, a])
      await until('it ended', 15_000, async () => (await client.try(['version'])).code !== 0);
  });
});

describe('SIGTERM', () => {
  it('ends the daemon and leaves containers running; a new one takes them over', async () => {
    const flags = ['--detach', '--quiet', '--name', 'web', '--replicas', '2', '--publish', '8080:80'];
    await bed.client.run('service', 'create', ...flags, `${web}:v1`);
    const before = (await bed.replicas('web', 2))
      .map((task) => must(task.Status.ContainerStatus, 'container').PID)
      .sort((a, b) => a - b);
    const times = before.map((pid) => bed.startTime(pid));
    await until('w1 reaches both', 10_000, async () => {
      return (await bodies(`http://${bed.address('w1')}:8080/`, 6)).size === 2;
    });
    for (const { pid } of bed.lab.list()) process.kill(pid, 'SIGTERM');
    await until('both ended', 15_000, () => bed.lab.list().every((host) => host.pid === 0));
    expect(before.map((pid) => bed.startTime(pid))).toEqual(times);
    expect(await get(`http://${bed.address('w1')}:8080/`)).toMatch(/^v1 /);
    for (const host of ['m1', 'w1']) await bed.lab.start(host);
    const after = (await bed.replicas('web', 2))
      .map((task) => must(task.Status.ContainerStatus, 'container').PID)
      .sort((a, b) => a - b);
    expect(after).toEqual(before);
    expect(await bed.tasks('web')).toHaveLength(2);
  });
});

describe('a full disk', () => {
  const fill = async (host: string): Promise<void> => {
    const file = join(bed.lab.names.hostDataDir(host), 'filler');
    await bed.inside(host, [
      'sh',
      '-c',
      'dd if=/dev/zero of="$0" bs=1M 2>/dev/null; dd if=/dev/zero bs=1 count=1 >>"$0" 2>/dev/null; true',
      file,
    ]);
  };
  const empty = (host: string): Promise<string> =>
    bed.inside(host, ['rm', '-f', join(bed.lab.names.hostDataDir(host), 'filler')]);

  it('of a worker is told by its tasks; with space back they run', async () => {
    const archive = bed.file('busybox.tar');
    await bed.on('m1').run('import', archive, `${bed.registry}/fresh:1`);
    await bed.on('m1').run('push', `${bed.registry}/fresh:1`);
    await fill('w1');
    const flags = ['--detach', '--quiet', '--name', 'fresh', '--constraint', 'node.hostname==w1'];
    const command = ['sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];
    await bed.client.run('service', 'create', ...flags, `${bed.registry}/fresh:1`, ...command);
    const task = await until('a task that could not run', 30_000, async () => {
      return (await bed.tasks('fresh')).find((found) => found.Status.State === 'rejected');
    });
    expect(task.Status.Err).toMatch(/no space left on device/i);
    expect((await bed.node('w1')).Status.State).toBe('ready');
    expect(await bed.on('w1').run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('active');
    expect(await bed.on('w1').fails('pull', `${bed.registry}/fresh:1`)).toMatch(/no space left on device/i);
    await empty('w1');
    await bed.replicas('fresh', 1);
    await bed.replicas('web', 2);
    await bed.client.run('service', 'rm', 'fresh');
  });

  it('of the only manager refuses writes with a clear message; with space back nothing is lost', async () => {
    writeFileSync(bed.file('big'), Buffer.alloc(400_000, 'x'));
    await fill('m1');
    const taken: string[] = [];
    const words = await until('a refused write', 60_000, async () => {
      const name = `c${taken.length}`;
      const outcome = await bed.client.try(['config', 'create', name, bed.file('big')]);
      if (outcome.code === 0) taken.push(name);
      return outcome.code === 0 ? undefined : outcome.stderr;
    });
    expect(words).toMatch(/no space left on device|disk/i);
    expect(bed.lab.list().find((host) => host.name === 'm1')?.pid).toBeGreaterThan(0);
    expect(await get(`http://${bed.address('m1')}:8080/`)).toMatch(/^v1 /);
    await empty('m1');
    const began = systemClock.monotonic();
    await until('writes are taken again', 30_000, async () => {
      await bed.client.run('config', 'create', 'after', bed.file('big'));
      return true;
    });
    expect(systemClock.monotonic() - began).toBeLessThan(30_000);
    const names = await bed.client.lines('config', 'ls', '--format', '{{.Name}}');
    expect(names).toEqual(expect.arrayContaining([...taken, 'after']));
    await bed.lab.kill('m1');
    await bed.lab.start('m1');
    const again = await until('a leader', 10_000, () => bed.client.lines('config', 'ls', '--format', '{{.Name}}'));
    expect(again.sort()).toEqual(names.sort());
    await bed.replicas('web', 2);
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
