import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until, type Outcome } from './kit/index.ts';

/**
 * Every option of `docker run`, through the stock client, looked at from inside the container. All share one daemon and
 * run a few at a time.
 */
const bed = new Bed('options');
const IMAGE = 'box:v1';
const V1 = existsSync('/sys/fs/cgroup/memory');

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  await bed.client.run('import', await bed.archive(), IMAGE);
  mkdirSync(bed.file('dir'));
  writeFileSync(bed.file('dir/file'), 'from the host\n');
  writeFileSync(bed.file('env'), 'FROM_FILE=1\n');
  writeFileSync(
    bed.file('no-mkdir.json'),
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO' }],
    }),
  );
  const keep = 'mkdir /vol/part; touch /vol/part/inside; echo kept >/vol/f; echo shared >/dev/shm/f; exec sleep 1000';
  const flags = ['-v', 'data:/vol', '-v', `${bed.file('dir')}:/host:ro`, '--ipc', 'shareable'];
  await bed.client.run('run', '-d', '--name', 'donor', '--hostname', 'donor', ...flags, IMAGE, 'sh', '-c', keep);
  await until('the donor has its files', 10_000, () => bed.client.run('exec', 'donor', 'cat', '/dev/shm/f'));
});
afterAll(async () => {
  await bed.down();
  // A group that containers name as their parent stays, as in Docker.
  const trees = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name))];
  for (const group of trees.map((tree) => join(tree, 'options-e2e'))) if (existsSync(group)) rmdirSync(group);
});

/** Runs a script with these options; `@` stands for the directory of this bed. */
function run(flags: string, script: string): Promise<Outcome> {
  const words = flags.split(' ').filter((word) => word !== '');
  const real = words.map((word) => word.replace('@', bed.file('/')));
  return bed.client.try(['run', '--rm', ...real, IMAGE, ...(script === '' ? [] : ['sh', '-c', script])]);
}

const cgroup = (controller: string, v1: string, v2: string): string =>
  `cat /sys/fs/cgroup/${V1 ? `${controller}/${v1}` : v2}`;

