import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mount, MS, unmount } from '../../base/index.ts';
import type { Engine } from '../engine.ts';
import { applyCdi } from '../runtime/cdi.ts';
import { CdiFiles } from '../runtime/cdi-files.ts';
import type { OciSpec } from '../runtime/oci.ts';
import { readSysInfo } from '../runtime/sysinfo.ts';
import { readCgroupLayout } from '../runtime/cgroups.ts';
import type { ContainerConfig } from '../types.ts';
import { withHostDefaults } from './complete.ts';
import { config, makeFixture, runToEnd, until, type Fixture } from './fixture.ts';

/** What each option makes of a container: looked at from inside it, or in the configuration that the runtime got. */
let fixture: Fixture;
let engine: Engine;
const info = readSysInfo(readCgroupLayout());

beforeAll(async () => {
  fixture = makeFixture(undefined, {
    Cmd: ['sh', '-c', 'echo from image'],
    Env: ['FROM=image', 'BOTH=image'],
    Labels: { from: 'image', both: 'image' },
    Volumes: { '/kept': {} },
    WorkingDir: '/data/',
    Healthcheck: { Test: ['CMD', 'true'], Interval: 90e9 },
  });
  engine = await fixture.open();
});

afterAll(async () => {
  await engine.shutdown();
  // The groups that containers named as their parents stay, as in Docker.
  const { controllers, unified = '' } = readCgroupLayout();
  for (const tree of new Set([...controllers.values(), unified])) {
    const deep = join(tree, fixture.cgroupParent, 'deep');
    if (tree !== '' && existsSync(deep)) rmdirSync(deep);
  }
  await fixture.destroy();
});

const sh = (text: string): string[] => ['sh', '-c', text];

/** What a script prints in a container with these options. */
async function prints(script: string, options: Partial<ContainerConfig> = {}): Promise<string> {
  const { id, out, err } = await runToEnd(engine, sh(script), options);
  await engine.containers.remove(id, { force: true, volumes: true });
  return out + err;
}

/** A container that goes on, and what the runtime was told. */
async function running(options: Partial<ContainerConfig>): Promise<{ id: string; pid: number; spec: OciSpec }> {
  const { id } = await engine.containers.create(config({ cmd: ['sleep', '1000'], ...options }));
  await engine.containers.start(id);
  const spec = JSON.parse(readFileSync(join(fixture.base, 'run/bundles', id, 'config.json'), 'utf8')) as OciSpec;
  return { id, pid: engine.containers.inspect(id).pid, spec };
}

const remove = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });
const create = (options: Partial<ContainerConfig>): Promise<{ id: string; warnings: string[] }> =>
  engine.containers.create(config(options));

