import fc from 'fast-check';
import { expect, test } from 'vitest';
import { must } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeTransition, RaftConfChangeType, RaftEntryType } from '../../proto/index.ts';
import { bytes, ELECTION_TICKS, Harness, isolate, member, T, three } from './harness.ts';
import { confStateOf, isJoint, membershipOf, raftMessage } from './index.ts';
import { quorumValue } from './quorum.ts';

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

test('§6 a change of membership is in force once the disk knows that it is committed, not before', () => {
  const setup = { voters: [1, 2], learners: [3] };
  const follower = member(2, setup);
  const data = RaftConfChange.encode(confChange(RaftConfChangeType.ConfChangeAddNode, 3));
  const entries = [{ type: RaftEntryType.EntryConfChange, term: 1, index: 1, data }];
  follower.step(raftMessage({ type: T.MsgApp, from: 1, to: 2, term: 1, entries, commit: 0 }));
  const appended = must(follower.ready().write, 'write of the entry');
  follower.step(raftMessage({ type: T.MsgApp, from: 1, to: 2, term: 1, index: 1, log_term: 1, commit: 1 }));
  follower.written(appended);
  // Power fails here: the entry is on the disk, but nothing says that it is committed. So it must not be in force.
  const ready = follower.ready();
  expect(ready.committed).toEqual([]);
  expect(ready.write).toMatchObject({ entries: [], hardState: { commit: 1 } });
  expect(follower.ready()).toMatchObject({ committed: [], write: null });
  follower.written(must(ready.write, 'write of the commit'));
  expect(follower.ready().committed).toMatchObject([{ index: 1, type: RaftEntryType.EntryConfChange }]);
  expect(follower.hasReady()).toBe(false);
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

test('thesis §4.2.2 a leader that is removed does not count itself any more', () => {
  const group = new Harness(...[1, 2, 3, 4].map((id) => member(id, { voters: [1, 2, 3, 4] })));
  group.elect(1);
  // Of the voters 2 3 4 only one answers: with the leader that is a majority of four minus one.
  group.get(1).proposeConfChange(confChange(RaftConfChangeType.ConfChangeRemoveNode, 1));
  group.settle();
  expect([...group.get(2).membership.voters]).toEqual([2, 3, 4]);
  expect(group.get(1).role).toBe('follower');
});

test('thesis §4.2.3 a removed member disturbs nobody', () => {
  const group = three();
  group.elect(1);
  group.lost = isolate(3);
  group.get(1).proposeConfChange(confChange(RaftConfChangeType.ConfChangeRemoveNode, 3));
  group.settle();
  group.lost = () => false;
  for (let i = 0; i < 5 * ELECTION_TICKS; i++) {
    for (const id of [1, 2, 3]) group.tick(id, 1);
    group.settle();
  }
  expect([group.get(1).role, group.get(1).term]).toEqual(['leader', 1]);
});

test('thesis §4.2.1 a new server without entries does not make commits wait as a learner, and catches up', () => {
  const group = three();
  group.elect(1);
  const learner = member(4);
  group.get(1).proposeConfChange(confChange(RaftConfChangeType.ConfChangeAddLearnerNode, 4));
  group.settle();
  group.get(1).propose([bytes('a')]);
  group.settle();
  expect(group.texts(1)).toEqual(['a']);
  group.add(learner);
  group.pass(1, 2);
  expect(group.texts(4)).toEqual(['a']);
  expect([...learner.membership.learners]).toEqual([4]);
});

const { ConfChangeAddNode, ConfChangeAddLearnerNode, ConfChangeRemoveNode } = RaftConfChangeType;
const NO_CONTEXT = new Uint8Array(0);

function five(): Harness {
  const group = three();
  for (const id of [4, 5]) group.add(member(id));
  group.elect(1);
  return group;
}

test('§6 joint consensus: several voters change at once, and the leader leaves the joint membership', () => {
  const group = five();
  const changes = [
    { type: ConfChangeAddNode, node_id: 4 },
    { type: ConfChangeAddNode, node_id: 5 },
    { type: ConfChangeRemoveNode, node_id: 3 },
  ];
  expect(group.get(1).proposeJointChange(changes, NO_CONTEXT).accepted).toBe(true);
  group.settle();
  group.pass(1, 2);
  for (const id of [1, 2, 4, 5]) {
    expect(confStateOf(group.get(id).membership)).toMatchObject({ voters: [1, 2, 4, 5], voters_outgoing: [] });
  }
  // Entered and left by one entry each.
  expect(
    group
      .get(1)
      .entriesFrom(1)
      .filter((e) => e.type === RaftEntryType.EntryConfChangeV2),
  ).toHaveLength(2);
});

/** Members 1 2 3 on the way to 1 4 5, held there. */
function inJoint(): Harness {
  const group = five();
  const changes = [4, 5].map((node_id) => ({ type: ConfChangeAddNode, node_id }));
  changes.push(...[2, 3].map((node_id) => ({ type: ConfChangeRemoveNode as typeof ConfChangeAddNode, node_id })));
  const transition = RaftConfChangeTransition.ConfChangeTransitionJointExplicit;
  group.get(1).proposeConfChangeV2({ transition, changes, context: NO_CONTEXT });
  group.settle();
  group.pass(1, 2);
  expect(isJoint(group.get(1).membership)).toBe(true);
  return group;
}

test.each([
  ['the old voters alone', [4, 5]],
  ['the new voters alone', [2, 3]],
])('§6 joint consensus: %s commit nothing, elect nobody, confirm no read and keep no leader', (_, away) => {
  const group = inJoint();
  const leader = group.get(1);
  const commit = leader.commit;
  group.lost = (m) => away.includes(m.to) || away.includes(m.from);
  leader.propose([bytes('x')]);
  leader.readIndex(bytes('r'));
  group.settle();
  expect([leader.commit, group.reads.get(1)]).toEqual([commit, []]);
  group.pass(1, 2 * ELECTION_TICKS);
  expect(leader.role).toBe('follower');
  for (const id of [1, 2, 3, 4, 5]) group.tick(id, ELECTION_TICKS);
  group.settle();
  group.get(1).campaign();
  group.settle();
  expect(group.get(1).role).toBe('pre-candidate');
  group.lost = (m) => [3, 5].includes(m.to) || [3, 5].includes(m.from);
  group.pass(1, 2 * ELECTION_TICKS);
  expect([...group.rafts.values()].some((raft) => raft.role === 'leader')).toBe(true);
});

test('§6 joint consensus: a second change waits until the joint membership is left', () => {
  const group = inJoint();
  const leader = group.get(1);
  const single = leader.proposeConfChange(confChange(ConfChangeAddNode, 6));
  expect(single).toMatchObject({ accepted: false, refusal: 'conf-change-pending' });
  const joint = leader.proposeJointChange([{ type: ConfChangeAddNode, node_id: 6 }], NO_CONTEXT);
  expect(joint).toMatchObject({ accepted: false, refusal: 'conf-change-pending' });
  leader.proposeConfChangeV2({ transition: 0, changes: [], context: NO_CONTEXT });
  group.settle();
  expect(confStateOf(leader.membership)).toMatchObject({ voters: [1, 4, 5], voters_outgoing: [] });
  const again = leader.proposeConfChangeV2({ transition: 0, changes: [], context: NO_CONTEXT });
  expect(again).toMatchObject({ accepted: false, refusal: 'invalid' });
});

test('§6 joint consensus: a voter that is demoted decides until the joint membership is left, then learns', () => {
  const group = five();
  const changes = [
    { type: ConfChangeAddLearnerNode, node_id: 2 },
    { type: ConfChangeAddNode, node_id: 4 },
  ];
  const transition = RaftConfChangeTransition.ConfChangeTransitionJointExplicit;
  group.get(1).proposeConfChangeV2({ transition, changes, context: NO_CONTEXT });
  group.settle();
  group.pass(1, 2);
  const joint = { voters: [1, 3, 4], voters_outgoing: [1, 2, 3], learners: [], learners_next: [2] };
  expect(confStateOf(group.get(2).membership)).toMatchObject(joint);
  group.get(1).proposeConfChangeV2({ transition: 0, changes: [], context: NO_CONTEXT });
  group.settle();
  const after = { voters: [1, 3, 4], voters_outgoing: [], learners: [2], learners_next: [] };
  expect(confStateOf(group.get(2).membership)).toMatchObject(after);
});

test('§6 joint consensus: a leader that is demoted or removed leads until the new membership is committed', () => {
  for (const type of [ConfChangeAddLearnerNode, ConfChangeRemoveNode]) {
    const group = five();
    const changes = [
      { type, node_id: 1 },
      { type: ConfChangeAddNode, node_id: 4 },
    ];
    group.get(1).proposeJointChange(changes, NO_CONTEXT);
    group.settle();
    expect(group.get(1).role).toBe('follower');
    expect(confStateOf(group.get(1).membership)).toMatchObject({ voters: [2, 3, 4], voters_outgoing: [] });
    for (const id of [2, 3, 4]) group.tick(id, ELECTION_TICKS);
    group.settle();
    group.get(2).campaign();
    group.settle();
    group.pass(2, 2);
    expect(group.get(2).role).toBe('leader');
    group.tick(1, 100);
    expect(group.get(1).role).toBe('follower');
  }
});

test('§6 joint consensus: bad changes are refused and change nothing', () => {
  const group = five();
  const leader = group.get(1);
  const cases = [
    [{ type: ConfChangeRemoveNode, node_id: 9 }],
    [1, 2, 3].map((node_id) => ({ type: ConfChangeRemoveNode, node_id })),
    [4, 4].map((node_id) => ({ type: ConfChangeAddNode, node_id })),
    [{ type: ConfChangeAddNode, node_id: -1 }],
  ];
  for (const changes of cases) {
    expect(leader.proposeJointChange(changes, NO_CONTEXT)).toMatchObject({ accepted: false, refusal: 'invalid' });
  }
});

test('§6 a snapshot carries a joint membership', () => {
  const group = inJoint();
  const state = group.get(1).snapshotMetadata().conf_state;
  expect(state).toEqual({
    voters: [1, 4, 5],
    learners: [],
    voters_outgoing: [1, 2, 3],
    learners_next: [],
    auto_leave: false,
  });
  expect(confStateOf(membershipOf(state))).toEqual(state);
});

test('§6 quorums: the fast count agrees with the definition', () => {
  const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 7 });
  const matches = fc.array(fc.nat(9), { minLength: 10, maxLength: 10 });
  const holds = (voters: readonly number[], match: readonly number[], index: number): boolean =>
    voters.filter((id) => (match[id] ?? 0) >= index).length * 2 > voters.length;
  fc.assert(
    fc.property(ids, fc.option(ids, { nil: [] }), matches, (incoming, outgoing, match) => {
      let best = 0;
      for (let index = 0; index <= 9; index++) {
        if (holds(incoming, match, index) && (outgoing.length === 0 || holds(outgoing, match, index))) best = index;
      }
      expect(quorumValue({ incoming, outgoing }, (id) => match[id] ?? 0)).toBe(best);
    }),
  );
});
