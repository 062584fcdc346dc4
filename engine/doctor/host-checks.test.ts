import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { mount, systemClock } from '../../base/index.ts';
import { Cgroups, readCgroupLayout } from '../runtime/cgroups.ts';
import { isMountPoint } from '../storage/index.ts';
import { examine } from './doctor.ts';
import type { Fault } from './fault.ts';
import { checkHost, type HostView, type KnownContainer } from './host-checks.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-host-checks-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
const ID = 'b'.repeat(64);
const bundle = join(base, 'exec', 'bundles', ID);
mkdirSync(bundle, { recursive: true });

function view(container?: Partial<KnownContainer>, more: Partial<HostView> = {}): HostView {
  const known: KnownContainer = { id: ID, name: 'web', running: false, busy: false, volumes: [], ...container };
  return {
    ...{ dataRoot: join(base, 'data'), execRoot: join(base, 'exec') },
    groups: [{ driver: 'cgroupfs', parent: `/shoal-none-${process.pid}` }],
    cgroups: new Cgroups(readCgroupLayout(), systemClock),
    containers: new Map(container === undefined ? [] : [[ID, known]]),
    unreadable: new Set(),
    alone: async (_id, work) => work(),
    ...more,
  };
}

function faults(of: HostView): Fault[] {
  const found: Fault[] = [];
  checkHost(of, (fault) => void found.push(fault));
  return found;
}

test('what stands for a container that runs, is busy or cannot be read is not judged', () => {
  expect(faults(view({ running: true }))).toEqual([]);
  expect(faults(view({ busy: true }))).toEqual([]);
  expect(faults(view(undefined, { unreadable: new Set([ID]) }))).toEqual([]);
  expect(faults(view({})).map(({ problem }) => problem)).toEqual([
    'a bundle of bbbbbbbbbbbb is left over, but container web does not run',
  ]);
  expect(faults(view()).map(({ problem }) => problem)).toEqual([
    'a bundle of bbbbbbbbbbbb is left over, but there is no such container',
  ]);
});

test('a container that has begun to run by the time of the repair keeps what it has', async () => {
  const [fault] = faults(view({}, { alone: () => Promise.resolve() }));
  await fault?.repair?.();
  expect(existsSync(bundle)).toBe(true);
});

test('a record that speaks of a process that is gone', () => {
  const gone = { pid: 2 ** 22, startTicks: 1 };
  expect(faults(view({ running: true, init: gone, conmon: gone }))).toMatchObject([{ kind: 'container-lost' }]);
  mkdirSync(join(base, 'exec', 'exits', ID), { recursive: true });
  expect(faults(view({ running: true, init: gone, conmon: gone }))).toEqual([]);
  rmSync(join(base, 'exec', 'exits'), { recursive: true });
});

test('mounts below the root of a container that does not run, also the one of a mount that was cut off', async () => {
  const points = ['merged', 'shifted'].map((name) => join(base, 'data', 'overlay2', ID, name));
  for (const point of points) {
    mkdirSync(point, { recursive: true });
    mount('tmpfs', point, 'tmpfs', 0, null);
  }
  expect(faults(view({ running: true })).filter(({ kind }) => kind === 'mount-orphan')).toEqual([]);
  const found = faults(view({})).filter(({ kind }) => kind === 'mount-orphan');
  expect(found.map(({ subject }) => subject)).toEqual(points);
  for (const { repair } of found) await repair?.();
  expect(points.map((point) => isMountPoint(point))).toEqual([false, false]);
});

test('while a daemon works, only what is seen twice is a fault', async () => {
  let looks = 0;
  const look = async (found: (fault: Fault) => void): Promise<Record<string, number>> => {
    const told = { kind: 'mount-orphan', problem: '', remedy: '' } as const;
    found({ ...told, subject: 'always' });
    found({ ...told, subject: `only at look ${++looks}` });
    return {};
  };
  const request = { deep: false, repair: false };
  expect((await examine(look, request, systemClock)).findings.map(({ subject }) => subject)).toEqual(['always']);
  expect((await examine(look, request)).findings).toHaveLength(2);
});

test('a repair that fails is told with its reason', async () => {
  const look = async (found: (fault: Fault) => void): Promise<Record<string, number>> => {
    const repair = (): never => {
      throw new Error('the disk is read-only');
    };
    found({ kind: 'mount-orphan', subject: 'x', problem: 'x is mounted', remedy: 'it is unmounted', repair });
    return { mounts: 1 };
  };
  const report = await examine(look, { deep: false, repair: true });
  expect(report.lines).toEqual([
    'Looked at 1 mount.',
    'FAILED   mount-orphan: x is mounted',
    '         it is unmounted, but that failed: the disk is read-only',
    '1 fault left',
  ]);
});

test('scopes of systemd below its slice and below that of a container, and groups of the other driver', async () => {
  const layout = readCgroupLayout();
  const slice = `shoaltest${process.pid}.slice`;
  const own = `/shoalown${process.pid}.slice`;
  const [gone, stopped, running] = ['c', 'd', 'e'].map((digit) => digit.repeat(64)) as [string, string, string];
  const paths = [`/${slice}/shoal-${gone}.scope`, `${own}/shoal-${stopped}.scope`, `/${slice}/shoal-${running}.scope`];
  const others = [`/${slice}/docker-${gone}.scope`, `/${slice}/system-x.slice`];
  const tree = layout.controllers.get('pids') ?? layout.unified ?? '';
  for (const path of [...paths, ...others]) mkdirSync(join(tree, path), { recursive: true });
  const known = (id: string, more: Partial<KnownContainer>): [string, KnownContainer] => [
    id,
    { id, name: id.slice(0, 1), running: false, busy: false, volumes: [], ...more },
  ];
  try {
    const found = faults(
      view(undefined, {
        groups: [{ driver: 'systemd', parent: slice }],
        unreadable: new Set([ID]),
        containers: new Map([
          known(stopped, { cgroupPath: paths[1] ?? '' }),
          known(running, { cgroupPath: paths[2] ?? '', running: true }),
        ]),
      }),
    );
    expect(found.map(({ kind, subject }) => [kind, subject])).toEqual([
      ['cgroup-orphan', paths[0]],
      ['cgroup-orphan', paths[1]],
    ]);
    for (const fault of found) await fault.repair?.();
    expect([...paths, ...others].map((path) => existsSync(join(tree, path)))).toEqual([false, false, true, true, true]);
  } finally {
    for (const path of [paths[2] ?? '', ...others, `/${slice}`, own]) rmdirSync(join(tree, path));
  }
});
