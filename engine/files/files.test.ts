import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../engine.ts';
import { config, makeFixture, runToEnd, type Fixture } from '../containers/fixture.ts';
import { isMountPoint } from '../storage/index.ts';
import { buildHelper, removeHelper } from './testing.ts';

const here = mkdtempSync(join(tmpdir(), 'shoal-files-'));
let fixture: Fixture;
let engine: Engine;
let count = 0;

beforeAll(async () => {
  const fileHelper = await buildHelper();
  fixture = makeFixture(undefined, {}, { fileHelper });
  engine = await fixture.open();
});
afterAll(async () => {
  await engine.shutdown();
  await fixture.destroy();
  removeHelper();
  rmSync(here, { recursive: true, force: true });
});

/** A tree made by `make`, as an archive of GNU tar. */
function tree(make: (root: string) => void, ...options: string[]): Buffer {
  const root = join(here, `tree-${++count}`);
  mkdirSync(root);
  make(root);
  const names = readdirSync(root);
  return execFileSync('tar', ['-C', root, '-cf', '-', '--xattrs', ...options, ...names], { maxBuffer: 2 ** 28 });
}

const plain = { noOverwriteDirNonDir: false, copyUidGid: false };

async function put(id: string, path: string, archive: Uint8Array, options = plain): Promise<void> {
  await engine.files.write(id, path, Readable.from([archive]), options);
}

async function bytes(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function get(id: string, path: string): Promise<Buffer> {
  return await bytes((await engine.files.read(id, path)).archive);
}

/** Unpacks on the host; gives the directory. */
function unpacked(archive: Buffer): string {
  const root = join(here, `out-${++count}`);
  mkdirSync(root);
  execFileSync('tar', ['-C', root, '-xpf', '-', '--xattrs', '--numeric-owner'], { input: archive });
  return root;
}

const listed = (archive: Buffer): string[] =>
  execFileSync('tar', ['-tf', '-'], { input: archive }).toString().trimEnd().split('\n');

async function created(more = {}): Promise<string> {
  return (await engine.containers.create(config({ cmd: ['sleep', '1000'], ...more }))).id;
}

async function running(more = {}): Promise<string> {
  const id = await created(more);
  await engine.containers.start(id);
  return id;
}

async function shell(id: string, script: string): Promise<string> {
  const request = { command: ['sh', '-c', script], env: [], privileged: false };
  const { stdout, stderr } = await engine.containers.exec(id, request, AbortSignal.timeout(20_000));
  return Buffer.concat([stdout, stderr]).toString('utf8');
}

const end = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });

