import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isShoalError, must } from '../../base/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import type { RecoveredLog } from '../storage.ts';
import {
  batch,
  entries,
  entry,
  frames,
  MemoryDisk,
  openMemory,
  plain,
  reopen,
  run,
  snapshot,
  TestKeys,
} from './testing.ts';
import { VOTE_PATH } from './vote-file.ts';
import type { WalOptions } from './wal.ts';

/** What was acknowledged. */
interface Acknowledged {
  disk: MemoryDisk;
  options: Partial<WalOptions>;
  snapshotIndex: number;
  /** All entries that must be there, by index; those up to the snapshot are covered by it. */
  log: Map<number, RaftEntry>;
  lastIndex: number;
  commit: number;
  term: number;
  vote: number;
}

/** A small log of several segments that holds every kind of record. */
function build(options: Partial<WalOptions>): Acknowledged {
  let disk = new MemoryDisk();
  const settings = { segmentBytes: 4096, keepEntries: 12, ...options };
  let { wal } = openMemory(disk, settings);
  const log = new Map<number, RaftEntry>();
  const write = (list: RaftEntry[], commit: number, term: number, rest = {}): void => {
    run(disk, (done) => wal.write(batch(list, commit, term, rest), done));
    for (const one of list) log.set(one.index, one);
  };
  for (let i = 1; i <= 12; i++) write([entry(i)], i - 1, 1);
  // A leader's snapshot, an overwritten tail, a repair that is over, and an own snapshot.
  write(entries(41, 44, 2), 40, 2, { snapshot: snapshot(40, 2) });
  write(entries(43, 46, 3), 42, 3);
  const path = must(
    disk.list('wal').find((name) => name.endsWith('.log')),
    'segment',
  );
  const file = must(disk.files.get(`wal/${path}`), 'file');
  const last = must(frames(file).at(-1), 'frame');
  file[last.end - 20] = (file[last.end - 20] as number) ^ 1;
  disk = disk.copy();
  const opened = openMemory(disk, settings);
  wal = opened.wal;
  expect(opened.recovered.repair).toMatchObject({ floor: 46 });
  write(entries(43, 60, 3), 50, 3);
  write([], 60, 3, { repaired: true });
  for (let i = 61; i <= 75; i++) write([entry(i, 4, 150)], i - 1, 4);
  run(disk, (done) => wal.saveSnapshot(snapshot(65, 4), done));
  for (let i = 76; i <= 90; i++) write([entry(i, 5, i % 5 === 0 ? 900 : 30)], i - 2, 5);
  return { disk, options: settings, snapshotIndex: 65, log, lastIndex: 90, commit: 88, term: 5, vote: 7 };
}

type Outcome = 'whole' | 'repair' | 'refused';

/** Opens a damaged disk and checks that nothing acknowledged is lost in silence. */
function check(known: Acknowledged, disk: MemoryDisk): Outcome {
  let found: RecoveredLog;
  try {
    found = openMemory(disk, known.options).recovered;
  } catch (error) {
    if (isShoalError(error, 'DataLoss')) return 'refused';
    throw error;
  }
  checkFound(known, found);
  return found.repair === null ? 'whole' : 'repair';
}

function checkFound(known: Acknowledged, found: RecoveredLog): void {
  const { hardState, repair, snapshot: base, entries: list } = found;
  if (hardState?.term !== known.term || hardState.vote !== known.vote) {
    throw new Error(`vote lost: ${JSON.stringify(hardState)}`);
  }
  const begin = base?.metadata?.index ?? 0;
  const last = list.at(-1)?.index ?? begin;
  if (hardState.commit > Math.max(last, begin) || hardState.commit < begin) throw new Error('commit outside the log');
  for (const [i, one] of list.entries()) {
    if (one.index !== begin + 1 + i) throw new Error(`gap at ${one.index}`);
    const expected = known.log.get(one.index);
    const same = expected?.term === one.term && Buffer.compare(expected.data, one.data) === 0;
    // Without a repair all is as it was; in a repair an entry may be one that was replaced later, if not committed.
    if (!same && (repair === null || one.index <= hardState.commit)) throw new Error(`entry ${one.index} is another`);
  }
  if (repair === null) {
    if (last !== known.lastIndex || begin > known.snapshotIndex) throw new Error(`silent loss: ${begin} to ${last}`);
    if (hardState.commit < known.commit) throw new Error(`commit ${hardState.commit} fell`);
  } else if (repair.floor !== null && repair.floor < known.lastIndex) {
    throw new Error(`floor ${repair.floor} is below ${known.lastIndex}`);
  }
}

function flip(disk: MemoryDisk, path: string, at: number): void {
  const file = must(disk.files.get(path), path);
  file[at] = (file[at] as number) ^ (1 << ((at * 5 + (at >> 3)) % 8));
}

function filesOf(disk: MemoryDisk, folder: string): string[] {
  return [...disk.files.keys()].filter((path) => path.startsWith(folder) && !path.endsWith('.new'));
}

