import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { answers, bytes, ELECTION_TICKS, entry, Harness, isolate, logOf, member, T, terms, three } from './harness.ts';
import { raftMessage } from './index.ts';

test('§5.3 an entry is committed once a majority holds it, and applied everywhere in order', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(3);
  group.get(1).propose([bytes('a'), bytes('b')]);
  group.settle();
  expect(group.texts(1)).toEqual(['a', 'b']);
  expect(group.texts(2)).toEqual(['a', 'b']);
  group.lost = () => false;
  group.tick(1, 1);
  group.settle();
  expect(group.texts(3)).toEqual(['a', 'b']);
});

test('§5.3 the leader’s own copy counts only once it is durable', () => {
  const raft = member(1, { voters: [1] });
  raft.campaign();
  raft.written(must(raft.ready().write, 'write of the vote'));
  const { write } = raft.ready();
  expect(write?.entries).toHaveLength(1);
  expect([raft.role, raft.commit]).toEqual(['leader', 0]);
  raft.written(must(write, 'write'));
  expect(raft.commit).toBe(1);
});

test('§5.3 the consistency check refuses an append after an entry that is missing or of another term', () => {
  const raft = member(1, { entries: logOf(1, 1, 2) });
  expect(answers(raft, { type: T.MsgApp, from: 2, term: 4, index: 5, log_term: 3 })).toMatchObject([
    { reject: true, index: 5, reject_hint: 3 },
  ]);
  expect(answers(raft, { type: T.MsgApp, from: 2, term: 4, index: 3, log_term: 3 })).toMatchObject([
    { reject: true, index: 3, reject_hint: 3, log_term: 2 },
  ]);
  // The hint skips all entries of terms above the leader's.
  expect(answers(raft, { type: T.MsgApp, from: 2, term: 4, index: 3, log_term: 1 })).toMatchObject([
    { reject: true, reject_hint: 2, log_term: 1 },
  ]);
});

test('§5.3 conflicting entries give way with all that follow; matching ones stay', () => {
  const raft = member(1, { entries: logOf(1, 1, 2, 2) });
  answers(raft, { type: T.MsgApp, from: 2, term: 3, index: 1, log_term: 1, entries: [entry(2, 1), entry(3, 3)] });
  expect(terms(raft)).toEqual([1, 1, 3]);
  // A late, shorter append does not shorten the log.
  answers(raft, { type: T.MsgApp, from: 2, term: 3, index: 1, log_term: 1, entries: [entry(2, 1)] });
  expect(terms(raft)).toEqual([1, 1, 3]);
});

test.each([
  ['(a) one entry missing', [1, 1, 1, 4, 4, 5, 5, 6, 6]],
  ['(b) many missing', [1, 1, 1, 4]],
  ['(c) one extra', [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]],
  ['(d) entries of an extra term', [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]],
  ['(e) both', [1, 1, 1, 4, 4, 4, 4]],
  ['(f) terms unknown to the leader', [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]],
])('figure 7 %s: the leader brings the follower’s log to its own', (_, follower) => {
  const hardState = { term: 7, vote: 0, commit: 0 };
  const leaderLog = logOf(1, 1, 1, 4, 4, 5, 5, 6, 6, 6);
  const group = new Harness(
    member(1, { entries: leaderLog, hardState }),
    member(2, { entries: logOf(...follower), hardState }),
    member(3, { hardState }),
  );
  group.elect(1);
  group.get(1).propose([bytes('new')]);
  group.settle();
  expect(terms(group.get(2))).toEqual(terms(group.get(1)));
  expect(group.get(2).commit).toBe(12);
});

test('§5.4.2 figure 8: entries of earlier terms commit only with one of the own term', () => {
  const hardState = { term: 2, vote: 0, commit: 0 };
  const raft = member(1, { entries: logOf(1, 2), hardState });
  const group = new Harness(raft);
  raft.campaign();
  group.drain(raft);
  answers(raft, { type: T.MsgPreVoteResp, from: 2, term: 3 });
  answers(raft, { type: T.MsgVoteResp, from: 2, term: 3 });
  expect(raft.role).toBe('leader');
  answers(raft, { type: T.MsgAppResp, from: 2, term: 3, index: 2 });
  expect(raft.commit).toBe(0);
  answers(raft, { type: T.MsgAppResp, from: 2, term: 3, index: 3 });
  expect(raft.commit).toBe(3);
});

