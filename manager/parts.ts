import { ShoalError, unavailable, type Clock, type Logger, type Random } from '../base/index.ts';
import { channelOptions, TlsIdentity, type IdentityStore, type NodeIdentity } from '../identity/index.ts';
import { WeightedPeer } from '../proto/index.ts';
import { GrpcRaftTransport, newReceiveCounters, type RaftReceiveCounters, type StartMode } from '../raft/index.ts';
import { NetworkAttachments } from './attachments/index.ts';
import {
  CertificateAuthority,
  clusterOf,
  createNetworkKeyRotation,
  createRootRotation,
  isBlacklisted,
} from './ca/index.ts';
import type { ClusterParts } from './cluster-parts.ts';
import { confirmReads } from './confirmed-reads.ts';
import { Consensus, type ConsensusOptions } from './consensus.ts';
import { createControl, type Control } from './control/index.ts';
import { createDispatcher, hostOf, type Dispatcher } from './dispatcher/index.ts';
import { createDuties } from './duties.ts';
import { DataKeys, KeyKeeper } from './keys/index.ts';
import { Leadership } from './leadership.ts';
import { createLogBroker, type LogBroker } from './logs/index.ts';
import { managerStatusOf } from './manager-state.ts';
import {
  canRemove,
  createAddressKeeper,
  createManagerStatus,
  createRoleManager,
  LearntAddresses,
  MemberList,
  MembershipService,
  QuorumWatch,
  type LastLeader,
  RaftAccess,
  type MembershipRaft,
} from './membership/index.ts';
import { NetworkChecker } from './network-check/index.ts';
import { createPlanner } from './plan/index.ts';
import type { WordsContext } from './quorum-words.ts';
import { ManagerClients, ManagerServer } from './server/index.ts';
import { addServices } from './services.ts';
import { StartGrace } from './start-grace.ts';
import { createStore, NO_LEADER_MESSAGE, type ReplicatedStore } from './store/store.ts';

/** Name check and message sizes; timing is the transport's own. */
const RAFT_CHANNEL_OPTIONS = Object.fromEntries(
  Object.entries(channelOptions()).filter(([name]) => !/keepalive|backoff/.test(name)),
);
/** Weight of every manager in the lists that agents get. */
const MANAGER_WEIGHT = 10;

export interface PartsOptions {
  identity: NodeIdentity;
  /** Where that identity is stored; it also holds the keys of the raft log. */
  identities: IdentityStore;
  stateDir: string;
  clock: Clock;
  random: Random;
  log: Logger;
  raft?: ConsensusOptions['raft'];
  onRemoved: () => void;
  onFatal: (error: unknown) => void;
  /** See KeyKeeper. */
  onLocked: () => void;
  /** See Leadership. */
  prepareTerm: () => Promise<void>;
  /** A leader is known, or none is any more. */
  onLeader: (leader: 'found' | LastLeader) => void;
}

/** A manager's parts, put together but not started. */
/** What a manager learns of itself while it starts. */
export interface ManagerSelf {
  /** Where others reach it; set once it listens. */
  addr: string;
  readonly grace: StartGrace;
}

export interface ManagerParts extends ClusterParts {
  readonly tls: TlsIdentity;
  readonly clients: ManagerClients;
  readonly server: ManagerServer;
  readonly leadership: Leadership;
  readonly membership: MembershipService;
  readonly broker: LogBroker;
  readonly networkChecker: NetworkChecker;
  /** Reads what this manager has, at once. */
  readonly control: Control;
  /** The same for a leader: what it reads was not overtaken by another leader. */
  readonly confirmedControl: Control;
  readonly self: ManagerSelf;
  readonly authority: CertificateAuthority;
  readonly dataKeys: DataKeys;
  readonly keyKeeper: KeyKeeper;
  /** Where managers are that moved. */
  readonly addresses: LearntAddresses;
  /** What came in for consensus. */
  readonly received: RaftReceiveCounters;
  /** Address of another manager that leads. */
  leaderAddr(): string | undefined;
  wordsContext(): WordsContext;
  startConsensus(raftId: number, how: StartMode): Promise<void>;
}

/** Consensus is started last, and everything else refers to it. */
class LateConsensus implements MembershipRaft {
  node: Consensus | undefined;
  transport: GrpcRaftTransport | undefined;

  #started(): Consensus {
    if (this.node === undefined) throw unavailable(NO_LEADER_MESSAGE);
    return this.node;
  }

  get id(): number {
    return this.node?.id ?? 0;
  }
  isLeader(): boolean {
    return this.node?.isLeader() === true;
  }
  leaseBarrier(): Promise<void> {
    return this.#started().leaseBarrier();
  }
  propose(data: Uint8Array): Promise<number> {
    return this.#started().propose(data);
  }
  async proposeConfChange(...args: Parameters<MembershipRaft['proposeConfChange']>): Promise<void> {
    await this.#started().proposeConfChange(...args);
  }
  async transferLeadership(to: number): Promise<void> {
    await this.#started().transferLeadership(to);
  }
  progress(): ReturnType<MembershipRaft['progress']> {
    return this.node?.progress() ?? [];
  }
}

