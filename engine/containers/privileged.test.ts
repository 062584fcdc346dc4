import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Engine } from '../engine.ts';
import { readCgroupLayout } from '../runtime/cgroups.ts';
import { hostDevices } from '../runtime/devices.ts';
import { readSysInfo } from '../runtime/sysinfo.ts';
import type { ContainerConfig } from '../types.ts';
import { withHostDefaults } from './complete.ts';
import { config, runToEnd } from './fixture.ts';
import { useFixture } from './use-fixture.ts';

/** What `--privileged` gives, by Docker's rules (moby daemon/oci_linux.go), looked at from inside. */
let engine: Engine;
const layout = readCgroupLayout();
useFixture((_fixture, ours) => {
  engine = ours;
});

async function prints(script: string, options: Partial<ContainerConfig> = {}): Promise<string> {
  const { id, out, err } = await runToEnd(engine, ['sh', '-c', script], {
    ...{ privileged: true, noNewPrivileges: false },
    ...options,
  });
  await engine.containers.remove(id, { force: true, volumes: true });
  expect(err).toBe('');
  return out;
}

/** A line of a /proc/PID/status. */
const status = (text: string, name: string): string => new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(text)?.[1] ?? '';
const own = status(readFileSync('/proc/self/status', 'utf8'), 'CapEff');

test('all capabilities of the daemon, whatever is dropped, and no seccomp', async () => {
  const inside = await prints('cat /proc/self/status', { capDrop: ['ALL'], capAdd: [] });
  expect([status(inside, 'CapEff'), status(inside, 'CapPrm'), status(inside, 'CapBnd')]).toEqual([own, own, own]);
  expect([status(inside, 'Seccomp'), status(inside, 'NoNewPrivs')]).toEqual(['0', '0']);
  // Another user holds none of them, and may get them by a setuid program.
  const user = await prints('cat /proc/self/status', { user: '1000' });
  expect([status(user, 'CapEff'), status(user, 'CapBnd')]).toEqual(['0'.repeat(16), own]);
  // A profile that is named counts.
  expect(status(await prints('cat /proc/self/status', { seccomp: 'builtin' }), 'Seccomp')).toBe('2');
});

test('all devices of the host, by rule and by node', async () => {
  const script = 'find /dev -type b -o -type c | grep -v /dev/pts/ | sort; mknod /any b 7 99 && echo made';
  const lines = (await prints(script)).trim().split('\n');
  // ptmx is a link to that of the container's own terminals.
  const paths = hostDevices().map(({ path }) => path);
  for (const path of paths.filter((one) => one !== '/dev/ptmx')) expect(lines).toContain(path);
  expect(lines.at(-1)).toBe('made');
  const devices = layout.controllers.get('devices');
  if (devices === undefined) return;
  expect(await prints('cat /sys/fs/cgroup/devices/devices.list')).toBe('a *:* rwm\n');
});

test('nothing is masked or read-only: /proc, /sys and the control groups can be written, with a read-only root too', async () => {
  const mounts = "awk '{ print $2, substr($4, 1, 2) }' /proc/self/mounts | grep -E '^/(proc|sys)'";
  for (const readOnlyRootfs of [false, true]) {
    const lines = (await prints(mounts, { readOnlyRootfs })).trim().split('\n');
    expect(lines.filter((line) => line.startsWith('/proc'))).toEqual(['/proc rw']);
    expect(lines).toContain('/sys rw');
    expect(lines.filter((line) => !line.endsWith(' rw'))).toEqual([]);
  }
  const tree = layout.version === 'v2' ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids';
  const group = `${tree}/below`;
  const write = 'echo name >/proc/sys/kernel/domainname && cat /proc/sys/kernel/domainname';
  expect(await prints(`${write}; mkdir "${group}" && rmdir "${group}" && echo grouped`)).toBe('name\ngrouped\n');
});

test('a command run with --privileged in a plain container has the capabilities', async () => {
  const plain = config({ cmd: ['sleep', '100'] });
  const { id } = await engine.containers.create(plain);
  await engine.containers.start(id);
  const request = { command: ['cat', '/proc/self/status'], env: [], privileged: true };
  const { stdout } = await engine.containers.exec(id, request, AbortSignal.timeout(30_000));
  expect(status(Buffer.from(stdout).toString(), 'CapEff')).toBe(own);
  await engine.containers.remove(id, { force: true, volumes: true });
});

test('AppArmor and labels are off, where the kernel has them', () => {
  const made = (appArmor: boolean, options: Partial<ContainerConfig>): ContainerConfig =>
    withHostDefaults(config(options), {
      ...{ runtimeName: 'runc', initDefault: false, defaults: {}, find: () => undefined },
      sysInfo: { ...readSysInfo(layout), appArmor },
    });
  expect(made(true, { privileged: true })).toMatchObject({
    appArmorProfile: 'unconfined',
    securityOptions: ['label=disable'],
  });
  expect(made(true, { privileged: true, appArmorProfile: 'own' }).appArmorProfile).toBe('own');
  for (const options of [made(true, {}), made(false, { privileged: true })]) {
    expect(options.appArmorProfile).toBeUndefined();
  }
});
