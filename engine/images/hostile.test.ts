import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { directSpawner, mount, silentLogger, systemClock, systemRandom, unmount } from '../../base/index.ts';
import { EXPANSION_FREE_BYTES, unpackLimit } from '../storage/limits.ts';
import { paxHeader, tarArchive, tarMember } from '../testing/tar-writer.ts';
import { openImages, type ImageStore } from './index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-hostile-'));
const stores: ImageStore[] = [];
const mounted: string[] = [];
let count = 0;
afterAll(async () => {
  for (const store of stores) await store.close();
  for (const path of mounted) unmount(path);
  rmSync(base, { recursive: true, force: true });
});

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const request = { repository: 'x', tag: 'v1', message: '', changes: [] };

async function open(dataRoot = join(base, `data-${++count}`)): Promise<{ store: ImageStore; dataRoot: string }> {
  const store = await openImages({
    ...{ dataRoot, spawner: directSpawner, clock: systemClock, random: systemRandom, log: silentLogger },
    ...{ registries: { insecure: [], mirrors: [] }, onEvent: () => undefined, usedBy: () => [] },
  });
  stores.push(store);
  return { store, dataRoot };
}

/** A data root with a disk of its own. */
function smallDisk(bytes: number): string {
  const path = join(base, `disk-${++count}`);
  mkdirSync(path);
  mount('tmpfs', path, 'tmpfs', 0, `size=${bytes}`);
  mounted.push(path);
  return join(path, 'data');
}

function file(bytes: Uint8Array): string {
  const path = join(base, `file-${++count}`);
  writeFileSync(path, bytes);
  return path;
}

/** What `docker save` would have written, with one layer of any bytes. */
function saved(layer: Uint8Array, options: { diffId?: string; plain?: Uint8Array; manifest?: string } = {}): string {
  const diffId = options.diffId ?? `sha256:${digest(options.plain ?? layer)}`;
  const config = JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [diffId] } });
  const manifest =
    options.manifest ?? JSON.stringify([{ Config: 'c.json', RepoTags: ['x:v1'], Layers: ['layer.tar'] }]);
  return file(
    tarArchive(
      { name: 'manifest.json', content: manifest },
      { name: 'c.json', content: config },
      { name: 'layer.tar', content: layer },
    ),
  );
}

function nothingLeft(dataRoot: string, store: ImageStore): void {
  expect(store.list()).toEqual([]);
  expect(readdirSync(join(dataRoot, 'overlay2'))).toEqual(['l']);
  expect(readdirSync(join(dataRoot, 'image/blobs/sha256'))).toEqual([]);
  expect(readdirSync(join(dataRoot, 'image/tmp'))).toEqual([]);
}

describe('layers that are refused, whole', () => {
  const hidden = (name: string): Buffer => tarArchive({ name });
  const long = 'p/'.repeat(3000);
  const cases: [string, Buffer, RegExp][] = [
    ['a whiteout of ..', hidden('a/.wh...'), /an empty whiteout/],
    ['a whiteout of nothing', hidden('.wh.'), /an empty whiteout/],
    ['a whiteout above the root', hidden('../.wh.etc'), /climbs out/],
    ['.. in the middle', tarArchive({ name: 'a/../../etc/passwd', content: 'x' }), /climbs out/],
    ['a link out, then a file through it', through('/etc'), /tar: .*(Not a directory|Cannot open)/s],
    [
      'a relative link out, then a file through it',
      through('../../../../etc'),
      /tar: .*(Not a directory|Cannot open)/s,
    ],
    [
      'a hard link to a file of the host through a link',
      tarArchive({ name: 's', type: '2', linkName: '/etc' }, { name: 'h', type: '1', linkName: 's/passwd' }),
      /tar: h: Cannot hard link/,
    ],
    ['a pax name that climbs out', tarArchive(paxHeader('path', '../../x'), { name: 'f', content: 'x' }), /climbs out/],
    [
      'a huge pax header',
      tarArchive(paxHeader('comment', 'x'.repeat(2 ** 21)), { name: 'f' }),
      /extended header is too/,
    ],
    ['many pax headers', tarArchive(...manyHeaders(), { name: 'f' }), /extended header is too long/],
    [
      'a pax header that does not add up',
      tarArchive({ name: 'p', type: 'x', content: '99 a=b\n' }, { name: 'f' }),
      /add/,
    ],
    ['a name too long', tarArchive(paxHeader('path', long), { name: 'f' }), /file name too long/],
    ['an absurd size', tarArchive({ name: 'f', size: 2 ** 32 }), /unexpected EOF/],
    ['a size below zero', tarArchive(paxHeader('size', '-1'), { name: 'f' }), /no proper size/],
  ];

  function through(target: string): Buffer {
    return tarArchive({ name: 's', type: '2', linkName: target }, { name: 's/shoal-hostile', content: 'bad' });
  }

  function manyHeaders(): Buffer[] {
    return Array.from({ length: 30 }, (_none, i) => paxHeader(`key${i}`, 'x'.repeat(50_000)));
  }

  test.each(cases)('%s', async (_what, layer, words) => {
    const { store, dataRoot } = await open();
    await expect(store.load(saved(layer), () => undefined)).rejects.toThrow(words);
    nothingLeft(dataRoot, store);
    await expect(store.importArchive(file(gzipSync(layer)), request)).rejects.toThrow(words);
    nothingLeft(dataRoot, store);
  });
});

