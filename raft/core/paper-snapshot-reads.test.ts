import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import type { RaftMessage, RaftSnapshot } from '../../proto/index.ts';
import { answers, bytes, ELECTION_TICKS, entry, Harness, isolate, logOf, member, T, three } from './harness.ts';
import { confStateOf, raftMessage, type Raft } from './index.ts';

test('§7 snapshot: a follower behind the log’s beginning gets the snapshot, then the rest', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(3);
  for (let i = 0; i < 10; i++) {
    group.get(1).propose([bytes(`${i}`)]);
    group.settle();
  }
  const leader = group.get(1);
  const metadata = leader.snapshotMetadata();
  leader.snapshotTaken(metadata, metadata.index);
  leader.propose([bytes('after')]);
  group.settle();
  group.lost = () => false;
  group.tick(1, 1);
  group.settle();
  group.tick(1, 1);
  group.settle();
  expect(group.get(3).firstIndex).toBe(metadata.index + 1);
  expect(group.texts(3)).toEqual(['after']);
  expect([...group.get(3).membership.voters]).toEqual([1, 2, 3]);
});

test('§7 snapshot: one that is lost without a word is sent again; one reported lost sooner', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  group.lost = isolate(3);
  leader.propose([bytes('a')]);
  group.settle();
  leader.snapshotTaken(leader.snapshotMetadata(), leader.applied);
  let snapshots = 0;
  group.lost = (m) => m.type === T.MsgSnap && ++snapshots > 0;
  for (let i = 0; i < 40; i++) {
    group.tick(1, 1);
    group.settle();
  }
  expect(snapshots).toBe(2);
  leader.reportSnapshot(3, false);
  group.tick(1, 1);
  group.settle();
  expect(snapshots).toBe(3);
});

test('§7 an old snapshot is ignored', () => {
  const raft = member(1, { entries: logOf(1, 1, 1), hardState: { term: 1, vote: 0, commit: 3 } });
  const snapshot = { data: bytes(''), metadata: { index: 2, term: 1, conf_state: null } };
  expect(answers(raft, { type: T.MsgSnap, from: 2, term: 1, snapshot })).toMatchObject([{ index: 3 }]);
  expect(raft.firstIndex).toBe(1);
});

test('thesis §3.10 leader transfer: the target catches up, is told to campaign, and wins in spite of the lease', () => {
  const group = three();
  group.elect(1);
  expect(group.get(1).transferLeadership(2)).toBe(true);
  expect(group.get(1).propose([bytes('x')])).toMatchObject({ accepted: false, refusal: 'transferring' });
  group.settle();
  expect([group.get(1).role, group.get(2).role]).toEqual(['follower', 'leader']);
});

test('thesis §3.10 a transfer that does not happen is given up', () => {
  const group = three();
  group.elect(1);
  group.lost = (m) => m.type === T.MsgTimeoutNow;
  group.get(1).transferLeadership(2);
  group.settle();
  for (let i = 0; i < ELECTION_TICKS; i++) {
    group.tick(1, 1);
    group.settle();
  }
  expect(group.get(1).propose([bytes('x')]).accepted).toBe(true);
});

test('thesis §6.4 read index: confirmed by a majority’s heartbeats, on leader and follower', () => {
  const group = three();
  group.elect(1);
  group.get(1).propose([bytes('a')]);
  group.settle();
  group.get(1).readIndex(bytes('r'));
  expect(group.reads.get(1)).toEqual([]);
  group.settle();
  expect(group.reads.get(1)).toEqual([2]);
  group.get(3).readIndex(bytes('s'));
  group.settle();
  expect(group.reads.get(3)).toEqual([2]);
  group.lost = isolate(1);
  group.get(1).readIndex(bytes('t'));
  group.settle();
  expect(group.reads.get(1)).toEqual([2]);
});

test('a member whose disk lost committed entries stops instead of voting with holes', () => {
  const raft = member(1, { entries: logOf(1) });
  expect(() => raft.step(raftMessage({ type: T.MsgHeartbeat, from: 2, to: 1, term: 1, commit: 5 }))).toThrow(/lost/);
});

