import { readFileSync, readdirSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import type { Engine } from '../engine.ts';
import { ownHardLimits } from '../runtime/resources.ts';
import type { EngineEvent } from '../types.ts';
import { config, logText, runToEnd, until, type Fixture } from './fixture.ts';
import { useFixture } from './use-fixture.ts';

const never = new AbortController().signal;
let fixture: Fixture;
let engine: Engine;
useFixture((made, ours) => {
  fixture = made;
  engine = ours;
});

const sh = (text: string): string[] => ['sh', '-c', text];

test('runs a command: exit code, both streams, timestamps, events', async () => {
  const begin = Date.now();
  const { id, exitCode, out, err } = await runToEnd(engine, sh('echo hello; echo oops >&2; printf no-end; exit 3'), {
    name: 'first',
    labels: { a: 'b' },
  });
  expect({ exitCode, out, err }).toEqual({ exitCode: 3, out: 'hello\nno-end', err: 'oops\n' });
  const container = engine.containers.inspect('first');
  expect(container).toMatchObject({ id, state: 'exited', exitCode: 3, pid: 0, oomKilled: false, path: 'sh' });
  expect(container.startedMs).toBeGreaterThanOrEqual(begin - 1);
  const actions = engine.pastEvents(begin).filter((event: EngineEvent) => event.actorId === id);
  expect(actions.map((event) => event.action)).toEqual(['create', 'start', 'die']);
  expect(actions[2]?.attributes).toMatchObject({ exitCode: '3', name: 'first', image: 'busybox', a: 'b' });
  // Nothing of an ended run stays.
  expect(readdirSync(join(fixture.base, 'run/bundles'))).not.toContain(id);
  expect(readdirSync(join(fixture.base, 'run/runtime'))).not.toContain(id);
  expect(existsSync(`/sys/fs/cgroup/pids/${fixture.cgroupParent}/${id}`)).toBe(false);
  await engine.containers.remove(id, { force: false, volumes: false });
  expect(() => engine.containers.inspect('first')).toThrow('No such container: first');
});

test('a program that is missing or not executable gives docker words and 127 or 126', async () => {
  const { id } = await engine.containers.create(config({ cmd: ['nope'] }));
  await expect(engine.containers.start(id)).rejects.toThrow(/exec: "nope": executable file not found in \$PATH/);
  expect(engine.containers.inspect(id)).toMatchObject({ state: 'created', exitCode: 127 });
  const other = await engine.containers.create(config({ cmd: ['/bin/not-a-program'] }));
  await expect(engine.containers.start(other.id)).rejects.toThrow(/permission denied/);
  expect(engine.containers.inspect(other.id).exitCode).toBe(126);
  const absent = await engine.containers.create(config({ cmd: ['/no/such'] }));
  await expect(engine.containers.start(absent.id)).rejects.toMatchObject({ code: 'InvalidArgument', exitCode: 127 });
});

test('stop sends the signal, and SIGKILL after the grace period', async () => {
  const kind = await engine.containers.create(config({ cmd: sh('trap "exit 7" TERM; while :; do sleep 0.05; done') }));
  await engine.containers.start(kind.id);
  await engine.containers.exec(kind.id, { command: ['true'], env: [], privileged: false }, never);
  await engine.containers.stop(kind.id, { graceMs: 10_000 });
  expect(engine.containers.inspect(kind.id)).toMatchObject({ state: 'exited', exitCode: 7 });
  await expect(engine.containers.stop(kind.id, {})).rejects.toMatchObject({ code: 'NotModified' });
  // The first process of a pid namespace ignores signals it has no handler for.
  const deaf = await engine.containers.create(config({ cmd: ['sleep', '1000'] }));
  await engine.containers.start(deaf.id);
  await expect(engine.containers.start(deaf.id)).rejects.toMatchObject({ code: 'NotModified' });
  await engine.containers.stop(deaf.id, { graceMs: 200 });
  expect(engine.containers.inspect(deaf.id)).toMatchObject({ state: 'exited', exitCode: 137 });
});

test('errors in docker words', async () => {
  await expect(engine.containers.create(config({ image: 'none' }))).rejects.toThrow('No such image: none');
  await expect(engine.containers.create(config({ name: 'b@d' }))).rejects.toThrow(
    'Invalid container name (b@d), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
  );
  const { id } = await engine.containers.create(config({ name: 'taken', cmd: ['true'] }));
  await expect(engine.containers.create(config({ name: 'taken' }))).rejects.toThrow(
    `Conflict. The container name "/taken" is already in use by container "${id}". ` +
      'You have to remove (or rename) that container to be able to reuse that name.',
  );
  await expect(engine.containers.kill('taken', 'KILL')).rejects.toThrow(`container ${id} is not running`);
  await expect(engine.containers.kill('taken', 'BADSIG')).rejects.toThrow('invalid signal: BADSIG');
  await expect(engine.containers.start('zz')).rejects.toMatchObject({
    code: 'NotFound',
    message: 'No such container: zz',
  });
  await expect(
    engine.containers.create(
      config({ mounts: [{ type: 'bind', source: '/no/such/x', target: '/x', readOnly: false }] }),
    ),
  ).rejects.toThrow('invalid mount config for type "bind": bind source path does not exist: /no/such/x');
  await expect(engine.containers.create(config({ capAdd: ['FOO'] }))).rejects.toThrow(
    'invalid CapAdd: unknown capability: "CAP_FOO"',
  );
  await expect(engine.containers.create(config({ resources: { memoryBytes: 100 } }))).rejects.toThrow('Minimum memory');
  await engine.containers.start(id);
  await engine.containers.wait(id, 'not-running', never);
});

test('environment, host name, working directory, users and groups', async () => {
  const env = await runToEnd(engine, ['env'], { env: ['A=1', 'TERM=x'], hostname: 'shell' });
  expect(env.out.split('\n').sort()).toEqual(
    [
      '',
      'A=1',
      'HOME=/root',
      'HOSTNAME=shell',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'TERM=x',
    ].sort(),
  );
  const dir = await runToEnd(engine, sh('pwd; hostname; cat /etc/hostname; cat /etc/hosts'), {
    workingDir: '/made/here',
    extraHosts: ['db:10.1.2.3'],
  });
  expect(dir.out).toContain(`/made/here\n${dir.id.slice(0, 12)}\n${dir.id.slice(0, 12)}\n`);
  expect(dir.out).toContain('10.1.2.3\tdb\n');
  const named = await runToEnd(engine, ['id'], { user: 'web', groups: ['other'] });
  expect(named.out).toContain('uid=1000(web) gid=1001(web) groups=1001(web),2002(extra),3003(other)');
  const numeric = await runToEnd(engine, ['id'], { user: '4242:99' });
  expect(numeric.out).toContain('uid=4242 gid=99 groups=99');
  const { id } = await engine.containers.create(config({ user: 'ghost' }));
  await expect(engine.containers.start(id)).rejects.toThrow('unable to find user ghost');
});

test('confinement: capabilities, seccomp, masked paths, no new privileges, own cgroup namespace', async () => {
  const { out } = await runToEnd(
    engine,
    sh(
      'grep -E "CapEff|CapBnd|NoNewPrivs|Seccomp:" /proc/self/status; cat /proc/1/cgroup | head -n1;' +
        ' echo x > /proc/sys/kernel/hostname || echo ro-sys; wc -c < /proc/timer_list; mkdir /m; mount -t tmpfs t /m || echo no-mount',
    ),
    { cgroupnsMode: 'private' },
  );
  expect(out).toMatch(/CapEff:\s+00000000a80425fb\nCapBnd:\s+00000000a80425fb\nNoNewPrivs:\s+1\nSeccomp:\s+2\n/);
  expect(out).toMatch(/:\/\n/);
  expect(out).toContain('ro-sys\n0\nno-mount\n');
  const dropped = await runToEnd(engine, sh('grep CapEff /proc/self/status'), {
    capDrop: ['ALL'],
    capAdd: ['NET_BIND_SERVICE'],
    seccomp: 'unconfined',
  });
  expect(dropped.out).toMatch(/CapEff:\s+0000000000000400/);
  const privileged = await runToEnd(engine, sh('mkdir /m && mount -t tmpfs t /m && echo mounted; ls /dev | wc -l'), {
    privileged: true,
  });
  expect(privileged.out).toContain('mounted');
});

test('mounts: bind, tmpfs, volume with copy-up, read-only root, injected files', async () => {
  const host = join(fixture.base, 'host');
  mkdirSync(host, { recursive: true });
  writeFileSync(join(host, 'f'), 'from the host\n');
  const { out, exitCode } = await runToEnd(
    engine,
    sh(
      'cat /b/f; touch /b/x || echo b-ro; cat /data/seed; touch /data/new && echo wrote; touch /nope || echo root-ro;' +
        ' cat /run/secrets/key; ls -ln /run/secrets/key; grep " /t " /proc/mounts; touch /t/x && echo t-ok; cat /made/x',
    ),
    {
      readOnlyRootfs: true,
      mounts: [
        { type: 'bind', source: host, target: '/b', readOnly: true },
        { type: 'volume', source: 'v1', target: '/data', readOnly: false },
        { type: 'tmpfs', source: '', target: '/t', readOnly: false, tmpfsSizeBytes: 1 << 20, tmpfsMode: 0o1777 },
        { type: 'bind', source: join(fixture.base, 'made'), target: '/made', readOnly: false, createMountpoint: true },
      ],
      files: [{ target: '/run/secrets/key', data: Buffer.from('s3cret\n'), uid: 7, gid: 8, mode: 0o440 }],
    },
  );
  expect(out).toContain('from the host\nb-ro\nfrom the image\nwrote\nroot-ro\ns3cret\n');
  expect(out).toMatch(/-r--r-----\s+1 7\s+8 .*\/run\/secrets\/key/);
  expect(out).toMatch(/tmpfs \/t tmpfs .*size=1024k/);
  expect(out).toContain('t-ok');
  expect(exitCode).toBe(1);
  expect(existsSync(join(fixture.base, 'data/volumes/v1/_data/seed'))).toBe(true);
  expect(fixture.events.map((event) => event.action)).toEqual(['create']);
  // The secret's bytes are in no file of the data directory.
  const stored = readdirSync(join(fixture.base, 'data/containers'), { recursive: true })
    .map((name) => join(fixture.base, 'data/containers', String(name)))
    .filter((path) => path.endsWith('.json'))
    .map((path) => readFileSync(path, 'utf8'));
  expect(stored.length).toBeGreaterThan(0);
  expect(stored.some((text) => text.includes(Buffer.from('s3cret').toString('base64')))).toBe(false);
});

test('the use of a running container is read from its control group', async () => {
  const { id } = await engine.containers.create(
    config({ cmd: ['sh', '-c', 'while :; do :; done'], resources: { nanoCpus: 1e8 } }),
  );
  expect(engine.containers.usage(id)).toBeUndefined();
  await engine.containers.start(id);
  await vi.waitFor(() => expect(engine.containers.usage(id)?.cpuNs).toBeGreaterThan(2e7), { timeout: 10_000 });
  const before = engine.containers.usage(id);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const after = engine.containers.usage(id);
  const cpus = ((after?.cpuNs ?? 0) - (before?.cpuNs ?? 0)) / 1e6 / ((after?.atMs ?? 0) - (before?.atMs ?? 0));
  // Its limit is a tenth of one.
  expect(cpus).toBeGreaterThan(0.01);
  expect(cpus).toBeLessThan(0.2);
  expect(after?.memoryBytes).toBeGreaterThan(4096);
  await engine.containers.remove(id, { force: true, volumes: false });
  expect(() => engine.containers.usage(id)).toThrow('No such container');
});

test('memory, cpu and pids limits reach the kernel; running out of memory is told', async () => {
  const { id } = await engine.containers.create(
    config({
      cmd: ['sleep', '1000'],
      resources: { memoryBytes: 32 << 20, nanoCpus: 5e8, pidsLimit: 77, cpuShares: 512 },
    }),
  );
  await engine.containers.start(id);
  const group = (controller: string, file: string): string =>
    readFileSync(`/sys/fs/cgroup/${controller}/${fixture.cgroupParent}/${id}/${file}`, 'utf8').trim();
  if (existsSync('/sys/fs/cgroup/memory')) {
    expect(group('memory', 'memory.limit_in_bytes')).toBe(String(32 << 20));
    expect(group('pids', 'pids.max')).toBe('77');
    expect(group('cpu', 'cpu.cfs_quota_us')).toBe('50000');
    expect(group('cpu', 'cpu.shares')).toBe('512');
  }
  await engine.containers.remove(id, { force: true, volumes: false });
  const eater = await runToEnd(engine, sh('head -c 100m /dev/zero | grep x'), {
    resources: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 },
  });
  expect(eater.exitCode).not.toBe(0);
  expect(engine.containers.inspect(eater.id).oomKilled).toBe(true);
  const nofile = ownHardLimits().get('nofile') ?? 0;
  const limit = await runToEnd(engine, sh('ulimit -n'), {
    resources: { ulimits: [{ name: 'nofile', soft: 64, hard: Math.min(128, nofile) }] },
  });
  expect(limit.out).toBe('64\n');
});

