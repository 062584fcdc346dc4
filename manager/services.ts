import { ShoalError } from '../base/index.ts';
import { peerIdentity, type PeerIdentity } from '../identity/index.ts';
import {
  CAService,
  ControlService,
  DispatcherService,
  grpcService,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus,
  HealthService,
  LogBrokerService,
  LogsService,
  NodeCAService,
  RaftMembershipService,
  RaftService,
} from '../proto/index.ts';
import { raftServiceHandlers, type RaftHandlerOptions } from '../raft/index.ts';
import type { CertificateAuthority } from './ca/index.ts';
import type { Control } from './control/index.ts';
import type { Dispatcher } from './dispatcher/index.ts';
import type { LogBroker } from './logs/index.ts';
import { HEALTH_RAFT, type MemberList, type MembershipService } from './membership/index.ts';
import type { HandlersOf, ManagerServer, UnaryCall } from './server/index.ts';

/** What the services of a manager are made of. */
export interface ServiceParts {
  authority: CertificateAuthority;
  dispatcher: Dispatcher;
  membership: MembershipService;
  broker: LogBroker;
  control: Control;
  members: MemberList;
  /** The raft member; undefined until it has started. */
  raftNode: RaftHandlerOptions['node'];
}

type RaftCall = Parameters<RaftHandlerOptions['authorize']>[0];

/** Checks once per call who sends, and per message that it speaks for itself. */
function raftAuthoriser(members: MemberList): RaftHandlerOptions['authorize'] {
  const peers = new WeakMap<RaftCall, PeerIdentity>();
  return (call, fromRaftId) => {
    let peer = peers.get(call);
    if (peer === undefined) {
      peer = peerIdentity(call);
      if (peer?.role !== 'manager') throw new ShoalError('PermissionDenied', 'only managers take part in consensus');
      peers.set(call, peer);
    }
    const member = members.get(fromRaftId);
    // A manager that has just joined may not be in our list yet.
    if (member === undefined || member.nodeId === peer.nodeId) return;
    throw new ShoalError('PermissionDenied', `node ${peer.nodeId} may not speak for manager ${member.nodeId}`);
  };
}

function controlHandlers(control: Control): HandlersOf<typeof ControlService> {
  const entries = Object.keys(ControlService).map((name) => [
    name,
    (call: UnaryCall<never>) => control[name as keyof Control](call.request),
  ]);
  return Object.fromEntries(entries) as HandlersOf<typeof ControlService>;
}

/** Registers every service of a manager; call before the server listens. */
export function addServices(server: ManagerServer, parts: ServiceParts): void {
  const { authority, dispatcher, broker, control } = parts;
  const leader = { leaderOnly: true } as const;
  server.add(
    CAService,
    { access: 'public', except: { GetUnlockKey: 'manager' }, ...leader },
    {
      GetRootCACertificate: () => authority.getRootCaCertificate(),
      GetUnlockKey: () => authority.getUnlockKey(),
    },
  );
  server.add(
    NodeCAService,
    { access: 'public', ...leader },
    {
      IssueNodeCertificate: (call) => authority.issueNodeCertificate(call),
      NodeCertificateStatus: (call) => authority.nodeCertificateStatus(call),
    },
  );
  server.add(
    DispatcherService,
    { access: 'node', ...leader },
    {
      Session: (call) => dispatcher.handlers.session(call),
      Heartbeat: (call) => dispatcher.handlers.heartbeat(call),
      UpdateTaskStatus: (call) => dispatcher.handlers.updateTaskStatus(call),
      UpdateVolumeStatus: (call) => dispatcher.handlers.updateVolumeStatus(call),
      Assignments: (call) => dispatcher.handlers.assignments(call),
    },
  );
  server.add(
    LogBrokerService,
    { access: 'node', ...leader },
    {
      ListenSubscriptions: (call) => broker.handlers.listenSubscriptions(call),
      PublishLogs: (call) => broker.handlers.publishLogs(call),
    },
  );
  server.add(
    LogsService,
    { access: 'manager', ...leader },
    {
      SubscribeLogs: async (call) => {
        for await (const message of broker.subscribe(call.request, call.signal)) await call.send(message);
      },
    },
  );
  server.add(ControlService, { access: 'manager', ...leader }, controlHandlers(control));
  addConsensusServices(server, parts);
}

/** What managers say to each other. */
function addConsensusServices(server: ManagerServer, { membership, members, raftNode }: ServiceParts): void {
  server.add(
    RaftMembershipService,
    { access: 'manager', leaderOnly: true },
    { Join: (call) => membership.join(call), Leave: (call) => membership.leave(call) },
  );
  server.add(
    HealthService,
    { access: 'manager', leaderOnly: false },
    {
      Check: (call) => {
        const { SERVING, UNKNOWN } = HealthCheckResponse_ServingStatus;
        const known = call.request.service === '' || call.request.service === HEALTH_RAFT;
        return HealthCheckResponse.create({ status: known ? SERVING : UNKNOWN });
      },
    },
  );
  const raftHandlers = raftServiceHandlers({
    node: raftNode,
    authorize: raftAuthoriser(members),
    addressOf: (raftId) => members.get(raftId)?.addr,
    isRemoved: (raftId) => members.isRemoved(raftId),
  });
  server.addNative(grpcService(RaftService), 'manager', raftHandlers);
}
