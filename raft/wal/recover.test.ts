import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { batch, entries, entry, frames, MemoryDisk, openMemory, plain, reopen, run, snapshot } from './testing.ts';
import type { Wal } from './wal.ts';

function write(disk: MemoryDisk, wal: Wal, ...args: Parameters<typeof batch>): void {
  run(disk, (done) => wal.write(batch(...args), done));
}

function segments(disk: MemoryDisk): string[] {
  const names = disk.list('wal').filter((name) => name.endsWith('.log') && name.startsWith('wal-'));
  return names.map((name) => `wal/${name}`);
}

/** Spoils the payload of the frame after which the log ended at `lastIndex` for the `nth` time. */
function spoil(disk: MemoryDisk, lastIndex: number, nth = 0, headerToo = false): void {
  let seen = 0;
  for (const path of segments(disk)) {
    const file = must(disk.files.get(path), path);
    for (const frame of frames(file)) {
      if (frame.lastIndex !== lastIndex || seen++ !== nth) continue;
      file.fill(0x5a, frame.start + (headerToo ? 0 : 64), frame.end - 8);
      return;
    }
  }
  throw new Error(`no frame ends at ${lastIndex}`);
}

test('a bad frame in the middle: the prefix is kept, the floor is what later frames tell, until the leader repairs it', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  for (let i = 1; i <= 60; i++) write(disk, wal, [entry(i)], i - 1);
  spoil(disk, 30);
  const before = segments(disk);
  for (let i = 0; i < 3; i++) {
    const found = reopen(disk);
    expect(found.repair).toMatchObject({ floor: 60 });
    expect(found.repair?.reason).toMatch(/wal\/wal-\S+ at offset \d+: checksum/);
    expect(found.entries).toEqual(entries(1, 29));
    expect(found.hardState).toEqual({ term: 1, vote: 7, commit: 28 });
  }
  expect(segments(disk)).toHaveLength(1);
  expect(segments(disk)[0]).not.toBe(before[0]);
  expect(disk.list('wal').filter((name) => name.startsWith('damaged-'))).toHaveLength(1);
  const again = openMemory(disk);
  write(disk, again.wal, entries(29, 62, 2), 61, 2);
  expect(reopen(disk.copy()).repair).toMatchObject({ floor: 60 });
  write(disk, again.wal, [], 62, 2, { repaired: true });
  expect(reopen(disk)).toMatchObject({ repair: null, hardState: { term: 2, commit: 62 } });
});

test('entries that lost frames replaced are not called committed', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  write(disk, wal, entries(1, 10), 4);
  write(disk, wal, entries(5, 8, 2), 4, 2);
  write(disk, wal, entries(9, 12, 2), 8, 2);
  spoil(disk, 8);
  const found = reopen(disk);
  expect(found.repair).toMatchObject({ floor: 12 });
  // 5 to 10 of term 1 may stand, for the leader replaces them; but not as committed.
  expect(found.entries).toEqual(entries(1, 10));
  expect(found.hardState).toEqual({ term: 2, vote: 7, commit: 4 });
});

test('a last frame with a bad header hides the floor; with a good one it tells it', () => {
  for (const headerToo of [false, true]) {
    const disk = new MemoryDisk();
    const { wal } = openMemory(disk);
    write(disk, wal, entries(1, 10), 4);
    write(disk, wal, entries(11, 20), 10);
    spoil(disk, 20, 0, headerToo);
    const found = reopen(disk);
    expect(found.repair).toMatchObject({ floor: headerToo ? null : 20 });
    expect(found.entries).toEqual(entries(1, 10));
  }
});

test('damage in what the snapshot covers costs nothing', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  for (let i = 1; i <= 150; i++) write(disk, wal, [entry(i)], i);
  run(disk, (done) => wal.saveSnapshot(snapshot(120), done));
  for (const harm of ['frame', 'segment', 'unreadable'] as const) {
    const copy = disk.copy();
    const first = must(segments(copy)[1], 'segment');
    if (harm === 'frame') spoil(copy, 20);
    else if (harm === 'segment') copy.files.delete(first);
    else {
      copy.onOperation = (kind, path) => {
        if (kind === 'read' && path === first) throw Object.assign(new Error('EIO'), { code: 'EIO' });
      };
    }
    const found = reopen(copy);
    expect(found.repair).toBeNull();
    expect(found.entries).toEqual(entries(121, 150));
    expect(plain(found.snapshot)).toEqual(snapshot(120));
    expect(reopen(copy).entries).toEqual(entries(121, 150));
  }
});

test('a second damage while a repair is in force keeps the higher floor', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  for (let i = 1; i <= 60; i++) write(disk, wal, [entry(i)], i - 1);
  spoil(disk, 30);
  const opened = openMemory(disk);
  for (let i = 30; i <= 40; i++) write(disk, opened.wal, [entry(i, 2)], i - 1, 2);
  spoil(disk, 35);
  const found = reopen(disk);
  expect(found.repair).toMatchObject({ floor: 60 });
  expect(found.entries).toEqual([...entries(1, 29), ...entries(30, 34, 2)]);
});

test('a crash at any moment of a repair leaves a log that is repaired at the next start', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  for (let i = 1; i <= 100; i++) write(disk, wal, [entry(i)], i - 1);
  spoil(disk, 70);
  let steps = 0;
  for (let crashAt = 0; crashAt < 100; crashAt++) {
    const copy = disk.copy();
    let left = crashAt;
    copy.onOperation = (kind) => {
      if (kind !== 'read' && left-- === 0) throw new Error('power cut');
    };
    let crashed = false;
    try {
      openMemory(copy);
    } catch {
      crashed = true;
    }
    copy.onOperation = () => undefined;
    const found = reopen(copy);
    expect(found.repair).toMatchObject({ floor: 100 });
    expect(found.entries).toEqual(entries(1, 69));
    if (!crashed) break;
    steps++;
  }
  expect(steps).toBeGreaterThan(3);
});

test('damaged files are kept, four at the most', () => {
  let disk = new MemoryDisk();
  const first = openMemory(disk);
  write(disk, first.wal, entries(1, 10), 5);
  for (let i = 0; i < 7; i++) {
    spoil(disk, 10);
    disk = disk.copy();
    const { wal, recovered } = openMemory(disk);
    expect(recovered.repair).not.toBeNull();
    write(disk, wal, entries(1, 10, 2 + i), 0, 2 + i, { repaired: true });
  }
  expect(disk.list('wal').filter((name) => name.startsWith('damaged-'))).toHaveLength(4);
});

test('a log of the first format is refused by name, not repaired', () => {
  const disk = new MemoryDisk();
  const old = Buffer.alloc(4096);
  Buffer.from('536857660a00000001000000000000000000000000000000', 'hex').copy(old);
  disk.files.set('wal/wal-00000000000001.log', old);
  old.writeUInt32LE(crc32(old.subarray(0, 20)), 20);
  expect(() => openMemory(disk)).toThrow(/written by an earlier version of shoal/);
});
