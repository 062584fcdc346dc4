import fc from 'fast-check';
import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import type { RaftEntry } from '../../proto/index.ts';
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
import { holdsWal, type Wal } from './wal.ts';

const SEGMENT = 8192;

function write(disk: MemoryDisk, wal: Wal, ...args: Parameters<typeof batch>): void {
  run(disk, (done) => wal.write(batch(...args), done));
}

function segments(disk: MemoryDisk): string[] {
  return disk
    .list('wal')
    .filter((name) => name.endsWith('.log'))
    .map((name) => `wal/${name}`);
}

test('what was written is found again, over several segments', () => {
  const disk = new MemoryDisk();
  const { wal, recovered } = openMemory(disk);
  expect(recovered).toEqual({ hardState: null, snapshot: null, entries: [], kept: [], repair: null });
  for (let i = 1; i <= 200; i++) write(disk, wal, [entry(i)], i - 1);
  expect(wal.segmentPaths().length).toBeGreaterThan(3);
  run(disk, (done) => wal.close(done));
  const found = reopen(disk);
  expect(found.hardState).toEqual({ term: 1, vote: 7, commit: 199 });
  expect(found.entries).toEqual(entries(1, 200));
  expect(found.repair).toBeNull();
});

test('an overwritten tail is gone (Raft §5.3)', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  write(disk, wal, entries(1, 10), 3);
  write(disk, wal, entries(5, 6, 2), 3, 2);
  expect(reopen(disk.copy()).entries).toEqual([...entries(1, 4), ...entries(5, 6, 2)]);
});

test('a lone commit index costs no write; the next batch or the close carries it', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  write(disk, wal, entries(1, 3), 0);
  const before = disk.copy();
  wal.noteCommit(2);
  disk.settle();
  expect(disk.files).toEqual(before.files);
  write(disk, wal, [entry(4)], 0);
  expect(reopen(disk.copy()).hardState?.commit).toBe(2);
  wal.noteCommit(9);
  run(disk, (done) => wal.close(done));
  expect(reopen(disk).hardState?.commit).toBe(4);
});

test('an entry larger than a segment gets a segment of its own', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  write(disk, wal, [entry(1), entry(2, 1, 5 * SEGMENT), entry(3)], 0);
  write(disk, wal, [entry(4)], 0);
  expect(reopen(disk).entries.map((e) => e.data.length)).toEqual([100, 5 * SEGMENT, 100, 100]);
});

test('a large batch is several frames and acknowledged once; commit never runs ahead of its entries', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk, { segmentBytes: 32 * 1024 * 1024 });
  let acknowledged = 0;
  const big = Array.from({ length: 5 }, (_, i) => entry(i + 1, 1, 2 * 1024 * 1024));
  wal.write(batch(big, 5), () => acknowledged++);
  const seen = new Set<number>();
  while (disk.step()) {
    const found = reopen(disk.copy(), { segmentBytes: 32 * 1024 * 1024 });
    seen.add(found.entries.length);
    expect(found.hardState?.commit ?? 0).toBeLessThanOrEqual(found.entries.length);
    if (acknowledged > 0) expect(found.entries).toHaveLength(5);
  }
  expect(acknowledged).toBe(1);
  expect(seen.size).toBeGreaterThan(2);
});

test('a snapshot replaces the log before it; covered segments and old snapshots are deleted', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk, { keepEntries: 20 });
  for (let i = 1; i <= 150; i++) write(disk, wal, [entry(i)], i);
  run(disk, (done) => wal.saveSnapshot(snapshot(50), done));
  run(disk, (done) => wal.saveSnapshot(snapshot(120), done));
  expect(disk.list('snap')).toHaveLength(1);
  expect(wal.segmentPaths()).toEqual(segments(disk));
  expect(wal.segmentPaths().length).toBeLessThan(4);
  for (let i = 151; i <= 200; i++) write(disk, wal, [entry(i)], i);
  let sent = null;
  run(disk, (done) => {
    wal.loadSnapshot((error, found) => {
      sent = found;
      done(error);
    });
  });
  expect(plain(sent)).toEqual(snapshot(120));
  const found = reopen(disk, { keepEntries: 20 });
  expect(plain(found.snapshot)).toEqual(snapshot(120));
  expect(found.entries).toEqual(entries(121, 200));
  expect(found.kept).toEqual(entries(101, 120));
});

test('snapshots are written beside: frames go on meanwhile, and the marker comes after the file', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  write(disk, wal, entries(1, 20), 20);
  const order: string[] = [];
  wal.saveSnapshot(snapshot(10), () => order.push('snapshot'));
  wal.write(batch([entry(21)], 20), () => order.push('write'));
  while (disk.step()) expect(reopen(disk.copy()).repair).toBeNull();
  expect(order).toEqual(['write', 'snapshot']);
  expect(reopen(disk).snapshot?.metadata?.index).toBe(10);
});