/** A follower with one entry that gets a snapshot at (9, 2). */
function restoring(): Raft {
  const raft = member(1, { entries: logOf(1), hardState: { term: 2, vote: 0, commit: 1 } });
  new Harness(raft).drain(raft);
  raft.step(raftMessage({ type: T.MsgSnap, from: 2, to: 1, term: 2, snapshot: snapshotAt(9) }));
  return raft;
}

function snapshotAt(index: number): RaftSnapshot {
  const conf_state = confStateOf({ voters: new Set([1, 2]), learners: new Set([3]) });
  return { data: bytes('s'), metadata: { index, term: 2, conf_state } };
}

test('§7 a received snapshot is acknowledged and restored once it is durable, and what follows waits with it', () => {
  const raft = restoring();
  const { write, messages, restore } = raft.ready();
  expect([messages, restore, write?.snapshot?.metadata?.index]).toEqual([[], null, 9]);
  expect([raft.applied, raft.durable, raft.commit]).toEqual([1, 0, 9]);
  raft.step(
    raftMessage({
      type: T.MsgApp,
      from: 2,
      to: 1,
      term: 2,
      index: 9,
      log_term: 2,
      entries: [entry(10, 2)],
      commit: 10,
    }),
  );
  expect(raft.ready()).toMatchObject({ messages: [], committed: [], restore: null, write: null });
  raft.written(must(write, 'write'));
  const next = raft.ready();
  expect(next.restore?.metadata?.index).toBe(9);
  expect([next.messages.map((m) => m.index), raft.applied]).toEqual([[9], 9]);
  raft.written(must(next.write, 'write'));
  expect(raft.ready()).toMatchObject({ messages: [{ index: 10 }], committed: [{ index: 10 }], restore: null });
  expect(confStateOf(raft.membership)).toMatchObject({ voters: [1, 2], learners: [3] });
});

test('§7 a newer snapshot overtakes one that is being written', () => {
  const raft = restoring();
  const { write } = raft.ready();
  raft.step(raftMessage({ type: T.MsgSnap, from: 2, to: 1, term: 2, snapshot: snapshotAt(12) }));
  raft.written(must(write, 'write'));
  const next = raft.ready();
  expect([next.restore, next.messages, next.write?.snapshot?.metadata?.index]).toEqual([null, [], 12]);
  raft.written(must(next.write, 'write'));
  expect(raft.ready()).toMatchObject({ restore: { metadata: { index: 12 } }, messages: [{ index: 12 }] });
});

test('§7 a write of entries that a snapshot replaced meanwhile makes nothing durable', () => {
  const raft = member(1, { entries: logOf(1), hardState: { term: 2, vote: 0, commit: 0 } });
  raft.step(raftMessage({ type: T.MsgApp, from: 2, to: 1, term: 2, index: 1, log_term: 1, entries: [entry(2, 2)] }));
  const { write } = raft.ready();
  raft.step(raftMessage({ type: T.MsgSnap, from: 2, to: 1, term: 2, snapshot: snapshotAt(9) }));
  raft.written(must(write, 'write'));
  expect([raft.durable, raft.ready().messages]).toEqual([0, []]);
});

test('§7 a member that waits for a snapshot does not campaign; its own snapshot is of the old state', () => {
  const raft = restoring();
  raft.ready();
  raft.campaign();
  expect(raft.role).toBe('follower');
  const metadata = raft.snapshotMetadata();
  expect(metadata).toMatchObject({ index: 1, term: 1, conf_state: { voters: [1, 2, 3] } });
  // It is overtaken: nothing changes.
  raft.snapshotTaken(metadata, 1);
  expect(raft.firstIndex).toBe(10);
});

test('§7 compaction keeps what the driver wants for followers that are a little behind', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(3);
  group.get(1).propose(['a', 'b', 'c'].map(bytes));
  group.settle();
  group.get(1).snapshotTaken(group.get(1).snapshotMetadata(), 1);
  expect([group.get(1).firstIndex, group.get(1).termAt(1)]).toEqual([2, 1]);
  const sent: RaftMessage['type'][] = [];
  group.lost = (m) => m.to === 3 && sent.push(m.type) < 0;
  group.pass(1, 2);
  expect(sent).not.toContain(T.MsgSnap);
  expect(group.texts(3)).toEqual(['a', 'b', 'c']);
});

