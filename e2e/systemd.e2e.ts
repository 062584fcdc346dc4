import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DOCKER, groupModes, ROOT, SystemdHost, until } from './kit/index.ts';

/** The systemd cgroup driver on machines whose init is systemd, driven by the stock client. */
const host = new SystemdHost();
const SHOAL = join(ROOT, 'bin/shoal');
const ADDRESS = 'unix:///run/engine.sock';
const modes = DOCKER === undefined ? [] : groupModes();
/** Whether a machine with v2 has controllers: v1 of this one may hold them. */
const v2Limits = !modes.includes('hybrid');

/** Runs client commands on the machine. */
const docker = (...lines: string[]): Promise<string> =>
  host.run(`export DOCKER_HOST=${ADDRESS}; ${lines.map((line) => `docker ${line}`).join('; ')}`);

async function startDaemon(...flags: string[]): Promise<void> {
  const own = `--data-root /var/lib/engine --exec-root /run/engine -H ${ADDRESS}`;
  const words = `${process.execPath} ${SHOAL} daemon ${own} ${flags.join(' ')}`;
  await host.run(`mkdir -p /var/lib/engine; setsid ${words} >/run/engine.log 2>&1 </dev/null &`);
  await until('the daemon', 15_000, async () => {
    const said = await docker('version');
    if (!said.includes('Server:')) throw new Error(`${said} ${await host.run('tail -n3 /run/engine.log')}`);
    return true;
  });
}

const killDaemon = (): Promise<string> => host.run('kill -KILL $(cat /run/engine/shoal.pid) && sleep 0.1');

/** An image of busybox alone. */
const IMAGE = `d=$(mktemp -d); mkdir $d/bin $d/proc; cp /bin/busybox $d/bin; ln -s busybox $d/bin/sh
tar -C $d -c . | DOCKER_HOST=${ADDRESS} docker import - bb:1`;

const scopes = (): Promise<string> => host.run("systemctl list-units --all --no-legend --plain 'shoal-*.scope'");

describe.each(modes)('with control groups %s', (mode) => {
  const named = mode === 'v2' ? [] : ['--exec-opt', 'native.cgroupdriver=systemd'];
  beforeAll(async () => {
    await host.boot(mode);
    await host.run('mkdir -p /var/lib/engine && mount -t tmpfs tmpfs /var/lib/engine');
    await startDaemon(...named);
    await host.run(IMAGE);
  });
  afterAll(() => host.down());
  afterEach(() => docker('ps -aq').then((ids) => (ids === '' ? '' : docker(`rm -f ${ids.split(/\s+/).join(' ')}`))));

  it('containers are scopes of systemd, and everything finds them', async () => {
    expect(await docker("info -f '{{.CgroupDriver}}'")).toBe('systemd');
    const id = await docker('run -d --name one --network none bb:1 busybox sleep 1000');
    const unit = `shoal-${id}.scope`;
    expect(await host.run(`systemctl show -P ControlGroup ${unit}`)).toBe(`/shoal.slice/${unit}`);
    expect(await docker('exec one cat /proc/self/cgroup').then(() => docker('top one'))).toContain(
      'busybox sleep 1000',
    );
    await docker('pause one');
    expect(await docker("ps --format '{{.Status}}'")).toContain('(Paused)');
    await docker('unpause one');
    expect(await docker('restart -t 0 one', "ps --format '{{.Names}}'")).toBe('one\none');
    expect(await scopes()).toContain(unit);
    expect(await host.run(`${process.execPath} ${SHOAL} -H ${ADDRESS} doctor`)).toContain('OK: nothing is wrong');
    expect(await docker('rm -f one')).toBe('one');
    expect(await scopes()).toBe('');
  });

  it.skipIf(mode === 'v2' && !v2Limits)('limits are systemd’s own, also after an update and a reload', async () => {
    const limits = '-m 64m --pids-limit 40';
    const id = await docker(`run -d --name two --network none ${limits} bb:1 busybox sleep 1000`);
    const memory = mode === 'v2' ? 'MemoryMax' : 'MemoryLimit';
    const show = (): Promise<string> => host.run(`systemctl show -P TasksMax -P ${memory} shoal-${id}.scope`);
    const tree = mode === 'v2' ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids';
    expect((await show()).split(/\s+/).sort()).toEqual(['40', '67108864']);
    await docker('update -m 32m --memory-swap 64m --pids-limit 30 two');
    expect((await show()).split(/\s+/).sort()).toEqual(['30', '33554432']);
    await host.run('systemctl daemon-reload');
    expect(await host.run(`cat ${tree}/shoal.slice/shoal-${id}.scope/pids.max`)).toBe('30');
    expect(await docker("stats --no-stream --format '{{.PIDs}} {{.MemUsage}}' two")).toMatch(/^1 .* \/ 32MiB$/);
    const most = Number(await host.run(`cat ${tree}/shoal.slice/pids.max`));
    expect(most).toBeGreaterThan(1000);
    expect(await docker('run --name full --network none -m 16m bb:1 busybox tail /dev/zero')).toBe('');
    expect(await docker("inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' full")).toBe('true 137');
  });

  // The same code for all kinds of control groups: once is enough.
  it.skipIf(mode !== modes[0])('a parent must be a slice', async () => {
    const words = 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"';
    for (const bad of ['/x', 'x', 'a--b.slice']) {
      expect(await docker(`run --rm --network none --cgroup-parent ${bad} bb:1 true`)).toContain(words);
    }
    const id = await docker('run -d --network none --cgroup-parent my-own.slice bb:1 busybox sleep 1000');
    const path = `/my.slice/my-own.slice/shoal-${id}.scope`;
    expect(await host.run(`systemctl show -P ControlGroup shoal-${id}.scope`)).toBe(path);
  });

  it.skipIf(mode !== modes[0])(
    'a daemon that is killed and comes back with the other driver has its containers where they are',
    async () => {
      const id = await docker('run -d --name moved --network none bb:1 busybox sleep 1000');
      await killDaemon();
      await startDaemon('--exec-opt', 'native.cgroupdriver=cgroupfs');
      expect(await docker("info -f '{{.CgroupDriver}}'")).toBe('cgroupfs');
      expect(await docker('top moved')).toContain('busybox sleep 1000');
      expect(await docker('restart -t 0 moved')).toBe('moved');
      expect(await scopes()).toBe('');
      const groups = await host.run("cat /proc/$(pidof busybox | cut -d' ' -f1)/cgroup");
      expect(groups).toContain(`:/shoal/${id}`);
      await killDaemon();
      await startDaemon(...named);
      expect(await docker('top moved')).toContain('busybox sleep 1000');
      await docker('restart -t 0 moved');
      expect(await scopes()).toContain(id);
    },
  );
});

it('leaves nothing', () => {
  expect(host.gone).toBe(true);
});
