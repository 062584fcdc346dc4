import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RaftEntry, RaftMessage, RaftMessageType, RaftSnapshot, StreamRaftMessageRequest } from '../../proto/index.ts';
import { decodeBatch, encodeBatch, messageSize } from './codec.ts';

const uint = fc.oneof(
  fc.constantFrom(0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 35 - 1, 2 ** 35, 2 ** 42, 2 ** 49),
  fc.nat(),
  fc.maxSafeNat(),
);
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const entry = fc.record({ type: fc.constantFrom(0, 1, 2), term: uint, index: uint, data: bytes });
const confState = { voters: fc.array(uint), learners: fc.array(uint), auto_leave: fc.boolean() };
const snapshot = fc.record({
  data: bytes,
  metadata: fc.option(
    fc.record({
      conf_state: fc.record({ ...confState, voters_outgoing: fc.array(uint), learners_next: fc.array(uint) }),
      index: uint,
      term: uint,
    }),
  ),
});
const message = fc
  .record({
    type: fc.constantFrom(...Object.values(RaftMessageType)),
    to: uint,
    from: uint,
    term: uint,
    log_term: uint,
    index: uint,
    entries: fc.array(entry, { maxLength: 5 }),
    commit: uint,
    snapshot: fc.option(snapshot),
    reject: fc.boolean(),
    reject_hint: uint,
    context: bytes,
  })
  .map((fields) => RaftMessage.create(fields as never));

const buffer = (value: Uint8Array): Buffer => Buffer.from(value.buffer, value.byteOffset, value.byteLength);

test('what it writes is what the general codec reads, and the other way round', () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), uint, (messages, snapshot_offset) => {
      const [first, ...more] = messages;
      const whole = StreamRaftMessageRequest.create({ message: first, more, snapshot_offset });
      const lean = encodeBatch(messages, snapshot_offset);
      expect(StreamRaftMessageRequest.equal(StreamRaftMessageRequest.decode(lean), whole)).toBe(true);
      const decoded = decodeBatch(buffer(StreamRaftMessageRequest.encode(whole)));
      expect(StreamRaftMessageRequest.equal(decoded, whole)).toBe(true);
      expect(StreamRaftMessageRequest.equal(decodeBatch(lean), whole)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('the size of a message is known beforehand', () => {
  fc.assert(
    fc.property(message, (one) => {
      const size = messageSize(one);
      expect(encodeBatch([one]).length).toBe(size + 1 + (size < 128 ? 1 : size < 16_384 ? 2 : 3));
    }),
  );
});

test('every field of the schema is known to it: a new one must be added here', () => {
  const fields = 'entries,type,to,from,term,log_term,index,commit,snapshot,reject,reject_hint,context';
  expect(Object.keys(RaftMessage.create()).join()).toBe(fields);
  expect(Object.keys(RaftEntry.create()).join()).toBe('type,term,index,data');
  expect(Object.keys(RaftSnapshot.create()).join()).toBe('data,metadata');
  expect(Object.keys(StreamRaftMessageRequest.create()).join()).toBe('more,message,snapshot_offset');
});

test('bytes that are no message are refused, never read beyond their end; unknown fields are skipped', () => {
  const good = encodeBatch([
    RaftMessage.create({ type: RaftMessageType.MsgApp, entries: [{ index: 7, data: Buffer.alloc(50) }] }),
  ]);
  for (let cut = 1; cut < good.length; cut++) expect(() => decodeBatch(good.subarray(0, cut))).toThrow(/raft message/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      try {
        decodeBatch(Buffer.from(noise));
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
  );
  const unknown = Buffer.concat([Buffer.from([0xf8, 0x7f, 5, 0xf9, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8]), good]);
  expect(decodeBatch(unknown).message?.entries[0]?.index).toBe(7);
});

test('a kept entry does not keep its batch', () => {
  const batch = encodeBatch([
    RaftMessage.create({
      entries: [
        { index: 1, data: Buffer.alloc(10, 1) },
        { index: 2, data: Buffer.alloc(100_000) },
      ],
    }),
  ]);
  const [small] = decodeBatch(batch).message?.entries ?? [];
  expect(small?.data.buffer.byteLength).toBeLessThan(100_000);
});
