import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeType } from '../../proto/index.ts';
import { raftMessage } from './index.ts';
import { answers, bytes, ELECTION_TICKS, entry, Harness, isolate, logOf, member, T, terms, three } from './harness.ts';

test('§5.1 a member with a smaller term adopts the larger one and follows', () => {
  const group = three();
  group.elect(1);
  answers(group.get(1), { type: T.MsgApp, from: 2, term: 7 });
  expect([group.get(1).term, group.get(1).role, group.get(1).leaderId]).toEqual([7, 'follower', 2]);
});

test('§5.1 a message with a stale term changes nothing', () => {
  const raft = member(1, { entries: logOf(1, 2) });
  const out = answers(raft, { type: T.MsgApp, from: 2, term: 1, index: 0, entries: [entry(1, 1, 'other')] });
  expect(terms(raft)).toEqual([1, 2]);
  expect(out).toMatchObject([{ type: T.MsgAppResp, term: 2 }]);
});

test('§5.2 a follower that hears nothing campaigns; timeouts differ', () => {
  const timeouts = new Set<number>();
  for (let id = 1; id <= 20; id++) {
    const raft = member(id, { voters: [id, 100, 101] });
    let ticks = 0;
    while (raft.role === 'follower') {
      raft.tick();
      ticks++;
    }
    expect(ticks).toBeGreaterThanOrEqual(ELECTION_TICKS);
    expect(ticks).toBeLessThan(2 * ELECTION_TICKS);
    timeouts.add(ticks);
  }
  expect(timeouts.size).toBeGreaterThan(3);
});

test('§5.2 election safety: one vote a term, first come first served', () => {
  const raft = member(1);
  expect(answers(raft, { type: T.MsgVote, from: 2, term: 1 })).toMatchObject([{ reject: false, to: 2 }]);
  expect(answers(raft, { type: T.MsgVote, from: 3, term: 1 })).toMatchObject([{ reject: true, to: 3 }]);
  expect(answers(raft, { type: T.MsgVote, from: 2, term: 1 })).toMatchObject([{ reject: false, to: 2 }]);
});

test('§5.2 a vote is durable before it is sent', () => {
  const raft = member(1);
  raft.step(raftMessage({ type: T.MsgVote, from: 2, to: 1, term: 3 }));
  const ready = raft.ready();
  expect(ready).toMatchObject({ write: { hardState: { term: 3, vote: 2 } }, messages: [] });
  expect(raft.hasReady()).toBe(false);
  raft.written(must(ready.write, 'write'));
  expect(raft.ready()).toMatchObject({ write: null, messages: [{ type: T.MsgVoteResp, reject: false }] });
});

test('§5.2 a majority elects; a split vote does not', () => {
  const group = new Harness(...[1, 2, 3, 4, 5].map((id) => member(id, { voters: [1, 2, 3, 4, 5] })));
  group.lost = (m) => m.from === 3 || m.to === 3;
  group.elect(1);
  const alone = three();
  alone.lost = () => true;
  alone.get(1).campaign();
  alone.settle();
  expect(alone.get(1).role).toBe('pre-candidate');
});

test('§5.2 a candidate that hears the leader of its term follows it', () => {
  const raft = member(1);
  raft.campaign();
  new Harness(raft).drain(raft);
  answers(raft, { type: T.MsgPreVoteResp, from: 2, term: 1 });
  expect([raft.role, raft.term]).toEqual(['candidate', 1]);
  answers(raft, { type: T.MsgHeartbeat, from: 3, term: 1 });
  expect([raft.role, raft.leaderId]).toEqual(['follower', 3]);
});

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

