import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import type { Engine } from '../engine.ts';
import { config, makeFixture, runToEnd, type Fixture } from '../containers/fixture.ts';
import { openImages, type ImageStore } from '../images/index.ts';
import { makeBusyboxArchive } from '../testing/busybox.ts';
import type { EngineEvent } from '../types.ts';
import { mergeConfig } from './commit.ts';
import { buildHelper, removeHelper } from './testing.ts';

const options = { repository: '', tag: '', author: '', comment: '', changes: [], pause: false };

/** What a container has done to its files: everything that a layer must be able to say. */
const SCRIPT = `
  mkdir /made; echo new >/made/file; ln /made/file /made/hard; ln -s ../etc /made/link; chmod 4755 /made/file
  rm /bin/yes; rm -r /home; mkdir /home; echo again >/home/x
  rm -r /var/log; echo 'a file now' >/var/log
  rm /etc/nsswitch.conf; mkdir /etc/nsswitch.conf; echo in >/etc/nsswitch.conf/in
  mv /usr /moved; echo x >>/etc/passwd; chown 12:34 /root; touch -d '2001-01-01 00:00' /made/file
  mkfifo /made/pipe; printf '' >/made/empty`;

const EXPECTED = [
  ...[
    'C /bin',
    'D /bin/yes',
    'C /etc',
    'C /etc/nsswitch.conf',
    'A /etc/nsswitch.conf/in',
    'C /etc/passwd',
    'C /home',
    'A /home/x',
  ],
  ...['A /made', 'A /made/empty', 'A /made/file', 'A /made/hard', 'A /made/link', 'A /made/pipe'],
  ...['A /moved', 'A /moved/bin', 'C /root', 'C /var', 'C /var/log', 'D /usr'],
];

