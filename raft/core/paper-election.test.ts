import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { answers, bytes, ELECTION_TICKS, Harness, isolate, logOf, member, T, terms, three, entry } from './harness.ts';
import { raftMessage } from './index.ts';

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

test('§5.1 a leader that learns of a higher term by any answer steps down', () => {
  for (const type of [T.MsgAppResp, T.MsgHeartbeatResp, T.MsgVoteResp]) {
    const group = three();
    group.elect(1);
    answers(group.get(1), { type, from: 2, term: 9, reject: true });
    expect([group.get(1).role, group.get(1).term]).toEqual(['follower', 9]);
  }
});

test('§5.1 a candidate with a stale term gets no vote, a stale leader learns the term', () => {
  const raft = member(1, { hardState: { term: 5, vote: 0, commit: 0 } });
  expect(answers(raft, { type: T.MsgVote, from: 2, term: 4, index: 9, log_term: 4 })).toEqual([]);
  expect(answers(raft, { type: T.MsgHeartbeat, from: 2, term: 4 })).toMatchObject([{ type: T.MsgAppResp, term: 5 }]);
  expect([raft.vote, raft.leaderId]).toEqual([0, 0]);
});

test('§5.2 heartbeats keep followers from campaigning', () => {
  const group = three();
  group.elect(1);
  for (let i = 0; i < 10 * ELECTION_TICKS; i++) {
    for (const id of [1, 2, 3]) group.tick(id, 1);
    group.settle();
  }
  expect([1, 2, 3].map((id) => group.get(id).term)).toEqual([1, 1, 1]);
  expect(group.get(1).role).toBe('leader');
});

test('§5.2 a candidate’s own vote counts only once it is durable', () => {
  const raft = member(1, { voters: [1] });
  raft.campaign();
  const { write } = raft.ready();
  expect([raft.role, write?.hardState]).toEqual(['candidate', { term: 1, vote: 1, commit: 0 }]);
  raft.written(must(write, 'write'));
  expect(raft.role).toBe('leader');
});

test('§5.2 a candidate asks for votes only once its own is durable', () => {
  const raft = member(1);
  raft.campaign();
  raft.ready();
  raft.step(raftMessage({ type: T.MsgPreVoteResp, from: 2, to: 1, term: 1 }));
  const ready = raft.ready();
  expect(ready.messages).toEqual([]);
  raft.written(must(ready.write, 'write'));
  expect(raft.ready().messages.map((m) => [m.type, m.to])).toEqual([
    [T.MsgVote, 2],
    [T.MsgVote, 3],
  ]);
});

test('§5.2 a vote survives a restart, one that was not written does not bind', () => {
  const voted = member(1, { hardState: { term: 3, vote: 2, commit: 0 } });
  expect(answers(voted, { type: T.MsgVote, from: 3, term: 3, index: 9, log_term: 9 })).toMatchObject([
    { reject: true },
  ]);
  const unwritten = member(1, { hardState: { term: 2, vote: 0, commit: 0 } });
  expect(answers(unwritten, { type: T.MsgVote, from: 3, term: 3 })).toMatchObject([{ reject: false }]);
});

test('§5.2 a vote that waits for the disk is never told when the term changes meanwhile', () => {
  const raft = member(1);
  raft.step(raftMessage({ type: T.MsgVote, from: 2, to: 1, term: 3 }));
  const { write } = raft.ready();
  raft.step(raftMessage({ type: T.MsgVote, from: 3, to: 1, term: 4 }));
  raft.written(must(write, 'write'));
  const next = raft.ready();
  expect(next.messages).toEqual([]);
  expect(next.write?.hardState).toEqual({ term: 4, vote: 3, commit: 0 });
  raft.written(must(next.write, 'write'));
  expect(raft.ready().messages).toMatchObject([{ type: T.MsgVoteResp, to: 3, term: 4, reject: false }]);
});

test('§5.2 a refusal of a lost election does not outlast it: the timeouts are drawn anew', () => {
  const raft = member(1);
  const starts: number[] = [];
  let last: string = raft.role;
  for (let tick = 0; tick < 40 * ELECTION_TICKS; tick++) {
    raft.tick();
    const asked = new Harness(raft).drain(raft).some((m) => m.type === T.MsgPreVote);
    if (asked) starts.push(tick);
    last = raft.role;
  }
  expect(last).toBe('pre-candidate');
  const gaps = starts.slice(1).map((tick, i) => tick - (starts[i] as number));
  expect(new Set(gaps).size).toBeGreaterThan(3);
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(ELECTION_TICKS);
});