test('§8 a new leader appends an empty entry of its term', () => {
  const group = three();
  group.elect(2);
  const [first] = group.get(2).entriesFrom(1);
  expect(first).toMatchObject({ term: 1, index: 1 });
  expect(first?.data).toHaveLength(0);
  expect(group.get(2).commit).toBe(1);
});

test('a deposed leader’s uncommitted entries are overwritten', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(1);
  group.get(1).propose([bytes('lost')]);
  group.settle();
  group.tick(2, ELECTION_TICKS);
  group.tick(3, ELECTION_TICKS);
  group.settle();
  group.get(2).campaign();
  group.settle();
  const leader = [group.get(2), group.get(3)].find((raft) => raft.role === 'leader');
  must(leader, 'leader').propose([bytes('kept')]);
  group.settle();
  group.lost = () => false;
  group.tick(must(leader, 'leader').id, 1);
  group.settle();
  expect(group.texts(1)).toEqual(['kept']);
  expect(group.get(1).role).toBe('follower');
});

test('flow control: no more appends than the window on their way, a paused follower gets one probe', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  let appends = 0;
  for (let i = 0; i < 10; i++) {
    leader.propose([bytes(`${i}`)]);
    appends += group.drain(leader).filter((m) => m.type === T.MsgApp && m.to === 2).length;
  }
  expect(appends).toBe(4);
  leader.reportUnreachable(2);
  leader.propose([bytes('x')]);
  leader.propose([bytes('y')]);
  expect(group.drain(leader).filter((m) => m.type === T.MsgApp && m.to === 2)).toHaveLength(1);
});

test('batching: an append carries about the largest number of bytes, but one entry at least', () => {
  const options = { maxAppendBytes: 10 };
  const group = new Harness(member(1, { options }), member(2, { options }), member(3, { options }));
  group.elect(1);
  const sizes: number[] = [];
  group.lost = (m) => {
    if (m.to === 2 && m.entries.length > 0) sizes.push(m.entries.length);
    return false;
  };
  group.get(1).propose([bytes('12345678'), bytes('abc'), bytes('a much longer entry'), bytes('d'), bytes('e')]);
  group.settle();
  expect(sizes).toEqual([1, 1, 1, 2]);
  expect(group.get(2).lastIndex).toBe(6);
});

test('§5.3 the commit index of an append counts only up to the last entry that it vouches for', () => {
  const raft = member(1, { entries: logOf(1, 1, 1) });
  answers(raft, { type: T.MsgApp, from: 2, term: 2, index: 1, log_term: 1, entries: [entry(2, 1)], commit: 3 });
  expect(raft.commit).toBe(2);
});

test('§5.3 a heartbeat commits only what the follower surely holds', () => {
  const group = three();
  group.elect(1);
  group.lost = (m) => m.to === 3 && m.type === T.MsgApp;
  group.get(1).propose([bytes('a')]);
  group.settle();
  group.pass(1, 1);
  expect([group.get(1).commit, group.get(3).commit]).toEqual([2, 1]);
});

test('§5.3 a leader tries again until every follower has all', () => {
  const group = three();
  group.elect(1);
  let losses = 5;
  group.lost = (m) => m.to === 3 && m.type === T.MsgApp && losses-- > 0;
  for (let i = 0; i < 20; i++) group.get(1).propose([bytes(`${i}`)]);
  group.settle();
  group.pass(1, 8);
  expect(group.texts(3)).toEqual(group.texts(1));
});

test('§5.5 an append that comes twice changes nothing', () => {
  const raft = member(1, { entries: logOf(1) });
  const append = { type: T.MsgApp, from: 2, term: 1, index: 1, log_term: 1, entries: [entry(2, 1), entry(3, 1)] };
  expect(answers(raft, append)).toMatchObject([{ index: 3, reject: false }]);
  raft.step(raftMessage({ to: 1, ...append }));
  const ready = raft.ready();
  expect([ready.write, ready.messages[0]?.index]).toEqual([null, 3]);
});

