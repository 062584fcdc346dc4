import { newId, type Clock, type Logger, type Random } from '../../base/index.ts';
import { Cluster, Network, RaftConfChange, RaftConfChangeType, WeightedPeer } from '../../proto/index.ts';
import type { RaftNodeOptions, RaftTransport, StartMode } from '../../raft/index.ts';
import { defaultClusterSpec } from '../ca/index.ts';
import { Consensus, type ConsensusOptions } from '../consensus.ts';
import { createControl, type Control } from '../control/index.ts';
import { createDispatcher, type Dispatcher } from '../dispatcher/index.ts';
import { createDuties } from '../duties.ts';
import { Leadership } from '../leadership.ts';
import { createLogBroker, type LogBroker } from '../logs/index.ts';
import { MemberList, memberContext, type Member } from '../membership/index.ts';
import { StartGrace } from '../start-grace.ts';
import { createStore, type Proposer, type ReplicatedStore } from '../store/store.ts';
import type { Commit, Transaction } from '../store/types.ts';

/** Weight of every manager in the lists that agents get. */
const MANAGER_WEIGHT = 10;

export interface SimManagerOptions {
  self: Member;
  /** Members that it knows of before it has read its log. */
  members: readonly Member[];
  clock: Clock;
  random: Random;
  log: Logger;
  transport: RaftTransport;
  /** The virtual disk and event loop. */
  ground: NonNullable<ConsensusOptions['ground']>;
  /** Sizes of log and snapshots, other than the cluster's settings say. */
  raft?: Pick<RaftNodeOptions, 'snapshotEntries' | 'keepEntries'>;
  /** Called after each entry that was applied, with what it changed. */
  onApplied(index: number, commits: readonly Commit[]): void;
  /** The state was replaced by a snapshot. */
  onRestored(index: number): void;
  onFatal(error: unknown): void;
}

/** The objects of a new cluster, without any certificate. */
function createCluster(tx: Transaction, random: Random): void {
  if (tx.list('cluster').length > 0) return;
  const cluster = Cluster.create({ id: newId(random), spec: defaultClusterSpec() });
  tx.create('cluster', { ...cluster, defaultAddressPool: ['10.0.0.0/8'], subnetSize: 24, VXLANUDPPort: 4789 });
  const spec = {
    annotations: { name: 'ingress' },
    driver_config: { name: 'overlay' },
    ipam: { driver: { name: 'default' } },
    ingress: true,
  };
  tx.create('network', Network.create({ id: newId(random), spec }));
}

/**
 * One manager around the production parts: consensus, store, dispatcher, log broker, control, and all of the leader's
 * duties but those that need certificates and the membership's own service.
 */
export class SimManager {
  readonly store: ReplicatedStore;
  readonly consensus: Consensus;
  readonly leadership: Leadership;
  readonly dispatcher: Dispatcher;
  readonly broker: LogBroker;
  readonly control: Control;
  readonly members = new MemberList();
  readonly #options: SimManagerOptions;
  readonly #grace: StartGrace;

  constructor(options: SimManagerOptions) {
    this.#options = options;
    const { clock, random, log, self, transport, ground, onFatal } = options;
    this.#grace = new StartGrace(clock);
    this.members.seed(options.members);
    const deps = { clock, random, log };
    const proposer: Proposer = {
      propose: (data) => this.consensus.propose(data),
      isLeader: () => this.consensus.isLeader(),
    };
    this.store = createStore({ proposer, ...deps });
    this.#observe(this.store);
    const shared = { ...deps, store: this.store };
    this.dispatcher = createDispatcher({
      ...shared,
      nodeId: self.nodeId,
      restarted: () => this.#grace.restarted,
      awaitMs: () => this.#grace.awaitMs,
      managers: () => this.#peers(),
      rootCa: () => new Uint8Array(),
    });
    this.broker = createLogBroker(shared);
    const { usage } = this.dispatcher;
    this.control = createControl({ ...shared, usage });
    this.leadership = new Leadership({
      ...deps,
      prepare: async () => {
        if (this.store.view().list('cluster').length > 0) return;
        await this.store.update((tx) => createCluster(tx, random));
      },
      duties: [this.dispatcher.duty, this.broker.duty, ...createDuties({ ...shared, usage })],
    });
    this.consensus = new Consensus({
      ...deps,
      raftId: self.raftId,
      stateDir: self.nodeId,
      members: this.members,
      transport,
      ground,
      saveMembers: () => undefined,
      ...(options.raft === undefined ? {} : { raft: options.raft }),
      onRemoved: () => onFatal(new Error('this manager was removed')),
      onFatal,
      onChange: () => this.#onChange(),
    });
  }

  /** Reads the log and begins to take part. */
  async start(how: StartMode): Promise<void> {
    if (how.kind === 'restart') this.#grace.begin();
    await this.consensus.start(how, this.store, this.leadership);
  }

  get leading(): boolean {
    return this.leadership.leading;
  }

  /** Address of another manager that leads, as far as this one knows. */
  leaderAddr(): string | undefined {
    const leaderId = this.consensus.status()?.leaderId ?? 0;
    return leaderId === this.consensus.id ? undefined : this.members.get(leaderId)?.addr;
  }

  /** Makes another manager a voter. @throws ShoalError as `Consensus.proposeConfChange`. */
  addMember(member: Member): Promise<void> {
    const type = RaftConfChangeType.ConfChangeAddNode;
    const context = memberContext(member);
    return this.consensus.proposeConfChange(RaftConfChange.create({ type, node_id: member.raftId, context }));
  }

  #onChange(): void {
    if (this.leaderAddr() !== undefined) this.#grace.leaderFound();
    this.dispatcher.refresh();
  }

  #peers(): WeightedPeer[] {
    return this.members
      .list()
      .map(({ nodeId, addr }) => WeightedPeer.create({ peer: { node_id: nodeId, addr }, weight: MANAGER_WEIGHT }));
  }

  /** Entries are applied one by one, so that each state can be looked at. */
  #observe(store: ReplicatedStore): void {
    const { onApplied, onRestored } = this.#options;
    const [apply, restore] = [store.apply.bind(store), store.restore.bind(store)];
    const changes = store.watch();
    store.apply = (entries) => {
      for (const entry of entries) {
        apply([entry]);
        onApplied(entry.index, changes.drain());
      }
    };
    store.restore = (data, index) => {
      restore(data, index);
      changes.drain();
      onRestored(index);
    };
  }
}
