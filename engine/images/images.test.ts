import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { makeBusyboxArchive } from '../testing/busybox.ts';
import type { EngineEvent, ImageProgress } from '../types.ts';
import { openImages, type ImagesOptions, type ImageStore } from './index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-images-'));
const busybox = join(base, 'busybox.tar');
let count = 0;
const opened: ImageStore[] = [];
const events: EngineEvent[] = [];
let users: string[] = [];

async function open(dataRoot: string, more: Partial<ImagesOptions> = {}): Promise<ImageStore> {
  const images = await openImages({
    dataRoot,
    spawner: directSpawner,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    registries: { insecure: [], mirrors: [] },
    onEvent: (event) => events.push(event),
    usedBy: () => users,
    ...more,
  });
  opened.push(images);
  return images;
}

function freshRoot(): string {
  return join(base, `data-${++count}`);
}

const importing = {
  repository: 'busybox',
  tag: '',
  message: 'Imported from -',
  changes: ['CMD ["sh"]', 'ENV A=1 B="two words"'],
};

beforeAll(() => makeBusyboxArchive(busybox));

afterEach(async () => {
  users = [];
  for (const images of opened.splice(0)) {
    for (const root of images.roots()) await images.removeRoot(root);
    await images.close();
  }
});

afterAll(() => rmSync(base, { recursive: true, force: true }));

