import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RaftMessage, RaftMessageType } from '../../proto/index.ts';
import { messageSize } from './codec.ts';
import { SendQueue } from './queue.ts';

const { MsgApp, MsgAppResp, MsgHeartbeat, MsgPreVote, MsgVote, MsgVoteResp } = RaftMessageType;
const make = (type: RaftMessageType, index = 0, dataBytes = 0): RaftMessage =>
  RaftMessage.create({ type, index, entries: dataBytes === 0 ? [] : [{ data: Buffer.alloc(dataBytes) }] });
const kinds = (queue: SendQueue): string[] =>
  queue.take(Number.MAX_SAFE_INTEGER, 10_000).map(({ type, index }) => `${type}:${index}`);

test('gives messages in order, up to a bound of bytes but one at least', () => {
  const queue = new SendQueue();
  for (let i = 1; i <= 4; i++) queue.push(make(MsgApp, i, 1000));
  expect(queue.take(1, 100).map(({ index }) => index)).toEqual([1]);
  expect(queue.take(2500, 100).map(({ index }) => index)).toEqual([2, 3]);
  expect(queue.take(1e6, 0)).toEqual([]);
  expect(queue.take(1e6, 1).map(({ index }) => index)).toEqual([4]);
  expect([queue.length, queue.bytes]).toEqual([0, 0]);
});

test('old heartbeats give way first, and nobody need be told', () => {
  const queue = new SendQueue(4);
  queue.push(make(MsgHeartbeat, 1));
  queue.push(make(MsgHeartbeat, 2));
  queue.push(make(MsgHeartbeat, 3));
  queue.push(make(MsgApp, 4));
  expect(queue.push(make(MsgHeartbeat, 5))).toEqual({ messages: 3, told: false });
  expect(kinds(queue)).toEqual([`${MsgApp}:4`, `${MsgHeartbeat}:5`]);
});

test('then all appends, and the leader is told; an answer and the newest votes stay', () => {
  const queue = new SendQueue(100, 10_000);
  queue.push(make(MsgVote, 1));
  queue.push(make(MsgVote, 2));
  queue.push(make(MsgAppResp, 3));
  for (let i = 4; i < 7; i++) expect(queue.push(make(MsgApp, i, 3000))).toBeUndefined();
  expect(queue.push(make(MsgApp, 7, 3000))).toEqual({ messages: 4, told: true });
  expect(kinds(queue)).toEqual([`${MsgVote}:1`, `${MsgVote}:2`, `${MsgAppResp}:3`]);
});

test('of votes alone the oldest go, the newest of each kind stays', () => {
  const queue = new SendQueue(4);
  queue.push(make(MsgPreVote, 1));
  for (let i = 2; i <= 4; i++) queue.push(make(MsgVote, i));
  expect(queue.push(make(MsgVoteResp, 5))?.told).toBe(true);
  const left = kinds(queue);
  expect(left).toEqual(expect.arrayContaining([`${MsgPreVote}:1`, `${MsgVote}:4`, `${MsgVoteResp}:5`]));
  expect(left.length).toBeLessThanOrEqual(4);
});

test('without a way to the peer only the newest votes wait', () => {
  const queue = new SendQueue();
  for (const [i, type] of [MsgHeartbeat, MsgVote, MsgApp, MsgVote, MsgPreVote].entries()) queue.push(make(type, i));
  expect(queue.keepVotes()).toEqual({ messages: 3, told: true });
  expect(kinds(queue)).toEqual([`${MsgVote}:3`, `${MsgPreVote}:4`]);
  queue.push(make(MsgHeartbeat));
  expect(queue.keepVotes()).toEqual({ messages: 1, told: false });
});

test('is always within its bounds, keeps the newest votes, and counts its bytes right', () => {
  const types = [MsgApp, MsgAppResp, MsgHeartbeat, MsgPreVote, MsgVote, MsgVoteResp];
  const step = fc.record({ type: fc.constantFrom(...types), size: fc.nat(2000), take: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const queue = new SendQueue(16, 8000);
      let votes = new Map<number, number>();
      for (const [i, { type, size, take }] of steps.entries()) {
        queue.push(make(type, i + 1, type === MsgApp ? size : 0));
        if (type === MsgVote || type === MsgPreVote) votes.set(type, i + 1);
        expect(queue.length).toBeLessThanOrEqual(16);
        expect(queue.bytes).toBeLessThanOrEqual(8000);
        if (!take) continue;
        const all = queue.take(Number.MAX_SAFE_INTEGER, 100);
        expect(queue.bytes).toBe(0);
        for (const [kind, index] of votes) expect(all.some((m) => m.type === kind && m.index === index)).toBe(true);
        expect(all.reduce((sum, m) => sum + messageSize(m), 0)).toBeLessThanOrEqual(8000);
        votes = new Map();
      }
    }),
  );
});
