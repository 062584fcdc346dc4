import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { must, VirtualClock } from '../../base/index.ts';
import { RaftMessage, RaftMessageType, SnapshotOffer } from '../../proto/index.ts';
import { SNAPSHOT_BYTES_MAX, splitSnapshot } from './snapshot-chunks.ts';
import { SnapshotInbox, UNFINISHED_KEPT_MS, UNFINISHED_MAX, type IncomingSnapshot } from './snapshot-inbox.ts';

const make = (bytes: number, index = 5, fill = 7): RaftMessage =>
  RaftMessage.create({
    type: RaftMessageType.MsgSnap,
    from: 1,
    snapshot: { data: Buffer.alloc(bytes, fill), metadata: { index, term: 2 } },
  });

function offerOf(message: RaftMessage, wrong = false): SnapshotOffer {
  const { data, metadata } = must(message.snapshot, 'snapshot');
  const sha256 = createHash('sha256')
    .update(wrong ? 'x' : data)
    .digest();
  return SnapshotOffer.create({ ...metadata, from: 1, bytes: data.length, sha256 });
}

/** Adds the pieces of 10 bytes from where the receiver wants them, up to `end`. */
function feed(incoming: IncomingSnapshot, message: RaftMessage, end: number): void {
  let at = incoming.offset;
  for (const piece of splitSnapshot(message, 10, at)) {
    if (at >= end && end > incoming.offset) return;
    incoming.add(piece, at);
    at += must(piece.snapshot, 'piece').data.length;
  }
}

test('goes on where an earlier stream broke off, and gives the whole', () => {
  const inbox = new SnapshotInbox(new VirtualClock());
  const message = make(95);
  const first = inbox.open(offerOf(message));
  feed(first, message, 40);
  expect(() => first.finish()).toThrow(/ended at byte 40 of 95/);
  const second = inbox.open(offerOf(message));
  expect(second.offset).toBe(40);
  expect(() => first.add(message, 40)).toThrow(/another stream/);
  feed(second, message, 95);
  expect(RaftMessage.equal(second.finish(), message)).toBe(true);
  expect(inbox.unfinished).toBe(0);
});

test('everything had arrived but the end: one empty piece completes it', () => {
  const inbox = new SnapshotInbox(new VirtualClock());
  const message = make(30);
  feed(inbox.open(offerOf(message)), message, 30);
  const again = inbox.open(offerOf(message));
  expect(again.offset).toBe(30);
  feed(again, message, 30);
  expect(RaftMessage.equal(again.finish(), message)).toBe(true);
});

test('a piece that does not follow, too many bytes, or another snapshot’s piece is refused', () => {
  const inbox = new SnapshotInbox(new VirtualClock());
  const message = make(20);
  const incoming = inbox.open(offerOf(message));
  expect(() => incoming.add(make(10), 10)).toThrow(/does not follow on byte 0/);
  expect(() => incoming.add(make(21), 0)).toThrow(/does not follow/);
  expect(() => incoming.add(make(10, 6), 0)).toThrow(/does not follow/);
  incoming.add(make(10), 0);
  expect(() => incoming.add(make(10), 0)).toThrow(/does not follow on byte 10/);
});

test('a wrong checksum drops all of it', () => {
  const inbox = new SnapshotInbox(new VirtualClock());
  const message = make(20);
  const incoming = inbox.open(offerOf(message, true));
  feed(incoming, message, 20);
  expect(() => incoming.finish()).toThrow(/wrong checksum/);
  expect(inbox.unfinished).toBe(0);
});

test('what is unfinished is kept for a bounded time, and in a bounded number', async () => {
  const clock = new VirtualClock();
  const inbox = new SnapshotInbox(clock);
  const [a, b, c] = [make(50, 1), make(50, 2), make(50, 3)];
  feed(inbox.open(offerOf(a)), a, 20);
  await clock.advanceAsync(1_000);
  feed(inbox.open(offerOf(b)), b, 20);
  await clock.advanceAsync(1_000);
  feed(inbox.open(offerOf(c)), c, 20);
  expect(inbox.unfinished).toBe(UNFINISHED_MAX);
  expect(inbox.open(offerOf(b)).offset).toBe(20);
  await clock.advanceAsync(2 * UNFINISHED_KEPT_MS);
  expect(inbox.unfinished).toBe(0);
  expect(inbox.open(offerOf(c)).offset).toBe(0);
});

test('too large a snapshot, or one without a digest, takes no memory', () => {
  const inbox = new SnapshotInbox(new VirtualClock());
  const offer = offerOf(make(1));
  expect(() => inbox.open({ ...offer, bytes: SNAPSHOT_BYTES_MAX + 1 })).toThrow(/too large/);
  expect(() => inbox.open({ ...offer, sha256: Buffer.alloc(3) })).toThrow(/without digest/);
  expect(inbox.unfinished).toBe(0);
});
