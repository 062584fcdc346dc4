import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, SHOAL, until, type Client } from './kit/index.ts';

/** A daemon with `--userns-remap=default`: who containers are on the host, and what stays as ever. */
const bed = new Bed('userns');
const NO_REMAP = 'cannot share the host';
let client: Client;
let first = 0;

/** Starts the daemon anew with a configuration file; what it changes of users stays in this host's own /etc. */
async function configure(settings: object): Promise<void> {
  const script = 'mkdir -p /etc/shoal && cat >/etc/shoal/daemon.json';
  await bed.lab.kill('m1');
  await bed.inside('m1', ['sh', '-c', script], { stdin: JSON.stringify(settings) });
  await bed.lab.start('m1');
}

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  const place = join(bed.lab.names.hostRunDir('m1'), 'etc');
  const options = `lowerdir=/etc,upperdir=${place}/upper,workdir=${place}/work`;
  const script = 'mkdir -p "$0/upper" "$0/work" && mount -t overlay etc -o "$1" /etc';
  await bed.inside('m1', ['sh', '-c', script, place, options]);
  await configure({ 'userns-remap': 'default' });
  client = bed.client;
  await client.run('import', await bed.archive(), 'busybox:latest');
  const line = await bed.inside('m1', ['sh', '-c', 'grep ^dockremap: /etc/subuid']);
  first = Number(line.split(':')[1]);
});
afterAll(() => bed.down());

const owner = (path: string): string => `${statSync(path).uid}:${statSync(path).gid}`;
const uidOf = async (container: string): Promise<string> => {
  const pid = await client.run('inspect', '--format', '{{.State.Pid}}', container);
  return /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
};

it('makes root of containers a user of the host that owns nothing there', async () => {
  expect(first).toBeGreaterThanOrEqual(100_000);
  expect(await client.run('info', '--format', '{{.SecurityOptions}}')).toContain('name=userns');
  const serve = 'mkdir /www; echo page >/www/index.html; echo ready >/dev/stderr; exec httpd -f -p 80 -h /www';
  await client.run('network', 'create', 'own');
  await client.run('run', '-d', '--name', 'web', '--network', 'own', '-p', '8080:80', 'busybox', 'sh', '-c', serve);
  await until('it serves', 10_000, async () => {
    return (await bed.inside('m1', ['wget', '-qO-', `${bed.address('m1')}:8080`])) === 'page';
  });
  expect((await client.try(['logs', 'web'])).stderr).toBe('ready\n');
  expect(await uidOf('web')).toBe(String(first));
  const seen = await client.run('exec', 'web', 'sh', '-c', 'id -u; cat /proc/self/uid_map; echo x >/dev/stdout');
  expect(seen.replace(/ +/g, ' ')).toBe(`0\n 0 ${first} 65536\nx`);
  expect(await client.run('exec', '-u', '33:44', 'web', 'id', '-u')).toBe('33');
  const asked = ['run', '--rm', '--network', 'own', '--domainname', 'inside', 'busybox', 'wget', '-qO-', 'web'];
  expect(await client.run(...asked)).toBe('page');
  const shared = ['run', '--rm', '--network', 'container:web', 'busybox', 'wget', '-qO-', '127.0.0.1'];
  expect(await client.run(...shared)).toBe('page');
});

it('keeps volumes, copies and images in the ids that are seen inside', async () => {
  await client.run('run', '--rm', '-v', 'data:/data', 'busybox', 'sh', '-c', 'touch /data/f; chown 5:6 /data/f');
  const place = await client.run('volume', 'inspect', '--format', '{{.Mountpoint}}', 'data');
  expect([owner(place), owner(join(place, 'f'))]).toEqual([`${first}:${first}`, `${first + 5}:${first + 6}`]);
  writeFileSync(bed.file('in'), 'text\n');
  execFileSync('chown', ['7:8', bed.file('in')]);
  await client.run('cp', '-a', bed.file('in'), 'web:/in');
  expect(await client.run('exec', 'web', 'stat', '-c', '%u:%g', '/in')).toBe('7:8');
  await client.run('cp', 'web:/in', bed.file('out'));
  expect(readFileSync(bed.file('out'), 'utf8')).toBe('text\n');
  const { stdout: archive } = await client.try(['cp', 'web:/in', '-']);
  const listed = execFileSync('tar', ['--numeric-owner', '-tvf', '-'], { input: archive }).toString();
  expect(listed).toMatch(/^-rw-r--r-- 7\/8 +5 .* in\n$/);
  expect((await client.run('diff', 'web')).split('\n').sort()).toEqual(['A /in', 'A /www', 'A /www/index.html']);
  await client.run('commit', 'web', 'again');
  for (const more of [[], ['--userns=host']]) {
    const words = ['run', '--rm', ...more, 'again', 'stat', '-c', '%u:%g', '/in', '/www'];
    expect(await client.run(...words)).toBe('7:8\n0:0');
  }
});