function createDispatcherFor(
  options: PartsOptions,
  store: ReplicatedStore,
  members: MemberList,
  self: ManagerSelf,
  checker: NetworkChecker,
): Dispatcher {
  const { clock, random, log, identity } = options;
  return createDispatcher({
    store,
    clock,
    random,
    log: log.with({ component: 'dispatcher' }),
    nodeId: identity.nodeId,
    restarted: () => self.grace.restarted,
    awaitMs: () => self.grace.awaitMs,
    networkChecks: (nodeId) => checker.waitingFor(nodeId),
    managers: () =>
      members
        .list()
        .map(({ nodeId, addr }) => WeightedPeer.create({ peer: { node_id: nodeId, addr }, weight: MANAGER_WEIGHT })),
    rootCa: () => clusterOf(store.view())?.root_ca?.ca_cert ?? Buffer.from(identity.rootCa),
  });
}

/** What everything is built upon. */
interface Base {
  readonly options: PartsOptions;
  readonly late: LateConsensus;
  readonly store: ReplicatedStore;
  readonly cluster: ClusterParts;
  readonly tls: TlsIdentity;
  readonly clients: ManagerClients;
  readonly self: ManagerSelf;
  readonly dataKeys: DataKeys;
  readonly addresses: LearntAddresses;
  readonly raftAccess: RaftAccess;
}

function depsOf({ options, cluster }: Base, component: string) {
  const { clock, random, log } = options;
  return { store: cluster.store, clock, random, log: log.with({ component }) };
}

function createControlFor(base: Base, dispatcher: Dispatcher): Control {
  const { late, cluster } = base;
  return createControl({
    ...depsOf(base, 'control'),
    planner: createPlanner(depsOf(base, 'plan')),
    usage: dispatcher.usage,
    membership: {
      managerStatus: (nodeId) => managerStatusOf(cluster, nodeId),
      canRemove: (nodeId) => canRemove(late.progress(), cluster.members.byNode(nodeId)?.raftId ?? 0),
    },
  });
}

function createLeadership(
  base: Base,
  parts: { dispatcher: Dispatcher; broker: LogBroker; membership: MembershipService },
): Leadership {
  const { options, late, cluster } = base;
  const { dispatcher, broker, membership } = parts;
  const raftDeps = { ...depsOf(base, 'membership'), members: cluster.members, raft: late };
  const { addresses } = base;
  return new Leadership({
    clock: options.clock,
    random: options.random,
    log: options.log.with({ component: 'leadership' }),
    prepare: options.prepareTerm,
    duties: [
      dispatcher.duty,
      broker.duty,
      ...createDuties({ ...depsOf(base, 'duties'), log: options.log, usage: dispatcher.usage }),
      createRoleManager({ ...raftDeps, service: membership }),
      createAddressKeeper({ ...raftDeps, addresses, service: membership }),
      createManagerStatus(raftDeps),
      createRootRotation({ ...depsOf(base, 'ca'), onRotated: () => dispatcher.refresh() }),
      createNetworkKeyRotation({ ...depsOf(base, 'ca'), onRotated: () => dispatcher.refresh() }),
    ],
  });
}

function createServer(base: Base, leadership: Leadership, leaderAddr: () => string | undefined): ManagerServer {
  const { options, cluster, tls, clients, self, addresses } = base;
  const { identity, clock, log } = options;
  return new ManagerServer({
    tls,
    clients,
    clock,
    log: log.with({ component: 'server' }),
    trust: {
      clusterId: identity.clusterId,
      isRemoved: (nodeId) => isBlacklisted(clusterOf(cluster.store.view()), nodeId, clock.now()),
    },
    leadership: { leaderSignal: () => leadership.signal, leaderAddr },
    selfAddr: () => self.addr,
    isPreferred: (host) =>
      cluster.members.list().some((member) => hostOf(addresses.of(member.raftId) ?? member.addr) === host),
    pulse: () => base.late.node?.pulse(),
    noLeader: () => new ShoalError('Unavailable', NO_LEADER_MESSAGE),
  });
}

/** Starts consensus; everything else refers to it through `base.late`. */
async function startConsensus(
  base: Base,
  leadership: Leadership,
  onChange: () => void,
  raftId: number,
  how: StartMode,
): Promise<void> {
  const { options, late, cluster, tls, self, raftAccess, dataKeys: keys } = base;
  const { stateDir, onRemoved, onFatal, clock, random, log } = options;
  const transport = new GrpcRaftTransport({
    credentials: () => tls.channelCredentials(),
    channelOptions: RAFT_CHANNEL_OPTIONS,
    clock,
    random,
    log: log.with({ component: 'raft-transport' }),
    self: () => ({ raftId, address: self.addr }),
    checkPeer: (id, certificate) => raftAccess.checkPeer(id, certificate),
  });
  late.transport = transport;
  const raft = options.raft === undefined ? {} : { raft: options.raft };
  const onHeard = (from: number): void => cluster.quorum.heard(from);
  const shared = { clock, random, log, onRemoved, onFatal, onChange, onHeard };
  late.node = new Consensus({ ...raft, ...shared, raftId, stateDir, members: cluster.members, transport, keys });
  await late.node.start(how, cluster.store, leadership);
  cluster.quorum.start();
}

