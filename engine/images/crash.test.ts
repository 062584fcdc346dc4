import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom, type Spawner } from '../../base/index.ts';
import { makeBusyboxArchive } from '../testing/busybox.ts';
import { openImages, type ImageStore } from './index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-crash-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

function open(dataRoot: string, spawner: Spawner, onStep?: (step: string) => void): Promise<ImageStore> {
  return openImages({
    dataRoot,
    spawner,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    registries: { insecure: [], mirrors: [] },
    onEvent: () => undefined,
    usedBy: () => [],
    ...(onStep === undefined ? {} : { onStep }),
  });
}

/** Every step of the life of an image and a root that changes the disk. */
const STEPS = [
  ...['blob flushed', 'blob renamed', 'layer unpacked', 'whiteouts of layer written', 'layer renamed', 'layer linked'],
  ...['document written', 'layers flushed', 'root made', 'layers of root written', 'layers of root renamed'],
  ...['directory set aside', 'layer unlinked', 'layer set aside', 'blob removed'],
];

const request = { repository: 'bb', tag: 'v1', message: '', changes: [] };

test('the disk as it is at any step of import, mount and remove opens as a usable store', async () => {
  const archive = join(base, 'busybox.tar');
  makeBusyboxArchive(archive);
  const dataRoot = join(base, 'live');
  const snapshots: string[] = [];
  const steps = new Set<string>();
  const snapshot = (step = ''): void => {
    steps.add(step);
    const to = join(base, `snapshot-${snapshots.length}`);
    // What a crash leaves is what is on disk, mounts apart.
    execFileSync('cp', ['-a', '--one-file-system', dataRoot, to]);
    snapshots.push(to);
  };
  const spawner: Spawner = {
    run: async (program) => {
      snapshot();
      const result = await directSpawner.run(program);
      snapshot();
      return result;
    },
    close: () => undefined,
  };
  const live = await open(dataRoot, spawner, snapshot);
  const image = await live.importArchive(archive, request);
  snapshot();
  await live.mountRoot('c1', image.id);
  snapshot();
  await live.unmountRoot('c1');
  await live.removeRoot('c1');
  snapshot();
  await live.remove('bb:v1', { force: false });
  snapshot();
  await live.close();
  for (const step of STEPS) expect(steps).toContain(step);
  expect(snapshots.length).toBeGreaterThanOrEqual(24);
  const seen = new Set<number>();
  for (const path of snapshots) {
    const store = await open(path, directSpawner);
    seen.add(store.list().length);
    for (const { id } of store.list()) expect(id).toBe(image.id);
    expect(readdirSync(join(path, 'overlay2')).filter((name) => name.startsWith('tmp-'))).toEqual([]);
    const again = await store.importArchive(archive, request);
    expect(again.diffIds).toEqual(image.diffIds);
    const root = await store.mountRoot('c1', again.id);
    expect(existsSync(join(root, 'bin/busybox'))).toBe(true);
    await store.removeRoot('c1');
    await store.close();
  }
  expect(seen).toEqual(new Set([0, 1]));
}, 120_000);
