import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { isShoalError, must } from '../../base/index.ts';
import { RaftSnapshot } from '../../proto/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
import type { RecoveredLog } from '../storage.ts';
import { readFrame } from './frame.ts';
import { hasWal, removeWal, Wal } from './wal.ts';

const SEGMENT = 16 * 1024;
const dirs: string[] = [];
const open_: Wal[] = [];

afterEach(() => {
  for (const wal of open_.splice(0)) wal.close();
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

function newDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'shoal-wal-'));
  dirs.push(dir);
  return dir;
}

function open(dir: string, segmentBytes = SEGMENT): { wal: Wal; recovered: RecoveredLog } {
  const opened = Wal.open({ dir, nodeId: 7, segmentBytes });
  open_.push(opened.wal);
  return opened;
}

function reopen(dir: string): RecoveredLog {
  const { wal, recovered } = open(dir);
  wal.close();
  return recovered;
}

function entry(index: number, term = 1, bytes = 100): RaftEntry {
  return { type: 0, index, term, data: new Uint8Array(Buffer.alloc(bytes, 1 + (index % 250))) };
}

function entries(from: number, to: number, term = 1): RaftEntry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => entry(from + i, term));
}

function snapshot(index: number, term = 1): RaftSnapshot {
  const conf_state = { voters: [7], learners: [], voters_outgoing: [], learners_next: [], auto_leave: false };
  return { data: new Uint8Array(Buffer.from(`state ${index}`)), metadata: { index, term, conf_state } };
}

/** With the data as a plain array of bytes: decoding gives a Buffer. */
function plain(found: RaftSnapshot | null): RaftSnapshot | null {
  return found === null ? null : { ...found, data: new Uint8Array(found.data) };
}

const hard = (commit: number, term = 1): { term: number; vote: number; commit: number } => ({ term, vote: 7, commit });

/** Path of the newest segment. */
function lastSegment(dir: string): string {
  const names = readdirSync(join(dir, 'wal')).filter((name) => name.endsWith('.log'));
  return join(dir, 'wal', must(names.sort().at(-1), 'segment'));
}

/** Where each whole frame of a segment ends; the first is the segment's head. */
function frameEnds(path: string): number[] {
  const file = readFileSync(path);
  const ends: number[] = [];
  for (let read = readFrame(file, 0); read.kind === 'frame'; read = readFrame(file, read.next)) ends.push(read.next);
  return ends;
}

function usedBytes(path: string): number {
  return frameEnds(path).at(-1) ?? 0;
}

test('what was appended is found again, over several segments', () => {
  const dir = newDir();
  const { wal } = open(dir);
  for (let i = 1; i <= 500; i++) wal.append([entry(i)], hard(i - 1), true);
  expect(wal.segmentPaths().length).toBeGreaterThan(3);
  wal.close();
  const found = reopen(dir);
  expect(found.hardState).toEqual(hard(499));
  expect(found.entries).toEqual(entries(1, 500));
});

test('an overwritten tail is gone (Raft §5.3)', () => {
  const dir = newDir();
  const { wal } = open(dir);
  wal.append(entries(1, 10), hard(3), true);
  wal.append(entries(5, 6, 2), hard(3, 2), true);
  wal.close();
  expect(reopen(dir).entries).toEqual([...entries(1, 4), ...entries(5, 6, 2)]);
});

test('a lone commit index waits for the next batch, or for the close', () => {
  const dir = newDir();
  const { wal } = open(dir);
  wal.append(entries(1, 3), hard(0), true);
  const used = usedBytes(lastSegment(dir));
  wal.append([], hard(2), false);
  expect(usedBytes(lastSegment(dir))).toBe(used);
  wal.close();
  expect(reopen(dir).hardState).toEqual(hard(2));
});

test('an entry larger than a segment gets a segment of its own', () => {
  const dir = newDir();
  const { wal } = open(dir);
  wal.append([entry(1), entry(2, 1, 5 * SEGMENT), entry(3)], hard(0), true);
  wal.append([entry(4)], null, true);
  wal.close();
  expect(reopen(dir).entries.map((e) => e.data.length)).toEqual([100, 5 * SEGMENT, 100, 100]);
});

test('a batch larger than a frame never lets the commit index run ahead of its entries', () => {
  const dir = newDir();
  const { wal } = open(dir, 64 * 1024 * 1024);
  const big = Array.from({ length: 5 }, (_, i) => entry(i + 1, 1, 2 * 1024 * 1024));
  wal.append(big, hard(5), true);
  wal.close();
  const path = lastSegment(dir);
  truncateSync(path, usedBytes(path) - 1_000_000);
  const found = reopen(dir);
  expect(found.entries.length).toBeLessThan(5);
  expect(must(found.hardState, 'hard state').commit).toBeLessThanOrEqual(found.entries.length);
});

