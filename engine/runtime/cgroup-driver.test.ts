import { expect, test } from 'vitest';
import {
  checkCgroupParent,
  chooseGroups,
  groupFor,
  groupOwner,
  isInside,
  parentPath,
  recordedGroup,
  slicePath,
  type GroupPlace,
} from './cgroup-driver.ts';

const ID = 'ab'.repeat(32);
const there = { running: true, bus: true };
const NOT_SLICE = 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"';
const systemd: GroupPlace = { driver: 'systemd', parent: 'shoal.slice' };
const cgroupfs: GroupPlace = { driver: 'cgroupfs', parent: '/shoal' };

test('each dash of a slice is a level', () => {
  expect(slicePath('shoal.slice')).toBe('/shoal.slice');
  expect(slicePath('a-b-c.slice')).toBe('/a.slice/a-b.slice/a-b-c.slice');
  expect(slicePath('-.slice')).toBe('/');
  for (const bad of ['', '.slice', '/x', 'x', 'x.scope', 'a/b.slice', '-a.slice', 'a-.slice', 'a--b.slice']) {
    expect(() => slicePath(bad), bad).toThrow(NOT_SLICE);
  }
});

test('a group by either driver, and by the parent of a container', () => {
  expect(groupFor(systemd, undefined, ID)).toEqual({
    path: `/shoal.slice/shoal-${ID}.scope`,
    runtimePath: `shoal.slice:shoal:${ID}`,
  });
  expect(groupFor(systemd, 'my-own.slice', ID)).toEqual({
    path: `/my.slice/my-own.slice/shoal-${ID}.scope`,
    runtimePath: `my-own.slice:shoal:${ID}`,
  });
  expect(groupFor(cgroupfs, '', ID)).toEqual({ path: `/shoal/${ID}`, runtimePath: `/shoal/${ID}` });
  expect(groupFor(cgroupfs, '../../x', ID).path).toBe(`/x/${ID}`);
  // With cgroupfs a name that ends so is a directory as any other.
  expect(groupFor(cgroupfs, 'a-b.slice', ID).path).toBe(`/a-b.slice/${ID}`);
  expect(() => groupFor(systemd, '/x', ID)).toThrow(NOT_SLICE);
  expect([parentPath(systemd), parentPath(cgroupfs)]).toEqual(['/shoal.slice', '/shoal']);
});

test('a parent is checked by the driver', () => {
  expect(() => checkCgroupParent(systemd, '/x')).toThrow(NOT_SLICE);
  for (const fine of [undefined, '', 'x.slice']) checkCgroupParent(systemd, fine);
  checkCgroupParent(cgroupfs, '/x');
});

test('the name of a group tells its container', () => {
  expect(groupOwner(ID)).toBe(ID);
  expect(groupOwner(`shoal-${ID}.scope`)).toBe(ID);
  for (const other of [`docker-${ID}.scope`, `${ID}.scope`, `shoal-${ID}`, 'shoal-a.scope', 'init.scope']) {
    expect(groupOwner(other), other).toBeUndefined();
  }
});

test('where a container runs is what was recorded at its start, whatever the driver is now', () => {
  const scope = `/shoal.slice/shoal-${ID}.scope`;
  expect(recordedGroup(cgroupfs, { id: ID, cgroupPath: scope })).toBe(scope);
  expect(recordedGroup(systemd, { id: ID, cgroupPath: `/shoal/${ID}` })).toBe(`/shoal/${ID}`);
  // Records of daemons that knew cgroupfs only.
  expect(recordedGroup(systemd, { id: ID })).toBe(`/shoal/${ID}`);
  expect(recordedGroup(systemd, { id: ID, cgroupParent: '/x' })).toBe(`/x/${ID}`);
  expect(recordedGroup({ driver: 'cgroupfs', parent: '/own' }, { id: ID })).toBe(`/own/${ID}`);
});

test('the driver by host, option and parent', () => {
  const of = (driver?: GroupPlace['driver'], parent?: string, facts = there): GroupPlace =>
    chooseGroups({ driver, parent }, 'v2', facts);
  expect(of()).toEqual(systemd);
  expect(of(undefined, 'x.slice')).toEqual({ driver: 'systemd', parent: 'x.slice' });
  expect(of(undefined, '/x/y/')).toEqual({ driver: 'cgroupfs', parent: '/x/y' });
  expect(of(undefined, '', { running: true, bus: false })).toEqual(cgroupfs);
  expect(of(undefined, '', { running: false, bus: true })).toEqual(cgroupfs);
  expect(of('cgroupfs')).toEqual(cgroupfs);
  for (const version of ['v1', 'hybrid'] as const) {
    expect(chooseGroups({}, version, there)).toEqual(cgroupfs);
    expect(chooseGroups({ driver: 'systemd' }, version, there)).toEqual(systemd);
  }
  expect(() => of('systemd', '/x')).toThrow(NOT_SLICE);
  expect(() => of('systemd', '', { running: false, bus: false })).toThrow(
    'systemd is not the init of this host (there is no /run/systemd/system): leave native.cgroupdriver=systemd out',
  );
  expect(() => of('systemd', '', { running: true, bus: false })).toThrow(
    'systemd cannot be asked, there is no /run/dbus/system_bus_socket: install dbus',
  );
});

test('whether a process is in a group, as /proc tells it', () => {
  // Of a service on Debian 12 in hybrid mode, and of one with cgroup v2 alone.
  const hybrid = '9:name=systemd:/system.slice/shoal.service\n3:cpuset:/\n0::/system.slice/shoal.service\n';
  const unified = '0::/system.slice/shoal.service\n';
  for (const text of [hybrid, unified]) {
    expect(isInside('/system.slice', text)).toBe(true);
    expect(isInside('/system.slice/shoal.service', text)).toBe(true);
    expect(isInside('/', text)).toBe(true);
    expect(isInside('/shoal.slice', text)).toBe(false);
    expect(isInside('/system', text)).toBe(false);
  }
});
