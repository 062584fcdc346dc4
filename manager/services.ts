import {
  CAService,
  ControlService,
  DispatcherService,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus,
  HealthService,
  LogBrokerService,
  LogsService,
  NetworkCheckBrokerService,
  NetworkChecksService,
  NodeCAService,
  RaftMembershipService,
  ResourceAllocatorService,
} from '../proto/index.ts';
import {
  raftServiceDefinition,
  raftServiceHandlers,
  type RaftHandlerOptions,
  type RaftReceiveCounters,
} from '../raft/index.ts';
import type { NetworkAttachments } from './attachments/index.ts';
import type { CertificateAuthority } from './ca/index.ts';
import type { Control } from './control/index.ts';
import type { Dispatcher } from './dispatcher/index.ts';
import type { LogBroker } from './logs/index.ts';
import {
  HEALTH_RAFT,
  type LearntAddresses,
  type MemberList,
  type MembershipService,
  type RaftAccess,
} from './membership/index.ts';
import type { NetworkChecker } from './network-check/index.ts';
import type { HandlersOf, ManagerServer, UnaryCall } from './server/index.ts';

/** What the services of a manager are made of. */
export interface ServiceParts {
  authority: CertificateAuthority;
  dispatcher: Dispatcher;
  membership: MembershipService;
  broker: LogBroker;
  networkChecker: NetworkChecker;
  attachments: NetworkAttachments;
  control: Control;
  members: MemberList;
  addresses: LearntAddresses;
  raftAccess: RaftAccess;
  received: RaftReceiveCounters;
  /** The raft member; undefined until it has started. */
  raftNode: RaftHandlerOptions['node'];
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
      Reports: (call) => dispatcher.handlers.reports(call),
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
  server.add(
    ResourceAllocatorService,
    { access: 'node', ...leader },
    {
      AttachNetwork: (call) => parts.attachments.attach(call),
      DetachNetwork: (call) => parts.attachments.detach(call),
    },
  );
  addNetworkChecks(server, parts.networkChecker);
  server.add(ControlService, { access: 'manager', ...leader }, controlHandlers(control));
  addConsensusServices(server, parts);
}

function addNetworkChecks(server: ManagerServer, checker: NetworkChecker): void {
  server.add(
    NetworkCheckBrokerService,
    { access: 'node', leaderOnly: true },
    { ListenChecks: (call) => checker.listen(call), ReportCheck: (call) => checker.report(call) },
  );
  server.add(
    NetworkChecksService,
    { access: 'manager', leaderOnly: true },
    { CheckNetworks: (call) => checker.check(call.request) },
  );
}

/** What managers say to each other. */
function addConsensusServices(server: ManagerServer, parts: ServiceParts): void {
  const { membership, members, addresses, raftAccess, raftNode, received } = parts;
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
    authorize: (call, raftId) => raftAccess.authorize(call, raftId),
    authorizeResolve: (call) => raftAccess.authorizeResolve(call),
    addressOf: (raftId) => addresses.of(raftId),
    isRemoved: (raftId) => members.isRemoved(raftId),
    onAddress: (raftId, address, call) => raftAccess.learn(raftId, address, call),
    counters: received,
  });
  server.addNative(raftServiceDefinition(), 'manager', raftHandlers, (call) => raftAccess.refusal(call));
}