function createQuorumWatch(options: PartsOptions, late: LateConsensus, members: MemberList): QuorumWatch {
  const { clock, log, onLeader } = options;
  return new QuorumWatch({
    clock,
    log: log.with({ component: 'quorum' }),
    voters: () => (late.node?.status()?.voters ?? []).flatMap((raftId) => members.get(raftId) ?? []),
    self: () => late.id,
    leaderId: () => late.node?.status()?.leaderId ?? 0,
    onLeader,
  });
}

function createKeyKeeper(base: Base): KeyKeeper {
  const { options, late, dataKeys } = base;
  const { identities, onLocked } = options;
  const snapshotNow = async (): Promise<void> => await late.node?.snapshotNow();
  return new KeyKeeper({ ...depsOf(base, 'keys'), identities, dataKeys, onLocked, snapshotNow });
}

/** What does not depend on the services. */
function createBase(options: PartsOptions): Base {
  const { identity, clock, random, log } = options;
  const late = new LateConsensus();
  const store = createStore({ proposer: late, clock, random, log: log.with({ component: 'store' }) });
  const members = new MemberList();
  const tls = new TlsIdentity(identity);
  const cluster: ClusterParts = {
    store,
    members,
    quorum: createQuorumWatch(options, late, members),
    peers: () => late.transport?.status() ?? [],
    consensus: () => late.node,
  };
  const addresses = new LearntAddresses(members, (raftId, addr) => late.transport?.learnAddress(raftId, addr));
  const raftAccess = new RaftAccess({
    clusterId: identity.clusterId,
    members,
    addresses,
    isRemovedNode: (nodeId) => isBlacklisted(clusterOf(store.view()), nodeId, clock.now()),
    log: log.with({ component: 'raft-access' }),
  });
  const dataKeys = new DataKeys({ ...options, log: log.with({ component: 'keys' }) });
  const clients = new ManagerClients(tls);
  const self: ManagerSelf = { addr: '', grace: new StartGrace(clock) };
  return { options, late, store, cluster, tls, clients, self, dataKeys, addresses, raftAccess };
}

/** Puts a manager together. */
export function assemble(options: PartsOptions): ManagerParts {
  const base = createBase(options);
  const { late, store, cluster, tls, clients, self, dataKeys, addresses, raftAccess } = base;
  const { members } = cluster;
  const membership = new MembershipService({ ...depsOf(base, 'membership'), raft: late, members, tls });
  const summon = (nodeId: string): void => dispatcher.refresh(nodeId);
  const networkChecker = new NetworkChecker({ ...depsOf(base, 'network-check'), summon });
  const dispatcher = createDispatcherFor(options, store, members, self, networkChecker);
  const broker = createLogBroker(depsOf(base, 'logs'));
  const control = createControlFor(base, dispatcher);
  const confirmedControl = confirmReads(control, async () => await late.leaseBarrier());
  const authority = new CertificateAuthority(depsOf(base, 'ca'));
  const leadership = createLeadership(base, { dispatcher, broker, membership });
  const leaderAddr = (): string | undefined => {
    const leaderId = late.node?.status()?.leaderId ?? 0;
    return leaderId === late.id ? undefined : addresses.of(leaderId);
  };
  const onChange = (): void => {
    if (leaderAddr() !== undefined) self.grace.leaderFound();
    dispatcher.refresh();
  };
  const server = createServer(base, leadership, leaderAddr);
  const received = newReceiveCounters();
  const raftNode = (): ReturnType<Consensus['receiver']> => late.node?.receiver();
  addServices(server, {
    authority,
    dispatcher,
    membership,
    broker,
    networkChecker,
    attachments: new NetworkAttachments(depsOf(base, 'attachments')),
    control: confirmedControl,
    members,
    raftNode,
    addresses,
    raftAccess,
    received,
  });
  return {
    ...cluster,
    tls,
    clients,
    server,
    leadership,
    membership,
    broker,
    networkChecker,
    control,
    confirmedControl,
    self,
    authority,
    dataKeys,
    keyKeeper: createKeyKeeper(base),
    addresses,
    received,
    leaderAddr,
    wordsContext: () => ({
      nowMs: options.clock.now(),
      hostname: (nodeId) => store.view().get('node', nodeId)?.description?.hostname ?? '',
    }),
    startConsensus: (raftId, how) => startConsensus(base, leadership, onChange, raftId, how),
  };
}