function usedBytes(file: Buffer): number {
  let end = file.length;
  while (end > 0 && file[end - 1] === 0) end--;
  return end;
}

/** The log goes on after a recovery: it takes what the leader sends, and is whole again when told so. */
function checkGoesOn(known: Acknowledged, disk: MemoryDisk): void {
  const first = reopen(disk, known.options);
  const { wal, recovered } = openMemory(disk, known.options);
  expect({ ...recovered, kept: [] }).toEqual({ ...first, kept: [] });
  const begin = recovered.snapshot?.metadata?.index ?? 0;
  const last = recovered.entries.at(-1)?.index ?? begin;
  const rest = begin === 0 && last === 0 ? { snapshot: snapshot(known.snapshotIndex, 4) } : {};
  const from =
    begin === 0 && last === 0 ? known.snapshotIndex + 1 : Math.max(recovered.hardState?.commit ?? 0, begin) + 1;
  const list: RaftEntry[] = [];
  for (let i = from; i <= known.lastIndex; i++) list.push(must(known.log.get(i), 'entry'));
  run(disk, (done) => wal.write(batch(list, known.commit, known.term, { ...rest, repaired: true }), done));
  const again = reopen(disk, known.options);
  expect(again.repair).toBeNull();
  checkFound(known, again);
}

for (const [name, options, step] of [
  ['every byte of the log flipped', {}, 1],
  ['every third byte of an encrypted log flipped', { keys: new TestKeys(3) }, 3],
] as const) {
  test(name, () => {
    const known = build(options);
    expect(check(known, known.disk.copy())).toBe('whole');
    const segments = filesOf(known.disk, 'wal/wal-');
    expect(segments.length).toBeGreaterThan(2);
    const outcomes = { whole: 0, repair: 0, refused: 0 };
    let n = 0;
    for (const path of segments) {
      const size = must(known.disk.files.get(path), path).length;
      const used = usedBytes(must(known.disk.files.get(path), path));
      // Of the zeros that nothing was written to, every 16th byte.
      for (let at = 0; at < size; at += at <= used ? step : 16) {
        const disk = known.disk.copy();
        flip(disk, path, at);
        const outcome = check(known, disk);
        outcomes[outcome]++;
        // Where nothing was written there is nothing to lose.
        if (at > used + 8) expect(outcome).toBe('whole');
        if (n++ % 97 === 0) checkGoesOn(known, disk);
      }
    }
    // One damage never costs the vote.
    expect(outcomes.refused).toBe(0);
    expect(outcomes.repair).toBeGreaterThan(1000 / step);
  });
}

test('the last write cut at every byte: what was acknowledged before it is there', () => {
  const known = build({ segmentBytes: 16 * 1024 });
  const { wal } = openMemory(known.disk, known.options);
  run(known.disk, (done) => wal.write(batch([entry(91, 5, 1200), entry(92, 5, 40)], 90, 5), done));
  const path = must(filesOf(known.disk, 'wal/wal-').at(-1), 'segment');
  const file = must(known.disk.files.get(path), 'file');
  const last = must(frames(file).at(-1), 'frame');
  for (let cut = last.start; cut <= last.end; cut++) {
    const disk = known.disk.copy();
    disk.files.set(path, Buffer.from(file).fill(0, cut));
    const found = openMemory(disk, known.options).recovered;
    const all = found.entries.at(-1)?.index === 92;
    if (all) expect(cut).toBeGreaterThan(last.end - 9);
    else checkFound(known, found);
    // A sector is written whole or not at all: cut between two of them it is a torn write, and no more.
    if (cut % 512 === 0) expect(found.repair).toBeNull();
  }
  // Sectors of the last write that did not reach the disk, in any combination of two.
  const sectors: number[] = [];
  for (let at = Math.ceil(last.start / 512) * 512; at < last.end; at += 512) sectors.push(at);
  for (const a of sectors) {
    for (const b of sectors) {
      const disk = known.disk.copy();
      must(disk.files.get(path), 'file')
        .fill(0, a, a + 512)
        .fill(0, b, b + 512);
      const found = openMemory(disk, known.options).recovered;
      expect(found.repair).toBeNull();
      checkFound(known, found);
    }
  }
});

test('the last segment shortened to every length: never silent, for files keep the size that they are made with', () => {
  const known = build({});
  const path = must(filesOf(known.disk, 'wal/wal-').at(-1), 'segment');
  const file = must(known.disk.files.get(path), 'file');
  for (let cut = 0; cut < file.length; cut++) {
    const disk = known.disk.copy();
    disk.files.set(path, file.subarray(0, cut));
    expect(check(known, disk)).toBe('repair');
    if (cut % 211 === 0) checkGoesOn(known, disk);
  }
});