test('§5.4.2 in a group of five, an old entry on three disks is not committed, nor overwritten by counting', () => {
  const setup = { voters: [1, 2, 3, 4, 5], hardState: { term: 3, vote: 0, commit: 0 } };
  const raft = member(1, { ...setup, entries: logOf(1, 2) });
  const group = new Harness(raft);
  raft.campaign();
  group.drain(raft);
  for (const from of [2, 3]) answers(raft, { type: T.MsgPreVoteResp, from, term: 4 });
  for (const from of [2, 3]) answers(raft, { type: T.MsgVoteResp, from, term: 4 });
  for (const from of [2, 3, 4, 5]) answers(raft, { type: T.MsgAppResp, from, term: 4, index: 2 });
  expect([raft.role, raft.commit]).toEqual(['leader', 0]);
  answers(raft, { type: T.MsgAppResp, from: 2, term: 4, index: 3 });
  answers(raft, { type: T.MsgAppResp, from: 3, term: 4, index: 3 });
  expect(raft.commit).toBe(3);
});

const append = (index: number, term: number, ...entries: ReturnType<typeof entry>[]): RaftMessage =>
  raftMessage({ type: T.MsgApp, from: 2, to: 1, term, index, log_term: index === 0 ? 0 : 1, entries });

test('figure 2 a follower acknowledges entries only once they are durable', () => {
  const raft = member(1, { hardState: { term: 1, vote: 0, commit: 0 } });
  raft.step(append(0, 1, entry(1, 1)));
  const first = raft.ready();
  expect([first.messages, first.write?.entries.length]).toEqual([[], 1]);
  raft.step(append(1, 1, entry(2, 1)));
  raft.step(append(2, 1, entry(3, 1)));
  // One write at a time; no entry is handed out twice.
  expect(raft.hasReady() ? raft.ready().write : null).toBe(null);
  raft.written(must(first.write, 'write'));
  const second = raft.ready();
  expect(second.messages.map((m) => m.index)).toEqual([1]);
  expect(second.write?.entries.map((e) => e.index)).toEqual([2, 3]);
  raft.written(must(second.write, 'write'));
  expect(raft.ready().messages.map((m) => m.index)).toEqual([3]);
});

test('figure 2 heartbeats are answered while the disk is busy', () => {
  const raft = member(1, { hardState: { term: 1, vote: 0, commit: 0 } });
  raft.step(append(0, 1, entry(1, 1)));
  raft.ready();
  raft.step(raftMessage({ type: T.MsgHeartbeat, from: 2, to: 1, term: 1 }));
  expect(raft.ready().messages).toMatchObject([{ type: T.MsgHeartbeatResp }]);
});

test('figure 2 an acceptance of an older term is never sent, and overwritten entries do not become durable', () => {
  const raft = member(1, { hardState: { term: 1, vote: 0, commit: 0 } });
  raft.step(append(0, 1, entry(1, 1), entry(2, 1), entry(3, 1)));
  const { write } = raft.ready();
  raft.step({ ...append(1, 2, entry(2, 2)), from: 3 });
  raft.written(must(write, 'write'));
  const next = raft.ready();
  expect([raft.durable, next.messages]).toEqual([1, []]);
  expect(next.write?.entries.map((e) => [e.index, e.term])).toEqual([[2, 2]]);
  raft.written(must(next.write, 'write'));
  expect(raft.ready().messages).toMatchObject([{ to: 3, index: 2, reject: false }]);
});

test('figure 2 committed entries are applied once they are durable here', () => {
  const raft = member(1, { hardState: { term: 1, vote: 0, commit: 0 } });
  raft.step({ ...append(0, 1, entry(1, 1)), commit: 1 });
  const ready = raft.ready();
  expect([raft.commit, ready.committed]).toEqual([1, []]);
  raft.written(must(ready.write, 'write'));
  expect(raft.ready().committed.map((e) => e.index)).toEqual([1]);
  // Given once, also when they are not reported as applied yet.
  expect(raft.hasReady()).toBe(false);
  expect(raft.ready().committed).toEqual([]);
});

test('figure 2 a leader’s appends leave before its own write is durable', () => {
  const group = three();
  group.elect(1);
  group.slow.add(1);
  group.get(1).propose([bytes('a')]);
  expect(group.drain(group.get(1)).filter((m) => m.type === T.MsgApp)).toHaveLength(2);
  expect(group.get(1).isWriting).toBe(true);
});