describe.each(['overlay2', 'vfs'] as const)('containers and images with %s', (storageDriver) => {
  const base = mkdtempSync(join(tmpdir(), 'shoal-commit-'));
  const events: EngineEvent[] = [];
  let fixture: Fixture;
  let engine: Engine;
  let images: ImageStore;

  beforeAll(async () => {
    const common = { dataRoot: join(base, 'store'), spawner: directSpawner, clock: systemClock, random: systemRandom };
    mkdirSync(common.dataRoot);
    images = await openImages({
      ...common,
      log: silentLogger,
      registries: { insecure: [], mirrors: [] },
      onEvent: (event) => events.push(event),
      usedBy: (id) =>
        engine.containers
          .list()
          .filter((c) => c.imageId === id)
          .map((c) => c.id),
      isRunning: (id) => engine.containers.inspect(id).state === 'running',
      storageDriver,
    });
    const archive = join(base, 'busybox.tar');
    makeBusyboxArchive(archive);
    const message = 'Imported from -';
    await images.importArchive(archive, {
      repository: 'busybox',
      tag: '',
      message,
      changes: ['CMD ["sh"]', 'ENV A=1'],
    });
    fixture = makeFixture(undefined, {}, { images, fileHelper: await buildHelper() });
    engine = await fixture.open();
  });
  afterAll(async () => {
    await engine.shutdown();
    await fixture.destroy();
    await images.close();
    removeHelper();
    rmSync(base, { recursive: true, force: true });
  });

  const end = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });

  /** All of a container's tree that a test can compare. */
  async function treeOf(id: string, imageId: string): Promise<string> {
    const root = await images.mountRoot(id, imageId);
    // How many names a directory has is overlayfs' own affair.
    const print = ['.', '-type', 'd', '-printf', '%p %M %U:%G\\n', '-o', '-printf', '%p %M %U:%G %l %n\\n'];
    const text = execFileSync('find', print, { cwd: root }).toString();
    const rest = execFileSync('sh', ['-c', 'find . -type f -exec sha256sum {} +'], { cwd: root }).toString();
    await images.unmountRoot(id);
    const made = /^\.\/(etc\/(hosts|hostname|resolv.conf)|dev\/.*|proc|sys) /;
    const lines = [...text.split('\n'), ...rest.split('\n').map((line) => line.replace(/^(\S+) {2}(.*)$/, '$2 $1'))];
    return lines
      .filter((line) => !made.test(line))
      .sort()
      .join('\n');
  }

  it('tell what has changed, and keep it in an image that brings the same files back', async () => {
    const { id } = await runToEnd(engine, ['sh', '-c', SCRIPT], { env: ['B=2'], labels: { l: '1' } });
    const kinds = ['C', 'A', 'D'];
    const changes = (await engine.files.changes(id)).map(({ path, kind }) => `${kinds[kind]} ${path}`);
    expect(changes.filter((line) => !/^. \/(moved|usr)\/bin\/./.test(line)).sort()).toEqual([...EXPECTED].sort());
    expect(changes.indexOf('C /etc')).toBeLessThan(changes.indexOf('C /etc/passwd'));
    const image = await engine.files.commit(id, {
      ...{ repository: 'made', tag: 'one', author: 'me', comment: 'because', pause: true },
      changes: ['CMD ["cat", "/made/file"]', 'ENV A=3', 'EXPOSE 80'],
    });
    const parent = images.get('busybox');
    expect(image).toMatchObject({ repoTags: ['made:one'], author: 'me', comment: 'because', parentId: parent.id });
    expect(image.config).toMatchObject({ Cmd: ['cat', '/made/file'], Env: ['B=2', 'A=3'], Labels: { l: '1' } });
    expect(image.history.at(-1)).toMatchObject({ created_by: `sh -c ${SCRIPT}`, comment: 'because' });
    expect(image.history[0]).toMatchObject({ comment: 'Imported from -' });
    expect(image.diffIds).toEqual([parent.diffIds[0], expect.stringMatching(/^sha256:/)]);
    expect(image.taggedMs).toBeGreaterThan(0);
    const again = await runToEnd(engine, ['true'], { image: 'made:one' });
    expect(await treeOf(again.id, image.id)).toBe(await treeOf(id, parent.id));
    expect(await engine.files.changes(again.id)).toEqual([]);
    const file = await runToEnd(engine, ['cat', '/made/hard'], { image: 'made:one' });
    expect(file.out).toBe('new\n');
    for (const one of [id, again.id, file.id]) await end(one);
    await images.remove('made:one', { force: false });
  });

  it('may be committed with nothing changed: the image has no layer of its own', async () => {
    const { id } = await engine.containers.create(config({ image: 'busybox', name: 'idle' }));
    const image = await engine.files.commit('idle', { ...options, repository: 'same' });
    expect(image.diffIds).toEqual(images.get('busybox').diffIds);
    expect(image.history.at(-1)?.empty_layer).toBe(true);
    await images.remove('same', { force: false });
    await end(id);
  });

  it('are not removed while others stand on them; what nothing needs goes with its last child', async () => {
    const { id } = await runToEnd(engine, ['touch', '/one'], { image: 'busybox' });
    const first = await engine.files.commit(id, { ...options, repository: 'first' });
    const next = await runToEnd(engine, ['touch', '/two'], { image: 'first' });
    const second = await engine.files.commit(next.id, { ...options, repository: 'second' });
    for (const one of [id, next.id]) await end(one);
    await expect(images.remove(first.id, { force: true })).rejects.toThrow(
      `conflict: unable to delete ${first.id.slice(7, 19)} (cannot be forced) - image has dependent child images`,
    );
    expect(await images.remove('first', { force: false })).toEqual({ untagged: ['first:latest'], deleted: [] });
    expect((await images.prune({ danglingOnly: true, passes: () => true })).deleted).toEqual([]);
    const { deleted } = await images.remove('second', { force: false });
    expect(deleted).toContain(first.id);
    expect(deleted[0]).toBe(second.id);
    expect(images.list().map(({ repoTags }) => repoTags)).toEqual([['busybox:latest']]);
  });

  it('are pruned by name, use and age', async () => {
    const { id } = await runToEnd(engine, ['sh', '-c', 'echo 12345 >/five'], { image: 'busybox' });
    const nameless = await engine.files.commit(id, { ...options, changes: ['LABEL keep=1'] });
    await engine.files.commit(id, { ...options, repository: 'named' });
    expect(images.diskUse().sharedBytes.get(nameless.id)).toBe(nameless.sizeBytes);
    expect((await images.prune({ danglingOnly: true, passes: () => false })).deleted).toEqual([]);
    const some = await images.prune({ danglingOnly: true, passes: () => true });
    expect(some.deleted).toEqual([nameless.id]);
    const all = await images.prune({ danglingOnly: false, passes: () => true });
    expect(all.untagged).toEqual(['named:latest']);
    expect(all.reclaimedBytes).toBe(6);
    expect(images.list()).toHaveLength(1);
    expect(events.findLast(({ action }) => action === 'prune')?.attributes).toEqual({ reclaimed: '6' });
    await end(id);
  });

  it('have sizes', async () => {
    const { id } = await runToEnd(engine, ['sh', '-c', 'head -c 5000 /dev/zero >/f; ln /f /g'], { image: 'busybox' });
    const { sizeBytes } = images.get('busybox');
    expect((await engine.files.sizes([id])).get(id)).toEqual({ rw: 5000, rootFs: sizeBytes + 5000 });
    await end(id);
  });

  it('leave nothing mounted and nothing behind', () => {
    expect(readdirSync(join(fixture.base, 'run/copy'))).toEqual(['view']);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(`${base}/`);
    const left = join(base, 'store/image/tmp');
    expect(existsSync(left) ? readdirSync(left) : []).toEqual([]);
    expect(lstatSync(base).isDirectory() && statSync(base).nlink).toBeGreaterThan(0);
  });
});

describe('settings of a commit', () => {
  it("are the container's where nothing else was said", () => {
    const own = { Env: ['A=1', 'B=2'], Cmd: ['own'], Entrypoint: ['e'], Labels: { a: '1', b: '2' }, User: 'u' };
    expect(mergeConfig({ Env: ['B=3'], Labels: { b: '3' }, Entrypoint: ['x'] }, own)).toEqual({
      ...{ Env: ['B=3', 'A=1'], Entrypoint: ['x'], Labels: { a: '1', b: '3' }, User: 'u' },
    });
    expect(mergeConfig({}, own)).toEqual(own);
  });
});
