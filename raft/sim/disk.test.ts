import { beforeEach, describe, expect, test } from 'vitest';
import { SeededRandom } from '../../base/index.ts';
import { RaftEntryType } from '../../proto/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import { Wal } from '../wal/wal.ts';
import { GOOD_DISK, SimDisk } from './disk.ts';
import { DiskHandle } from './disk-handle.ts';
import { SECTOR_BYTES } from './disk-file.ts';
import { SimProcess } from './process.ts';
import { Scheduler } from './scheduler.ts';

const PATH = 'wal/wal-00000000000001.log';
const SECTORS = 16;
let scheduler: Scheduler;

beforeEach(() => {
  scheduler = new Scheduler();
});

function newDisk(seed: number): SimDisk {
  return new SimDisk(scheduler, new SeededRandom(seed));
}

/** One run of a program that uses the disk. */
function handleOf(disk: SimDisk): DiskHandle {
  const fail = (error: unknown): void => {
    throw error;
  };
  const options = { scheduler, random: new SeededRandom(1), turnMs: 0, after: () => undefined, fail };
  return new DiskHandle(disk, new SimProcess(options, 1));
}

const run = (ms: number): Promise<void> => scheduler.run(scheduler.now + ms, () => false);
const bytesOf = (length: number): Buffer => Buffer.alloc(length, 7);

describe('a write that is under way', () => {
  async function outcomes(crash: (disk: SimDisk) => void): Promise<Set<string>> {
    const seen = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const disk = newDisk(seed);
      const handle = handleOf(disk);
      handle.allocate(PATH, SECTORS * SECTOR_BYTES);
      handle.open(PATH).writeLater(bytesOf(SECTORS * SECTOR_BYTES), 0, () => seen.add('reported'));
      crash(disk);
      await run(1000);
      const content = handleOf(disk).read(PATH);
      const sectors = Array.from({ length: SECTORS }, (_, i) =>
        content.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES),
      );
      for (const sector of sectors) expect(new Set(sector).size).toBe(1);
      const there = sectors.filter((sector) => sector[0] === 7).length;
      seen.add(
        there === 0 ? 'nothing' : there === SECTORS ? 'all' : sectors[0]?.[0] === 7 ? 'some' : 'some, not the first',
      );
    }
    return seen;
  }

  test('is there, or not, or torn sector by sector after a cut of the power; nobody hears of it', async () => {
    expect(await outcomes((disk) => disk.powerCut(true))).toEqual(
      new Set(['nothing', 'all', 'some', 'some, not the first']),
    );
  });

  test('is there, or not, or cut at a page when its process is killed', async () => {
    expect(await outcomes((disk) => disk.kill())).toEqual(new Set(['nothing', 'all', 'some']));
  });
});

test('a write that was reported survives everything', async () => {
  const disk = newDisk(3);
  const handle = handleOf(disk);
  handle.allocate(PATH, 4096);
  let done = false;
  handle.open(PATH).writeLater(bytesOf(1000), 100, (error) => {
    done = error === null;
  });
  await run(100);
  expect(done).toBe(true);
  expect(disk.powerCut(true)).toBe('none');
  expect(handleOf(disk).read(PATH).subarray(100, 1100)).toEqual(bytesOf(1000));
});

test('a lying disk loses what it reported, unless it was lucky', async () => {
  const losses = new Set<string>();
  for (let seed = 0; seed < 30; seed++) {
    const disk = newDisk(seed);
    const handle = handleOf(disk);
    handle.allocate(PATH, 8192);
    disk.temper = { ...GOOD_DISK, lying: true };
    const file = handle.open(PATH);
    file.writeLater(bytesOf(600), 0, () => file.writeLater(bytesOf(600), 1024, () => undefined));
    await run(500);
    losses.add(disk.powerCut(seed % 2 === 0));
    if (seed % 2 === 1) expect(handleOf(disk).read(PATH)[1100]).toBe(7);
  }
  expect(losses).toEqual(new Set(['none', 'noticeable', 'silent']));
});

