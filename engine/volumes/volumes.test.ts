import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import type { EngineEvent } from '../types.ts';
import { openVolumes, type VolumeStore } from './index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-volumes-'));
let count = 0;
let dataRoot = '';
let volumes: VolumeStore;
const events: EngineEvent[] = [];

function open(): Promise<VolumeStore> {
  const onEvent = (event: EngineEvent): number => events.push(event);
  return openVolumes({
    dataRoot,
    spawner: directSpawner,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    onEvent,
  });
}

const request = (name: string, options: Record<string, string> = {}) => ({
  name,
  driver: 'local',
  labels: {},
  options,
});

beforeEach(async () => {
  dataRoot = join(base, `data-${++count}`);
  volumes = await open();
  events.length = 0;
});

afterAll(() => rmSync(base, { recursive: true, force: true }));

test('create, use, refuse removal, release, remove', async () => {
  const volume = await volumes.create({ ...request('vA'), labels: { a: 'b' } });
  expect(volume).toMatchObject({ name: 'vA', driver: 'local', labels: { a: 'b' }, anonymous: false });
  expect(await volumes.create(request('vA'))).toBe(volume);
  expect(await volumes.acquire('vA', 'c1')).toBe(volume.mountpoint);
  await volumes.acquire('vA', 'c1');
  await volumes.release('vA', 'c1');
  await expect(volumes.remove('vA', false)).rejects.toThrow('remove vA: volume is in use - [c1]');
  await volumes.release('vA', 'c1');
  await volumes.remove('vA', false);
  expect(existsSync(volume.mountpoint)).toBe(false);
  expect(() => volumes.get('vA')).toThrow('get vA: no such volume');
  await expect(volumes.remove('vA', false)).rejects.toMatchObject({ code: 'NotFound' });
  await volumes.remove('vA', true);
  expect(events.map((event) => event.action)).toEqual(['create', 'destroy']);
});

test('a restart keeps volumes and their data, and clears what a crash left', async () => {
  await volumes.create({ ...request('kept', { type: 'tmpfs', device: 'tmpfs' }), labels: { x: 'y' } });
  const anonymous = await volumes.create(request(''));
  expect(anonymous.name).toMatch(/^[0-9a-f]{64}$/);
  writeFileSync(join(anonymous.mountpoint, 'f'), '1');
  mkdirSync(join(dataRoot, 'volumes/.tmp-1/_data'), { recursive: true });
  mkdirSync(join(dataRoot, 'volumes/foreign/_data'), { recursive: true });
  const again = await open();
  expect(
    again
      .list()
      .map((v) => v.name)
      .sort(),
  ).toEqual([anonymous.name, 'foreign', 'kept'].sort());
  expect(again.get('kept')).toMatchObject({ labels: { x: 'y' }, options: { type: 'tmpfs', device: 'tmpfs' } });
  expect(again.get(anonymous.name).anonymous).toBe(true);
  expect(readFileSync(join(anonymous.mountpoint, 'f'), 'utf8')).toBe('1');
  expect(existsSync(join(dataRoot, 'volumes/.tmp-1'))).toBe(false);
});

test('a bind volume is mounted while it is used, and removing it leaves the source alone', async () => {
  const source = join(base, `source-${count}`);
  mkdirSync(source);
  writeFileSync(join(source, 'f'), 'precious');
  await volumes.create(request('bound', { type: 'none', o: 'bind,ro', device: source }));
  const path = await volumes.acquire('bound', 'c1');
  expect(readFileSync(join(path, 'f'), 'utf8')).toBe('precious');
  expect(() => writeFileSync(join(path, 'g'), '')).toThrow('EROFS');
  // As after a crash: mounted, but nobody holds it.
  const again = await open();
  await again.acquire('bound', 'c1');
  await again.release('bound', 'c1');
  expect(existsSync(join(path, 'f'))).toBe(false);
  await again.acquire('bound', 'c1');
  const third = await open();
  await third.remove('bound', false);
  expect(readFileSync(join(source, 'f'), 'utf8')).toBe('precious');
});

test('a tmpfs volume', async () => {
  await volumes.create(request('mem', { type: 'tmpfs', o: 'size=1m', device: 'tmpfs' }));
  const path = await volumes.acquire('mem', 'c1');
  expect(execFileSync('findmnt', ['-n', '-o', 'FSTYPE,SIZE', path], { encoding: 'utf8' }).trim()).toMatch(
    /^tmpfs\s+1M$/,
  );
  await volumes.release('mem', 'c1');
  await volumes.remove('mem', false);
});

test.each([
  [request('a'), 'volume name is too short'],
  [request('a/b'), 'includes invalid characters for a local volume name'],
  [request('..'), 'includes invalid characters'],
  [request('ok', { foo: 'x' }), 'invalid option: "foo"'],
  [request('ok', { type: 'nfs' }), 'missing required option: "device"'],
  [{ ...request('ok'), driver: 'nosuch' }, 'plugin "nosuch" not found'],
])('refuses %j', async (bad, words) => {
  await expect(volumes.create(bad)).rejects.toThrow(words);
  expect(volumes.list()).toEqual([]);
});

test('a mount that fails says so and leaves the volume unused', async () => {
  await volumes.create(request('bad', { type: 'none', o: 'bind', device: join(base, 'missing') }));
  await expect(volumes.acquire('bad', 'c1')).rejects.toThrow('failed to mount local volume bad');
  expect(volumes.usersOf('bad')).toEqual([]);
  await volumes.remove('bad', false);
});

test('copyUp fills an empty volume from the image, links kept inside its root', async () => {
  const root = join(base, `root-${count}`);
  mkdirSync(join(root, 'real/data'), { recursive: true });
  chownSync(join(root, 'real/data'), 1234, 1234);
  writeFileSync(join(root, 'real/data/f'), 'from the image');
  symlinkSync('/real/data', join(root, 'data'));
  symlinkSync('../../../../../../../etc', join(root, 'out'));
  const { mountpoint } = await volumes.create(request('filled'));
  await volumes.copyUp(root, '/out', mountpoint);
  await volumes.copyUp(root, '/data', mountpoint);
  expect(readFileSync(join(mountpoint, 'f'), 'utf8')).toBe('from the image');
  expect(statSync(mountpoint).uid).toBe(1234);
  writeFileSync(join(mountpoint, 'f'), 'mine');
  await volumes.copyUp(root, '/data', mountpoint);
  expect(readFileSync(join(mountpoint, 'f'), 'utf8')).toBe('mine');
});