test('§7 entries from before the snapshot that the disk kept serve followers after a restart', () => {
  const conf_state = confStateOf({ voters: new Set([1, 2, 3]), learners: new Set() });
  const [first, second, third] = logOf(1, 1, 1);
  const raft = member(1, {
    snapshot: { index: 3, term: 1, conf_state },
    kept: [first, second, third].map((e) => must(e, 'entry')),
    entries: [entry(4, 1)],
    hardState: { term: 1, vote: 0, commit: 4 },
  });
  expect([raft.firstIndex, raft.lastIndex, raft.applied, raft.termAt(1)]).toEqual([2, 4, 3, 1]);
  expect(new Harness(raft).drain(raft)).toEqual([]);
  expect(raft.applied).toBe(4);
});

test('thesis §3.10 a transfer waits until the target holds all entries, and bears none to learners', () => {
  const setup = { voters: [1, 2], learners: [3] };
  const group = new Harness(member(1, setup), member(2, setup), member(3, setup));
  group.elect(1);
  const leader = group.get(1);
  expect([leader.transferLeadership(3), leader.transferLeadership(1)]).toEqual([false, false]);
  group.slow.add(2);
  leader.propose([bytes('a')]);
  leader.transferLeadership(2);
  group.settle();
  expect(leader.role).toBe('leader');
  group.slow.delete(2);
  group.finishWrite(2);
  group.settle();
  expect(group.get(2).role).toBe('leader');
});

test('thesis §6.4 a read waits until the leader has committed an entry of its term', () => {
  const group = three();
  group.lost = (m) => m.type === T.MsgAppResp;
  group.elect(1);
  group.get(1).readIndex(bytes('r'));
  group.settle();
  expect(group.reads.get(1)).toEqual([]);
  group.lost = () => false;
  group.pass(1, 1);
  expect(group.reads.get(1)).toEqual([1]);
});

test('thesis §6.4 an answer to a heartbeat from before the read does not confirm it', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  leader.tick();
  const early = group.drain(leader).filter((m) => m.type === T.MsgHeartbeat);
  leader.readIndex(bytes('r'));
  group.drain(leader);
  for (const { to, context } of early) answers(leader, { type: T.MsgHeartbeatResp, from: to, term: 1, context });
  group.drain(leader);
  expect(group.reads.get(1)).toEqual([]);
  group.pass(1, 1);
  expect(group.reads.get(1)).toEqual([1]);
});

test('thesis §6.4 reads of one turn share a round of heartbeats', () => {
  const group = three();
  group.elect(1);
  for (let i = 0; i < 50; i++) group.get(1).readIndex(bytes(`${i}`));
  const sent = group.drain(group.get(1));
  expect(sent.map((m) => m.type)).toEqual([T.MsgHeartbeat, T.MsgHeartbeat]);
  for (const message of sent) group.deliver(message);
  group.settle();
  expect(group.reads.get(1)).toHaveLength(50);
});

test('thesis §6.4.1 a lease lasts less than an election timeout after a heartbeat that a majority answered', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  expect(leader.leaseRead(0)).toBe(null);
  leader.tick(100);
  // Not by the time of the answer, but by that of the heartbeat.
  const sent = group.drain(leader);
  expect(leader.leaseRead(100)).toBe(null);
  leader.tick(103);
  for (const message of sent) group.deliver(message);
  group.settle();
  group.lost = isolate(1);
  expect(leader.leaseRead(107)).toBe(1);
  expect(leader.leaseRead(100 + 0.9 * (ELECTION_TICKS - 2) + 3)).toBe(null);
  expect(group.get(2).leaseRead(104)).toBe(null);
});

test('thesis §6.4.1 no lease while or after the lead was to be handed over, or the ticks changed', () => {
  for (const breaks of [(raft: Raft) => raft.transferLeadership(2), (raft: Raft) => raft.setTicks(20, 1)]) {
    const group = three();
    group.elect(1);
    const leader = group.get(1);
    group.pass(1, 1);
    expect(leader.leaseRead(1)).toBe(1);
    group.lost = (m) => m.type === T.MsgTimeoutNow;
    breaks(leader);
    group.pass(1, 2 * ELECTION_TICKS);
    expect([leader.role, leader.leaseRead(1 + 2 * ELECTION_TICKS)]).toEqual(['leader', null]);
  }
});
