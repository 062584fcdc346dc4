import { Client, Metadata, status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestCluster, until } from '../testing.ts';
import { aTask } from '../store/testing.ts';
import { peerAddress } from './access.ts';
import {
  anonymousCredentials,
  callServerStream,
  callUnary,
  CA_SERVER_NAME,
  channelOptions,
  createCsr,
  identityFromPem,
  issueCertificate,
  TlsIdentity,
  type NodeIdentity,
} from '../../identity/index.ts';
import {
  AgentReport,
  CAService,
  ControlService,
  DispatcherService,
  GetRootCACertificateRequest,
  HealthCheckRequest,
  HealthService,
  HeartbeatRequest,
  JoinRequest,
  ListNodesRequest,
  LogBrokerService,
  ListenSubscriptionsRequest,
  NodeCAService,
  NodeCertificateStatusRequest,
  NodeStatus_State,
  RaftMembershipService,
  RaftService,
  ResolveAddressRequest,
  SessionRequest,
  TaskState,
  TaskStatus,
  type Partially,
  type ReportAck,
} from '../../proto/index.ts';

const call = { timeoutMs: 5_000 };
let cluster: TestCluster;
const clients: Client[] = [];
beforeEach(() => {
  cluster = new TestCluster();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await cluster.close();
});

function clientOf(addr: string, identity: NodeIdentity): Client {
  const client = new Client(addr, new TlsIdentity(identity).channelCredentials(), channelOptions());
  clients.push(client);
  return client;
}

it('each method takes only those who may call it', async () => {
  const { manager, identity } = await cluster.bootstrap();
  const worker = await cluster.certificate(manager.advertiseAddr, cluster.token('worker'));
  const [asWorker, asManager] = [clientOf(manager.advertiseAddr, worker), clientOf(manager.advertiseAddr, identity)];
  const anonymous = new Client(
    manager.advertiseAddr,
    anonymousCredentials(identity.rootCa),
    channelOptions(CA_SERVER_NAME),
  );
  clients.push(anonymous);
  const { certificate } = await callUnary(
    anonymous,
    CAService.GetRootCACertificate,
    GetRootCACertificateRequest.create(),
    call,
  );
  expect(Buffer.from(certificate).toString()).toBe(identity.rootCa);

  const denied = { code: 'PermissionDenied' };
  const list = ListNodesRequest.create();
  await expect(callUnary(anonymous, ControlService.ListNodes, list, call)).rejects.toMatchObject(denied);
  await expect(callUnary(asWorker, ControlService.ListNodes, list, call)).rejects.toMatchObject(denied);
  await expect(
    callUnary(anonymous, DispatcherService.Heartbeat, HeartbeatRequest.create(), call),
  ).rejects.toMatchObject(denied);
  const join = JoinRequest.create({ addr: '127.0.0.1:1' });
  await expect(callUnary(asWorker, RaftMembershipService.Join, join, call)).rejects.toMatchObject(denied);
  const resolve = ResolveAddressRequest.create({ raft_id: 1 });
  await expect(callUnary(asWorker, RaftService.ResolveAddress, resolve, call)).rejects.toMatchObject(denied);
  await expect(callUnary(asManager, RaftService.ResolveAddress, resolve, call)).rejects.toMatchObject({
    code: 'NotFound',
  });
  const health = HealthCheckRequest.create({ service: 'Raft' });
  expect((await callUnary(asManager, HealthService.Check, health, call)).status).toBe(1);
  await expect(callUnary(asWorker, HealthService.Check, health, call)).rejects.toMatchObject(denied);
  expect((await callUnary(asManager, ControlService.ListNodes, list, call)).nodes).toHaveLength(2);
});

