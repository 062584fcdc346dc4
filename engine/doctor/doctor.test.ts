import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { directSpawner, mount, silentLogger, systemClock, systemRandom, type Spawner } from '../../base/index.ts';
import { openImages, type ImageStore } from '../images/index.ts';
import { Cgroups, readCgroupLayout } from '../runtime/cgroups.ts';
import { isMountPoint } from '../storage/index.ts';
import { makeBusyboxArchive } from '../testing/busybox.ts';
import type { Fault } from './fault.ts';
import { examineOffline } from './offline.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-doctor-'));
const dataRoot = join(base, 'data');
const execRoot = join(base, 'exec');
const cgroupParent = `/shoal-doctor-${process.pid}`;
const spawner: Spawner = directSpawner;
const options = { dataRoot, execRoot, cgroupParent, spawner, clock: systemClock, random: systemRandom };
const cgroups = new Cgroups(readCgroupLayout(), systemClock);
const GONE = 'c'.repeat(64);
let imageId = '';

function open(): Promise<ImageStore> {
  const registries = { insecure: [], mirrors: [] };
  return openImages({ ...options, log: silentLogger, registries, onEvent: () => undefined, usedBy: () => [] });
}

beforeAll(async () => {
  makeBusyboxArchive(join(base, 'busybox.tar'));
  const store = await open();
  const request = { repository: 'bb', tag: 'v1', message: '', changes: [] };
  imageId = (await store.importArchive(join(base, 'busybox.tar'), request)).id;
  await store.close();
  for (const name of ['runtime', 'bundles', 'exits', 'attach', 'sandboxes', 'netns']) {
    mkdirSync(join(execRoot, name), { recursive: true });
  }
});
afterAll(async () => {
  await cgroups.destroy(cgroupParent);
  rmSync(base, { recursive: true, force: true });
});

const kinds = (report: { findings: readonly { kind: string }[] }): string[] =>
  report.findings.map((f) => f.kind).sort();

test('a sound data root has no faults, and a path without a store is refused', async () => {
  const report = await examineOffline(options, { deep: true, repair: false });
  expect(report.findings).toEqual([]);
  expect(report.lines.at(-1)).toBe('OK: nothing is wrong');
  expect(report.looked).toMatchObject({ images: 1, layers: 1, blobs: 2, containers: 0 });
  await expect(examineOffline({ ...options, dataRoot: base }, { deep: false, repair: false })).rejects.toThrow(
    'is not the data root of a daemon',
  );
});

test('leavings of containers are found, and repaired', async () => {
  const overlay = join(dataRoot, 'overlay2');
  mkdirSync(join(overlay, GONE, 'merged'), { recursive: true });
  writeFileSync(join(overlay, GONE, 'lower'), '{"imageId":"","layers":[]}');
  mount('tmpfs', join(overlay, GONE, 'merged'), 'tmpfs', 0, null);
  mkdirSync(join(dataRoot, 'containers', GONE), { recursive: true });
  mkdirSync(join(execRoot, 'runtime', GONE));
  mkdirSync(join(execRoot, 'bundles', GONE));
  writeFileSync(join(execRoot, 'exits', GONE), '0');
  writeFileSync(join(execRoot, 'attach', GONE.slice(0, 32)), '');
  writeFileSync(join(execRoot, 'sandboxes', `${GONE}.json`), '{}');
  writeFileSync(join(execRoot, 'netns', 'd'.repeat(12)), '');
  const layout = readCgroupLayout();
  for (const tree of new Set([...layout.controllers.values(), layout.unified ?? ''])) {
    if (tree !== '') mkdirSync(join(tree, cgroupParent, GONE), { recursive: true });
  }
  const expected = [
    ...['cgroup-orphan', 'container-orphan', 'mount-orphan', 'namespace-orphan', 'root-orphan'],
    ...['runtime-orphan', 'runtime-orphan', 'runtime-orphan', 'runtime-orphan', 'sandbox-orphan'],
  ];
  const found = await examineOffline(options, { deep: false, repair: false });
  expect(kinds(found)).toEqual(expected);
  expect(found.findings.every((finding) => finding.repairable && !finding.repaired)).toBe(true);
  expect(found.lines.at(-1)).toBe('10 faults left');
  expect(found.lines).toContain('         --repair: it is unmounted');
  const repaired = await examineOffline(options, { deep: false, repair: true });
  expect(repaired.lines.at(-1)).toBe('OK: 10 faults repaired, nothing else is wrong');
  expect(repaired.findings.map((finding) => finding.repairError)).toEqual(expected.map(() => ''));
  expect((await examineOffline(options, { deep: true, repair: false })).findings).toEqual([]);
  expect(isMountPoint(join(overlay, GONE, 'merged'))).toBe(false);
});