test('a snapshot replaces the log before it; covered segments and old snapshots are deleted', () => {
  const dir = newDir();
  const { wal } = open(dir);
  for (let i = 1; i <= 300; i++) wal.append([entry(i)], hard(i), true);
  wal.saveSnapshot(snapshot(100));
  wal.saveSnapshot(snapshot(250));
  expect(readdirSync(join(dir, 'snap'))).toHaveLength(1);
  expect(wal.segmentPaths().length).toBeLessThan(4);
  expect(plain(wal.loadSnapshot())).toEqual(snapshot(250));
  for (let i = 301; i <= 400; i++) wal.append([entry(i)], hard(i), true);
  wal.close();
  const found = reopen(dir);
  expect(plain(found.snapshot)).toEqual(snapshot(250));
  expect(found.entries).toEqual(entries(251, 400));
  expect(found.hardState).toEqual(hard(400));
});

test('a snapshot from the leader replaces the whole log', () => {
  const dir = newDir();
  const { wal } = open(dir);
  wal.append(entries(1, 200), hard(10), true);
  wal.installSnapshot(snapshot(150, 3), hard(150, 3));
  expect(wal.segmentPaths()).toHaveLength(1);
  wal.append(entries(151, 152, 3), null, true);
  wal.close();
  const found = reopen(dir);
  expect(found.entries).toEqual(entries(151, 152, 3));
  expect(found.snapshot?.metadata).toMatchObject({ index: 150, term: 3 });
});

test('a log of another member is refused; removal makes room for a new one', () => {
  const dir = newDir();
  open(dir).wal.close();
  expect(hasWal(dir)).toBe(true);
  expect(() => Wal.open({ dir, nodeId: 8, segmentBytes: SEGMENT })).toThrow(/belongs to member 7/);
  removeWal(dir);
  expect(hasWal(dir)).toBe(false);
});

test('a disk that fails is not written to again', () => {
  const dir = newDir();
  const { wal } = open(dir);
  wal.append(entries(1, 2), hard(0), true);
  // The directory vanishes: the next segment cannot be made.
  rmSync(join(dir, 'wal'), { recursive: true });
  expect(() => wal.append([entry(3, 1, 2 * SEGMENT)], null, true)).toThrow(/ENOENT/);
  expect(() => wal.append([entry(3)], null, true)).toThrow(/failed before/);
});

/** A log of 40 batches in one segment, and where each frame ends. */
function written(): { dir: string; path: string; file: Buffer; ends: number[] } {
  const dir = newDir();
  const { wal } = open(dir);
  const path = lastSegment(dir);
  for (let i = 1; i <= 40; i++) wal.append([entry(i)], hard(i - 1), true);
  wal.close();
  return { dir, path, file: readFileSync(path), ends: frameEnds(path).slice(1) };
}

test('torn tail: cut anywhere, the log keeps exactly the whole batches, and goes on', () => {
  const { dir, path, file, ends } = written();
  for (let cut = must(ends[30], 'end'); cut <= must(ends[39], 'end'); cut += 5) {
    writeFileSync(path, file);
    truncateSync(path, cut);
    const { wal, recovered } = open(dir);
    // Padding after the last record may be missing: a batch is whole once its payload is.
    const whole = ends.filter((end) => end <= cut).length;
    expect(recovered.entries.length).toBeGreaterThanOrEqual(whole);
    expect(recovered.entries.length).toBeLessThanOrEqual(whole + 1);
    const next = recovered.entries.length + 1;
    wal.append([entry(next)], null, true);
    wal.close();
    expect(reopen(dir).entries).toEqual(entries(1, next));
  }
});

test('torn tail: sectors of the last batch that were never written', () => {
  const dir = newDir();
  const { wal } = open(dir, 64 * 1024);
  const path = lastSegment(dir);
  wal.append(entries(1, 5), hard(0), true);
  const start = usedBytes(path);
  wal.append([entry(6, 1, 4000)], null, true);
  wal.close();
  const file = readFileSync(path);
  for (let sector = Math.ceil(start / 512); (sector + 1) * 512 < start + 4000; sector++) {
    const torn = Buffer.from(file);
    torn.fill(0, sector * 512, (sector + 1) * 512);
    writeFileSync(path, torn);
    expect(reopen(dir).entries).toEqual(entries(1, 5));
  }
});