/** A docker-archive with the given layers (directory trees as tar files). */
function archive(name: string, layers: string[], config: object, tags: string[]): string {
  const at = join(base, `archive-${++count}`);
  mkdirSync(at);
  const diffIds = layers.map((path, i) => {
    execFileSync('cp', [path, join(at, `layer${i}.tar`)]);
    return `sha256:${execFileSync('sha256sum', [path], { encoding: 'utf8' }).slice(0, 64)}`;
  });
  writeFileSync(
    join(at, 'config.json'),
    JSON.stringify({ architecture: 'amd64', os: 'linux', config, rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  writeFileSync(
    join(at, 'manifest.json'),
    JSON.stringify([{ Config: 'config.json', RepoTags: tags, Layers: layers.map((_, i) => `layer${i}.tar`) }]),
  );
  const out = join(base, name);
  execFileSync('tar', ['-cf', out, '-C', at, '.']);
  return out;
}

function tree(make: (root: string) => void): string {
  const root = join(base, `tree-${++count}`);
  mkdirSync(root);
  make(root);
  const out = `${root}.tar`;
  execFileSync('tar', ['-cf', out, '--xattrs', '--xattrs-include=*', '-C', root, '.']);
  return out;
}

function whiteoutArchive(): string {
  const lower = tree((root) => {
    mkdirSync(join(root, 'a'));
    mkdirSync(join(root, 'b'));
    mkdirSync(join(root, 'c'));
    for (const path of ['a/gone', 'a/stays', 'b/old1', 'b/old2', 'c/x', 'top']) writeFileSync(join(root, path), path);
  });
  const upper = tree((root) => {
    mkdirSync(join(root, 'a'));
    mkdirSync(join(root, 'b'));
    writeFileSync(join(root, 'a/.wh.gone'), '');
    writeFileSync(join(root, 'b/.wh..wh..opq'), '');
    writeFileSync(join(root, 'b/new'), 'new');
    writeFileSync(join(root, '.wh.top'), '');
    symlinkSync('a', join(root, 'c2'));
    writeFileSync(join(root, 'c'), 'a file now');
  });
  return archive(`wh-${++count}.tar`, [lower, upper], { Env: ['X=y'] }, ['wh:1']);
}

describe.each(['overlay2', 'vfs'] as const)('roots with %s', (storageDriver) => {
  test('an imported archive becomes a root that can run and be written', async () => {
    const images = await open(freshRoot(), { storageDriver });
    const image = await images.importArchive(busybox, importing);
    expect(image.repoTags).toEqual(['busybox:latest']);
    expect(image.config).toEqual({ Cmd: ['sh'], Env: ['A=1', 'B=two words'] });
    expect(images.get('docker.io/library/busybox').id).toBe(image.id);
    expect(images.get(image.id.slice(7, 19)).id).toBe(image.id);
    const root = await images.mountRoot('c1', image.id);
    expect(execFileSync('chroot', [root, '/bin/echo', 'hello'], { encoding: 'utf8' })).toBe('hello\n');
    expect(statSync(join(root, 'tmp')).mode & 0o7777).toBe(0o1777);
    writeFileSync(join(root, 'mark'), '1');
    expect(await images.mountRoot('c1', image.id)).toBe(root);
    const second = await images.mountRoot('c2', image.id);
    expect(existsSync(join(second, 'mark'))).toBe(false);
    await images.unmountRoot('c1');
    expect(readFileSync(join(await images.mountRoot('c1', image.id), 'mark'), 'utf8')).toBe('1');
    await images.removeRoot('c1');
    expect(existsSync(root)).toBe(false);
    expect(images.roots()).toEqual(['c2']);
  });

  test('whiteouts hide what is below', async () => {
    const images = await open(freshRoot(), { storageDriver });
    const lines: ImageProgress[] = [];
    await images.load(whiteoutArchive(), (line) => lines.push(line));
    expect(lines.at(-1)).toEqual({ stream: 'Loaded image: wh:1\n' });
    const root = await images.mountRoot('w', images.get('wh:1').id);
    expect(readdirSync(root).sort()).toEqual(['a', 'b', 'c', 'c2']);
    expect(readdirSync(join(root, 'a'))).toEqual(['stays']);
    expect(readdirSync(join(root, 'b'))).toEqual(['new']);
    expect(lstatSync(join(root, 'c')).isFile()).toBe(true);
  });
});

test('a restart finds images and mounted roots, and removes leftovers', async () => {
  const dataRoot = freshRoot();
  const first = await open(dataRoot);
  const image = await first.importArchive(busybox, importing);
  const root = await first.mountRoot('c1', image.id);
  writeFileSync(join(root, 'mark'), '1');
  opened.splice(0);
  await first.close();
  // What a crash at various moments leaves behind.
  mkdirSync(join(dataRoot, 'overlay2/tmp-123/diff'), { recursive: true });
  mkdirSync(join(dataRoot, 'overlay2/0123456789abcdef0123456789abcdef/diff'), { recursive: true });
  writeFileSync(join(dataRoot, `image/blobs/sha256/${'a'.repeat(64)}`), 'unneeded');
  writeFileSync(join(dataRoot, 'image/tmp/partial'), 'x');
  symlinkSync('../nowhere/diff', join(dataRoot, 'overlay2/l/zz'));
  const again = await open(dataRoot);
  expect(again.get('busybox')).toEqual(image);
  expect(again.roots()).toEqual(['c1']);
  expect(readFileSync(join(await again.mountRoot('c1', image.id), 'mark'), 'utf8')).toBe('1');
  expect(execFileSync('findmnt', ['-n', '-o', 'FSTYPE', root], { encoding: 'utf8' }).trim()).toBe('overlay');
  expect(readdirSync(join(dataRoot, 'overlay2')).filter((n) => n.startsWith('tmp-') || n.startsWith('0123'))).toEqual(
    [],
  );
  expect(readdirSync(join(dataRoot, 'image/blobs/sha256')).length).toBe(2);
  expect(readdirSync(join(dataRoot, 'image/tmp'))).toEqual([]);
  expect(readdirSync(join(dataRoot, 'overlay2/l')).sort()).toEqual(['1', 'empty']);
});

test('an image whose layer directory is lost is dropped, and can be imported again', async () => {
  const dataRoot = freshRoot();
  const first = await open(dataRoot);
  const image = await first.importArchive(busybox, importing);
  opened.splice(0);
  await first.close();
  rmSync(join(dataRoot, 'overlay2', image.diffIds[0]!.slice(7, 39)), { recursive: true });
  const again = await open(dataRoot);
  expect(again.list()).toEqual([]);
  expect((await again.importArchive(busybox, importing)).diffIds).toEqual(image.diffIds);
});
