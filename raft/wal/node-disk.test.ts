import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { must, SeededRandom } from '../../base/index.ts';
import type { LogWrite, RaftStorage } from '../storage.ts';
import { NodeDisk } from './node-disk.ts';
import { hasWal, openWal, removeWal } from './open.ts';
import { batch, entries, entry, snapshot } from './testing.ts';

let root = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), `shoal-node-disk-${process.pid}-`));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

type Done = (error: unknown) => void;

function call(start: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let returned = false;
    start((error) => {
      if (!returned) reject(new Error('called back before the call returned'));
      else if (error === null || error === undefined) resolve();
      else reject(error);
    });
    returned = true;
  });
}

const write = (storage: RaftStorage, one: LogWrite): Promise<void> => call((done) => storage.write(one, done));
const close = (storage: RaftStorage): Promise<void> => call((done) => storage.close(done));

test('files: made whole, replaced, renamed, allocated, listed; errors are those of the file system', async () => {
  const disk = new NodeDisk(join(root, 'files'));
  disk.makeDirectory('wal');
  expect(disk.list('nothing')).toEqual([]);
  disk.replace('wal/a', [Buffer.from('one '), Buffer.from('two')]);
  await call((done) => disk.replaceLater('wal/b', [Buffer.from('three')], done));
  await call((done) => disk.allocateLater('wal/c', 700_000, done));
  expect(statSync(join(root, 'files/wal/c')).blocks * 512).toBeGreaterThanOrEqual(700_000);
  await call((done) => disk.renameLater('wal/c', 'wal/d', done));
  expect(disk.list('wal')).toEqual(['a', 'b', 'd']);
  expect(disk.read('wal/a').toString()).toBe('one two');
  const file = disk.open('wal/b');
  file.write(Buffer.from('T'), 0);
  await call((done) => file.writeLater(Buffer.from('!'), 5, done));
  file.close();
  expect(disk.read('wal/b').toString()).toBe('Three!');
  disk.remove('wal/b');
  disk.remove('wal/b');
  expect(() => disk.read('wal/b')).toThrow(/ENOENT/);
  await expect(call((done) => disk.readLater('wal/b', done))).rejects.toThrow(/ENOENT/);
  expect(statSync(join(root, 'files/wal/a')).mode & 0o777).toBe(0o600);
});

test('a log in a directory: written, closed, found, removed', async () => {
  const dir = join(root, 'log');
  expect(hasWal(dir)).toBe(false);
  const { storage } = openWal(dir, { nodeId: 7, segmentBytes: 256 * 1024 });
  for (let i = 0; i < 20; i++) await write(storage, batch(entries(i * 100 + 1, i * 100 + 100), i * 100, 1));
  await call((done) => storage.saveSnapshot(snapshot(1800), done));
  await close(storage);
  await close(storage);
  const again = openWal(dir, { nodeId: 7, segmentBytes: 256 * 1024 });
  expect(again.recovered.entries).toEqual(entries(1801, 2000));
  expect(again.recovered.snapshot?.metadata?.index).toBe(1800);
  expect(hasWal(dir)).toBe(true);
  await close(again.storage);
  removeWal(dir);
  expect(hasWal(dir)).toBe(false);
});

/** Runs the loop until it has said `lines` more, kills it, and returns what it said was durable. */
async function killAfter(script: string, args: string[], lines: number): Promise<{ index: number; term: number }> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (chunk: string) => {
    text += chunk;
    if (text.split('\n').length > lines) child.kill('SIGKILL');
  });
  await once(child, 'close');
  const whole = text.slice(0, text.lastIndexOf('\n')).split('\n');
  const [index, term] = must(whole.at(-1), 'line').split(' ').map(Number);
  return { index: must(index, 'index'), term: must(term, 'term') };
}

test('kill -9 while it appends, 20 times: everything acknowledged is there', async () => {
  const script = join(root, 'append-loop.mjs');
  const entryPoint = join(fileURLToPath(new URL('.', import.meta.url)), 'append-loop.ts');
  const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
  await build({
    entryPoints: [entryPoint],
    outfile: script,
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['koffi', 'level', 'classic-level'],
    banner: { js: banner },
  });
  const dir = join(root, 'killed');
  const random = new SeededRandom(20);
  let next = 1;
  let term = 1;
  let snapshots = 0;
  for (let round = 0; round < 20; round++) {
    const said = await killAfter(script, [dir, String(next), String(term)], 20 + random.int(150));
    const { storage, recovered } = openWal(dir, { nodeId: 7, segmentBytes: 64 * 1024, keepEntries: 50 });
    const begin = recovered.snapshot?.metadata?.index ?? 0;
    const last = recovered.entries.at(-1)?.index ?? begin;
    if (begin > 0) snapshots++;
    expect(recovered.repair).toBeNull();
    expect(last).toBeGreaterThanOrEqual(said.index);
    expect(must(recovered.hardState, 'hard state').term).toBeGreaterThanOrEqual(said.term);
    for (const [i, one] of recovered.entries.entries()) {
      expect(one.index).toBe(begin + 1 + i);
      expect(one.data.every((byte) => byte === (one.index * 31 + one.term) % 256)).toBe(true);
    }
    await close(storage);
    next = last + 1;
    term = must(recovered.hardState, 'hard state').term;
  }
  expect(snapshots).toBeGreaterThan(10);
}, 120_000);

test('a full disk: a clear error, and all that was acknowledged after room was made', async () => {
  const dir = join(root, 'small');
  mkdirSync(dir);
  expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', dir]).status).toBe(0);
  try {
    const options = { nodeId: 7, segmentBytes: 128 * 1024 };
    const { storage } = openWal(join(dir, 'raft'), options);
    writeFileSync(join(dir, 'ballast'), Buffer.alloc(300 * 1024));
    let acknowledged = 0;
    let failure: unknown;
    for (let i = 1; i <= 5000 && failure === undefined; i++) {
      await write(storage, batch([entry(i, 1, 1000)], i - 1)).then(
        () => {
          acknowledged = i;
        },
        (error: unknown) => {
          failure = error;
        },
      );
    }
    expect(acknowledged).toBeGreaterThan(300);
    expect(failure).toMatchObject({ code: 'ResourceExhausted' });
    expect(String(failure)).toContain(`no space left on device: free space under ${join(dir, 'raft')} and restart`);
    await expect(close(storage)).rejects.toThrow(/no space left/);
    rmSync(join(dir, 'ballast'));
    const again = openWal(join(dir, 'raft'), options);
    expect(again.recovered.repair).toBeNull();
    expect(again.recovered.entries.length).toBeGreaterThanOrEqual(acknowledged);
    await write(again.storage, batch([entry(again.recovered.entries.length + 1)], acknowledged));
    await close(again.storage);
  } finally {
    spawnSync('umount', [dir]);
  }
});
