import { Client } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLogger, silentLogger, systemClock, systemRandom } from '../base/index.ts';
import { channelOptions, renewCertificate, TlsIdentity } from '../identity/index.ts';
import {
  CreateServiceRequest,
  GetNodeRequest,
  GetServiceRequest,
  ListNodesRequest,
  NodeRole,
  ServiceSpec,
  SubscribeLogsRequest,
  UpdateNodeRequest,
  UpdateServiceRequest,
} from '../proto/index.ts';
import { Manager } from './manager.ts';
import { FakeAgent, TestCluster, until } from './testing.ts';

let cluster: TestCluster;
beforeEach(() => {
  const level = process.env['SHOAL_TEST_LOG'];
  cluster = new TestCluster(level === undefined ? silentLogger : createLogger({ level: 'debug', fd: 2 }));
});
afterEach(async () => {
  await cluster.close();
  expect(cluster.fatal).toEqual([]);
});

it('a new cluster has its objects and answers Control calls', async () => {
  const { manager, identity } = await cluster.bootstrap();
  expect(manager.isLeader()).toBe(true);
  const { nodes } = await manager.call('ListNodes', ListNodesRequest.create());
  expect(nodes.map((node) => [node.id, node.role])).toEqual([[identity.nodeId, NodeRole.MANAGER]]);
  expect(cluster.token('worker')).toMatch(/^SWMTKN-1-/);
  expect(manager.store.view().byName('network', 'ingress')?.spec?.ingress).toBe(true);
  await until('the status of the manager is stored', () => {
    const status = manager.store.view().get('node', identity.nodeId)?.manager_status;
    return status?.leader === true && status.addr === manager.advertiseAddr;
  });
  expect(manager.status().leader).toEqual({ nodeId: identity.nodeId, addr: manager.advertiseAddr });
});

it('three managers: join by token, forwarded calls, failover, rejoin', async () => {
  const { manager: first } = await cluster.bootstrap();
  await expect(cluster.certificate(first.advertiseAddr, cluster.token('manager').slice(0, -1) + '!')).rejects.toThrow(
    'A valid join token is necessary to join this cluster',
  );
  const second = (await cluster.join(first.advertiseAddr)).manager;
  // The third knows only a follower, which forwards.
  const { manager: third, identity } = await cluster.join(second.advertiseAddr);
  expect(first.status().managers).toHaveLength(3);
  await until('all three vote', () => cluster.managers.every((one) => one.status().raft?.voters.length === 3));

  const worker = await cluster.certificate(third.advertiseAddr, cluster.token('worker'));
  expect(worker.role).toBe('worker');
  const { node } = await third.call('GetNode', GetNodeRequest.create({ reference: worker.nodeId }));
  expect(node?.role).toBe(NodeRole.WORKER);
  await expect(second.call('GetNode', GetNodeRequest.create({ reference: 'zz' }))).rejects.toMatchObject({
    code: 'NotFound',
    message: 'node zz not found',
  });

  await cluster.stop(first);
  await until('another manager leads', () => cluster.leader() !== undefined);
  const reads = await Promise.all(cluster.managers.map((one) => one.call('ListNodes', ListNodesRequest.create())));
  expect(reads.map(({ nodes }) => nodes.length)).toEqual([4, 4]);

  // A manager that comes back finds its place by its log.
  const port = third.advertiseAddr.split(':')[1];
  await cluster.stop(third);
  const again = await cluster.start(identity, { kind: 'restart' }, undefined, `127.0.0.1:${port}`);
  await until('a leader is there again', () => again.status().leader !== undefined);
  const after = await again.call('ListNodes', ListNodesRequest.create());
  expect(after.nodes).toHaveLength(4);
});

it('without a quorum there is no leader, in the words of Docker', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second } = await cluster.join(first.advertiseAddr);
  await cluster.stop(first);
  await until('the lead is lost', () => !second.isLeader());
  await expect(second.call('ListNodes', ListNodesRequest.create())).rejects.toThrow(
    "The swarm does not have a leader. It's possible that too few managers are online. " +
      'Make sure more than half of the managers are online.',
  );
});

it('a demoted manager leaves consensus, gets a certificate as worker, and can be promoted again', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second, identity } = await cluster.join(first.advertiseAddr);
  await until('it is a voter', () => first.status().raft?.voters.length === 2);
  const setRole = async (role: NodeRole): Promise<void> => {
    const { node } = await first.call('GetNode', GetNodeRequest.create({ reference: identity.nodeId }));
    const spec = { ...node?.spec, desired_role: role };
    const version = node?.meta?.version ?? {};
    await first.call('UpdateNode', UpdateNodeRequest.create({ node_id: identity.nodeId, node_version: version, spec }));
  };
  await setRole(NodeRole.WORKER);
  await until('it is told', () => cluster.removed.includes(identity.nodeId));
  await until('its role is written', () => first.store.view().get('node', identity.nodeId)?.role === NodeRole.WORKER);
  await cluster.stop(second);
  const renew = { remoteAddr: first.advertiseAddr, clock: systemClock, random: systemRandom, log: silentLogger };
  const worker = await renewCertificate({ ...renew, identity });
  expect([worker.nodeId, worker.role]).toEqual([identity.nodeId, 'worker']);
  expect(first.status().managers).toHaveLength(1);

  await setRole(NodeRole.MANAGER);
  await until('its role is written', () => first.store.view().get('node', identity.nodeId)?.role === NodeRole.MANAGER);
  const manager = await renewCertificate({ ...renew, identity: worker });
  expect(manager.role).toBe('manager');
  await cluster.start(manager, { kind: 'join', remoteAddr: first.advertiseAddr });
  await until('it votes again', () => first.status().raft?.voters.length === 2);
});