it('refuses what needs the host’s users, and gives it with --userns=host', async () => {
  const privileged = 'privileged mode is incompatible with user namespaces.  You must run the container in the host';
  for (const [flags, words] of [
    [['--privileged'], privileged],
    [['--network', 'host'], `${NO_REMAP}'s network namespace when user namespaces are enabled`],
    [['--pid', 'host'], `${NO_REMAP} PID namespace when user namespaces are enabled`],
  ] as const) {
    const refused = await client.try(['run', '--rm', ...flags, 'busybox', 'true']);
    expect(refused.code).toBe(125);
    expect(refused.stderr).toContain(words);
    await client.run('run', '--rm', '--userns=host', ...flags, 'busybox', 'true');
  }
  await client.run('run', '-d', '--name', 'host', '--userns=host', 'busybox', 'sleep', '1000');
  expect(await uidOf('host')).toBe('0');
});

it('runs tasks of a swarm with their secrets, configs and volumes', async () => {
  await client.run('swarm', 'init', '--advertise-addr', bed.address('m1'));
  await client.try(['secret', 'create', 'sec', '-'], { stdin: 'secret' });
  await client.try(['config', 'create', 'cfg', '-'], { stdin: 'config' });
  const script =
    'cat /proc/self/uid_map; ls -ln /cfg /run/secrets/sec; cat /run/secrets/sec; touch /v/f && exec sleep 1000';
  const more = ['--secret', 'source=sec,uid=12,gid=13,mode=0400', '--config', 'source=cfg,target=/cfg'];
  const mount = ['--mount', 'type=volume,source=of-task,target=/v', '--stop-grace-period', '0s'];
  await client.run('service', 'create', '-d', '--name', 'task', ...more, ...mount, 'busybox', 'sh', '-c', script);
  await bed.replicas('task', 1);
  const log = (await client.run('service', 'logs', '--raw', 'task')).replace(/ +/g, ' ');
  expect(log).toMatch(
    new RegExp(`^ ?0 ${first} 65536\n-r--r--r-- 1 0 0 6 .* /cfg\n-r-------- 1 12 13 6 .* /run/secrets/sec\nsecret`),
  );
  await client.run('service', 'create', '-d', '--name', 'wide', '--network', 'host', 'busybox', 'sleep', '1000');
  await until('it is rejected', 10_000, async () => {
    return (await bed.tasks('wide')).some(({ Status }) => Status.Err?.startsWith(`${NO_REMAP}'s network`) === true);
  });
  await client.run('service', 'rm', 'task', 'wide');
});

it('finds its containers again, also without remapping', async () => {
  await configure({});
  expect(await client.run('info', '--format', '{{.SecurityOptions}}')).not.toContain('name=userns');
  expect(await uidOf('web')).toBe(String(first));
  await client.run('restart', '-t', '0', 'web');
  expect(await uidOf('web')).toBe(String(first));
  expect(await client.run('exec', 'web', 'cat', '/in')).toBe('text');
  await client.run('run', '-d', '--name', 'plain', 'busybox', 'sleep', '1000');
  expect(await uidOf('plain')).toBe('0');
  const mixed = await client.try(['run', '--rm', '--pid', 'container:web', '--name', 'mixed', 'busybox', 'true']);
  expect(mixed.code).toBe(0);
  await client.run('rm', '-f', 'web', 'host', 'plain');
});

it('ends at its start with what is missing', async () => {
  await bed.lab.kill('m1');
  const run = async (spec: string): Promise<string> => {
    const dirs = ['--data-root', bed.file('data'), '--exec-root', bed.file('exec'), '--pidfile', bed.file('pid')];
    const words = [`--userns-remap=${spec}`, ...dirs, '-H', `unix://${bed.file('s')}`];
    const end = await bed.lab.capture('m1', [...SHOAL, 'daemon', ...words], { timeoutMs: 15_000 });
    expect(end.code).not.toBe(0);
    return `${end.stdout.toString()}${end.stderr.toString()}`;
  };
  expect(await run('nobody')).toMatch(/no subuid ranges found for user "nobody": add the line nobody:\d+:65536 to/);
  expect(await run('missing')).toContain('there is no user "missing" in /etc/passwd');
});