test('exec: output, exit code, user, missing binary, and a container that does not run', async () => {
  const { id } = await engine.containers.create(config({ name: 'ex', cmd: ['sleep', '1000'], env: ['A=1'] }));
  await engine.containers.start(id);
  const exec = (command: string[], more = {}) =>
    engine.containers.exec(id, { command, env: ['B=2'], privileged: false, ...more }, never);
  const good = await exec(sh('echo $A$B; id -u; pwd; echo bad >&2; exit 5'), { user: 'web', workingDir: '/tmp' });
  expect([good.exitCode, String(good.stdout), String(good.stderr)]).toEqual([5, '12\n1000\n/tmp\n', 'bad\n']);
  const missing = await exec(['nope']);
  expect(missing.exitCode).toBe(127);
  expect(String(missing.stderr)).toContain('executable file not found in $PATH');
  const abort = new AbortController();
  const slow = engine.containers.exec(id, { command: ['sleep', '500'], env: [], privileged: false }, abort.signal);
  await until(() => existsSync(join(fixture.base, 'run/bundles', id)) && execPids(id) > 0, 'the exec runs');
  abort.abort(new Error('enough'));
  await expect(slow).rejects.toThrow('enough');
  await engine.containers.remove(id, { force: true, volumes: false });
  await expect(exec(['true'])).rejects.toThrow('No such container');
});

