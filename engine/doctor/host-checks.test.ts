import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import { Cgroups, readCgroupLayout } from '../runtime/cgroups.ts';
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