test('a snapshot from the leader replaces the whole log, and an own one that comes late', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  for (let i = 1; i <= 100; i++) write(disk, wal, [entry(i)], 10);
  const done: string[] = [];
  wal.write(batch(entries(151, 152, 3), 151, 3, { snapshot: snapshot(150, 3) }), () => done.push('write'));
  wal.saveSnapshot(snapshot(9), () => done.push('save'));
  disk.settle();
  expect(done).toEqual(['write', 'save']);
  expect(segments(disk)).toHaveLength(1);
  expect(disk.list('snap')).toHaveLength(1);
  const found = reopen(disk);
  expect(found.entries).toEqual(entries(151, 152, 3));
  expect(plain(found.snapshot)).toEqual(snapshot(150, 3));
  expect(found.hardState).toEqual({ term: 3, vote: 7, commit: 151 });
});

test('old snapshots are kept when asked for, and serve when the newest is damaged and the log reaches back', () => {
  const disk = new MemoryDisk();
  const options = { keepOldSnapshots: 1, keepEntries: 100 };
  const { wal } = openMemory(disk, options);
  for (let i = 1; i <= 60; i++) write(disk, wal, [entry(i)], i);
  for (const index of [20, 30, 40]) run(disk, (done) => wal.saveSnapshot(snapshot(index), done));
  run(disk, (done) => wal.close(done));
  expect(disk.list('snap')).toHaveLength(2);
  const newest = must(disk.list('snap').at(-1), 'snapshot');
  must(disk.files.get(`snap/${newest}`), 'file').fill(0, 70);
  for (let i = 0; i < 2; i++) {
    const found = reopen(disk, options);
    expect(found.repair).toBeNull();
    expect(found.snapshot?.metadata?.index).toBe(30);
    expect(found.entries).toEqual(entries(31, 60));
    expect(found.hardState?.commit).toBe(60);
  }
});

test('a log of another member is refused', () => {
  const disk = new MemoryDisk();
  expect(holdsWal(disk)).toBe(false);
  reopen(disk);
  expect(holdsWal(disk)).toBe(true);
  expect(() => openMemory(disk, { nodeId: 8 })).toThrow(/belongs to member 7/);
});

test('term and vote are durable in two places before a write is done', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  write(disk, wal, entries(1, 3), 0, 4);
  const bare = { entries: [], snapshot: null, repaired: false };
  run(disk, (done) => wal.write({ ...bare, hardState: { term: 5, vote: 2, commit: 0 } }, done));
  const withoutVote = disk.copy();
  withoutVote.files.delete('wal/vote');
  expect(reopen(withoutVote).hardState).toMatchObject({ term: 5, vote: 2 });
  const path = must(segments(disk)[0], 'segment');
  const file = must(disk.files.get(path), 'file');
  const last = must(frames(file).at(-1), 'frame');
  file.fill(0x55, last.start, last.end);
  const found = reopen(disk);
  expect(found.hardState).toMatchObject({ term: 5, vote: 2 });
  expect(found.repair).toMatchObject({ floor: null });
});

test('a write that fails is final and names the way out; what was acknowledged is found', () => {
  for (const [code, message] of [
    ['ENOSPC', /\/disk\/wal\/wal-.*no space left on device: free space under \/disk and restart/],
    ['EIO', /input\/output error/],
    ['EROFS', /read-only/],
  ] as const) {
    const disk = new MemoryDisk();
    const { wal } = openMemory(disk);
    write(disk, wal, entries(1, 2), 0);
    disk.onOperation = (kind) => {
      if (kind === 'write') throw Object.assign(new Error(code), { code });
    };
    expect(() => write(disk, wal, [entry(3)], 0)).toThrow(message);
    disk.onOperation = () => undefined;
    expect(() => write(disk, wal, [entry(3)], 0)).toThrow(/failed before/);
    run(disk, (done) => wal.close((error) => done(error === null ? new Error('no error') : null)));
    expect(reopen(disk).entries).toEqual(entries(1, 2));
  }
});

test('a spare segment that cannot be made is no error as long as the next one can', () => {
  const disk = new MemoryDisk();
  const { wal } = openMemory(disk);
  let failures = 0;
  disk.onOperation = (kind, path) => {
    if (kind === 'make' && path.includes('spare') && failures++ === 0) {
      throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    }
  };
  for (let i = 1; i <= 100; i++) write(disk, wal, [entry(i)], 0);
  expect(failures).toBeGreaterThan(2);
  disk.onOperation = (kind) => {
    if (kind === 'make') throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
  };
  expect(() => write(disk, wal, [entry(101, 1, SEGMENT)], 0)).toThrow(/free space/);
});