function execPids(id: string): number {
  return readdirSync(join(fixture.base, 'run/bundles', id)).filter((name) => /^exec-.*\.pid$/.test(name)).length;
}

test('logs: tail, since, follow to the end, rotation', async () => {
  const { id } = await engine.containers.create(
    config({ cmd: sh('seq 1 2000; sleep 0.2; echo last; sleep 0.1; echo more >&2') }),
  );
  await engine.containers.start(id);
  const seen: string[] = [];
  for await (const line of engine.containers.logs(id, { stdout: true, stderr: false, follow: true }, never)) {
    seen.push(String(line.data));
  }
  expect(seen.length).toBe(2001);
  expect(seen.every((line) => line.endsWith('\n'))).toBe(true);
  expect(seen.at(-1)).toBe('last\n');
  const tail: string[] = [];
  for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: false, tail: 3 }, never)) {
    tail.push(String(line.data));
  }
  expect(tail).toEqual(['2000\n', 'last\n', 'more\n']);
  const none = await runToEnd(engine, ['echo', 'x'], { logDriver: { type: 'none', config: {} } }).catch(String);
  expect(none).toContain('configured logging driver does not support reading');
  await expect(engine.containers.create(config({ logDriver: { type: 'gelf', config: {} } }))).rejects.toThrow(
    "no log driver named 'gelf' is registered",
  );
});