it('a claim of forwarding by a worker, or a certificate of another cluster, counts nothing', async () => {
  const { manager, identity } = await cluster.bootstrap();
  const worker = await cluster.certificate(manager.advertiseAddr, cluster.token('worker'));
  const metadata = new Metadata();
  metadata.set('redirect', '127.0.0.1:1');
  metadata.set('forwarded_cert', 'true');
  metadata.set('forwarded_cert_cn', identity.nodeId);
  metadata.set('forwarded_cert_org', identity.clusterId);
  metadata.set('forwarded_cert_ou', 'swarm-manager');
  const list = ListNodesRequest.create();
  const pretending = callUnary(clientOf(manager.advertiseAddr, worker), ControlService.ListNodes, list, {
    ...call,
    metadata,
  });
  await expect(pretending).rejects.toMatchObject({ code: 'PermissionDenied' });
  // Same authority, another cluster id.
  const rootCa = { cert: identity.rootCa, key: keyOf(cluster) };
  const { csr, key } = createCsr();
  const fields = {
    csr,
    nodeId: 'x',
    clusterId: 'other',
    role: 'manager',
    lifetimeMs: 3_600_000,
    nowMs: Date.now(),
  } as const;
  const cert = issueCertificate({ ...fields, caCert: rootCa.cert, caKey: rootCa.key });
  const stranger = clientOf(manager.advertiseAddr, identityFromPem(cert, key, identity.rootCa));
  await expect(callUnary(stranger, ControlService.ListNodes, list, call)).rejects.toMatchObject({
    code: 'PermissionDenied',
  });
});

function keyOf(of: TestCluster): string {
  const root = of.managers[0]?.store.view().list('cluster')[0]?.root_ca;
  return Buffer.from(root?.ca_key ?? []).toString();
}

it('peers have one form of address, whatever the socket says', () => {
  expect(peerAddress('10.0.0.1:50')).toBe('10.0.0.1:50');
  expect(peerAddress('::ffff:10.0.0.1:50')).toBe('10.0.0.1:50');
  expect(peerAddress('fd00::1:50')).toBe('[fd00::1]:50');
  expect(peerAddress('unknown')).toBe('unknown');
});

it('an agent is served through a follower as through the leader', async () => {
  const { manager: leader } = await cluster.bootstrap();
  const { manager: follower } = await cluster.join(leader.advertiseAddr);
  const worker = await cluster.certificate(follower.advertiseAddr, cluster.token('worker'));
  const client = clientOf(follower.advertiseAddr, worker);
  const controller = new AbortController();
  const request = SessionRequest.create({ description: { hostname: 'w1' } });
  const session = callServerStream(client, DispatcherService.Session, request, { signal: controller.signal });
  const first = await session.next();
  const message = first.value as {
    session_id: string;
    managers: { peer: { addr: string } | null }[];
    node: { id: string };
  };
  expect(message.node.id).toBe(worker.nodeId);
  expect(new Set(message.managers.map((one) => one.peer?.addr))).toEqual(
    new Set([leader.advertiseAddr, follower.advertiseAddr]),
  );
  const beat = HeartbeatRequest.create({ session_id: message.session_id });
  expect((await callUnary(client, DispatcherService.Heartbeat, beat, call)).period).not.toBeNull();
  await until('the node is ready', () => {
    const node = leader.store.view().get('node', worker.nodeId);
    return node?.status?.state === NodeStatus_State.READY;
  });
  const logs = callServerStream(client, LogBrokerService.ListenSubscriptions, ListenSubscriptionsRequest.create(), {
    signal: controller.signal,
  });
  const waiting = logs.next();
  const status = NodeCertificateStatusRequest.create({ node_id: worker.nodeId });
  expect((await callUnary(client, NodeCAService.NodeCertificateStatus, status, call)).certificate?.cn).toBe(
    worker.nodeId,
  );
  const ended = [session.next(), waiting];
  controller.abort(new Error('enough'));
  for (const end of ended) await expect(end).rejects.toThrow('enough');
});

/** A stream of reports over gRPC, as bytes that the test makes. */
function reportsOf(client: Client) {
  const { path, response } = DispatcherService.Reports;
  const pass = (bytes: Buffer): Buffer => bytes;
  const stream = client.makeBidiStreamRequest<Buffer, ReportAck>(path, pass, (bytes) => response.decode(bytes));
  const answers: ReportAck[] = [];
  let number = 0;
  stream.on('data', (answer: ReportAck) => answers.push(answer));
  const ended = new Promise<{ code: number; details: string }>((resolve) => {
    stream.on('error', ({ code, details }: ServiceError) => resolve({ code, details }));
    stream.on('end', () => resolve({ code: grpcStatus.OK, details: '' }));
  });
  const raw = (bytes: Uint8Array): void => void stream.write(Buffer.from(bytes));
  const say = (fields: Partially<AgentReport>): void => raw(AgentReport.encode({ number: ++number, ...fields }));
  return { stream, answers, ended, raw, say };
}

