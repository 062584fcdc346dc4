import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { answers, bytes, ELECTION_TICKS, entry, Harness, isolate, logOf, member, T, three } from './harness.ts';
import { raftMessage, type Raft } from './index.ts';

/** A member of 1 2 3 whose log of term 3 ends at 2 by damage. */
function damaged(floor: number | null): Raft {
  const hardState = { term: 3, vote: 0, commit: 4 };
  return member(1, { entries: logOf(1, 1), hardState, repair: { floor, reason: 'test' } });
}

test('repair: a damaged member neither campaigns, nor votes, nor follows a request to lead', () => {
  const raft = damaged(4);
  for (let i = 0; i < 10 * ELECTION_TICKS; i++) raft.tick();
  raft.campaign();
  answers(raft, { type: T.MsgTimeoutNow, from: 2, term: 3 });
  expect(raft.role).toBe('follower');
  for (const type of [T.MsgPreVote, T.MsgVote]) {
    expect(answers(raft, { type, from: 2, term: 4, index: 9, log_term: 3 })).toMatchObject([{ reject: true }]);
  }
  expect(raft.repairReason).toBe('test');
});

test('repair: a commit index beyond the end of the damaged log is no error', () => {
  const raft = damaged(4);
  expect(raft.commit).toBe(2);
  expect(answers(raft, { type: T.MsgHeartbeat, from: 2, term: 3, commit: 4 })).toMatchObject([
    { type: T.MsgHeartbeatResp, reject: true, reject_hint: 2 },
  ]);
  expect(() => member(1, { entries: logOf(1, 1), hardState: { term: 3, vote: 0, commit: 4 } })).toThrow(/lost/);
});

test('repair: a heartbeat commits nothing, for the damage may have brought back entries that had been replaced', () => {
  // Before the damage the log had got entry 2 of term 3 in place of the one of term 1 that is back now.
  const raft = member(1, {
    entries: logOf(1, 1),
    hardState: { term: 3, vote: 0, commit: 1 },
    repair: { floor: 4, reason: 'test' },
  });
  answers(raft, { type: T.MsgHeartbeat, from: 2, term: 3, commit: 4 });
  expect(raft.commit).toBe(1);
  raft.step(
    raftMessage({ type: T.MsgApp, from: 2, to: 1, term: 3, index: 1, log_term: 1, commit: 4, entries: [entry(2, 3)] }),
  );
  expect([raft.commit, raft.termAt(2)]).toEqual([2, 3]);
});

const fill = { type: T.MsgApp, from: 2, index: 2, log_term: 1, commit: 4 };

test('repair: with a floor, the log is whole once it is durable up to it and to a committed entry of the term', () => {
  const raft = damaged(5);
  raft.step(raftMessage({ ...fill, to: 1, term: 3, entries: [entry(3, 3), entry(4, 3)] }));
  const first = must(raft.ready().write, 'write');
  raft.written(first);
  // The floor is not reached.
  expect([first.repaired, raft.ready().write]).toEqual([false, null]);
  raft.step(raftMessage({ ...fill, to: 1, term: 3, index: 4, log_term: 3, entries: [entry(5, 3)] }));
  const second = must(raft.ready().write, 'write');
  expect(second.repaired).toBe(false);
  raft.written(second);
  const third = must(raft.ready().write, 'write that says so');
  expect([third.repaired, raft.repairReason]).toEqual([true, 'test']);
  raft.written(third);
  expect(raft.repairReason).toBe(null);
  expect(answers(raft, { type: T.MsgVote, from: 3, term: 9, index: 9, log_term: 9 })).toEqual([]);
  for (let i = 0; i < ELECTION_TICKS; i++) raft.tick();
  const answer = answers(raft, { type: T.MsgVote, from: 3, term: 9, index: 9, log_term: 9 }).at(-1);
  expect(answer).toMatchObject({ type: T.MsgVoteResp, reject: false });
});

test('repair: entries of older terms alone do not make a log whole, even beyond the floor', () => {
  const raft = damaged(4);
  raft.step(raftMessage({ ...fill, to: 1, term: 3, entries: [entry(3, 2), entry(4, 2), entry(5, 2)] }));
  raft.written(must(raft.ready().write, 'write'));
  expect([raft.durable, raft.commit, raft.ready().write]).toEqual([5, 4, null]);
});

