import { memoryUsage } from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { RaftEntryType } from '../../proto/index.ts';
import { EntryStore } from './entry-store.ts';
import { answers, bytes, member, T, textOf } from './harness.ts';
import { raftMessage } from './index.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes in use after everything unused is gone. */
function usedBytes(): number {
  for (let i = 0; i < 3; i++) collect();
  const { heapUsed, external } = memoryUsage();
  // `external` counts array buffers too.
  return heapUsed + external;
}

const ENTRIES = 100_000;
const DATA_BYTES = 100;
const BATCH = 100;
const MIB = 1024 * 1024;

test('100 000 small entries that are kept cost less than 20 MB, though they came in large messages', () => {
  const raft = member(1, { hardState: { term: 1, vote: 0, commit: 0 } });
  const before = usedBytes();
  for (let index = 0; index < ENTRIES; index += BATCH) {
    // As a transport hands them over: views on one received buffer, which holds much else.
    const received = new Uint8Array(4 * BATCH * DATA_BYTES);
    const entries = Array.from({ length: BATCH }, (_, i) => ({
      type: RaftEntryType.EntryNormal,
      term: 1,
      index: index + 1 + i,
      data: received.subarray(i * DATA_BYTES, (i + 1) * DATA_BYTES),
    }));
    const commit = index + BATCH;
    const log_term = index === 0 ? 0 : 1;
    raft.step(raftMessage({ type: T.MsgApp, from: 2, to: 1, term: 1, index, log_term, entries, commit }));
    for (let i = 0; i < 3; i++) {
      const ready = raft.ready();
      if (ready.write !== null) raft.written(ready.write);
      const last = ready.committed.at(-1);
      if (last !== undefined) raft.appliedTo(last.index);
    }
  }
  const cost = usedBytes() - before;
  expect([raft.applied, raft.firstIndex]).toEqual([ENTRIES, 1]);
  expect(cost / MIB).toBeLessThan(20);
  // It was 100 bytes of data each: what is left is overhead.
  expect(cost / ENTRIES - DATA_BYTES).toBeLessThan(40);
  expect(raft.entriesFrom(ENTRIES - 1)).toHaveLength(2);
});

test('packed entries are what they were', () => {
  const store = new EntryStore(1);
  const model: { term: number; text: string }[] = [];
  for (let index = 1; index <= 5000; index++) {
    const fact = { term: 1 + Math.floor(index / 700), text: 'x'.repeat(index % 13 === 0 ? 3000 : index % 7) };
    model.push(fact);
    const type = index % 3 === 0 ? RaftEntryType.EntryConfChange : RaftEntryType.EntryNormal;
    store.push({ type, term: fact.term, index, data: bytes(fact.text) });
    store.pack(index - 5);
    if (index === 3000) store.forget(1500);
  }
  expect([store.lastIndex, store.entry(5001), store.term(0)]).toEqual([5000, undefined, undefined]);
  for (let index = 1600; index <= 5000; index++) {
    const { term, text } = model[index - 1] as { term: number; text: string };
    const type = index % 3 === 0 ? RaftEntryType.EntryConfChange : RaftEntryType.EntryNormal;
    const { data, ...rest } = must(store.entry(index), 'entry');
    expect([rest.type, rest.term, rest.index, textOf(data) === text]).toEqual([type, term, index, true]);
    expect(store.term(index)).toBe(term);
  }
  store.truncate(4990);
  expect(store.lastIndex).toBe(4989);
});

test('one small entry does not keep a large received buffer', () => {
  const raft = member(1);
  const data = new Uint8Array(1 << 20).subarray(5, 8);
  const entry = { type: RaftEntryType.EntryNormal, term: 1, index: 1, data };
  answers(raft, { type: T.MsgApp, from: 2, term: 1, entries: [entry] });
  expect(raft.entriesFrom(1)[0]?.data.buffer.byteLength).toBeLessThan(100);
});