describe('image archives that are refused, whole', () => {
  const good = tarArchive({ name: 'f', content: 'x' });
  const other = `sha256:${'0'.repeat(64)}`;
  const list = (item: object): string => JSON.stringify([item]);
  const cases: [string, string, RegExp][] = [
    ['no JSON', saved(good, { manifest: '{' }), /manifest.json is not JSON/],
    ['no list', saved(good, { manifest: '{"Config":"c.json"}' }), /invalid manifest.json/],
    ['deep JSON', saved(good, { manifest: '['.repeat(200_000) }), /manifest.json is not JSON/],
    ['no configuration', saved(good, { manifest: list({ Layers: [] }) }), /"" is missing or not a file/],
    [
      'a configuration elsewhere',
      saved(good, { manifest: list({ Config: '../../../etc/passwd' }) }),
      /is missing or not/,
    ],
    ['fewer layers', saved(good, { manifest: list({ Config: 'c.json', Layers: [] }) }), /layers length mismatch/],
    [
      'a bad tag',
      saved(good, { manifest: list({ Config: 'c.json', RepoTags: ['A B'], Layers: ['layer.tar'] }) }),
      /refer/,
    ],
    ['another digest', saved(good, { diffId: other }), /layers from manifest don't match image configuration/],
    ['no digest', saved(good, { diffId: 'md5:1' }), /diff_ids is not a list of sha256 digests/],
    ['damaged gzip', saved(damaged(), { plain: good }), /damaged gzip data/],
  ];

  function damaged(): Buffer {
    const packed = gzipSync(Buffer.concat([good, Buffer.alloc(4096)]));
    packed[packed.length - 12] = (packed.at(-12) ?? 0) ^ 0xff;
    return packed;
  }

  test.each(cases)('%s', async (_what, path, words) => {
    const { store, dataRoot } = await open();
    await expect(store.load(path, () => undefined)).rejects.toThrow(words);
    nothingLeft(dataRoot, store);
  });

  test('a blob of an OCI layout that does not match its digest', async () => {
    const manifest = JSON.stringify({ schemaVersion: 2 });
    const descriptor = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: other, size: 1 };
    const index = JSON.stringify({ schemaVersion: 2, manifests: [descriptor] });
    const blob = { name: `blobs/sha256/${'0'.repeat(64)}`, content: manifest };
    const { store, dataRoot } = await open();
    const path = file(tarArchive({ name: 'index.json', content: index }, blob));
    await expect(store.load(path, () => undefined)).rejects.toThrow('does not match its digest');
    nothingLeft(dataRoot, store);
  });
});

describe('what is larger than the disk', () => {
  const zeros = Buffer.alloc(96 * 1024 * 1024);

  test('compressed data that grows without end is stopped, and nothing is left of it', async () => {
    const { store, dataRoot } = await open(smallDisk(64 * 1024 * 1024));
    for (const program of ['gzip', 'zstd', 'xz']) {
      const packed = execFileSync(program, ['-1', '-c'], { input: zeros, maxBuffer: 2 ** 24 });
      const words = new RegExp(`no space left on device: the ${program} archive does not fit below .*enlarge the disk`);
      await expect(store.importArchive(file(packed), request), program).rejects.toThrow(words);
      nothingLeft(dataRoot, store);
      await expect(
        store.load(file(packed), () => undefined),
        program,
      ).rejects.toThrow(words);
      nothingLeft(dataRoot, store);
    }
    // The store is as good as before.
    await store.importArchive(file(tarArchive({ name: 'f', content: 'x' })), request);
    expect(store.list()).toHaveLength(1);
  }, 120_000);

  test('a layer whose files do not fit', async () => {
    const { store, dataRoot } = await open(smallDisk(16 * 1024 * 1024));
    const many = Buffer.concat(Array.from({ length: 70_000 }, (_none, i) => tarMember({ name: `f${i}` })));
    await expect(store.importArchive(file(gzipSync(tarArchive(many))), request)).rejects.toThrow(
      'no space left on device',
    );
    nothingLeft(dataRoot, store);
    await expect(store.load(file(zeros), () => undefined)).rejects.toThrow('no space left on device');
    nothingLeft(dataRoot, store);
  }, 120_000);

  test('growth beyond all reason is refused on large disks too', () => {
    const limit = unpackLimit('/', 1000, 'the archive');
    expect(limit.maxBytes).toBeLessThanOrEqual(EXPANSION_FREE_BYTES);
    if (limit.maxBytes === EXPANSION_FREE_BYTES) expect(limit.refuse().message).toContain('no real data is so small');
  });
});

describe('what Docker keeps is kept', () => {
  test('setuid files, device nodes, links that lead anywhere, absolute names', async () => {
    const { store } = await open();
    const layer = tarArchive(
      { name: '/abs/su', content: 'x', mode: 0o4755 },
      { name: 'dev/null', type: '3', major: 1, minor: 3, mode: 0o666 },
      { name: 'passwd', type: '2', linkName: '/etc/passwd' },
      { name: 'up', type: '2', linkName: '../../../etc' },
    );
    const { id } = await store.importArchive(file(layer), request);
    const root = await store.mountRoot('kept', id);
    expect(lstatSync(join(root, 'abs/su')).mode & 0o7777).toBe(0o4755);
    expect(lstatSync(join(root, 'dev/null'))).toMatchObject({ rdev: 0x103 });
    expect(lstatSync(join(root, 'passwd')).isSymbolicLink()).toBe(true);
    expect(lstatSync(join(root, 'up')).isSymbolicLink()).toBe(true);
    await store.removeRoot('kept');
  });

  test('a layer of 100,000 files', async () => {
    const { store } = await open();
    const many = Buffer.concat(Array.from({ length: 100_000 }, (_none, i) => tarMember({ name: `d${i % 100}/f${i}` })));
    const { id } = await store.importArchive(file(gzipSync(tarArchive(many), { level: 1 })), request);
    const root = await store.mountRoot('many', id);
    expect(readdirSync(join(root, 'd7'))).toHaveLength(1000);
    await store.removeRoot('many');
  }, 180_000);
});