test('flow control: bytes on their way are bounded, one append always goes', () => {
  const options = { maxInflightMessages: 100, maxInflightBytes: 100, maxAppendBytes: 60 };
  const group = new Harness(member(1, { options }), member(2, { options }), member(3, { options }));
  group.elect(1);
  group.lost = (m) => m.to === 2;
  group.get(1).propose([bytes('x'.repeat(500))]);
  for (let i = 0; i < 10; i++) group.get(1).propose([bytes('y'.repeat(50))]);
  group.settle();
  expect(group.get(1).progress.get(2)).toMatchObject({ state: 'replicate', paused: true });
  expect(group.get(1).progress.get(2)?.inflight.bytes).toBe(500);
  group.lost = () => false;
  group.pass(1, 2);
  expect(group.get(2).lastIndex).toBe(group.get(1).lastIndex);
});

test('flow control: a follower whose appends are held back costs nothing but heartbeats, and elects nobody', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  // Everything but heartbeats is stuck on the way to member 3.
  group.lost = (m) => m.to === 3 && m.type === T.MsgApp;
  for (let i = 0; i < 10; i++) leader.propose([bytes(`${i}`)]);
  group.settle();
  leader.reportUnreachable(3);
  let toThree: RaftMessage['type'][] = [];
  group.lost = (m) => {
    if (m.to === 3) toThree.push(m.type);
    return m.to === 3 && m.type === T.MsgApp;
  };
  for (let i = 0; i < 50; i++) {
    leader.propose([bytes('z')]);
    group.settle();
  }
  expect(toThree.length).toBeLessThanOrEqual(1);
  for (let i = 0; i < 5 * ELECTION_TICKS; i++) {
    toThree = [];
    for (const id of [1, 2, 3]) group.tick(id, 1);
    group.settle();
    expect(toThree.length).toBeLessThanOrEqual(2);
  }
  expect([leader.role, leader.term]).toEqual(['leader', 1]);
});

test('flow control: a leader takes only so much that is not committed, and only entries that fit', () => {
  const options = { maxUncommittedBytes: 100, maxEntryBytes: 80 };
  const group = three({ options });
  group.elect(1);
  const leader = group.get(1);
  group.lost = isolate(1);
  expect(leader.propose([bytes('x'.repeat(81))])).toMatchObject({ accepted: false, refusal: 'too-large' });
  expect(leader.propose([bytes('x'.repeat(80)), bytes('y'.repeat(80))]).accepted).toBe(true);
  expect(leader.propose([bytes('z')])).toMatchObject({ accepted: false, refusal: 'too-much-uncommitted' });
  expect(leader.uncommittedBytes).toBe(160);
  group.settle();
  group.lost = () => false;
  group.pass(1, 2);
  expect(leader.uncommittedBytes).toBe(0);
  expect(leader.propose([bytes('z')]).accepted).toBe(true);
});

test('flow control: a new leader counts what it finds uncommitted', () => {
  const group = three({ entries: logOf(1, 1) });
  group.lost = (m) => m.type === T.MsgApp;
  group.elect(1);
  expect(group.get(1).uncommittedBytes).toBe(6);
});

test('batching: what is proposed in one turn goes in one append, and commits are told once', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  for (let i = 0; i < 100; i++) leader.propose([bytes('x')]);
  const appends = group.drain(leader).filter((m) => m.type === T.MsgApp);
  expect(appends.map((m) => m.entries.length)).toEqual([100, 100]);
});

test('batching: with commits at ticks, a commit goes with the next entries, else with a tick', () => {
  const options = { commitAtTick: true, heartbeatTicks: 9 };
  const group = new Harness(...[1, 2, 3].map((id) => member(id, { options })));
  group.elect(1);
  const leader = group.get(1);
  leader.propose([bytes('a')]);
  const appends: RaftMessage[] = [];
  for (let round = 0; round < 3; round++) {
    const messages = [...group.rafts.values()].flatMap((raft) => group.drain(raft));
    appends.push(...messages.filter((message) => message.type === T.MsgApp));
    for (const message of messages) group.deliver(message);
  }
  group.drain(leader);
  expect(appends.map((m) => m.entries.length)).toEqual([1, 1]);
  // The entry brought the commit of the one before it.
  expect([leader.commit, group.get(2).commit]).toEqual([2, 1]);
  leader.propose([bytes('b')]);
  group.settle();
  expect([leader.commit, group.get(2).commit, group.get(3).commit]).toEqual([3, 2, 2]);
  leader.tick();
  expect(group.drain(leader)).toEqual([]);
  leader.tick();
  group.settle();
  expect([group.get(2).commit, group.get(3).commit]).toEqual([3, 3]);
  expect(group.applied.get(2)?.length).toBe(3);
});