test('§5.4.1 voters refuse a candidate whose log is behind theirs', () => {
  const cases: [number, number, boolean][] = [
    [2, 9, false],
    [3, 2, false],
    [3, 3, true],
    [4, 1, true],
  ];
  for (const [log_term, index, granted] of cases) {
    const raft = member(1, { entries: logOf(1, 3, 3) });
    expect(answers(raft, { type: T.MsgVote, from: 2, term: 5, log_term, index })).toMatchObject([{ reject: !granted }]);
  }
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

test('thesis §9.6 pre-vote: a member that was cut off does not raise the term', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(3);
  for (let i = 0; i < 100; i++) {
    group.tick(3, 1);
    group.settle();
  }
  expect([group.get(3).term, group.get(3).role]).toEqual([1, 'pre-candidate']);
  group.lost = () => false;
  group.tick(1, 1);
  group.settle();
  expect([group.get(1).role, group.get(1).term, group.get(3).leaderId]).toEqual(['leader', 1, 1]);
});

test('thesis §4.2.3 leader lease: who hears a leader refuses to elect another', () => {
  const group = three();
  group.elect(1);
  expect(answers(group.get(2), { type: T.MsgVote, from: 3, term: 9, index: 9, log_term: 9 })).toEqual([]);
  expect(group.get(2).term).toBe(1);
  group.tick(2, ELECTION_TICKS);
  group.drain(group.get(2));
  expect(answers(group.get(2), { type: T.MsgVote, from: 3, term: 9, index: 9, log_term: 9 })).toMatchObject([
    { type: T.MsgVoteResp, reject: false },
  ]);
});

test('thesis §6.2 check-quorum: a leader that hears no majority steps down', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(1);
  for (let i = 0; i < 2 * ELECTION_TICKS; i++) {
    group.tick(1, 1);
    group.settle();
  }
  expect(group.get(1).role).toBe('follower');
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

function confChange(type: RaftConfChange['type'], node_id: number): RaftConfChange {
  return RaftConfChange.create({ type, node_id });
}

test('§6 membership: add a learner, promote it, remove a voter; one change at a time', () => {
  const group = three();
  group.elect(1);
  const leader = group.get(1);
  group.add(member(4));
  expect(leader.proposeConfChange(confChange(RaftConfChangeType.ConfChangeAddLearnerNode, 4)).accepted).toBe(true);
  const second = leader.proposeConfChange(confChange(RaftConfChangeType.ConfChangeRemoveNode, 3));
  expect(second).toMatchObject({ accepted: false, refusal: 'conf-change-pending' });
  group.settle();
  group.tick(1, 1);
  group.settle();
  expect([...leader.membership.learners]).toEqual([4]);
  expect(group.get(4).lastIndex).toBe(leader.lastIndex);
  expect(leader.proposeConfChange(confChange(RaftConfChangeType.ConfChangeAddNode, 4)).accepted).toBe(true);
  group.settle();
  expect([...leader.membership.voters]).toEqual([1, 2, 3, 4]);
  expect(leader.proposeConfChange(confChange(RaftConfChangeType.ConfChangeRemoveNode, 3)).accepted).toBe(true);
  group.settle();
  expect([...group.get(4).membership.voters]).toEqual([1, 2, 4]);
});

test('§6 a learner neither counts for a commit nor campaigns', () => {
  const setup = { voters: [1, 2], learners: [3] };
  const group = new Harness(member(1, setup), member(2, setup), member(3, setup));
  group.elect(1);
  group.lost = isolate(2);
  group.get(1).propose([bytes('a')]);
  group.settle();
  expect(group.texts(1)).toEqual([]);
  group.tick(3, 100);
  expect(group.get(3).role).toBe('follower');
});

test('§6 a new leader makes no change of membership before it has committed in its term', () => {
  const group = three();
  group.lost = (m) => m.type === T.MsgApp;
  group.elect(1);
  const change = confChange(RaftConfChangeType.ConfChangeRemoveNode, 3);
  expect(group.get(1).proposeConfChange(change)).toMatchObject({ accepted: false, refusal: 'not-ready' });
});

test('§6 a leader that is removed tells the others and gives way', () => {
  const group = three();
  group.elect(1);
  group.get(1).proposeConfChange(confChange(RaftConfChangeType.ConfChangeRemoveNode, 1));
  group.settle();
  expect(group.get(1).role).toBe('follower');
  expect([...group.get(2).membership.voters]).toEqual([2, 3]);
  group.tick(1, 100);
  expect(group.get(1).role).toBe('follower');
});

test('§6 the last voter cannot be removed, and strangers neither', () => {
  const group = new Harness(member(1, { voters: [1] }));
  group.elect(1);
  for (const id of [1, 9]) {
    const result = group.get(1).proposeConfChange(confChange(RaftConfChangeType.ConfChangeRemoveNode, id));
    expect(result).toMatchObject({ accepted: false, refusal: 'invalid' });
  }
});

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
