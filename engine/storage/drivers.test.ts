import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { openImages, type ImageStore } from '../images/index.ts';
import { tarArchive } from '../testing/tar-writer.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-drivers-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

type Driver = 'overlay2' | 'vfs';

function open(dataRoot: string, storageDriver: Driver): Promise<ImageStore> {
  return openImages({
    ...{ dataRoot, storageDriver, spawner: directSpawner, clock: systemClock, random: systemRandom },
    ...{ log: silentLogger, registries: { insecure: [], mirrors: [] }, onEvent: () => undefined, usedBy: () => [] },
  });
}

/** An image of two layers, where the upper one hides a file, a directory's content, and replaces a directory. */
function image(): string {
  const layers = [
    tarArchive({ name: 'gone', content: 'x' }, { name: 'stays', content: 'x' }, { name: 'd/old', content: 'x' }),
    tarArchive({ name: '.wh.gone' }, { name: 'd/.wh..wh..opq' }, { name: 'd/new', content: 'x' }),
  ];
  const diffIds = layers.map((bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`);
  const config = JSON.stringify({ os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } });
  const manifest = JSON.stringify([{ Config: 'c.json', RepoTags: ['x:1'], Layers: ['0.tar', '1.tar'] }]);
  const path = join(base, 'image.tar');
  writeFileSync(
    path,
    tarArchive(
      { name: 'manifest.json', content: manifest },
      { name: 'c.json', content: config },
      ...layers.map((content, i) => ({ name: `${i}.tar`, content })),
    ),
  );
  return path;
}

test.each([
  ['overlay2', 'vfs'],
  ['vfs', 'overlay2'],
] as [Driver, Driver][])(
  'images unpacked with %s look the same with %s; roots are refused, not lost',
  async (one, two) => {
    const dataRoot = join(base, `${one}-${two}`);
    const first = await open(dataRoot, one);
    await first.load(image(), () => undefined);
    const { id } = first.get('x:1');
    const root = await first.mountRoot('before', id);
    writeFileSync(join(root, 'written'), 'by the container');
    await first.unmountRoot('before');
    await first.close();
    const second = await open(dataRoot, two);
    const other = await second.mountRoot('after', id);
    expect(readdirSync(other).sort()).toEqual(['d', 'stays']);
    expect(readdirSync(join(other, 'd'))).toEqual(['new']);
    await expect(second.mountRoot('before', id)).rejects.toThrow(
      `was made with ${one}, and the daemon uses ${two} now`,
    );
    await second.removeRoot('after');
    await second.close();
    const third = await open(dataRoot, one);
    const back = await third.mountRoot('before', id);
    expect(readdirSync(back).sort()).toEqual(['d', 'stays', 'written']);
    await third.removeRoot('before');
    await third.close();
  },
);

test('a root whose list of layers a power cut has torn keeps what was written', async () => {
  const dataRoot = join(base, 'torn');
  const id = 'd'.repeat(64);
  const first = await open(dataRoot, 'overlay2');
  await first.load(image(), () => undefined);
  const imageId = first.get('x:1').id;
  writeFileSync(join(await first.mountRoot(id, imageId), 'written'), 'by the container');
  await first.unmountRoot(id);
  await first.close();
  for (const text of ['', '{"image', '\0'.repeat(100)]) {
    writeFileSync(join(dataRoot, 'overlay2', id, 'lower'), text);
    const store = await open(dataRoot, 'overlay2');
    expect(readdirSync(await store.mountRoot(id, imageId)).sort()).toEqual(['d', 'stays', 'written']);
    await store.unmountRoot(id);
    await store.close();
  }
});