test('a flipped bit before the last batch is DataLoss that names file and offset; nothing is cut', () => {
  const { dir, path, file, ends } = written();
  const lastStart = must(ends[38], 'end');
  let found = 0;
  for (let at = 0; at < lastStart; at += 11) {
    const bad = Buffer.from(file);
    bad[at] = (bad[at] as number) ^ (1 << (at % 8));
    writeFileSync(path, bad);
    let recovered: RecoveredLog | undefined;
    try {
      recovered = reopen(dir);
    } catch (error) {
      if (!isShoalError(error, 'DataLoss')) throw error;
      expect(error.message).toContain(path);
      expect(error.message).toMatch(/offset \d+/);
      expect(readFileSync(path).equals(bad)).toBe(true);
      found++;
    }
    // Only the padding between frames carries nothing.
    if (recovered !== undefined) expect(recovered.entries.length).toBe(40);
  }
  expect(found).toBeGreaterThan((lastStart / 11) * 0.9);
});

test('a flipped bit in the last batch is DataLoss as well: all of it was written', () => {
  const { dir, path, file, ends } = written();
  const [start, end] = [must(ends[38], 'end'), must(ends[39], 'end') - 8];
  for (let at = start; at < end; at += 5) {
    const bad = Buffer.from(file);
    bad[at] = (bad[at] as number) ^ 0x10;
    writeFileSync(path, bad);
    expect(() => reopen(dir)).toThrow(/damaged at offset/);
  }
});

test('zeroed sectors, a missing segment and a damaged snapshot are DataLoss', () => {
  const { dir, path, file, ends } = written();
  const bad = Buffer.from(file);
  bad.fill(0, must(ends[10], 'end'), must(ends[12], 'end'));
  writeFileSync(path, bad);
  expect(() => reopen(dir)).toThrow(/damaged/);

  const other = newDir();
  const { wal } = open(other);
  for (let i = 1; i <= 500; i++) wal.append([entry(i)], hard(i), true);
  const paths = wal.segmentPaths();
  wal.close();
  const middle = must(paths[1], 'segment');
  const content = readFileSync(middle);
  rmSync(middle);
  expect(() => reopen(other)).toThrow(/before it is missing/);
  writeFileSync(middle, content);
  // A whole last frame of a sealed segment replaced by zeros shows in the numbering.
  const sealed = Buffer.from(content);
  sealed.fill(0, frameEnds(middle).at(-2));
  writeFileSync(middle, sealed);
  expect(() => reopen(other)).toThrow(/damaged/);
  writeFileSync(middle, content);

  const { wal: again } = open(other);
  again.saveSnapshot(snapshot(400));
  again.close();
  const snap = join(other, 'snap', must(readdirSync(join(other, 'snap'))[0], 'snapshot'));
  const bytes = readFileSync(snap);
  bytes[20] = (bytes[20] as number) ^ 1;
  writeFileSync(snap, bytes);
  expect(() => reopen(other)).toThrow(/checksum/);
});

test('fuzz: random batches, snapshots and restarts give back what a model holds', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), back: fc.nat(5), count: fc.nat(20), bytes: fc.nat(900) }),
    fc.record({ kind: fc.constant('snapshot' as const) }),
    fc.record({ kind: fc.constant('reopen' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const dir = newDir();
      let { wal } = open(dir);
      const model = { log: [] as RaftEntry[], offset: 0, commit: 0, term: 1 };
      for (const action of steps) {
        const last = model.offset + model.log.length;
        if (action.kind === 'append') {
          const from = Math.max(model.commit, last - action.back) + 1;
          model.term++;
          const batch = Array.from({ length: action.count }, (_, i) => entry(from + i, model.term, action.bytes));
          if (batch.length === 0) continue;
          model.log = [...model.log.slice(0, from - 1 - model.offset), ...batch];
          model.commit = Math.max(model.commit, from - 1);
          wal.append(batch, hard(model.commit, model.term), true);
        } else if (action.kind === 'snapshot') {
          if (model.commit <= model.offset) continue;
          wal.saveSnapshot(snapshot(model.commit));
          model.log = model.log.slice(model.commit - model.offset);
          model.offset = model.commit;
        } else {
          wal.close();
          const opened = open(dir);
          wal = opened.wal;
          expect(opened.recovered.entries).toEqual(model.log);
          expect(opened.recovered.snapshot?.metadata?.index ?? 0).toBe(model.offset);
        }
      }
      wal.close();
      const found = reopen(dir);
      expect(found.entries).toEqual(model.log);
      expect(found.hardState?.commit ?? 0).toBe(model.commit);
    }),
    { numRuns: 40 },
  );
});