/** Options, script, what it prints. */
const PRINTS: readonly (readonly [string, string, string | RegExp])[] = [
  ['-e A=1 -e PATH=/bin', 'echo $A $PATH', '1 /bin\n'],
  ['--env-file @env', 'echo $FROM_FILE', '1\n'],
  ['-w /made/here', 'pwd; ls -ld /made', /^\/made\/here\ndrwxr-xr-x /],
  ['-u nobody', 'id', /uid=65534\(nobody\) gid=65534\(nogroup\)/],
  ['-u 12:34 --group-add 77 --group-add nogroup', 'id', 'uid=12 gid=34 groups=34,77,65534(nogroup)\n'],
  ['-h web --domainname dom.example', 'hostname -f; cat /proc/sys/kernel/domainname', 'web.dom.example\ndom.example\n'],
  ['-v @dir:/x:ro', 'cat /x/file; touch /x/y 2>&1 || true', /from the host\n.*Read-only/],
  ['--mount type=bind,src=@dir,dst=/x,readonly', 'cat /x/file; touch /x/y 2>&1 || true', /host\n.*Read-only/],
  ['-v data:/v', 'cat /v/f', 'kept\n'],
  ['--mount type=volume,src=data,dst=/v,readonly', 'cat /v/f; touch /v/g 2>&1 || true', /kept\n.*Read-only/],
  ['--mount type=volume,src=data,dst=/p,volume-subpath=part', 'ls /p', 'inside\n'],
  ['-v /anonymous', 'grep -c " /anonymous " /proc/mounts', '1\n'],
  ['--tmpfs /t:size=1m,mode=700', 'df -k /t | tail -n1; ls -ld /t', /1024 .*\/t\ndrwx------/],
  [
    '--mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=0750',
    'df -k /t | tail -n1; ls -ld /t',
    /2048 .*\/t\ndrwxr-x---/,
  ],
  [
    '--volumes-from donor',
    'cat /vol/f /host/file; touch /vol/g && rm /vol/g && echo written',
    /kept\nfrom the host\nwritten/,
  ],
  ['--volumes-from donor:ro', 'touch /vol/g 2>&1 || true', /Read-only/],
  ['--init', 'tr "\\0" " " </proc/1/cmdline', /^\/sbin\/docker-init -- sh -c/],
  [
    '--read-only --tmpfs /w',
    'touch /w/x && echo yes; touch /x /etc/hosts 2>&1 || true',
    /yes\n.*Read-only.*\n.*Read-only/,
  ],
  ['-m 32m', cgroup('memory', 'memory.limit_in_bytes', 'memory.max'), '33554432\n'],
  ['-m 32m --memory-reservation 16m', cgroup('memory', 'memory.soft_limit_in_bytes', 'memory.low'), '16777216\n'],
  ['--cpus 0.5', cgroup('cpu', 'cpu.cfs_quota_us', 'cpu.max'), /^50000/],
  ['--cpu-period 50000 --cpu-quota 25000', cgroup('cpu', 'cpu.cfs_quota_us', 'cpu.max'), /^25000/],
  ['--cpu-shares 512', cgroup('cpu', 'cpu.shares', 'cpu.weight'), V1 ? '512\n' : /^\d+\n$/],
  ['--cpuset-cpus 0 --cpuset-mems 0', cgroup('cpuset', 'cpuset.cpus', 'cpuset.cpus'), '0\n'],
  ['--pids-limit 7', cgroup('pids', 'pids.max', 'pids.max'), '7\n'],
  ['--ulimit nofile=100:200 --ulimit core=0', 'ulimit -n; ulimit -Hn; ulimit -c', '100\n200\n0\n'],
  ['--sysctl net.core.somaxconn=77', 'cat /proc/sys/net/core/somaxconn', '77\n'],
  ['--shm-size 3m', 'df -k /dev/shm | tail -n1', / 3072 /],
  ['--device /dev/kmsg:/dev/log:r', 'ls -l /dev/log; echo x 2>&1 >/dev/log || true', /1, +11 .*\n.*not permitted/],
  ['--device /dev/net:/dev/many', 'ls /dev/many', 'tun\n'],
  ['--cap-add SYS_ADMIN', 'mount -t tmpfs x /tmp && echo mounted', 'mounted\n'],
  ['--cap-drop ALL --cap-add cap_kill', 'grep CapEff /proc/self/status', /0000000000000020\n/],
  ['--privileged', 'mount -t tmpfs x /tmp && ls /dev/kmsg', '/dev/kmsg\n'],
  ['--security-opt seccomp=unconfined', 'grep Seccomp: /proc/self/status', /:\t0\n/],
  ['--security-opt seccomp=@no-mkdir.json', 'mkdir /q 2>&1 || true', /not permitted/],
  ['--security-opt no-new-privileges', 'grep NoNewPrivs /proc/self/status', /:\t1\n/],
  ['--security-opt systempaths=unconfined', 'wc -c </proc/timer_list', /^[1-9]/],
  ['--security-opt apparmor=unconfined --security-opt label=disable', 'echo taken', 'taken\n'],
  ['--userns host', 'head -n1 /proc/self/uid_map', / 0 +0 +4294967295\n/],
  ['--pid host', 'tr "\\0" " " </proc/1/cmdline', readFileSync('/proc/1/cmdline', 'utf8').replaceAll('\0', ' ')],
  ['--pid container:donor', 'tr "\\0" " " </proc/1/cmdline', 'sleep 1000 '],
  ['--ipc container:donor', 'cat /dev/shm/f', 'shared\n'],
  ['--ipc none', 'ls /dev/shm 2>&1 || true', /No such file/],
  ['--ipc host --uts host', 'hostname', 'm1\n'],
  ['--cgroupns private', 'head -n1 /proc/self/cgroup', /:\/\n$/],
  ['--cgroupns host --cgroup-parent /options-e2e', 'head -n1 /proc/self/cgroup', /\/options-e2e\/[0-9a-f]{64}\n$/],
  ['--network none', 'ls /sys/class/net', 'lo\n'],
  ['--network container:donor', 'hostname', 'donor\n'],
  ['--add-host a.example:192.0.2.9', 'grep a.example /etc/hosts', '192.0.2.9\ta.example\n'],
  [
    '--dns 192.0.2.1 --dns-search x.example --dns-option ndots:3',
    'cat /etc/resolv.conf',
    'nameserver 192.0.2.1\nsearch x.example\noptions ndots:3\n',
  ],
  ['--link donor:friend', 'grep friend /etc/hosts; env | grep FRIEND_NAME', /\tfriend donor\nFRIEND_NAME=/],
  ['--oom-score-adj 300', 'cat /proc/self/oom_score_adj', '300\n'],
  ['--kernel-memory 32m --annotation a=b --isolation default', 'echo taken', 'taken\n'],
  ['--platform linux/amd64 --runtime runc --pull never', 'echo fits', process.arch === 'x64' ? 'fits\n' : /./],
  ['--entrypoint echo', '', '\n'],
  ['-t', 'test -t 1 && echo terminal', 'terminal\r\n'],
];

