import { existsSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { silentLogger, systemClock, type Logger } from '../../base/index.ts';
import { Cgroups, readCgroupLayout } from './cgroups.ts';
import { guardProcesses } from './process-guard.ts';

const layout = readCgroupLayout();
const tree = layout.controllers.get('pids') ?? layout.unified ?? '';

test('with systemd the slice is limited by systemd, else the group by its file', async () => {
  const told: [string, number][] = [];
  const units = {
    forget: () => Promise.resolve(),
    limitTasks: async (slice: string, tasksMax: number) => void told.push([slice, tasksMax]),
  };
  const cgroups = new Cgroups(layout, systemClock, units);
  await guardProcesses(cgroups, { driver: 'systemd', parent: 'a-b.slice' }, silentLogger);
  expect(told).toEqual([['a-b.slice', expect.any(Number)]]);
  expect(existsSync(join(tree, 'a.slice'))).toBe(false);
  const parent = `/shoal-test-guard-${process.pid}`;
  await guardProcesses(cgroups, { driver: 'cgroupfs', parent }, silentLogger);
  const file = join(tree, parent, 'pids.max');
  try {
    // cgroup v2 may have no such controller here.
    if (existsSync(file)) expect(Number(readFileSync(file, 'utf8'))).toBe(told[0]?.[1]);
  } finally {
    rmdirSync(join(tree, parent));
  }
  expect(told).toHaveLength(1);
});

test('a group that holds the daemon itself is not limited, and what cannot be limited is told', async () => {
  const warnings: string[] = [];
  const log: Logger = {
    ...silentLogger,
    warn: (message, more) => void warnings.push(`${message}: ${String(more?.['error'])}`),
  };
  const units = { forget: () => Promise.resolve(), limitTasks: () => Promise.reject(new Error('no bus')) };
  const cgroups = new Cgroups(layout, systemClock, units);
  await guardProcesses(cgroups, { driver: 'systemd', parent: '-.slice' }, log);
  await guardProcesses(cgroups, { driver: 'systemd', parent: 'x.slice' }, log);
  const words = 'the processes of all containers together are not limited';
  expect(warnings).toEqual([
    `${words}: this daemon itself is in the same group; name another --cgroup-parent`,
    `${words}: no bus`,
  ]);
});
