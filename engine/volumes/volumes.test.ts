import { execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import type { EngineEvent, Volume, Volumes } from '../types.ts';
import { bindSubpath, openVolumes, releaseSubpaths } from './index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-volumes-'));
let count = 0;
let dataRoot = '';
let volumes: Volumes;
/** Containers that have volumes, by the volume's name. */
let having: Record<string, string[]> = {};
const events: EngineEvent[] = [];

function open(): Promise<Volumes> {
  const onEvent = (event: EngineEvent): number => events.push(event);
  return openVolumes({
    dataRoot,
    spawner: directSpawner,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    onEvent,
    usedBy: (name) => having[name] ?? [],
    pluginDirectories: [join(base, 'plugins')],
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
  having = {};
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
  await volumes.release('vA', 'c1');
  // One that does not run has it still.
  having = { vA: ['c2', 'c3'] };
  await expect(volumes.remove('vA', true)).rejects.toThrow('remove vA: volume is in use - [c2, c3]');
  having = {};
  await volumes.remove('vA', false);
  expect(existsSync(volume.mountpoint)).toBe(false);
  expect(() => volumes.get('vA')).toThrow('get vA: no such volume');
  await expect(volumes.remove('vA', false)).rejects.toMatchObject({ code: 'NotFound' });
  await volumes.remove('vA', true);
  expect(events.map(({ action, actorId, attributes }) => [action, actorId, attributes])).toEqual([
    ['create', 'vA', { driver: 'local' }],
    ['destroy', 'vA', { driver: 'local' }],
  ]);
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
  // One who has it since before the restart keeps it mounted.
  const fourth = await open();
  fourth.retain('bound', 'c1');
  await fourth.acquire('bound', 'c2');
  await fourth.release('bound', 'c2');
  expect(existsSync(join(path, 'f'))).toBe(true);
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
  [request('ok', { size: '1g' }), 'quota size requested but no quota support'],
  [request('ok', { foo: 'x' }), 'invalid option: "foo"'],
  [request('ok', { type: 'nfs' }), 'missing required option: "device"'],
  [{ ...request('ok'), driver: 'nosuch' }, 'plugin "nosuch" not found'],
])('refuses %j', async (bad, words) => {
  await expect(volumes.create(bad)).rejects.toThrow(words);
  expect(volumes.list()).toEqual([]);
});

test.each([
  [{ type: 'nfs', device: ':/export', o: 'ro' }, 'mount.nfs is not installed on this host: install nfs-common'],
  [{ type: 'nfs', device: ':/export', o: 'addr=no-such-host.invalid' }, 'no-such-host.invalid'],
  [{ type: 'nosuchfs', device: '/dev/null' }, 'failed to mount local volume: mount: '],
])('a mount of %j says what is missing', async (options, words) => {
  await volumes.create(request('remote', options));
  await expect(volumes.acquire('remote', 'c1')).rejects.toThrow(words);
  await volumes.remove('remote', false);
});

test('a mount that fails says so and leaves the volume unused', async () => {
  await volumes.create(request('bad', { type: 'none', o: 'bind', device: join(base, 'missing') }));
  await expect(volumes.acquire('bad', 'c1')).rejects.toThrow(
    `error while mounting volume '${volumes.get('bad').mountpoint}': failed to mount local volume: mount: `,
  );
  expect(volumes.usersOf('bad')).toEqual([]);
  await volumes.remove('bad', false);
});

test('filling an empty volume keeps owners, modes and links, and happens once', async () => {
  const from = join(base, `root-${count}`);
  mkdirSync(from, { mode: 0o750 });
  chownSync(from, 1234, 1234);
  writeFileSync(join(from, 'f'), 'from the image', { mode: 0o4755 });
  symlinkSync('/elsewhere', join(from, 'link'));
  execFileSync('setfattr', ['-n', 'user.a', '-v', 'b', join(from, 'f')]);
  const { mountpoint } = await volumes.create(request('filled'));
  await volumes.acquire('filled', 'c1');
  await volumes.fill('filled', from);
  const info = statSync(join(mountpoint, 'f'));
  expect([readFileSync(join(mountpoint, 'f'), 'utf8'), info.mode & 0o7777]).toEqual(['from the image', 0o4755]);
  expect([statSync(mountpoint).uid, statSync(mountpoint).mode & 0o777]).toEqual([1234, 0o750]);
  expect(readlinkSync(join(mountpoint, 'link'))).toBe('/elsewhere');
  expect(execFileSync('getfattr', ['-n', 'user.a', join(mountpoint, 'f')], { encoding: 'utf8' })).toContain('"b"');
  writeFileSync(join(mountpoint, 'f'), 'mine');
  await volumes.fill('filled', from);
  expect(readFileSync(join(mountpoint, 'f'), 'utf8')).toBe('mine');
  expect(await volumes.sizeOf('filled')).toBe(4 + '/elsewhere'.length);
});

test('prune takes what nobody has: the unnamed, or all; never what is mounted from elsewhere', async () => {
  const anonymous = await volumes.create(request(''));
  writeFileSync(join(anonymous.mountpoint, 'f'), '12345');
  const kept = await volumes.create(request(''));
  having = { [kept.name]: ['c1'] };
  await volumes.create({ ...request('named'), labels: { keep: '1' } });
  await volumes.create(request('other'));
  await volumes.create(request('mem', { type: 'tmpfs', device: 'tmpfs' }));
  const all = { all: false, matches: () => true };
  expect(await volumes.prune(all)).toEqual({ deleted: [anonymous.name], reclaimedBytes: 5 });
  expect(events.at(-1)).toMatchObject({ action: 'prune', attributes: { reclaimed: '5' } });
  const unkept = { all: true, matches: (volume: Volume) => volume.labels['keep'] === undefined };
  expect((await volumes.prune(unkept)).deleted).toEqual(['other']);
  await volumes.create(request(''));
  const both = await Promise.allSettled([volumes.prune(all), volumes.prune(all)]);
  expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
});

describe('a part of a volume', () => {
  let root = '';
  let place = '';
  beforeEach(async () => {
    root = (await volumes.create(request('parts'))).mountpoint;
    place = join(dataRoot, 'places/c1');
    mkdirSync(join(root, 'a/b'), { recursive: true });
    writeFileSync(join(root, 'a/b/f'), 'inside');
  });
  afterEach(() => releaseSubpaths(place));

  test('is bound, links inside followed, and taken down with its files kept', () => {
    symlinkSync('a/../a/b', join(root, 'short'));
    expect(readFileSync(join(bindSubpath(root, 'short', place, 0), 'f'), 'utf8')).toBe('inside');
    expect(readFileSync(bindSubpath(root, 'a/b/f', place, 1), 'utf8')).toBe('inside');
    releaseSubpaths(place);
    releaseSubpaths(place);
    expect([existsSync(place), readFileSync(join(root, 'a/b/f'), 'utf8')]).toEqual([false, 'inside']);
  });

  test.each([
    ['../x', 'must be a relative path'],
    ['/etc', 'must be a relative path'],
    ['a/../../x', 'must be a relative path'],
    ['out', 'escapes the volume'],
    ['up/x', 'escapes the volume'],
    ['loop', 'too many levels of symbolic links'],
    ['missing/x', 'no such file or directory'],
  ])('%s is refused', (subpath, words) => {
    symlinkSync('/etc', join(root, 'out'));
    symlinkSync('a/../..', join(root, 'up'));
    symlinkSync('loop', join(root, 'loop'));
    expect(() => bindSubpath(root, subpath, place, 0)).toThrow(words);
  });

  test('never leads out while somebody swaps directories for links', async () => {
    const swapper = spawn('sh', ['-c', 'while :; do mv a c; ln -s / a; rm a; mv c a; done'], { cwd: root });
    const etc = statSync('/').ino;
    const outcomes = new Set<string>();
    try {
      for (let i = 0; i < 300; i++) {
        if (i % 20 === 0) await systemClock.sleep(5);
        try {
          const bound = bindSubpath(root, 'a', place, 0);
          outcomes.add(statSync(bound).ino === etc ? 'out' : 'inside');
        } catch (error) {
          outcomes.add(/escapes|changes while|no such file/.test(String(error)) ? 'refused' : String(error));
        }
      }
    } finally {
      swapper.kill('SIGKILL');
    }
    expect([...outcomes].filter((outcome) => outcome !== 'inside' && outcome !== 'refused')).toEqual([]);
    expect(outcomes).toContain('inside');
  });
});