test('a record that cannot be read is told, and nothing of its container is touched', async () => {
  const directory = join(dataRoot, 'containers', GONE);
  mkdirSync(directory);
  writeFileSync(join(directory, 'container.json'), '{"half":');
  mkdirSync(join(dataRoot, 'overlay2', GONE, 'diff'), { recursive: true });
  mkdirSync(join(execRoot, 'bundles', GONE));
  const report = await examineOffline(options, { deep: false, repair: true });
  expect(report.findings).toMatchObject([{ kind: 'container-unreadable', repairable: false, repaired: false }]);
  expect(existsSync(join(dataRoot, 'overlay2', GONE, 'diff'))).toBe(true);
  for (const path of [directory, join(dataRoot, 'overlay2', GONE), join(execRoot, 'bundles', GONE)]) {
    rmSync(path, { recursive: true });
  }
});

test('what does not belong among layers and blobs is removed; damaged blobs are told', async () => {
  const overlay = join(dataRoot, 'overlay2');
  const blobs = join(dataRoot, 'image', 'blobs', 'sha256');
  mkdirSync(join(overlay, 'f'.repeat(32), 'diff'), { recursive: true });
  mkdirSync(join(overlay, 'tmp-half', 'diff'), { recursive: true });
  writeFileSync(join(blobs, 'e'.repeat(64)), 'nobody needs this');
  writeFileSync(join(dataRoot, 'image', 'tmp', 'half'), '');
  rmSync(join(overlay, 'l', '1'));
  const archive = readdirSync(blobs).find((name) => ![imageId.slice(7), 'e'.repeat(64)].includes(name)) as string;
  renameSync(join(blobs, archive), join(base, 'kept'));
  writeFileSync(join(blobs, archive), 'damaged');
  const shallow = await examineOffline(options, { deep: false, repair: false });
  const sweepable = ['blob-orphan', 'layer-link', 'layer-orphan', 'temporary-stale', 'temporary-stale'];
  expect(kinds(shallow)).toEqual(sweepable);
  expect(kinds(await examineOffline(options, { deep: true, repair: true }))).toEqual(['blob-damaged', ...sweepable]);
  expect(kinds(await examineOffline(options, { deep: true, repair: false }))).toEqual(['blob-damaged']);
  rmSync(join(blobs, archive));
  expect(kinds(await examineOffline(options, { deep: false, repair: true }))).toEqual(['blob-missing']);
  renameSync(join(base, 'kept'), join(blobs, archive));
  expect((await examineOffline(options, { deep: true, repair: false })).findings).toEqual([]);
});

test('while a daemon uses the store, faults are repaired through it, and what is under way is none', async () => {
  const store = await open();
  try {
    await expect(examineOffline(options, { deep: false, repair: false })).rejects.toThrow('leave out --data-root');
    const look = async (containers: readonly string[] = []): Promise<Fault[]> => {
      const faults: Fault[] = [];
      await store.examine(new Set(containers), true, (fault) => void faults.push(fault));
      return faults;
    };
    await store.mountRoot(GONE, imageId);
    expect(kinds({ findings: await look([GONE]) })).toEqual([]);
    const orphan = await look();
    expect(kinds({ findings: orphan })).toEqual(['root-orphan']);
    await orphan[0]?.repair?.();
    expect(await look()).toEqual([]);
    const layer = readdirSync(join(dataRoot, 'overlay2')).find((name) => name !== 'l') as string;
    rmSync(join(dataRoot, 'overlay2', layer), { recursive: true });
    const broken = await look();
    expect(kinds({ findings: broken })).toEqual(['layer-missing']);
    await broken[0]?.repair?.();
    expect(store.list()).toEqual([]);
    expect(await look()).toEqual([]);
  } finally {
    await store.close();
  }
});
