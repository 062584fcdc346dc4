import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { inspectLog } from './inspect.ts';
import { batch, entries, entry, frames, MemoryDisk, openMemory, run, snapshot, TestKeys } from './testing.ts';

function build(): MemoryDisk {
  const disk = new MemoryDisk();
  const keys = new TestKeys(4);
  const { wal } = openMemory(disk, { keys, keepEntries: 5 });
  run(disk, (done) => wal.write(batch(entries(1, 30), 29), done));
  run(disk, (done) => wal.saveSnapshot(snapshot(20), done));
  for (let i = 31; i <= 90; i++) run(disk, (done) => wal.write(batch([entry(i, 2)], i - 1, 2), done));
  return disk;
}

test('an offline reader tells segments, entries, terms, vote, membership and where the log stops; it changes nothing', () => {
  const disk = build();
  disk.onOperation = (kind) => {
    if (kind !== 'read') throw new Error('the reader writes');
  };
  const found = inspectLog(disk, new TestKeys(4));
  expect(found).toMatchObject({
    nodeId: 7,
    begin: { index: 20, term: 1 },
    hardState: { term: 2, vote: 7, commit: 89 },
    voteFile: { term: 2, vote: 7, goodSlots: 2 },
    membership: { voters: [7] },
    repair: null,
    refusal: null,
    damages: [],
  });
  expect(found.entries.at(-1)).toEqual(entry(90, 2));
  expect(found.segments.length).toBeGreaterThan(1);
  expect(found.segments.every(({ keyIds }) => keyIds.join() === '4')).toBe(true);
  expect(found.snapshots).toMatchObject([{ index: 20, keyId: 4, problem: null, bytes: 8 }]);
  expect(found.end).toMatchObject({ reason: 'nothing was written after it', path: found.segments.at(-1)?.path });
  expect(() => inspectLog(disk, null)).toThrow(/is encrypted \(key 4\)/);
});

test('it tells of damages what the next start would make of them', () => {
  const disk = build();
  const keys = new TestKeys(4);
  const path = must(
    disk.list('wal').findLast((name) => name.endsWith('.log')),
    'segment',
  );
  const file = must(disk.files.get(`wal/${path}`), 'file');
  const last = must(frames(file).at(-1), 'frame');
  file[last.end - 20] = (file[last.end - 20] as number) ^ 4;
  const found = inspectLog(disk, keys);
  expect(found.repair).toMatchObject({ floor: 90 });
  expect(found.end).toMatchObject({ path: `wal/${path}`, offset: last.start });
  expect(found.entries.at(-1)?.index).toBe(89);
  file.fill(0x11, last.start, last.end);
  disk.files.delete('wal/vote');
  expect(inspectLog(disk, keys).refusal).toMatch(/must not vote again/);
  expect(inspectLog(new MemoryDisk(), null)).toMatchObject({ segments: [], entries: [], refusal: null });
});
