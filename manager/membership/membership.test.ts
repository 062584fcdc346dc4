import { Client } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { callUnary, channelOptions, TlsIdentity } from '../../identity/index.ts';
import { JoinRequest, RaftConfChange, RaftConfChangeType, RaftMembershipService } from '../../proto/index.ts';
import { TestCluster } from '../testing.ts';
import { MemberList, memberContext, type Member } from './member-list.ts';
import { canRemove, quorumOf } from './quorum.ts';
import { completeAddress, splitAddress } from './service.ts';

const member = (raftId: number): Member => ({ raftId, nodeId: `n${raftId}`, addr: `10.0.0.${raftId}:2377` });
const change = (type: RaftConfChangeType, one: Member): RaftConfChange =>
  RaftConfChange.create({ type, node_id: one.raftId, context: memberContext(one) });

describe('member list', () => {
  it('follows the log, and is the same after a snapshot', () => {
    const list = new MemberList();
    list.seed([member(1)]);
    expect(list.apply(change(RaftConfChangeType.ConfChangeAddLearnerNode, member(2)))).toBe(true);
    list.apply(change(RaftConfChangeType.ConfChangeAddNode, member(2)));
    list.apply(change(RaftConfChangeType.ConfChangeUpdateNode, { ...member(2), addr: '10.1.1.1:1' }));
    list.apply(change(RaftConfChangeType.ConfChangeAddNode, member(3)));
    expect(list.apply(change(RaftConfChangeType.ConfChangeRemoveNode, member(3)))).toBe(true);
    expect(list.byNode('n2')?.addr).toBe('10.1.1.1:1');
    const copy = new MemberList();
    copy.seed([member(9)]);
    copy.restore(list.snapshot());
    expect(copy.list()).toEqual(list.list());
    expect([copy.isRemoved(3), copy.isRemoved(2), copy.get(9)]).toEqual([true, false, undefined]);
  });
});

describe('quorum', () => {
  const voters = (...active: boolean[]) =>
    active.map((one, i) => ({ raftId: i + 1, learner: false, active: one, lag: 0 }));

  it('is more than half', () => {
    expect([1, 2, 3, 4, 5].map(quorumOf)).toEqual([1, 2, 2, 3, 3]);
  });

  it('must survive a removal', () => {
    expect(canRemove(voters(true), 1)).toBe(false);
    expect(canRemove(voters(true, true), 2)).toBe(true);
    expect(canRemove(voters(true, false), 2)).toBe(true);
    expect(canRemove(voters(true, true, false), 2)).toBe(false);
    expect(canRemove(voters(true, true, false), 3)).toBe(true);
    expect(canRemove([...voters(true), { raftId: 7, learner: true, active: false, lag: 9 }], 7)).toBe(true);
  });
});

describe('addresses', () => {
  it('without a host are completed by where the call came from', () => {
    expect(completeAddress('0.0.0.0:2377', '10.0.0.7:5000')).toBe('10.0.0.7:2377');
    expect(completeAddress('[::]:2377', '[fd00::7]:5000')).toBe('[fd00::7]:2377');
    expect(completeAddress('10.0.0.1:2377', '10.0.0.7:5000')).toBe('10.0.0.1:2377');
    for (const bad of ['', 'host', 'host:0', 'host:99999', 'a:b:1'])
      expect(() => splitAddress(bad)).toThrow(/no address/);
  });
});

describe('join', () => {
  let cluster: TestCluster;
  beforeEach(() => {
    cluster = new TestCluster();
  });
  afterEach(() => cluster.close());

  it('is refused when the leader cannot reach the joiner, and the cluster stays as it was', async () => {
    const { manager } = await cluster.bootstrap();
    const joiner = await cluster.certificate(manager.advertiseAddr, cluster.token('manager'));
    const client = new Client(manager.advertiseAddr, new TlsIdentity(joiner).channelCredentials(), channelOptions());
    try {
      const request = JoinRequest.create({ addr: '127.0.0.1:1' });
      const join = callUnary(client, RaftMembershipService.Join, request, { timeoutMs: 10_000 });
      await expect(join).rejects.toMatchObject({
        code: 'FailedPrecondition',
        message: expect.stringContaining('the leader cannot reach the joining manager at 127.0.0.1:1') as string,
      });
    } finally {
      client.close();
    }
    expect(manager.status().managers).toHaveLength(1);
  });
});