test('rotation by the daemon loses no line, and a follower sees all', async () => {
  const { id } = await engine.containers.create(
    config({
      cmd: sh('n=0; while [ $n -lt 50 ]; do n=$((n+1)); seq 1 20; sleep 0.1; done'),
      logDriver: { type: 'json-file', config: { 'max-size': '10k', 'max-file': '9' } },
    }),
  );
  await engine.containers.start(id);
  let followed = 0;
  for await (const _ of engine.containers.logs(id, { stdout: true, stderr: true, follow: true }, never)) followed += 1;
  const { logPath } = engine.containers.inspect(id);
  expect(existsSync(`${logPath}.1`)).toBe(true);
  expect(followed).toBe(1000);
  expect((await logText(engine, id)).out.split('\n').length - 1).toBe(1000);
});

test('restart policies: on-failure with a bound, always until stopped; autoRemove removes', async () => {
  const { id } = await engine.containers.create(
    config({ cmd: ['false'], restart: { name: 'on-failure', maximumRetryCount: 2 } }),
  );
  await engine.containers.start(id);
  await until(() => engine.containers.inspect(id).state === 'exited', 'restarts are used up');
  expect(engine.containers.inspect(id)).toMatchObject({ restartCount: 2, exitCode: 1 });
  const always = await engine.containers.create(
    config({ cmd: ['sleep', '0.05'], restart: { name: 'always', maximumRetryCount: 0 } }),
  );
  await engine.containers.start(always.id);
  await until(() => engine.containers.inspect(always.id).restartCount >= 2, 'two restarts');
  await engine.containers.stop(always.id, { graceMs: 0 });
  expect(engine.containers.inspect(always.id).state).toBe('exited');
  const gone = await engine.containers.create(config({ cmd: ['true'], autoRemove: true }));
  const removed = engine.containers.wait(gone.id, 'removed', never);
  await engine.containers.start(gone.id);
  expect(await removed).toEqual({ exitCode: 0 });
  await until(() => !engine.containers.list().some((c) => c.id === gone.id), 'it is gone');
});