test('repair: a leader of a later term was elected without this member: its committed entry is enough', () => {
  const raft = damaged(100);
  raft.step(raftMessage({ ...fill, to: 1, term: 4, entries: [entry(3, 3), entry(4, 4)] }));
  raft.written(must(raft.ready().write, 'write'));
  expect(raft.ready().write?.repaired).toBe(true);
});

test('repair: without a floor the member begins a term of its own, so that its old promises count no more', () => {
  const raft = damaged(null);
  expect([raft.term, raft.vote]).toEqual([4, 0]);
  expect(new Harness(raft).drain(raft)).toEqual([]);
  expect(answers(raft, { type: T.MsgHeartbeat, from: 2, term: 3, commit: 4 })).toMatchObject([{ term: 4 }]);
});

test('repair: the leader hears what is missing from the answer to a heartbeat, and sends it again', () => {
  const group = three();
  group.elect(1);
  group.get(1).propose(['a', 'b', 'c'].map(bytes));
  group.settle();
  const entries = group.get(3).entriesFrom(1).slice(0, 2);
  const hardState = { term: 1, vote: 1, commit: 4 };
  const raft = member(3, { entries, hardState, repair: { floor: 4, reason: 'test' } });
  group.rafts.set(3, raft);
  expect(group.get(1).progress.get(3)?.match).toBe(4);
  group.pass(1, 2);
  expect([raft.lastIndex, raft.repairReason, group.get(1).commit]).toEqual([4, null, 4]);
});

test('repair: a member without any state gets the snapshot', () => {
  const group = three();
  group.elect(1);
  group.get(1).propose(['a', 'b', 'c'].map(bytes));
  group.settle();
  group.get(1).snapshotTaken(group.get(1).snapshotMetadata(), 4);
  const hardState = { term: 1, vote: 1, commit: 4 };
  const snapshot = { index: 0, term: 0, conf_state: null };
  const raft = member(3, { snapshot, entries: [], hardState, repair: { floor: 4, reason: 'test' } });
  group.rafts.set(3, raft);
  group.pass(1, 3);
  expect([raft.firstIndex, raft.repairReason]).toEqual([5, null]);
  expect([...raft.membership.voters]).toEqual([1, 2, 3]);
});

test('repair: what only the damaged member had promised is not lost by an election', () => {
  // 1 and 3 held entry 2; the disk of 3 lost it; 1 is away. Member 2 without it must not lead.
  const hardState = { term: 1, vote: 1, commit: 1 };
  const repaired = member(3, { entries: logOf(1), hardState, repair: { floor: 2, reason: 'test' } });
  const group = new Harness(member(2, { entries: logOf(1), hardState }), repaired);
  group.lost = isolate(1);
  group.get(2).campaign();
  group.settle();
  expect(group.get(2).role).not.toBe('leader');
});

test('repair: a floor that the leader never reaches is given up for a new term, once', () => {
  const group = three();
  group.elect(1);
  group.get(1).propose(['a', 'b'].map(bytes));
  group.settle();
  const entries = group.get(3).entriesFrom(1).slice(0, 1);
  const hardState = { term: 1, vote: 1, commit: 1 };
  const raft = member(3, { entries, hardState, repair: { floor: 50, reason: 'test' } });
  group.rafts.set(3, raft);
  const pass = (ticks: number): void => {
    for (let i = 0; i < ticks; i++) {
      for (const id of [1, 2, 3]) group.tick(id, 1);
      group.settle();
    }
  };
  pass(9 * ELECTION_TICKS);
  expect([raft.term, raft.lastIndex, raft.repairReason]).toEqual([1, 3, 'test']);
  pass(6 * ELECTION_TICKS);
  expect([raft.repairReason, raft.lastIndex, raft.term > 1]).toEqual([null, 4, true]);
  const { term } = raft;
  pass(20 * ELECTION_TICKS);
  expect(raft.term).toBe(term);
});