/** Options, exit code of the client, its words. */
const REFUSED: readonly (readonly [string, number, string])[] = [
  ['--gpus all', 125, 'could not select device driver "" with capabilities: [[gpu]]'],
  ['--device vendor.example/net=nosuch', 125, 'unresolvable CDI devices vendor.example/net=nosuch'],
  ['--cap-add NOSUCH', 125, 'invalid CapAdd: unknown capability: "CAP_NOSUCH"'],
  ['--security-opt nosuch=x', 125, 'invalid --security-opt 2: "nosuch=x"'],
  ['--volumes-from nosuch', 125, 'No such container: nosuch'],
  ['--runtime nosuch', 125, 'unknown or invalid runtime name: nosuch'],
  ['--storage-opt size=1g', 125, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"],
  ['--mount type=bind,src=/nosuch,dst=/x', 125, 'bind source path does not exist: /nosuch'],
  ['-v /tmp:/x:nosuch', 125, 'invalid mode: nosuch'],
  ['-m 1m', 125, 'Minimum memory limit allowed is 6MB'],
  ['--cpus 4096', 125, 'range of CPUs is from 0.01 to'],
  ['--cpuset-cpus 4000', 125, 'Requested CPUs are not available - requested 4000'],
  ['--stop-signal NOSUCH', 125, 'invalid signal: NOSUCH'],
  ['--health-cmd true --health-interval 1us', 125, 'Interval in Healthcheck cannot be less than 1ms'],
  ['-u nosuch', 125, 'unable to find user nosuch: no matching entries in passwd file'],
];

describe.concurrent('docker run', () => {
  it.for(PRINTS)('%s', async ([flags, script, wanted], { expect: own }) => {
    const { code, stdout, stderr } = await run(flags, script);
    own(stderr).not.toContain('Error response');
    if (typeof wanted === 'string') own(stdout).toBe(wanted);
    else own(stdout).toMatch(wanted);
    own(code).toBe(0);
  });

  it.for(REFUSED)('%s is refused', async ([flags, wanted, words], { expect: own }) => {
    const { code, stderr } = await run(flags, 'true');
    own(stderr).toContain(words);
    own(code).toBe(wanted);
  });

  it.for([
    [['nosuch'], 127, 'executable file not found in $PATH'],
    [['/nosuch'], 127, 'no such file or directory'],
    [['/etc/passwd'], 126, 'permission denied'],
    [['sh', '-c', 'exit 7'], 7, ''],
    [['sh', '-c', 'sh -c "kill -9 $$"; exit 137'], 137, ''],
  ] as const)('%j ends with %i', async ([command, wanted, words], { expect: own }) => {
    const { code, stderr } = await bed.client.try(['run', '--rm', IMAGE, ...command]);
    own(code).toBe(wanted);
    own(stderr).toContain(words);
  });
});

describe('what is not seen from inside', () => {
  it('a vendor file makes a CDI device', async () => {
    const node = { path: '/dev/vendor0', hostPath: '/dev/null' };
    const device = { name: 'one', containerEdits: { deviceNodes: [node], env: ['VENDOR=1'] } };
    mkdirSync('/var/run/cdi', { recursive: true });
    const file = `/var/run/cdi/shoal-e2e-${process.pid}`;
    const kind = `e2e${process.pid}.example/net`;
    const yaml = `kind: ${kind}\ndevices:\n- name: two\n  containerEdits: {env: [VENDOR=2]}\n`;
    writeFileSync(`${file}.json`, JSON.stringify({ cdiVersion: '0.6.0', kind, devices: [device] }));
    writeFileSync(`${file}.yaml`, yaml);
    try {
      const { stdout } = await run(`--device ${kind}=one`, 'ls -l /dev/vendor0; echo $VENDOR');
      expect(stdout).toMatch(/1, +3 .*\n1\n/);
      expect((await run(`--device ${kind}=two`, 'echo $VENDOR')).stdout).toBe('2\n');
      expect(await bed.client.run('info')).toContain(`  cdi: ${kind}=one\n  cdi: ${kind}=two\n`);
    } finally {
      await bed.inside('m1', ['rm', `${file}.json`, `${file}.yaml`]);
    }
  });

  it('inspect tells of every option under its name', async () => {
    const flags = ['--memory', '64m', '--cpus', '0.5', '-v', 'data:/v:ro', '--tmpfs', '/t:size=1m', '--init'];
    const more = [
      '--ulimit',
      'nofile=10:20',
      '--stop-timeout',
      '4',
      '--stop-signal',
      'INT',
      '-l',
      'k=v',
      '--expose',
      '90',
    ];
    const health = ['--health-cmd', 'true', '--health-interval', '3s', '--restart', 'on-failure:3', '-p', '81', '-it'];
    await bed.client.run('create', '--name', 'shown', ...flags, ...more, ...health, IMAGE, 'sh');
    const shown = await bed.client.inspect<Record<string, object>>('inspect', 'shown');
    expect(shown['HostConfig']).toMatchObject({
      ...{ Memory: 67_108_864, NanoCpus: 500_000_000, Binds: ['data:/v:ro'], Tmpfs: { '/t': 'size=1m' }, Init: true },
      ...{ Ulimits: [{ Name: 'nofile', Soft: 10, Hard: 20 }], IpcMode: 'private', Runtime: 'runc', CapAdd: null },
      RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 },
    });
    expect(shown['Config']).toMatchObject({
      ...{ StopTimeout: 4, StopSignal: 'INT', Labels: { k: 'v' }, Tty: true, OpenStdin: true, StdinOnce: true },
      ExposedPorts: { '81/tcp': {}, '90/tcp': {} },
      Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 3_000_000_000 },
    });
    expect(shown['Mounts']).toMatchObject([{ Type: 'volume', Name: 'data', Destination: '/v', Mode: 'ro', RW: false }]);
  });
});