test('health checks make it healthy, then unhealthy', async () => {
  const { id } = await engine.containers.create(
    config({
      cmd: sh('touch /ok; sleep 1000'),
      healthCheck: { test: ['CMD-SHELL', 'ls /ok'], intervalMs: 50, timeoutMs: 5000, startPeriodMs: 0, retries: 2 },
    }),
  );
  await engine.containers.start(id);
  expect(engine.containers.inspect(id).health).toBe('starting');
  await until(() => engine.containers.inspect(id).health === 'healthy', 'healthy');
  await engine.containers.exec(id, { command: ['mv', '/ok', '/bad'], env: [], privileged: false }, never);
  await engine.containers.exec(id, { command: ['/bin/busybox', 'rm', '/ok'], env: [], privileged: false }, never);
  await until(() => engine.containers.inspect(id).health === 'unhealthy', 'unhealthy');
  await engine.containers.remove(id, { force: true, volumes: false });
});

test('a health check given as text is run by the shell of the image', async () => {
  const { image } = fixture.images;
  const before = image.config.Shell;
  image.config.Shell = ['/bin/busybox', 'sh', '-c'];
  const health = { test: ['CMD-SHELL', 'echo $0'], intervalMs: 50, timeoutMs: 5000, startPeriodMs: 0, retries: 1 };
  const { id } = await engine.containers.create(config({ cmd: ['sleep', '1000'], healthCheck: health }));
  await engine.containers.start(id);
  await until(() => (engine.containers.inspect(id).healthLog?.probes.length ?? 0) > 0, 'it was checked');
  expect(engine.containers.inspect(id).healthLog?.probes[0]).toMatchObject({ exitCode: 0, output: 'sh\n' });
  await engine.containers.remove(id, { force: true, volumes: false });
  if (before === undefined) delete image.config.Shell;
});

test('thirty containers at once', async () => {
  const ids = await Promise.all(
    Array.from({ length: 30 }, async () => (await engine.containers.create(config({ cmd: ['sleep', '1000'] }))).id),
  );
  await Promise.all(ids.map((id) => engine.containers.start(id)));
  expect(ids.every((id) => engine.containers.inspect(id).state === 'running')).toBe(true);
  await Promise.all(ids.map((id) => engine.containers.remove(id, { force: true, volumes: false })));
  expect(readdirSync(join(fixture.base, 'run/bundles')).length).toBe(0);
  await expect(logText(engine, ids[0] as string)).rejects.toThrow('No such container');
});