describe('namespaces', () => {
  test('process and memory of another container, of the host, and none', async () => {
    const donor = await running({ name: 'donor', ipcMode: 'shareable', shmBytes: 1 << 20 });
    writeFileSync(`/proc/${donor.pid}/root/dev/shm/x`, 'shared\n');
    expect(await prints('cat /proc/1/cmdline', { pidMode: 'container:donor' })).toContain('sleep\0' + '1000');
    expect(await prints('cat /dev/shm/x', { ipcMode: 'container:donor' })).toBe('shared\n');
    const joined = await running({ pidMode: 'container:donor', init: true });
    expect(engine.containers.inspect(joined.id).config.pidMode).toBe(`container:${donor.id}`);
    // An init of its own would not be the first process there.
    expect(joined.spec.process.args).toEqual(['sleep', '1000']);
    await remove(joined.id);
    const shm = join(fixture.base, 'run/bundles', donor.id, 'shm');
    expect(existsSync(join(shm, 'x'))).toBe(true);
    await remove(donor.id);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(shm);
    const priv = await running({ name: 'closed' });
    const refused = await create({ ipcMode: 'container:closed' });
    await expect(engine.containers.start(refused.id)).rejects.toThrow('non-shareable IPC');
    await remove(priv.id);
    await remove(refused.id);
    expect(await prints('ls -d /dev/shm', { ipcMode: 'none' })).toContain('No such file');
    const host = (kind: string): string => statSync(`/proc/self/ns/${kind}`).ino.toString();
    const own = await prints('for n in pid ipc uts; do ls -iL /proc/self/ns/$n; done', {
      ...{ pidMode: 'host', ipcMode: 'host', utsMode: 'host' },
    });
    for (const kind of ['pid', 'ipc', 'uts']) expect(own).toContain(host(kind));
  });

  test('what a container shares and where its groups stand is taken over by a new daemon, and taken down', async () => {
    const parent = `/${fixture.cgroupParent}/deep`;
    const { id } = await running({ ipcMode: 'shareable', cgroupParent: parent });
    const shm = join(fixture.base, 'run/bundles', id, 'shm');
    await engine.shutdown();
    engine = await fixture.open();
    expect(engine.containers.inspect(id)).toMatchObject({
      state: 'running',
      etc: { hosts: expect.any(String) as string },
    });
    expect(engine.containers.usage(id)?.cpuNs).toBeGreaterThan(0);
    expect(await prints('ls /dev/shm >/dev/null && echo joined', { ipcMode: `container:${id}` })).toBe('joined\n');
    await remove(id);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(shm);
    const { controllers, unified = '' } = readCgroupLayout();
    expect(existsSync(join(controllers.get('pids') ?? unified, parent, id))).toBe(false);
  });

  test('one that does not run cannot be joined; modes that are none', async () => {
    const { id } = await create({ pidMode: 'container:ghost' });
    await expect(engine.containers.start(id)).rejects.toThrow('No such container: ghost');
    await remove(id);
    const bad: [Partial<ContainerConfig>, string][] = [
      [{ pidMode: 'x' }, 'invalid PID mode: x'],
      [{ ipcMode: 'x' }, 'invalid IPC mode: x'],
      [{ utsMode: 'x' }, 'invalid UTS mode: x'],
      [{ cgroupnsMode: 'x' }, 'invalid cgroup namespace mode: x'],
      [{ usernsMode: 'keep' }, 'invalid USER mode: keep'],
      [{ utsMode: 'host', hostname: 'h' }, 'conflicting options: hostname and the UTS mode'],
    ];
    for (const [options, words] of bad) await expect(create(options)).rejects.toThrow(words);
  });

  test('cgroup: a parent of its own, and the name space of them', async () => {
    const parent = `/${fixture.cgroupParent}/below/../deep`;
    const { id, pid } = await running({ cgroupParent: parent, cgroupnsMode: 'private' });
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/${fixture.cgroupParent}/deep/${id}`);
    expect(engine.containers.usage(id)?.cpuNs).toBeGreaterThan(0);
    await remove(id);
    expect(await prints('head -n1 /proc/self/cgroup', { cgroupnsMode: 'private' })).toMatch(/:\/\n$/);
    const usual = await prints('head -n1 /proc/self/cgroup');
    expect(usual).toMatch(info.unified ? /:\/\n$/ : new RegExp(`/${fixture.cgroupParent}/[0-9a-f]{64}\n$`));
  });

  test('domain name, sysctls, and those that every network name space gets', async () => {
    const names = 'kernel/domainname net/core/somaxconn net/ipv4/ip_unprivileged_port_start';
    const options = { domainname: 'dom.example', hostname: 'web', sysctls: { 'net.core.somaxconn': '123' } };
    const out = await prints(`cd /proc/sys; cat ${names}; cat /etc/hostname`, options);
    expect(out).toBe('dom.example\n123\n0\nweb\n');
  });
});

describe('devices', () => {
  test('one, a directory of them, rules, and what is no device', async () => {
    const log = { pathOnHost: '/dev/kmsg', pathInContainer: '/dev/own/kmsg', permissions: 'r' };
    const out = await prints('ls -l /dev/own; echo x > /dev/own/kmsg', { devices: [log] });
    expect(out).toMatch(/1, +11 .* kmsg\n/);
    // The device control group says no, whoever owns the file.
    expect(out).toContain("can't create /dev/own/kmsg: Operation not permitted");
    const all = { pathOnHost: '/dev/net', pathInContainer: '/dev/many', permissions: 'rwm' };
    expect(await prints('ls /dev/many', { devices: [all] })).toContain('tun\n');
    const { id, spec } = await running({ deviceCgroupRules: ['c 42:* rw', 'a *:* r'] });
    expect(spec.linux.resources.devices.slice(-2)).toEqual([
      { allow: true, type: 'c', major: 42, access: 'rw' },
      { allow: true, type: 'a', access: 'r' },
    ]);
    await remove(id);
    await expect(create({ deviceCgroupRules: ['x'] })).rejects.toThrow("invalid device cgroup rule format: 'x'");
    const missing = await create({ devices: [{ ...log, pathOnHost: '/dev/nosuch' }] });
    await expect(engine.containers.start(missing.id)).rejects.toThrow(
      'error gathering device information while adding custom device "/dev/nosuch": no such file or directory',
    );
    await remove(missing.id);
  });

  test('CDI: edits of the vendor and of each device; a clear word where none fits', async () => {
    const directory = join(fixture.base, 'cdi');
    mkdirSync(directory);
    const edits = {
      env: ['VENDOR=yes', 'PATH=/v'],
      mounts: [{ hostPath: '/opt', containerPath: '/opt', options: ['ro'] }],
      hooks: [{ hookName: 'createContainer', path: '/bin/hook', args: ['hook', 'x'] }],
      additionalGids: [44],
    };
    const node = { path: '/dev/v0', hostPath: '/dev/null', permissions: 'rw' };
    const vendor = {
      cdiVersion: '0.6.0',
      kind: 'nvidia.com/gpu',
      containerEdits: edits,
      devices: [{ name: '0', containerEdits: { deviceNodes: [node] } }, { name: 'all' }],
    };
    writeFileSync(join(directory, 'v.json'), JSON.stringify(vendor));
    writeFileSync(join(directory, 'bad.json'), '{');
    const registry = await new CdiFiles([directory, join(fixture.base, 'nothing')]).read();
    const request = { driver: '', count: 1, deviceIds: [], capabilities: [['gpu']], options: {} };
    const spec = {
      process: { env: ['PATH=/usr', 'A=1'], user: { uid: 0, gid: 0, additionalGids: [0] } },
      mounts: [],
      linux: { resources: { devices: [] } },
    } as unknown as OciSpec;
    applyCdi(spec, [request, { ...request, driver: 'cdi', deviceIds: ['nvidia.com/gpu=0'] }], registry);
    expect(spec.process.env).toEqual(['A=1', 'VENDOR=yes', 'PATH=/v']);
    expect(spec.process.user.additionalGids).toEqual([0, 44]);
    expect(spec.linux.devices).toMatchObject([{ path: '/dev/v0', type: 'c', major: 1, minor: 3 }]);
    expect(spec.linux.resources.devices).toEqual([{ allow: true, type: 'c', major: 1, minor: 3, access: 'rw' }]);
    expect(spec.mounts).toEqual([{ destination: '/opt', source: '/opt', type: 'bind', options: ['rbind', 'ro'] }]);
    expect(spec.hooks).toEqual({ createContainer: [{ path: '/bin/hook', args: ['hook', 'x'] }] });
    const missing = { ...request, driver: 'cdi', deviceIds: ['a.b/c=d'] };
    expect(() => applyCdi(spec, [missing], registry)).toThrow(
      /unresolvable CDI devices a\.b\/c=d; damaged files: .*bad/,
    );
    expect(() => applyCdi(spec, [{ ...request, driver: 'other' }], registry)).toThrow(
      'could not select device driver "other" with capabilities: [[gpu]]',
    );
  });
});

describe('limits', () => {
  test('of memory, processors, block devices and processes stand in the control group', async () => {
    const { id, spec } = await running({
      resources: {
        ...{ memoryBytes: 32 << 20, memorySwapBytes: 40 << 20, memoryReservationBytes: 16 << 20 },
        ...{ cpuShares: 512, cpuPeriodUs: 50_000, cpuQuotaUs: 25_000, cpusetCpus: '0', cpusetMems: '0', pidsLimit: 9 },
        ulimits: [{ name: 'nofile', soft: 100, hard: 200 }],
        oomScoreAdj: 500,
      },
    });
    expect(spec.linux.resources).toMatchObject({
      memory: { limit: 32 << 20, reservation: 16 << 20, ...(info.swapLimit ? { swap: 40 << 20 } : {}) },
      cpu: { shares: 512, period: 50_000, quota: 25_000, cpus: '0', mems: '0' },
      pids: { limit: 9 },
    });
    const { pid } = engine.containers.inspect(id);
    const own = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const at = /^\d+:[^:]*cpuset[^:]*:(.*)$/m.exec(own)?.[1] ?? /^0::(.*)$/m.exec(own)?.[1] ?? '';
    const root = readCgroupLayout().controllers.get('cpuset') ?? '/sys/fs/cgroup';
    expect(readFileSync(`${root}${at}/cpuset.cpus`, 'utf8').trim()).toBe('0');
    expect(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim()).toBe('500');
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/Max open files\s+100\s+200/);
    await remove(id);
  });

  test('what the kernel cannot do is left out with a warning; what cannot be is refused', async () => {
    const made = await create({ resources: { blkioWeight: 300, oomKillDisable: true } });
    const weight = 'Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.';
    expect(made.warnings.includes(weight)).toBe(!info.blkioWeight);
    expect(made.warnings.some((words) => words.includes('OOM killer is disabled'))).toBe(info.oomKillDisable);
    await remove(made.id);
    const swap = await create({ resources: { memoryBytes: 64 << 20 } });
    const shown = engine.containers.inspect(swap.id).config.resources.memorySwapBytes;
    expect(shown).toBe(info.swapLimit ? 128 << 20 : -1);
    await remove(swap.id);
    const bad: [ContainerConfig['resources'], string][] = [
      [{ memoryBytes: 1 }, 'Minimum memory limit allowed is 6MB'],
      [{ memoryBytes: 64 << 20, memorySwapBytes: 7 << 20 }, 'Minimum memoryswap limit should be larger'],
      [{ memorySwapBytes: 64 << 20 }, 'You should always set the Memory limit when using Memoryswap limit'],
      [{ memoryBytes: 7 << 20, memoryReservationBytes: 8 << 20 }, 'can not be less than memory reservation limit'],
      [{ memorySwappiness: 101 }, 'Invalid value: 101, valid memory swappiness range is 0-100'],
      [{ nanoCpus: 1e9, cpuPeriodUs: 1000 }, 'Conflicting options: Nano CPUs and CPU Period cannot both be set'],
      [{ nanoCpus: 1e9, cpuQuotaUs: 1000 }, 'Conflicting options: Nano CPUs and CPU Quota cannot both be set'],
      [{ nanoCpus: 1e15 }, 'range of CPUs is from 0.01 to'],
      [{ cpuPeriodUs: 1 }, 'CPU cfs period can not be less than 1ms'],
      [{ cpuQuotaUs: 1 }, 'CPU cfs quota can not be less than 1ms'],
      [{ cpusetCpus: '0-9000' }, 'Invalid value 0-9000 for cpuset cpus'],
      [{ cpusetCpus: '0-999' }, 'Requested CPUs are not available - requested 0-999, available: '],
      [{ cpusetMems: 'x' }, 'Invalid value x for cpuset mems'],
      [{ oomScoreAdj: 1001 }, 'Invalid value 1001, range for oom score adj is [-1000, 1000]'],
    ];
    for (const [resources, words] of bad) await expect(create({ resources })).rejects.toThrow(words);
  });

  test('rates of a block device; one that is not there', async () => {
    const path = ['/dev/vda', '/dev/sda', '/dev/nvme0n1', '/dev/loop0'].find((one) => existsSync(one));
    if (path !== undefined && info.blkioReadBps) {
      const { id, spec } = await running({ resources: { blkioReadBps: [{ path, rate: 1 << 20 }] } });
      expect(spec.linux.resources.blockIO?.throttleReadBpsDevice).toMatchObject([{ rate: 1 << 20 }]);
      await remove(id);
    }
    const { id } = await create({ resources: { blkioWriteIops: [{ path: '/dev/nosuch', rate: 9 }] } });
    await expect(engine.containers.start(id)).rejects.toThrow('stat /dev/nosuch: no such file or directory');
    await remove(id);
  });
});

describe('mounts', () => {
  const tmpfs = { type: 'tmpfs' as const, source: '', target: '/t', readOnly: false };

  test('memory with size, mode and options; one on /dev hides what is below', async () => {
    const options = { ...tmpfs, tmpfsSizeBytes: 1 << 20, tmpfsMode: 0o750, tmpfsOptions: ['exec'] };
    const out = await prints('grep " /t " /proc/mounts; ls -ld /t', { mounts: [options] });
    expect(out).toMatch(/tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=750/);
    expect(out).toContain('drwxr-x---');
    await expect(create({ mounts: [{ ...tmpfs, tmpfsOptions: ['bad=1'] }] })).rejects.toThrow('invalid tmpfs option');
    const hidden = await running({ mounts: [{ ...tmpfs, target: '/dev', tmpfsOptions: ['dev'] }] });
    expect(hidden.spec.mounts.map((one) => one.destination)).not.toContain('/dev/shm');
    await remove(hidden.id);
  });

  test('binds: recursive read-only, not recursive, and propagation of the source', async () => {
    const source = join(fixture.base, 'tree');
    mkdirSync(source);
    mount('tmpfs', source, 'tmpfs', 0, null);
    mount(null, source, null, MS.SHARED, null);
    mkdirSync(join(source, 'sub'));
    mount('tmpfs', join(source, 'sub'), 'tmpfs', 0, null);
    const bind = { type: 'bind' as const, source, target: '/b', readOnly: true };
    const write = 'touch /b/sub/x && echo written';
    try {
      expect(await prints(write, { mounts: [bind] })).toContain('Read-only file system');
      expect(await prints(write, { mounts: [{ ...bind, readOnlyNonRecursive: true }] })).toBe('written\n');
      const flat = { ...bind, readOnly: false, nonRecursive: true };
      expect(await prints('grep -c " /b" /proc/mounts', { mounts: [flat] })).toBe('1\n');
      const slave = await running({ mounts: [{ ...bind, propagation: 'rslave' }] });
      mkdirSync(join(source, 'late'));
      mount('tmpfs', join(source, 'late'), 'tmpfs', 0, null);
      expect(readFileSync(`/proc/${slave.pid}/mounts`, 'utf8')).toContain(' /b/late ');
      await remove(slave.id);
    } finally {
      unmount(source);
    }
    mkdirSync(join(fixture.base, 'plain'));
    mount('tmpfs', join(fixture.base, 'plain'), 'tmpfs', 0, null);
    mount(null, join(fixture.base, 'plain'), null, MS.PRIVATE, null);
    const { id } = await create({ mounts: [{ ...bind, source: join(fixture.base, 'plain'), propagation: 'rshared' }] });
    await expect(engine.containers.start(id)).rejects.toThrow('but it is not a shared mount');
    unmount(join(fixture.base, 'plain'));
    await remove(id);
    const twice = { ...bind, readOnlyNonRecursive: true, readOnlyForceRecursive: true };
    await expect(create({ mounts: [twice] })).rejects.toThrow('mount options conflict');
  });

  test('volumes of other containers and places that are kept; inspect tells of them before the start', async () => {
    const shared = { type: 'volume' as const, source: 'vol', target: '/v', readOnly: false, from: 'bind' as const };
    const { id } = await runToEnd(engine, sh('echo kept > /v/x; echo own > /kept/y'), {
      ...{ name: 'giver', mounts: [shared, { ...tmpfs, from: 'tmpfs' as const }] },
    });
    const taker = await create({
      volumesFrom: ['giver:ro'],
      volumes: ['/more'],
      cmd: sh('cat /v/x /kept/y; touch /v/z'),
    });
    const { mounts } = engine.containers.inspect(taker.id);
    expect(mounts.map((one) => [one.destination, one.readOnly, one.mode])).toEqual([
      ['/v', true, ''],
      ['/kept', true, ''],
      ['/more', false, ''],
    ]);
    expect(engine.containers.inspect(id).mounts.map((one) => [one.destination, one.mode])).toEqual([
      ['/v', 'z'],
      ['/kept', ''],
    ]);
    await remove(taker.id);
    const text = await prints('cat /v/x /kept/y; touch /v/z', { volumesFrom: ['giver:ro'] });
    expect(text).toContain('kept\nown\n');
    expect(text).toContain('Read-only file system');
    await remove(id);
    await expect(create({ volumesFrom: ['ghost'] })).rejects.toThrow('No such container: ghost');
    await expect(create({ volumesFrom: ['ghost:rshared'] })).rejects.toThrow('invalid mode: rshared');
  });
});

describe('what a container is', () => {
  test('its image shows through, and what was said goes before it', async () => {
    const { id } = await create({ env: ['BOTH=own', 'ONLY=own'], labels: { both: 'own' } });
    const { config: own, path, args } = engine.containers.inspect(id);
    expect(own).toMatchObject({
      env: ['BOTH=own', 'ONLY=own', 'FROM=image'],
      labels: { from: 'image', both: 'own' },
      ...{ cmd: ['sh', '-c', 'echo from image'], workingDir: '/data', volumes: ['/kept'] },
      healthCheck: { test: ['CMD', 'true'], intervalMs: 90_000 },
      ...{ ipcMode: 'private', shmBytes: 64 << 20, cgroupnsMode: info.unified ? 'private' : 'host' },
    });
    expect([path, ...args]).toEqual(['sh', '-c', 'echo from image']);
    expect(own.maskedPaths).toContain('/proc/kcore');
    expect(own.runtime).toBe(engine.info().runtime.name);
    await remove(id);
    await expect(create({ entrypoint: [''] })).rejects.toThrow('no command specified');
    const privileged = await create({ privileged: true, entrypoint: ['sh'] });
    const other = engine.containers.inspect(privileged.id);
    expect(other.config.cmd).toBeUndefined();
    expect(other.config.securityOptions).toEqual(['label=disable']);
    await remove(privileged.id);
  });

  test('a missing working directory is made, nothing is hidden when it shall not be, the init runs first', async () => {
    expect(await prints('pwd', { workingDir: '/made/for/it' })).toBe('/made/for/it\n');
    expect(await prints('ls -l /.dockerenv /etc/mtab')).toMatch(
      /-rwxr-xr-x .* 0 .*\.dockerenv\n.*mtab -> \/proc\/mounts/,
    );
    expect(await prints('wc -c < /proc/timer_list', {})).toBe('0\n');
    const open = await prints('wc -c < /proc/timer_list', { maskedPaths: [], readonlyPaths: [] });
    expect(Number(open)).toBeGreaterThan(0);
    expect(await prints('cat /proc/1/cmdline', { initAsked: true })).toContain('/sbin/docker-init');
    const wide = await running({ tty: true, consoleSize: [33, 99], annotations: { a: 'b' } });
    expect(wide.spec.process.consoleSize).toEqual({ height: 33, width: 99 });
    expect(wide.spec.annotations).toEqual({ a: 'b' });
    await remove(wide.id);
  });

  test('options that this host cannot do are refused in words that name the way out', async () => {
    const bad: [Partial<ContainerConfig>, string][] = [
      [{ runtime: 'nosuch' }, 'unknown or invalid runtime name: nosuch; known here are runc, crun, youki'],
      [{ isolation: 'hyperv' }, "invalid isolation (hyperv): linux only supports 'default'"],
      [{ storageOptions: { size: '1G' } }, "--storage-opt is supported only for overlay over xfs with 'pquota'"],
      [{ storageOptions: { x: '1' } }, 'Unknown option x'],
      [{ shmBytes: -1 }, 'SHM size can not be less than 0'],
      [{ env: ['=x'] }, 'invalid environment variable: =x'],
      [{ extraHosts: ['a:b'] }, 'invalid IP address in add-host: "b"'],
      [{ extraHosts: ['a'] }, 'bad format for add-host: "a"'],
      [{ annotations: { '': 'x' } }, 'invalid Annotations'],
      [{ platform: 'linux/arm64' }, 'was found but its platform (linux/amd64) does not match the specified platform'],
      [{ platform: 'plan9/x/y/z' }, 'unknown operating system or architecture'],
      [{ capDrop: ['FOO'] }, 'invalid CapDrop: unknown capability: "CAP_FOO"'],
    ];
    for (const [options, words] of bad) await expect(create(options), words).rejects.toThrow(words);
  });

  test('settings of the daemon stand in for what was not said', () => {
    const defaults = { noNewPrivileges: true, shmBytes: 9, ipcMode: 'shareable', cgroupnsMode: 'private' } as const;
    const host = { sysInfo: { ...info, unified: false }, runtimeName: 'crun', initDefault: true, defaults };
    const made = (options: Partial<ContainerConfig>): ContainerConfig =>
      withHostDefaults(config({ noNewPrivileges: false, ...options }), { ...host, find: () => undefined });
    expect(made({})).toMatchObject({ ...defaults, runtime: 'crun', init: true });
    const own = { ipcMode: 'none', shmBytes: 5, cgroupnsMode: 'host', runtime: 'runc', initAsked: false } as const;
    expect(made({ ...own, securityOptions: ['no-new-privileges=false'] })).toMatchObject({
      ...own,
      ...{ noNewPrivileges: false, init: false },
    });
    expect(made({ privileged: true }).cgroupnsMode).toBe('host');
  });

  test('a start that fails is no exit: who waits for the next one goes on waiting', async () => {
    const { id } = await create({ cmd: ['/nosuch'] });
    const stop = new AbortController();
    let told = false;
    const waiting = engine.containers.wait(id, 'next-exit', stop.signal).then(
      () => (told = true),
      () => undefined,
    );
    await expect(engine.containers.start(id)).rejects.toThrow('no such file or directory');
    await until(() => engine.containers.inspect(id).error !== '', 'the failure is in the record');
    stop.abort();
    await waiting;
    expect(told).toBe(false);
    const removed = engine.containers.wait(id, 'removed', new AbortController().signal);
    await remove(id);
    // The failure was told to who asked for the start.
    expect(await removed).toEqual({ exitCode: 127 });
  });
});
