import { Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { must, silentLogger, systemClock } from '../../base/index.ts';
import {
  callUnary,
  channelOptions,
  createCsr,
  createRootCa,
  identityFromPem,
  issueCertificate,
  TlsIdentity,
  type CertificateRole,
  type NodeIdentity,
} from '../../identity/index.ts';
import {
  ProcessRaftMessageRequest,
  RaftConfChange,
  RaftConfChangeType,
  RaftMessage,
  RaftMessageType,
  RaftService,
  ResolveAddressRequest,
} from '../../proto/index.ts';
import { newReceiveCounters, raftServiceDefinition, raftServiceHandlers, REMOVED_MESSAGE } from '../../raft/index.ts';
import { ManagerClients, ManagerServer } from '../server/index.ts';
import { dialBack } from './dial-back.ts';
import { LearntAddresses } from './learnt-addresses.ts';
import { MemberList, memberContext, type Member } from './member-list.ts';
import { RaftAccess } from './raft-access.ts';

const nowMs = Date.now();
const ca = createRootCa({ nowMs });
const foreignCa = createRootCa({ nowMs });

function identity(nodeId: string, role: CertificateRole = 'manager', clusterId = 'c', authority = ca): NodeIdentity {
  const { csr, key } = createCsr();
  const caFields = { caCert: authority.cert, caKey: authority.key };
  const cert = issueCertificate({ csr, nodeId, clusterId, role, ...caFields, nowMs, lifetimeMs: 3_600_000 });
  return identityFromPem(cert, key, ca.cert);
}

const member = (raftId: number): Member => ({ raftId, nodeId: `n${raftId}`, addr: `10.0.0.${raftId}:2377` });

describe('learnt addresses', () => {
  it('hold until the log says something newer, and only for members', () => {
    const members = new MemberList();
    members.seed([member(1), member(2)]);
    const told: string[] = [];
    const addresses = new LearntAddresses(members, (id, addr) => told.push(`${id} ${addr}`));
    addresses.learn(2, member(2).addr);
    addresses.learn(9, '10.9.9.9:1');
    expect([told, addresses.pending(), addresses.of(9)]).toEqual([[], [], undefined]);
    addresses.learn(2, '10.1.1.1:1');
    addresses.learn(2, '10.1.1.1:1');
    expect(told).toEqual(['2 10.1.1.1:1']);
    expect(addresses.pending()).toEqual([{ ...member(2), addr: '10.1.1.1:1' }]);
    const update = (addr: string): RaftConfChange =>
      RaftConfChange.create({
        type: RaftConfChangeType.ConfChangeUpdateNode,
        node_id: 2,
        context: memberContext({ ...member(2), addr }),
      });
    members.apply(update('10.1.1.1:1'));
    expect([addresses.of(2), addresses.pending()]).toEqual(['10.1.1.1:1', []]);
    members.apply(update('10.2.2.2:2'));
    expect(addresses.of(2)).toBe('10.2.2.2:2');
    addresses.learn(2, '10.3.3.3:3');
    addresses.learn(2, '10.2.2.2:2');
    expect(addresses.pending()).toEqual([]);
  });
});

describe('over mutual TLS', () => {
  const members = new MemberList();
  const removedNodes = new Set<string>();
  const got: RaftMessage[] = [];
  let received = newReceiveCounters();
  let server: ManagerServer;
  let clients: ManagerClients;
  let addresses: LearntAddresses;
  let port = 0;
  const open: Client[] = [];

  beforeEach(async () => {
    members.restore(new Uint8Array());
    members.seed([member(1), member(2), member(3)]);
    removedNodes.clear();
    got.length = 0;
    received = newReceiveCounters();
    const tls = new TlsIdentity(identity('n1'));
    clients = new ManagerClients(tls);
    addresses = new LearntAddresses(members, () => undefined);
    const isRemovedNode = (nodeId: string): boolean => removedNodes.has(nodeId);
    const access = new RaftAccess({ clusterId: 'c', members, addresses, isRemovedNode, log: silentLogger });
    server = new ManagerServer({
      tls,
      clients,
      clock: systemClock,
      log: silentLogger,
      trust: { clusterId: 'c', isRemoved: isRemovedNode },
      leadership: { leaderSignal: () => undefined, leaderAddr: () => undefined },
      selfAddr: () => '',
      noLeader: () => {
        throw new Error('not asked');
      },
    });
    const handlers = raftServiceHandlers({
      node: () => ({ id: 1, step: (message) => void got.push(message), isRemoved: () => false }),
      authorize: (call, raftId) => access.authorize(call, raftId),
      authorizeResolve: (call) => access.authorizeResolve(call),
      addressOf: (raftId) => addresses.of(raftId),
      isRemoved: (raftId) => members.isRemoved(raftId),
      onAddress: (raftId, address, call) => access.learn(raftId, address, call),
      counters: received,
    });
    server.addNative(raftServiceDefinition(), 'manager', handlers, (call) => access.refusal(call));
    port = await server.listen('127.0.0.1:0');
  });

  afterEach(async () => {
    for (const client of open.splice(0)) client.close();
    clients.close();
    await server.stop();
  });

  function clientOf(who: NodeIdentity): Client {
    const client = new Client(`127.0.0.1:${port}`, new TlsIdentity(who).channelCredentials(), channelOptions());
    open.push(client);
    return client;
  }

  const message = (from: number, to = 1): RaftMessage =>
    RaftMessage.create({ type: RaftMessageType.MsgHeartbeat, from, to });

  /** One message in a unary call. */
  function send(who: NodeIdentity, from: number, to = 1): Promise<unknown> {
    const request = ProcessRaftMessageRequest.create({ message: message(from, to) });
    return callUnary(clientOf(who), RaftService.ProcessRaftMessage, request, { timeoutMs: 5_000 });
  }

  /** Messages in one stream; resolves with the error that ends it, or null. */
  function stream(
    who: NodeIdentity,
    from: number[],
    hello?: { from: number; address: string },
  ): Promise<ServiceError | null> {
    const method = raftServiceDefinition().StreamRaftMessage;
    const metadata = new Metadata();
    if (hello !== undefined) {
      metadata.set('shoal-raft-from', String(hello.from));
      metadata.set('shoal-raft-address', hello.address);
    }
    return new Promise((resolve) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const call = clientOf(who).makeClientStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        metadata,
        (error) => resolve(error),
      );
      call.on('error', () => undefined);
      for (const id of from) call.write({ message: message(id), more: [], snapshot_offset: 0 });
      call.end();
    });
  }

  const denied = { code: 'PermissionDenied' };

  it('a manager speaks for itself only', async () => {
    await send(identity('n2'), 2);
    expect(await stream(identity('n2'), [2, 2])).toBeNull();
    expect(got).toHaveLength(3);
    await expect(send(identity('n2'), 3)).rejects.toMatchObject({
      ...denied,
      message: 'node n2 may not speak for manager n3',
    });
    expect(await stream(identity('n2'), [2, 3])).toMatchObject({ details: 'node n2 may not speak for manager n3' });
    expect(got.map(({ from }) => from)).toEqual([2, 2, 2, 2]);
    expect(received.refused).toBe(2);
  });

  it('a worker, a node of another cluster, and a certificate of another authority are refused', async () => {
    await expect(send(identity('n2', 'worker'), 2)).rejects.toMatchObject(denied);
    await expect(send(identity('n2', 'manager', 'other'), 2)).rejects.toMatchObject(denied);
    await expect(send(identity('n2', 'manager', 'c', foreignCa), 2)).rejects.toMatchObject(denied);
    for (const who of [identity('n2', 'worker'), identity('n2', 'manager', 'other')]) {
      expect(await stream(who, [2])).toMatchObject({ code: 7 });
    }
    expect(got).toEqual([]);
  });

  it('a removed member is told, by its id or by its certificate', async () => {
    members.apply(RaftConfChange.create({ type: RaftConfChangeType.ConfChangeRemoveNode, node_id: 2 }));
    const told = { code: 'NotFound', message: REMOVED_MESSAGE };
    await expect(send(identity('n2'), 2)).rejects.toMatchObject(told);
    expect(await stream(identity('n2'), [2])).toMatchObject({ code: 5, details: REMOVED_MESSAGE });
    removedNodes.add('n3');
    await expect(send(identity('n3'), 3)).rejects.toMatchObject(told);
    expect(await stream(identity('n3'), [3])).toMatchObject({ code: 5, details: REMOVED_MESSAGE });
    // Only who was of this cluster.
    await expect(send(identity('n3', 'manager', 'other'), 3)).rejects.toMatchObject(denied);
    expect(got).toEqual([]);
  });

  it('an id that the log does not tell of yet belongs to who used it first', async () => {
    await send(identity('n4'), 44);
    await expect(send(identity('n3'), 44)).rejects.toMatchObject(denied);
    members.seed([{ raftId: 44, nodeId: 'n3', addr: '10.0.0.4:1' }]);
    await send(identity('n3'), 44);
    await expect(send(identity('n4'), 44)).rejects.toMatchObject(denied);
  });

  it('a message for another id is dropped and counted', async () => {
    await send(identity('n2'), 2, 99);
    expect([got, received.staleTo]).toEqual([[], 1]);
  });

  it('addresses are told to members only, and learnt from who they belong to', async () => {
    const resolve = (who: NodeIdentity): Promise<unknown> =>
      callUnary(clientOf(who), RaftService.ResolveAddress, ResolveAddressRequest.create({ raft_id: 3 }), {
        timeoutMs: 5_000,
      });
    expect(await resolve(identity('n2'))).toEqual({ addr: '10.0.0.3:2377' });
    await expect(resolve(identity('n8'))).rejects.toMatchObject(denied);
    expect(await stream(identity('n3'), [3], { from: 3, address: '0.0.0.0:99' })).toBeNull();
    expect(await resolve(identity('n2'))).toEqual({ addr: '127.0.0.1:99' });
    expect(await stream(identity('n2'), [], { from: 3, address: '10.6.6.6:1' })).toMatchObject({ code: 7 });
    expect(await stream(identity('n3'), [3], { from: 3, address: 'nonsense' })).toBeNull();
    expect(addresses.of(3)).toBe('127.0.0.1:99');
  });

  it('a dial back is content only with the node that was meant', async () => {
    const signal = new AbortController().signal;
    const at = `127.0.0.1:${port}`;
    const tls = new TlsIdentity(identity('n2'));
    await expect(dialBack(tls, at, 'n1', signal)).rejects.toMatchObject({ code: 'Unimplemented' });
    await expect(dialBack(tls, '127.0.0.1:1', 'n1', signal)).rejects.toMatchObject({ code: 'Unavailable' });
    expect(must(members.get(1), 'member').nodeId).toBe('n1');
  });
});