describe.each(['running', 'never started'] as const)('files of a container that is %s', (kind) => {
  it('come back as they went in: modes, owners, times, links, attributes, odd names, holes', async () => {
    const id = await (kind === 'running' ? running() : created());
    const long = 'n'.repeat(120);
    const archive = tree((root) => {
      mkdirSync(join(root, 'd/e'), { recursive: true });
      writeFileSync(join(root, 'd/file'), 'content', { mode: 0o640 });
      writeFileSync(join(root, 'd/empty'), '');
      writeFileSync(join(root, `d/${long}`), 'long name');
      writeFileSync(Buffer.concat([Buffer.from(`${root}/d/odd-`), Buffer.from([0xff, 0xe9])]), 'odd name');
      symlinkSync('../../outside', join(root, 'd/link'));
      execFileSync('sh', ['-c', 'ln file hard; truncate -s 3M holes; printf end >>holes; mkfifo pipe'], {
        cwd: join(root, 'd'),
      });
      execFileSync('chown', ['1234:2345', join(root, 'd/file')]);
      execFileSync('chmod', ['4711', join(root, 'd/hard')]);
      execFileSync('setfattr', ['-n', 'user.a', '-v', '0xff01', join(root, 'd/empty')]);
      execFileSync('touch', ['-d', '2001-02-03T04:05:06Z', join(root, 'd/empty'), join(root, 'd')]);
    }, '--sparse');
    await put(id, '/tmp', archive);
    const root = unpacked(await get(id, '/tmp/d'));
    const at = (name: string): string => join(root, 'd', name);
    expect(readFileSync(at('file'), 'utf8')).toBe('content');
    const file = statSync(at('file'));
    expect([file.mode & 0o7777, file.uid, file.gid, file.nlink]).toEqual([0o4711, 1234, 2345, 2]);
    expect(file.ino).toBe(statSync(at('hard')).ino);
    expect(readFileSync(at(long), 'utf8')).toBe('long name');
    expect(readFileSync(Buffer.concat([Buffer.from(`${root}/d/odd-`), Buffer.from([0xff, 0xe9])]), 'utf8')).toBe(
      'odd name',
    );
    expect(readlinkSync(at('link'))).toBe('../../outside');
    expect(lstatSync(at('pipe')).isFIFO()).toBe(true);
    expect(statSync(at('holes')).size).toBe(3 * 1024 * 1024 + 3);
    expect(readFileSync(at('holes')).subarray(-4).toString()).toBe('\0end');
    const value = execFileSync('getfattr', ['--only-values', '-n', 'user.a', at('empty')]);
    expect(value).toEqual(Buffer.from([0xff, 0x01]));
    expect(statSync(at('empty')).mtime.toISOString()).toBe('2001-02-03T04:05:06.000Z');
    expect(statSync(join(root, 'd')).mtime.toISOString()).toBe('2001-02-03T04:05:06.000Z');
    await end(id);
  });

  it('are seen in volumes and binds, at their places, also by links; read-only ones refuse', async () => {
    const bind = join(here, `bind-${++count}`);
    mkdirSync(bind);
    writeFileSync(join(bind, 'on-host'), 'host');
    const volume = `v${++count}`;
    const mounts = [
      { type: 'bind', source: bind, target: '/b', readOnly: true },
      { type: 'volume', source: volume, target: '/v/deep', readOnly: false },
    ];
    const id = await (kind === 'running' ? running({ mounts }) : created({ mounts }));
    expect(listed(await get(id, '/b'))).toEqual(['b/', 'b/on-host']);
    const one = tree((root) => writeFileSync(join(root, 'one'), '1'));
    await expect(put(id, '/b', one)).rejects.toThrow('mounted volume is marked read-only');
    await put(
      id,
      '/',
      tree((root) => symlinkSync('/v/deep', join(root, 'short'))),
    );
    await put(id, '/short', one);
    expect(readFileSync(join(fixture.base, `data/volumes/${volume}/_data/one`), 'utf8')).toBe('1');
    expect(existsSync(join(bind, 'one'))).toBe(false);
    await end(id);
  });

  it('are told by their facts in the words of Go', async () => {
    const id = await (kind === 'running' ? running() : created());
    await put(
      id,
      '/',
      tree((root) => {
        writeFileSync(join(root, 'f'), 'four', { mode: 0o600 });
        symlinkSync('tmp/../f', join(root, 'l'));
        symlinkSync('/gone/x', join(root, 'broken'));
      }),
    );
    expect(await engine.files.stat(id, 'f')).toMatchObject({ name: 'f', size: 4, mode: 0o600, linkTarget: '' });
    expect(await engine.files.stat(id, '/l')).toMatchObject({ mode: 2 ** 27 + 0o777, linkTarget: '/f' });
    expect(await engine.files.stat(id, '/broken')).toMatchObject({ linkTarget: '/gone/x' });
    expect((await engine.files.stat(id, '/tmp/')).mode).toBe(
      2 ** 31 + (statSync(fixture.base + '/image/tmp').mode & 0o777),
    );
    expect((await engine.files.stat(id, '/f')).mtime).toMatch(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
    await expect(engine.files.stat(id, '/no')).rejects.toThrow(`Could not find the file /no in container ${id}`);
    await expect(engine.files.read(id, '/f/x')).rejects.toThrow('/f/x: not a directory');
    await expect(put(id, '/no', gzipSync(Buffer.alloc(1024)))).rejects.toThrow('Could not find the file /no');
    await expect(put(id, '/f', Buffer.alloc(1024))).rejects.toThrow('extraction point is not a directory');
    await end(id);
  });
});

describe('archives', () => {
  it('come compressed in every way', async () => {
    const id = await created();
    const archive = tree((root) => writeFileSync(join(root, 'a'), 'x'.repeat(100_000)));
    const packed = {
      gzip: gzipSync(archive),
      bzip2: execFileSync('bzip2', ['-c'], { input: archive }),
      xz: execFileSync('xz', ['-c'], { input: archive }),
      zstd: execFileSync('zstd', ['-cq'], { input: archive }),
    };
    for (const [name, data] of Object.entries(packed)) {
      await put(id, '/data', data);
      expect([name, (await engine.files.stat(id, '/data/a')).size]).toEqual([name, 100_000]);
    }
    await expect(put(id, '/data', packed.gzip.subarray(0, 60))).rejects.toThrow(/damaged gzip data|unexpected EOF/);
    expect(readdirSync(join(fixture.base, 'run/copy'))).toEqual(['view']);
    await end(id);
  });

  it('do not replace a directory by a file when told not to, and do otherwise', async () => {
    const id = await created();
    const file = tree((root) => writeFileSync(join(root, 'data'), 'a file'));
    await expect(put(id, '/', file, { ...plain, noOverwriteDirNonDir: true })).rejects.toThrow(
      'cannot overwrite directory "/data" with non-directory "/"',
    );
    expect((await engine.files.stat(id, '/data/seed')).size).toBe(15);
    await put(id, '/', file);
    expect((await engine.files.stat(id, '/data')).size).toBe(6);
    await end(id);
  });

  it('belong to the user of the container when asked', async () => {
    const id = await created({ user: 'web' });
    const file = tree((root) => writeFileSync(join(root, 'mine'), ''));
    await put(id, '/tmp', file, { ...plain, copyUidGid: true });
    const { uid, gid } = statSync(join(unpacked(await get(id, '/tmp/mine')), 'mine'));
    expect([uid, gid]).toEqual([1000, 1001]);
    await end(id);
  });

  it('cannot be written into a read-only root, and can into its volume', async () => {
    const mounts = [{ type: 'volume', source: `v${++count}`, target: '/v', readOnly: false }];
    const one = tree((root) => writeFileSync(join(root, 'one'), '1'));
    for (const id of [
      await created({ readOnlyRootfs: true, mounts }),
      await running({ readOnlyRootfs: true, mounts }),
    ]) {
      await expect(put(id, '/tmp', one)).rejects.toThrow('container rootfs is marked read-only');
      await put(id, '/v', one);
      expect((await engine.files.stat(id, '/v/one')).size).toBe(1);
      await end(id);
    }
  });
});

describe('hostile archives and containers', () => {
  const secret = join(here, 'secret');
  const outside = join(here, 'outside');

  it('never reach the host', async () => {
    const id = await created();
    writeFileSync(secret, 'of the host');
    mkdirSync(outside);
    const transform = (rule: string, make: (root: string) => void): Buffer =>
      tree(make, '-P', `--transform=${rule}`, '--show-transformed-names');
    const up = transform('flags=r;s,^x$,../../../../escaped,', (root) => writeFileSync(join(root, 'x'), 'x'));
    await expect(put(id, '/tmp', up)).rejects.toThrow('is outside of the directory it goes to');
    const absolute = transform(`flags=r;s,^x$,${outside}/x,`, (root) => writeFileSync(join(root, 'x'), 'x'));
    await put(id, '/tmp', absolute);
    expect((await engine.files.stat(id, `/tmp${outside}/x`)).size).toBe(1);
    const hard = transform(`flags=h;s,^x$,${secret},`, (root) => {
      writeFileSync(join(root, 'x'), 'x');
      execFileSync('ln', ['x', 'y'], { cwd: root });
    });
    await expect(put(id, '/tmp', hard)).rejects.toThrow();
    const climbing = transform(`flags=h;s,^x$,../../..${secret},`, (root) => {
      writeFileSync(join(root, 'x'), 'x');
      execFileSync('ln', ['x', 'y'], { cwd: root });
    });
    await expect(put(id, '/tmp', climbing)).rejects.toThrow('is outside of the directory it goes to');
    // Through a link that the archive itself brings.
    await put(
      id,
      '/tmp',
      tree((root) => symlinkSync(outside, join(root, 'way'))),
    );
    const through = tree((root) => {
      mkdirSync(join(root, 'way'));
      writeFileSync(join(root, 'way/in'), 'x');
    }, '--no-recursion');
    await put(id, '/tmp', through).catch(() => undefined);
    await expect(get(id, `/tmp/way/../secret`)).rejects.toThrow('Could not find the file');
    expect(readdirSync(outside)).toEqual([]);
    expect(existsSync('/escaped')).toBe(false);
    expect(readFileSync(secret, 'utf8')).toBe('of the host');
    await end(id);
  });

  it('make device nodes inside only, and ill archives are refused', async () => {
    const id = await running();
    const node = tree((root) => execFileSync('mknod', [join(root, 'mem'), 'c', '1', '1']));
    await put(id, '/tmp', node);
    expect((await engine.files.stat(id, '/tmp/mem')).mode).toBe(2 ** 26 + 2 ** 21 + 0o644);
    expect(await shell(id, 'head -c 1 /tmp/mem')).toMatch(/Operation not permitted|Permission denied/);
    await expect(put(id, '/tmp', Buffer.from('no archive at all'.repeat(100)))).rejects.toThrow('invalid tar header');
    await expect(put(id, '/tmp', Buffer.alloc(0))).rejects.toThrow('unexpected EOF');
    const good = tree((root) => writeFileSync(join(root, 'big'), Buffer.alloc(100_000, 1)));
    await expect(put(id, '/tmp', good.subarray(0, 50_000))).rejects.toThrow('unexpected EOF');
    await end(id);
  });

  it('a link that is swapped while copies run leads nowhere but into the container', async () => {
    writeFileSync(secret, 'of the host');
    const id = await running();
    await shell(id, 'mkdir /inside; echo inside >/inside/secret; busybox ln -s /inside /swap');
    // As fast as it can be: by a process of the host, in the root that the container writes too.
    const root = join(fixture.base, 'roots', id, 'merged');
    const script = `const fs = require('node:fs'); process.chdir(${JSON.stringify(root)});
      const rest = new Int32Array(new SharedArrayBuffer(4));
      for (let i = 1; ; i++) { if (i % 50 === 0) Atomics.wait(rest, 0, 0, 5);
        for (const to of ['/inside', ${JSON.stringify(here)}]) {
          fs.symlinkSync(to, 'next'); fs.renameSync('next', 'swap'); } }`;
    const swapping = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
    const ended = once(swapping, 'exit');
    const file = tree((at) => {
      for (let i = 0; i < 12; i++) writeFileSync(join(at, `planted-${i}`), 'x');
    });
    let done = 0;
    try {
      for (let i = 0; i < 6; i++) {
        const read = get(id, '/swap/secret').then((archive) => archive.toString('latin1'));
        const told = engine.files.stat(id, '/swap/secret').then((stat) => stat.name);
        for (const result of await Promise.allSettled([read, told, put(id, '/swap', file).then(() => '')])) {
          if (result.status === 'fulfilled') done += 1;
          expect(result.status === 'fulfilled' ? result.value : '').not.toContain('of the host');
        }
      }
    } finally {
      swapping.kill('SIGKILL');
      await ended;
    }
    expect(done).toBeGreaterThan(0);
    expect(readdirSync(here).filter((name) => name.startsWith('planted'))).toEqual([]);
    await end(id);
  });
});

describe('roots that are looked at', () => {
  it('are taken down when nobody needs them, and not before', async () => {
    const { id } = await runToEnd(engine, ['sh', '-c', 'echo kept >/kept']);
    const merged = join(fixture.base, 'roots', id, 'merged');
    // A container whose end is known may still be taken down.
    const gone = (): Promise<void> => vi.waitFor(() => expect(isMountPoint(merged)).toBe(false), { timeout: 10_000 });
    await gone();
    const { archive } = await engine.files.read(id, '/kept');
    expect(isMountPoint(merged)).toBe(true);
    await engine.containers.start(id);
    await engine.containers.wait(id, 'not-running', AbortSignal.timeout(10_000));
    expect(isMountPoint(merged)).toBe(true);
    await bytes(archive);
    await gone();
    await end(id);
  });
});

describe('differences', () => {
  it('are told in order with the directories they are in', async () => {
    const { id } = await runToEnd(engine, [
      'sh',
      '-c',
      'echo new >/tmp/new; echo more >>/data/seed; busybox rm /bin/yes; ' +
        'busybox rm -r /root; mkdir /root; busybox chmod 700 /etc/passwd',
    ]);
    expect(await engine.files.changes(id)).toEqual([
      { path: '/bin', kind: 0 },
      { path: '/bin/yes', kind: 2 },
      { path: '/data', kind: 0 },
      { path: '/data/seed', kind: 0 },
      { path: '/etc', kind: 0 },
      { path: '/etc/passwd', kind: 0 },
      { path: '/tmp', kind: 0 },
      { path: '/tmp/new', kind: 1 },
    ]);
    const names = listed(await bytes(await engine.files.export(id)));
    expect(names).toContain('tmp/new');
    expect(names).not.toContain('bin/yes');
    expect((await engine.files.sizes([id])).get(id)?.rw).toBeGreaterThan(20);
    const { id: untouched } = await runToEnd(engine, ['true']);
    expect(await engine.files.changes(untouched)).toEqual([]);
    await end(id);
    await end(untouched);
  });
});
