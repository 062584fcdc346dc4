import { ShoalError, unavailable, type Clock, type Logger, type Random } from '../base/index.ts';
import { channelOptions, TlsIdentity, type NodeIdentity } from '../identity/index.ts';
import { WeightedPeer } from '../proto/index.ts';
import { GrpcRaftTransport, type StartMode } from '../raft/index.ts';
import { CertificateAuthority, clusterOf, createRootRotation, isBlacklisted } from './ca/index.ts';
import { Consensus, type ConsensusOptions } from './consensus.ts';
import { createControl, type Control } from './control/index.ts';
import { createDispatcher, type Dispatcher } from './dispatcher/index.ts';
import { createDuties } from './duties.ts';
import { Leadership } from './leadership.ts';
import { createLogBroker, type LogBroker } from './logs/index.ts';
import { managerStatusOf } from './manager-state.ts';
import {
  canRemove,
  createManagerStatus,
  createRoleManager,
  MemberList,
  MembershipService,
  type MembershipRaft,
} from './membership/index.ts';
import { ManagerClients, ManagerServer } from './server/index.ts';
import { addServices } from './services.ts';
import { createStore, NO_LEADER_MESSAGE, type ReplicatedStore } from './store/store.ts';

/** Name check and message sizes; timing is the transport's own. */
const RAFT_CHANNEL_OPTIONS = Object.fromEntries(
  Object.entries(channelOptions()).filter(([name]) => !/keepalive|backoff/.test(name)),
);
/** Weight of every manager in the lists that agents get. */
const MANAGER_WEIGHT = 10;

export interface PartsOptions {
  identity: NodeIdentity;
  stateDir: string;
  clock: Clock;
  random: Random;
  log: Logger;
  raft?: ConsensusOptions['raft'];
  onRemoved: () => void;
  onFatal: (error: unknown) => void;
  /** See Leadership. */
  prepareTerm: () => Promise<void>;
}

/** The parts that know the state of the cluster. */
export interface ClusterParts {
  readonly store: ReplicatedStore;
  readonly members: MemberList;
  /** Undefined until it is started. */
  consensus(): Consensus | undefined;
}

/** A manager's parts, put together but not started. */
export interface ManagerParts extends ClusterParts {
  readonly tls: TlsIdentity;
  readonly clients: ManagerClients;
  readonly server: ManagerServer;
  readonly leadership: Leadership;
  readonly membership: MembershipService;
  readonly broker: LogBroker;
  readonly control: Control;
  /** Where others reach this manager; set once it listens. */
  readonly self: { addr: string };
  /** Address of another manager that leads. */
  leaderAddr(): string | undefined;
  startConsensus(raftId: number, how: StartMode): Promise<void>;
}

/** Consensus is started last, and everything else refers to it. */
class LateConsensus implements MembershipRaft {
  node: Consensus | undefined;

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

function createDispatcherFor(options: PartsOptions, store: ReplicatedStore, members: MemberList): Dispatcher {
  const { clock, random, log, identity } = options;
  return createDispatcher({
    store,
    clock,
    random,
    log: log.with({ component: 'dispatcher' }),
    nodeId: identity.nodeId,
    managers: () =>
      members
        .list()
        .map(({ nodeId, addr }) => WeightedPeer.create({ peer: { node_id: nodeId, addr }, weight: MANAGER_WEIGHT })),
    rootCa: () => clusterOf(store.view())?.root_ca?.ca_cert ?? Buffer.from(identity.rootCa),
  });
}

/** Puts a manager together. */
export function assemble(options: PartsOptions): ManagerParts {
  const { identity, clock, random, log } = options;
  const late = new LateConsensus();
  const store = createStore({ proposer: late, clock, random, log: log.with({ component: 'store' }) });
  const members = new MemberList();
  const tls = new TlsIdentity(identity);
  const clients = new ManagerClients(tls);
  const self = { addr: '' };
  const cluster: ClusterParts = { store, members, consensus: () => late.node };
  const deps = { store, clock, random, log };
  const membership = new MembershipService({ raft: late, members, store, tls, random, log });
  const dispatcher = createDispatcherFor(options, store, members);
  const broker = createLogBroker(deps);
  const control = createControl({
    ...deps,
    membership: {
      managerStatus: (nodeId) => managerStatusOf(cluster, nodeId),
      canRemove: (nodeId) => canRemove(late.progress(), members.byNode(nodeId)?.raftId ?? 0),
    },
  });
  const raftDeps = { ...deps, members, raft: late };
  const leadership: Leadership = new Leadership({
    clock,
    random,
    log: log.with({ component: 'leadership' }),
    prepare: options.prepareTerm,
    duties: [
      dispatcher.duty,
      broker.duty,
      ...createDuties(deps),
      createRoleManager({ ...raftDeps, service: membership }),
      createManagerStatus(raftDeps),
      createRootRotation({ ...deps, onRotated: () => dispatcher.refresh() }),
    ],
  });
  const leaderAddr = (): string | undefined => {
    const leaderId = late.node?.status()?.leaderId ?? 0;
    return leaderId === late.id ? undefined : members.get(leaderId)?.addr;
  };
  const server = new ManagerServer({
    tls,
    clients,
    clock,
    log: log.with({ component: 'server' }),
    trust: {
      clusterId: identity.clusterId,
      isRemoved: (nodeId) => isBlacklisted(clusterOf(store.view()), nodeId, clock.now()),
    },
    leadership: { leaderSignal: () => leadership.signal, leaderAddr },
    selfAddr: () => self.addr,
    noLeader: () => new ShoalError('Unavailable', NO_LEADER_MESSAGE),
  });
  const transport = new GrpcRaftTransport({
    credentials: () => tls.channelCredentials(),
    channelOptions: RAFT_CHANNEL_OPTIONS,
    clock,
    random,
    log: log.with({ component: 'raft-transport' }),
  });
  const authority = new CertificateAuthority({ ...deps, log: log.with({ component: 'ca' }) });
  const raftNode = (): ReturnType<Consensus['receiver']> => late.node?.receiver();
  addServices(server, { authority, dispatcher, membership, broker, control, members, raftNode });
  const startConsensus = async (raftId: number, how: StartMode): Promise<void> => {
    const { stateDir, onRemoved, onFatal } = options;
    const raft = options.raft === undefined ? {} : { raft: options.raft };
    const onChange = (): void => dispatcher.refresh();
    late.node = new Consensus({
      ...raft,
      raftId,
      stateDir,
      members,
      transport,
      clock,
      random,
      log,
      onRemoved,
      onFatal,
      onChange,
    });
    await late.node.start(how, store, leadership);
  };
  return {
    ...cluster,
    tls,
    clients,
    server,
    leadership,
    membership,
    broker,
    control,
    self,
    leaderAddr,
    startConsensus,
  };
}