it('a manager demoted while it was away learns so when it returns', async () => {
  const { manager: first } = await cluster.bootstrap();
  await cluster.join(first.advertiseAddr);
  const { manager: third, identity } = await cluster.join(first.advertiseAddr);
  await until('all vote', () => first.status().raft?.voters.length === 3);
  await cluster.stop(third);
  const { node } = await first.call('GetNode', GetNodeRequest.create({ reference: identity.nodeId }));
  const version = node?.meta?.version ?? {};
  const spec = { ...node?.spec, desired_role: NodeRole.WORKER };
  await first.call('UpdateNode', UpdateNodeRequest.create({ node_id: identity.nodeId, node_version: version, spec }));
  await until('it is out', () => first.status().managers.length === 2);
  await cluster.start(identity, { kind: 'restart' }, undefined, third.advertiseAddr);
  await until('it is told', () => cluster.removed.includes(identity.nodeId));
  expect(cluster.removed).toHaveLength(1);
});

it('logs are read through any manager, and end when the reader does', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second } = await cluster.join(first.advertiseAddr);
  for (const manager of [first, second]) {
    const controller = new AbortController();
    const request = SubscribeLogsRequest.create({ selector: { service_ids: ['none'] }, options: { follow: true } });
    const lines = manager.subscribeLogs(request, controller.signal)[Symbol.asyncIterator]();
    const next = lines.next();
    const early = await Promise.race([next.then(() => 'ended'), systemClock.sleep(300).then(() => 'waits')]);
    expect(early).toBe('waits');
    controller.abort(new Error('enough'));
    const end = await next.then(
      ({ done }) => done,
      () => true,
    );
    expect(end).toBe(true);
  }
});

it('a manager leaves by itself; even the leader', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second } = await cluster.join(first.advertiseAddr);
  await first.leave();
  await until('the other leads alone', () => second.isLeader() && second.status().managers.length === 1);
});

it('after the loss of the majority the rest can begin anew', async () => {
  const { manager: first, identity } = await cluster.bootstrap();
  const { manager: second, identity: lost } = await cluster.join(first.advertiseAddr);
  await cluster.stop(second);
  await cluster.stop(first);
  const again = await cluster.start(identity, { kind: 'force-new-cluster' });
  expect(again.isLeader()).toBe(true);
  expect(again.status().managers.map((one) => one.nodeId)).toEqual([identity.nodeId]);
  await until('the other is no manager', () => again.store.view().get('node', lost.nodeId)?.role === NodeRole.WORKER);
});

it('a failed join leaves nothing behind', async () => {
  const { manager: first } = await cluster.bootstrap();
  const identity = await cluster.certificate(first.advertiseAddr, cluster.token('manager'));
  await expect(cluster.start(identity, { kind: 'join', remoteAddr: '127.0.0.1:1' })).rejects.toMatchObject({
    code: 'Unavailable',
  });
  expect(Manager.hasState(cluster.dirOf(identity.nodeId))).toBe(false);
});

it('a service becomes tasks on an agent, across a change of leader', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second } = await cluster.join(first.advertiseAddr);
  const { manager: third } = await cluster.join(first.advertiseAddr);
  const worker = await cluster.certificate(third.advertiseAddr, cluster.token('worker'));
  const client = new Client(third.advertiseAddr, new TlsIdentity(worker).channelCredentials(), channelOptions());
  const agent = new FakeAgent(client);
  try {
    await agent.connect();
    const spec = ServiceSpec.create({
      annotations: { name: 'web' },
      task: { container: { image: 'busybox' } },
      replicated: { replicas: 2 },
    });
    const { service } = await second.call('CreateService', CreateServiceRequest.create({ spec }));
    await until('two tasks are assigned', () => agent.tasks.size === 2);
    await agent.reportRunning();
    await cluster.stop(first);
    await until('another leads', () => cluster.leader() !== undefined);
    agent.disconnect();
    await until('the agent is back', async () => {
      await agent.connect().catch(() => undefined);
      return agent.connected;
    });
    const update = { service_id: service?.id ?? '', service_version: service?.meta?.version ?? {} };
    const fresh = await third.call('GetService', GetServiceRequest.create({ reference: 'web' }));
    const wider = { ...spec, replicated: { replicas: 3 } };
    const version = fresh.service?.meta?.version ?? {};
    await third.call(
      'UpdateService',
      UpdateServiceRequest.create({ ...update, service_version: version, spec: wider }),
    );
    await until('three tasks are assigned', () => agent.tasks.size === 3);
  } finally {
    agent.disconnect();
    client.close();
  }
});