test('figure 3 election safety: two leaders of one term are a broken invariant', () => {
  const group = three();
  group.elect(1);
  expect(() => answers(group.get(1), { type: T.MsgApp, from: 2, term: 1 })).toThrow(/one leader a term/);
  expect(() => answers(group.get(3), { type: T.MsgHeartbeat, from: 2, term: 1 })).toThrow(/one leader a term/);
});

test('thesis §9.6 a pre-vote writes nothing and binds nobody', () => {
  const raft = member(1);
  const ask = { type: T.MsgPreVote, term: 1 };
  raft.step(raftMessage({ ...ask, from: 2, to: 1 }));
  raft.step(raftMessage({ ...ask, from: 3, to: 1 }));
  const ready = raft.ready();
  expect(ready.write).toBe(null);
  expect(ready.messages.map((m) => [m.to, m.reject, m.term])).toEqual([
    [2, false, 1],
    [3, false, 1],
  ]);
  expect([raft.term, raft.vote]).toEqual([0, 0]);
});

test('thesis §9.6 a pre-vote is refused to a log that is behind', () => {
  const raft = member(1, { entries: logOf(1, 2) });
  expect(answers(raft, { type: T.MsgPreVote, from: 2, term: 3, index: 5, log_term: 1 })).toMatchObject([
    { type: T.MsgPreVoteResp, reject: true, term: 2 },
  ]);
});

test('thesis §9.6 an answer to an older pre-vote counts for nothing', () => {
  const raft = member(1, { hardState: { term: 4, vote: 0, commit: 0 } });
  raft.campaign();
  answers(raft, { type: T.MsgPreVoteResp, from: 2, term: 7 });
  expect([raft.role, raft.term]).toEqual(['pre-candidate', 4]);
  answers(raft, { type: T.MsgPreVoteResp, from: 2, term: 5 });
  expect([raft.role, raft.term]).toEqual(['candidate', 5]);
});

test('thesis §4.2.3 a leader and its followers ignore requests for votes; a transfer’s they do not', () => {
  const group = three();
  group.elect(1);
  for (const id of [1, 2]) {
    expect(answers(group.get(id), { type: T.MsgPreVote, from: 3, term: 2, index: 9, log_term: 9 })).toEqual([]);
  }
  const context = bytes('CampaignTransfer');
  expect(answers(group.get(2), { type: T.MsgVote, from: 3, term: 2, index: 9, log_term: 9, context })).toMatchObject([
    { type: T.MsgVoteResp, reject: false },
  ]);
});

test('thesis §6.4.1 a member that was started again elects nobody for an election timeout', () => {
  const raft = member(1, { hardState: { term: 2, vote: 0, commit: 0 }, options: { restartGuardTicks: 5 } });
  const ask = { type: T.MsgVote, from: 2, term: 3, index: 9, log_term: 9 };
  for (let i = 0; i < 5; i++) {
    expect(answers(raft, ask)).toEqual([]);
    raft.tick();
  }
  expect(answers(raft, ask)).toMatchObject([{ reject: false }]);
  const fresh = member(1, { options: { restartGuardTicks: 5 } });
  expect(answers(fresh, ask)).toMatchObject([{ reject: false }]);
});

test('thesis §6.2 learners do not keep a leader in office', () => {
  const setup = { voters: [1, 2], learners: [3] };
  const group = new Harness(member(1, setup), member(2, setup), member(3, setup));
  group.elect(1);
  group.lost = isolate(2);
  group.pass(1, 2 * ELECTION_TICKS);
  expect(group.get(1).role).toBe('follower');
});

test('§5.2 what waits for a disk that stands still is bounded', () => {
  const raft = member(1);
  raft.step(raftMessage({ type: T.MsgHeartbeat, from: 2, to: 1, term: 3 }));
  const { write } = raft.ready();
  for (let i = 0; i < 10_000; i++) raft.step(raftMessage({ type: T.MsgHeartbeat, from: 2, to: 1, term: 3 }));
  expect(raft.heldMessages).toBe(4096);
  raft.written(must(write, 'write'));
  expect(raft.ready().messages).toHaveLength(4096);
});