/** Opens a session that lives until `signal` aborts. @returns its id. */
async function openSession(client: Client, signal: AbortSignal): Promise<string> {
  const request = SessionRequest.create({ description: { hostname: 'w1' }, shoal_version: 2 });
  const session = callServerStream(client, DispatcherService.Session, request, { signal });
  const first = await session.next();
  const follow = async (): Promise<void> => {
    while ((await session.next()).done !== true);
  };
  follow().catch(() => undefined);
  return (first.value as { session_id: string }).session_id;
}

it('a stream of reports is served by the leader and through a follower, and ends as the calls fail', async () => {
  const { manager: leader } = await cluster.bootstrap();
  const { manager: follower } = await cluster.join(leader.advertiseAddr);
  const worker = await cluster.certificate(leader.advertiseAddr, cluster.token('worker'));
  const controller = new AbortController();
  const { signal } = controller;
  for (const manager of [leader, follower]) {
    const client = clientOf(manager.advertiseAddr, worker);
    const session_id = await openSession(client, signal);
    const reports = reportsOf(client);
    reports.say({ session_id, heartbeat: true });
    await until('the heartbeat is answered', () => reports.answers.at(-1)?.heartbeat === 1);
    expect(reports.answers[0]?.period).not.toBeNull();
    const taskId = `task-of-${manager === leader ? 'leader' : 'follower'}`;
    const running = { node_id: worker.nodeId, status: { state: TaskState.ASSIGNED } };
    await leader.store.update((tx) => tx.create('task', aTask(taskId, running)));
    reports.say({ updates: [{ task_id: taskId, status: TaskStatus.create({ state: TaskState.RUNNING }) }] });
    await until('the status is acknowledged', () => reports.answers.at(-1)?.committed === 2);
    expect(leader.store.view().get('task', taskId)?.status?.state).toBe(TaskState.RUNNING);
    for (let i = 0; i < 100; i++) reports.say({ heartbeat: true });
    await until('the last heartbeat is answered', () => reports.answers.at(-1)?.heartbeat === 102);

    const unknown = reportsOf(client);
    unknown.say({ session_id: 'unknown', heartbeat: true });
    expect(await unknown.ended).toEqual({ code: grpcStatus.INVALID_ARGUMENT, details: 'session invalid' });
    const unreadable = reportsOf(client);
    unreadable.raw(new Uint8Array([0xff, 0xff]));
    expect(await unreadable.ended).toMatchObject({ code: grpcStatus.INVALID_ARGUMENT });
    const second = reportsOf(client);
    second.say({ session_id, heartbeat: true });
    expect(await reports.ended).toMatchObject({ code: grpcStatus.ABORTED });
    second.stream.end();
    expect(await second.ended).toMatchObject({ code: grpcStatus.OK });
  }
  const anonymous = new Client(
    leader.advertiseAddr,
    anonymousCredentials(worker.rootCa),
    channelOptions(CA_SERVER_NAME),
  );
  clients.push(anonymous);
  expect(await reportsOf(anonymous).ended).toMatchObject({ code: grpcStatus.PERMISSION_DENIED });
  controller.abort(new Error('enough'));
});

it('a node that is removed loses its stream of reports, also through a follower', async () => {
  const { manager: leader } = await cluster.bootstrap();
  const { manager: follower } = await cluster.join(leader.advertiseAddr);
  const worker = await cluster.certificate(leader.advertiseAddr, cluster.token('worker'));
  const controller = new AbortController();
  const client = clientOf(follower.advertiseAddr, worker);
  const reports = reportsOf(client);
  reports.say({ session_id: await openSession(client, controller.signal), heartbeat: true });
  await until('the heartbeat is answered', () => reports.answers.length > 0);
  await leader.store.update((tx) => tx.remove('node', worker.nodeId));
  expect(await reports.ended).toEqual({ code: grpcStatus.NOT_FOUND, details: 'node not registered' });
  controller.abort(new Error('enough'));
});