test('data of zeros, or of one bit, is never taken for a torn write', () => {
  for (const fill of [0, 1, 0x80]) {
    const disk = new MemoryDisk();
    const { wal } = openMemory(disk, { segmentBytes: 16384 });
    const data = new Uint8Array(3000);
    for (let at = 700; at < data.length; at += 512) data[at] = fill;
    run(disk, (done) => wal.write(batch([{ ...entry(1), data }], 0), done));
    const path = must(filesOf(disk, 'wal/wal-').at(-1), 'segment');
    const file = must(disk.files.get(path), 'file');
    const { start, end } = must(frames(file).at(-1), 'frame');
    expect(reopen(disk.copy()).entries[0]?.data).toEqual(data);
    for (let at = start; at < end - 8; at += at < start + 64 ? 1 : 7) {
      for (const bit of [0, 7]) {
        const bad = disk.copy();
        const bytes = must(bad.files.get(path), 'file');
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
        expect(openMemory(bad).recovered.repair).not.toBeNull();
      }
    }
  }
});

test('every byte of the snapshot flipped or cut: the member fetches it again', () => {
  const known = build({});
  const path = must(filesOf(known.disk, 'snap/')[0], 'snapshot');
  const size = must(known.disk.files.get(path), path).length;
  for (let at = 0; at < size; at++) {
    for (const kind of ['flip', 'cut'] as const) {
      const disk = known.disk.copy();
      if (kind === 'flip') flip(disk, path, at);
      else disk.files.set(path, must(disk.files.get(path), path).subarray(0, at));
      expect(check(known, disk)).toBe('repair');
      expect(disk.list('wal').some((name) => name.startsWith('damaged-'))).toBe(true);
      if (at % 29 === 0) checkGoesOn(known, disk);
    }
  }
  const missing = known.disk.copy();
  missing.files.delete(path);
  expect(check(known, missing)).toBe('repair');
  expect(plain(reopen(missing, known.options).snapshot)).toBeNull();
});

test('every byte of the vote file flipped: one place is enough, none is refused', () => {
  const known = build({});
  const lastSegment = must(filesOf(known.disk, 'wal/wal-').at(-1), 'segment');
  const end = usedBytes(must(known.disk.files.get(lastSegment), 'file'));
  const size = must(known.disk.files.get(VOTE_PATH), 'vote').length;
  for (let at = 0; at < size; at += at % 4096 < 40 ? 1 : 64) {
    const disk = known.disk.copy();
    flip(disk, VOTE_PATH, at);
    expect(check(known, disk)).toBe('whole');
    // The end of the log is damaged as well: the other slot still tells.
    const two = known.disk.copy();
    flip(two, VOTE_PATH, at);
    flip(two, lastSegment, end - 30);
    expect(check(known, two)).toBe('repair');
    if (at >= 40) continue;
    const both = known.disk.copy();
    flip(both, VOTE_PATH, at);
    flip(both, VOTE_PATH, at + 4096);
    expect(check(known, both.copy())).toBe('whole');
    const file = must(both.files.get(lastSegment), 'file');
    file.fill(0x33, must(frames(file).at(-1), 'frame').start, end);
    const before = both.copy();
    expect(check(known, both)).toBe('refused');
    // A refusal changes nothing.
    expect(both.files).toEqual(before.files);
  }
  const without = known.disk.copy();
  without.files.delete(VOTE_PATH);
  expect(check(known, without)).toBe('whole');
});

test('a missing segment, wherever it is', () => {
  const known = build({});
  const segments = filesOf(known.disk, 'wal/wal-');
  for (const path of segments) {
    const disk = known.disk.copy();
    disk.files.delete(path);
    const outcome = check(known, disk);
    expect(outcome).not.toBe('refused');
    if (path === segments.at(-1)) expect(outcome).toBe('repair');
    checkGoesOn(known, disk);
  }
  const disk = known.disk.copy();
  for (const path of segments) disk.files.delete(path);
  expect(check(known, disk)).toBe('repair');
});

test('several damages at once: repaired or refused, never silent', () => {
  const known = build({});
  const paths = [...filesOf(known.disk, 'wal/wal-'), ...filesOf(known.disk, 'snap/'), VOTE_PATH];
  const damage = fc.record({
    path: fc.constantFrom(...paths),
    at: fc.nat(5000),
    kind: fc.constantFrom('flip', 'zero', 'sector', 'garbage'),
  });
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 5 }), (damages) => {
      const disk = known.disk.copy();
      let acknowledgedLost = false;
      for (const { path, at, kind } of damages) {
        const file = must(disk.files.get(path), path);
        const offset = at % Math.max(1, usedBytes(file));
        const sector = Math.floor(offset / 512) * 512;
        if (kind === 'flip') flip(disk, path, offset);
        else if (kind === 'garbage') file.fill(0xa7, offset, Math.min(file.length, offset + 700));
        else file.fill(0, kind === 'zero' ? offset : sector, Math.min(file.length, sector + 512));
        // A last write whose sectors are zero again cannot be told from one that was never acknowledged.
        acknowledgedLost ||=
          (kind === 'zero' || kind === 'sector') && path === paths[filesOf(known.disk, 'wal/wal-').length - 1];
      }
      if (!acknowledgedLost) check(known, disk);
      else expect(() => openMemory(disk, known.options)).not.toThrow(/assert/i);
    }),
    { numRuns: 1500 },
  );
});
