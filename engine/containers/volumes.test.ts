import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mkdirSync } from 'node:fs';
import type { Engine } from '../engine.ts';
import type { MountRequest } from '../types.ts';
import { config, makeFixture, runToEnd, until } from './fixture.ts';

const fixture = makeFixture();
let engine: Engine;
beforeAll(async () => {
  engine = await fixture.open();
});
afterAll(async () => {
  await engine.shutdown();
  await fixture.destroy();
});

const volume = (source: string, target: string, more: Partial<MountRequest> = {}): MountRequest => ({
  type: 'volume',
  source,
  target,
  readOnly: false,
  ...more,
});
const mounted = (path: string): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);

test('a volume is filled from the image unless told otherwise, and a container that ended keeps it from removal', async () => {
  const mounts = [volume('filled', '/data'), volume('empty', '/data2'), volume('', '/anonymous')];
  mounts.push(volume('nocopy', '/bin/x', { noCopy: true }));
  const { id, out } = await runToEnd(engine, ['sh', '-c', 'cat /data/seed; ls /data2 /anonymous'], { mounts });
  expect(out).toContain('from the image\n');
  const names = engine.containers.inspect(id).mounts.map((mount) => mount.name ?? '');
  const anonymous = fixture.volumes().get(names[2] ?? '');
  expect(anonymous.anonymous).toBe(true);
  const inUse = `remove filled: volume is in use - [${id}]`;
  await expect(fixture.volumes().remove('filled', false)).rejects.toThrow(inUse);
  expect((await fixture.volumes().prune({ all: true, matches: () => true })).deleted).toEqual([]);
  await engine.containers.remove(id, { force: false, volumes: true });
  expect(() => fixture.volumes().get(anonymous.name)).toThrow('no such volume');
  const { deleted } = await fixture.volumes().prune({ all: true, matches: () => true });
  expect(deleted.sort()).toEqual(['empty', 'filled', 'nocopy']);
});

test('a part of a volume is mounted alone, and is taken down with the container', async () => {
  const { mountpoint } = await fixture.volumes().create({ name: 'parts', driver: '', labels: {}, options: {} });
  mkdirSync(join(mountpoint, 'a/b'), { recursive: true });
  writeFileSync(join(mountpoint, 'a/b/f'), 'inside\n');
  const mounts = [volume('parts', '/p', { volumeSubpath: 'a/b' }), volume('parts', '/q')];
  const { id, out } = await runToEnd(engine, ['sh', '-c', 'cat /p/f; ls /p; ls /q; echo new > /p/g'], { mounts });
  expect(out).toBe('inside\nf\na\n');
  expect(readFileSync(join(mountpoint, 'a/b/g'), 'utf8')).toBe('new\n');
  expect(existsSync(join(fixture.base, 'run/subpaths', id))).toBe(false);
  const { id: bad } = await engine.containers.create(
    config({ cmd: ['true'], mounts: [volume('parts', '/p', { volumeSubpath: 'nowhere' })] }),
  );
  await expect(engine.containers.start(bad)).rejects.toThrow('no such file or directory');
  for (const one of [id, bad]) await engine.containers.remove(one, { force: true, volumes: true });
  await fixture.volumes().remove('parts', false);
});

test('a tmpfs volume lives as long as one has it, over a restart of the daemon', async () => {
  const options = { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' };
  const { mountpoint } = await fixture.volumes().create({ name: 'mem', driver: '', labels: {}, options });
  const mounts = [volume('mem', '/m')];
  const ids: string[] = [];
  for (const cmd of [
    ['sh', '-c', 'echo kept > /m/f; sleep 600'],
    ['sleep', '600'],
  ]) {
    const { id } = await engine.containers.create(config({ cmd, mounts }));
    await engine.containers.start(id);
    ids.push(id);
  }
  await until(() => existsSync(join(mountpoint, 'f')), 'the file is written');
  await engine.shutdown();
  engine = await fixture.open();
  await engine.containers.remove(ids[0] ?? '', { force: true, volumes: true });
  expect(readFileSync(join(mountpoint, 'f'), 'utf8')).toBe('kept\n');
  await engine.containers.stop(ids[1] ?? '', { graceMs: 0 });
  await until(() => !mounted(mountpoint), 'the volume is unmounted');
  await engine.containers.remove(ids[1] ?? '', { force: true, volumes: true });
  await fixture.volumes().remove('mem', false);
});

test('what is wrong with a volume of a container is told with its name', async () => {
  const create = (source: string, more: Partial<MountRequest> = {}): Promise<unknown> =>
    engine.containers.create(config({ mounts: [volume(source, '/x', more)] }));
  await expect(create('rel/path')).rejects.toThrow('create rel/path: "rel/path" includes invalid characters');
  await expect(create('v')).rejects.toThrow('create v: volume name is too short');
  await expect(create('vv', { volumeDriver: 'none-such' })).rejects.toThrow(
    'create vv: error looking up volume plugin',
  );
});

test('a place is the same with a slash at its end', async () => {
  const mounts = [volume('slash', '/x'), volume('other', '/x/')];
  await expect(engine.containers.create(config({ mounts }))).rejects.toThrow('Duplicate mount point: /x');
  const one = { mounts: [volume('slash', '/x//y/')], volumes: ['/x/y'] };
  const { id, out } = await runToEnd(engine, ['grep', '-c', ' /x/y ', '/proc/mounts'], one);
  expect(out).toBe('1\n');
  expect(engine.containers.inspect(id).mounts).toMatchObject([{ name: 'slash', destination: '/x/y' }]);
  await engine.containers.remove(id, { force: true, volumes: true });
  await fixture.volumes().remove('slash', false);
});