test('a lie about what the cache alone holds is a lie about all of it', async () => {
  for (let seed = 0; seed < 40; seed++) {
    const disk = newDisk(seed);
    handleOf(disk).allocate(PATH, 4096);
    handleOf(disk)
      .open(PATH)
      .writeLater(bytesOf(600), 0, () => undefined);
    disk.kill();
    disk.temper = { ...GOOD_DISK, lying: true };
    handleOf(disk).open(PATH).write(bytesOf(600), 0);
    const lucky = seed % 2 === 0;
    const loss = disk.powerCut(!lucky);
    const whole = handleOf(disk).read(PATH).subarray(0, 600).equals(bytesOf(600));
    expect(loss === 'none').toBe(whole);
    if (lucky) expect(whole).toBe(true);
  }
});

test('names that were not synced may come back, and go, with the power', () => {
  const seen = new Set<boolean>();
  for (let seed = 0; seed < 20; seed++) {
    const disk = newDisk(seed);
    const handle = handleOf(disk);
    handle.replace('wal/a', [bytesOf(10)]);
    handle.remove('wal/a');
    disk.powerCut(true);
    seen.add(handleOf(disk).list('wal').includes('a'));
  }
  expect(seen).toEqual(new Set([true, false]));
});

test('what is renamed, replaced or allocated stays so', () => {
  const disk = newDisk(1);
  const handle = handleOf(disk);
  handle.allocate('wal/x', 100);
  handle.rename('wal/x', 'wal/y');
  handle.replace('snap/s', [bytesOf(5), bytesOf(6)]);
  disk.powerCut(true);
  const after = handleOf(disk);
  expect(after.list('wal')).toEqual(['y']);
  expect(after.read('snap/s')).toEqual(bytesOf(11));
  expect(() => after.read('wal/x')).toThrow('ENOENT');
});

test('a full disk and a failing one say so', async () => {
  const disk = newDisk(1);
  const handle = handleOf(disk);
  handle.allocate(PATH, 4096);
  disk.temper = { ...GOOD_DISK, full: true, eioShare: 1 };
  expect(() => handle.allocate('wal/x', 100)).toThrow('ENOSPC');
  const codes: unknown[] = [];
  const note = (error: unknown): void => void codes.push((error as NodeJS.ErrnoException).code);
  handle.open(PATH).writeLater(bytesOf(10), 0, note);
  await run(100);
  handle.allocateLater('wal/x', 100, note);
  await run(100);
  expect(codes).toEqual(['EIO', 'ENOSPC']);
});

function entry(index: number): RaftEntry {
  return { index, term: 1, type: RaftEntryType.EntryNormal, data: bytesOf(50) };
}

test('what a log found when it was opened is as durable as if it had written it itself', async () => {
  const found = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const disk = newDisk(seed);
    disk.temper = { ...GOOD_DISK, eioShare: seed % 3 === 0 ? 1 : 0 };
    const hardState = { term: 1, vote: 1, commit: 0 };
    const open = (): ReturnType<typeof Wal.open> => Wal.open({ disk: handleOf(disk), nodeId: 1, segmentBytes: 4096 });
    const first = open();
    const batch = { snapshot: null, entries: [1, 2, 3].map(entry), hardState, repaired: false };
    first.storage.write(batch, () => undefined);
    // Killed at any instant of the write: the kernel may have all of it, the disk nothing.
    await run(seed / 60);
    disk.kill();
    disk.temper = GOOD_DISK;
    const second = open();
    disk.powerCut(true);
    const third = open();
    expect(third.recovered.entries.length).toBe(second.recovered.entries.length);
    expect(third.recovered.repair).toBeNull();
    found.add(String(second.recovered.entries.length));
  }
  expect(found).toEqual(new Set(['0', '3']));
});
