import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Engine } from '../engine.ts';
import type { MountRequest } from '../types.ts';
import { config, logText, runToEnd, type Fixture } from './fixture.ts';
import { useFixture } from './use-fixture.ts';
import { imageRootId, imageUsers } from './image-mounts.ts';

let fixture: Fixture;
let engine: Engine;
useFixture((made, ours) => {
  fixture = made;
  engine = ours;
});

const image = (target: string, more: Partial<MountRequest> = {}): MountRequest => ({
  ...{ type: 'image', source: 'busybox', target, readOnly: false },
  ...more,
});
const mounted = (path: string): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);
const remove = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });

test('an image is mounted read-only, whole and in part, told of, and taken down with the container', async () => {
  const mounts = [
    image('/whole'),
    image('/part', { imageSubpath: 'data' }),
    image('/file', { imageSubpath: 'data/seed' }),
  ];
  const script = 'cat /whole/data/seed /part/seed /file; echo x > /whole/new; echo x > /part/seed; mkdir /whole/bin/d';
  const { id, out, err } = await runToEnd(engine, ['sh', '-c', script], { mounts });
  expect(out).toBe('from the image\n'.repeat(3));
  expect(err.match(/Read-only file system/g)).toHaveLength(3);
  const shown = engine.containers.inspect(id).mounts;
  const common = { type: 'image', name: 'busybox', readOnly: true, propagation: 'rprivate' };
  expect(shown).toMatchObject(['/whole', '/part', '/file'].map((destination) => ({ ...common, destination })));
  const root = join(fixture.base, 'roots', imageRootId(id, '/whole'));
  expect([existsSync(root), mounted(join(root, 'merged'))]).toEqual([true, false]);
  expect(imageUsers(engine.containers.list(), fixture.images.image.id)).toEqual([id]);
  await engine.containers.start(id);
  await engine.containers.wait(id, 'not-running', new AbortController().signal);
  expect((await logText(engine, id)).out).toBe('from the image\n'.repeat(6));
  await remove(id);
  expect(existsSync(root)).toBe(false);
});

test('what cannot be is refused in words', async () => {
  const refused = async (mount: MountRequest, words: string): Promise<void> => {
    await expect(engine.containers.create(config({ mounts: [mount] }))).rejects.toThrow(words);
  };
  const invalid = 'invalid mount config for type "image": ';
  await refused(image('/x', { source: '' }), `${invalid}field Source must not be empty`);
  await refused(image('/x', { source: 'nope' }), 'No such image: nope');
  for (const imageSubpath of ['../x', '/data', 'data/../../x']) {
    await refused(image('/x', { imageSubpath }), `${invalid}subpath must be a relative path within the volume`);
  }
  const { id } = await engine.containers.create(
    config({ cmd: ['true'], mounts: [image('/x', { imageSubpath: 'no' })] }),
  );
  await expect(engine.containers.start(id)).rejects.toThrow('no such file or directory');
  expect(mounted(join(fixture.base, 'roots', imageRootId(id, '/x'), 'merged'))).toBe(false);
  await remove(id);
});

test('--volumes-from takes mounts of images too, and a restarted daemon knows them', async () => {
  const first = await engine.containers.create(
    config({ cmd: ['sleep', '1000'], mounts: [image('/x')], name: 'first' }),
  );
  await engine.containers.start(first.id);
  const second = await runToEnd(engine, ['cat', '/x/data/seed'], { volumesFrom: ['first'] });
  expect(second.out).toBe('from the image\n');
  await engine.shutdown();
  engine = await fixture.open();
  const root = join(fixture.base, 'roots', imageRootId(first.id, '/x'), 'merged');
  expect([engine.containers.inspect(first.id).state, mounted(root)]).toEqual(['running', true]);
  const never = new AbortController().signal;
  const request = { command: ['cat', '/x/data/seed'], env: [], privileged: false };
  expect((await engine.containers.exec(first.id, request, never)).exitCode).toBe(0);
  await Promise.all([first.id, second.id].map(remove));
  expect(mounted(root)).toBe(false);
});