test('encryption: nothing in clear, wrong and unknown keys are told from damage, rotation forgets old keys', () => {
  const disk = new MemoryDisk();
  const clear = openMemory(disk, { keepEntries: 10 });
  for (let i = 1; i <= 30; i++) write(disk, clear.wal, [entry(i)], i);
  run(disk, (done) => clear.wal.close(done));
  const keys = new TestKeys(1);
  const { wal, recovered } = openMemory(disk, { keys, keepEntries: 10 });
  expect(recovered.entries).toEqual(entries(1, 30));
  const secret = { ...entry(31), data: new Uint8Array(Buffer.from('a secret that nobody sees')) };
  write(disk, wal, [secret], 30);
  const both = disk.copy();
  expect(reopen(both.copy(), { keys }).entries).toEqual([...entries(1, 30), secret]);
  expect([...both.files.values()].some((file) => file.includes('nobody sees'))).toBe(false);
  expect(() => reopen(both.copy())).toThrow(/encrypted \(key 1\) and no keys were given/);
  expect(() => reopen(both.copy(), { keys: new TestKeys(2) })).toThrow(/not among the keys/);
  const wrong = new TestKeys(1);
  wrong.find = (id) => ({ id, secret: new Uint8Array(32) });
  expect(() => reopen(both.copy(), { keys: wrong })).toThrow(/not the key it was encrypted with/);

  const told: (ReadonlySet<number> | null)[] = [];
  for (let i = 32; i <= 60; i++) write(disk, wal, [entry(i)], i);
  run(disk, (done) => wal.saveSnapshot(snapshot(60), done));
  told.push(keys.retained);
  keys.known.add(2);
  keys.id = 2;
  for (let i = 61; i <= 90; i++) write(disk, wal, [entry(i)], i);
  run(disk, (done) => wal.saveSnapshot(snapshot(90), done));
  told.push(keys.retained);
  expect(told).toEqual([new Set([1]), new Set([2])]);
  run(disk, (done) => wal.close(done));
  const found = reopen(disk, { keys: new TestKeys(2) });
  expect(plain(found.snapshot)).toEqual(snapshot(90));
});

test('no nonce comes back: frames and snapshots of one key, over openings', () => {
  const disk = new MemoryDisk();
  const keys = new TestKeys(1);
  const salts = new Set<string>();
  let drawn = 0;
  const randomBytes = (count: number): Uint8Array => {
    const out = new Uint8Array(count).fill(++drawn);
    salts.add(Buffer.from(out).toString('hex'));
    return out;
  };
  for (let opening = 0; opening < 3; opening++) {
    const { wal } = openMemory(disk, { keys, randomBytes });
    write(disk, wal, [entry(opening + 1)], opening + 1);
    run(disk, (done) => wal.saveSnapshot(snapshot(opening + 1), done));
    run(disk, (done) => wal.close(done));
  }
  expect(salts.size).toBe(drawn);
  expect(drawn).toBe(6);
});

test('fuzz: random batches, snapshots, restarts and power cuts give back what a model holds', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), back: fc.nat(5), count: fc.nat(20), bytes: fc.nat(900) }),
    fc.record({ kind: fc.constant('snapshot' as const) }),
    fc.record({ kind: fc.constant('reopen' as const), clean: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, sealed) => {
      let disk = new MemoryDisk();
      const options = { keepEntries: 15, ...(sealed ? { keys: new TestKeys(1) } : {}) };
      let { wal } = openMemory(disk, options);
      const model = { log: [] as RaftEntry[], offset: 0, commit: 0, term: 1 };
      for (const action of steps) {
        const last = model.offset + model.log.length;
        if (action.kind === 'append') {
          const from = Math.max(model.commit, last - action.back) + 1;
          model.term++;
          const list = Array.from({ length: action.count }, (_, i) => entry(from + i, model.term, action.bytes));
          if (list.length === 0) continue;
          model.log = [...model.log.slice(0, from - 1 - model.offset), ...list];
          model.commit = Math.max(model.commit, from - 1);
          write(disk, wal, list, model.commit, model.term);
        } else if (action.kind === 'snapshot') {
          if (model.commit <= model.offset) continue;
          run(disk, (done) => wal.saveSnapshot(snapshot(model.commit), done));
          model.log = model.log.slice(model.commit - model.offset);
          model.offset = model.commit;
        } else {
          if (action.clean) run(disk, (done) => wal.close(done));
          disk = disk.copy();
          const opened = openMemory(disk, options);
          wal = opened.wal;
          expect(opened.recovered.repair).toBeNull();
          expect(opened.recovered.entries).toEqual(model.log);
          expect(opened.recovered.snapshot?.metadata?.index ?? 0).toBe(model.offset);
        }
      }
      const found = reopen(disk, options);
      expect(found.entries).toEqual(model.log);
      expect(found.hardState?.commit ?? 0).toBe(model.commit);
    }),
    { numRuns: 60 },
  );
});
