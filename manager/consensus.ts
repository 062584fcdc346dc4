import { join } from 'node:path';
import { assert, type Clock, type Logger, type Random } from '../base/index.ts';
import { RaftConfChangeType, type RaftConfChange } from '../proto/index.ts';
import {
  RaftNode,
  type LogKeyRing,
  type MessageReceiver,
  type RaftNodeOptions,
  type RaftStatus,
  type RaftTransport,
  type StartMode,
} from '../raft/index.ts';
import { saveMemberFile, type MemberFile } from './member-file.ts';
import type { Leadership } from './leadership.ts';
import type { Member, MemberList, MemberProgress, MembershipRaft } from './membership/index.ts';
import { OLD_SNAPSHOTS_MAX, RaftSettingsFollower } from './raft-settings.ts';
import { encodeState, restoreState } from './replicated-state.ts';
import type { ReplicatedStore } from './store/store.ts';

/** A member counts as live this long after it was last heard of, ms; or two election times, if they are longer. */
const ACTIVE_FOR_MS = 2_000;

export interface ConsensusOptions {
  raftId: number;
  stateDir: string;
  members: MemberList;
  transport: RaftTransport;
  /** Keys of the log on the disk; without them it is written in clear (simulations). */
  keys?: LogKeyRing;
  /** Keeps what a start must know before the log is read. Default: a file in `stateDir`. */
  saveMembers?: (file: MemberFile) => void;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Settings of the raft driver that take precedence over those of the cluster (tests). */
  raft?: Partial<
    Pick<RaftNodeOptions, 'tickMs' | 'electionTicks' | 'heartbeatTicks' | 'snapshotEntries' | 'keepEntries'>
  >;
  /** What the driver runs on instead of the machine's own disk and event loop (simulations). */
  ground?: Pick<RaftNodeOptions, 'disk' | 'schedule' | 'segmentBytes'>;
  /** This manager is no member any more. */
  onRemoved: () => void;
  onFatal: (error: unknown) => void;
  /** The leader or the members changed. */
  onChange: () => void;
  /** A message of this member has arrived. */
  onHeard?: (raftId: number) => void;
}

/** Pause before a new leader asks again whether its store is up to date, ms. */
const TERM_RETRY_MS = 100;

/** The end of a log from which a new cluster is forced. */
export interface EndBeforeForce {
  index: number;
  /** Null when only a snapshot was left of it. */
  term: number | null;
  members: Member[];
}

/**
 * The raft driver as the manager sees it: joins the log to the store and the member list, keeps the transport's peers in
 * step with the members, and begins and ends terms of leadership.
 */
export class Consensus implements MembershipRaft {
  readonly #options: ConsensusOptions;
  #node: RaftNode | undefined;
  #leadership: Leadership | undefined;
  #following: Promise<void> = Promise.resolve();
  /** Monotonic time at which each member was last known to be live, ms. */
  readonly #lastActiveMs = new Map<number, number>();
  #settings: RaftSettingsFollower | undefined;
  #removed = false;
  #stopped = false;
  /** The driver has stopped, by itself or not. */
  #over = false;
  /** Term that is to begin as soon as the store is up to date. */
  #beginning = 0;
  /** Newest entry with data that was applied. */
  #lastEntry: { index: number; term: number | null } = { index: 0, term: null };
  #endBeforeForce: EndBeforeForce = { index: 0, term: null, members: [] };

  constructor(options: ConsensusOptions) {
    this.#options = options;
  }

  get id(): number {
    return this.#options.raftId;
  }

  /** See `RaftNode.pulse`. */
  pulse(): void {
    this.#node?.pulse();
  }

  #raft(): RaftNode {
    assert(this.#node !== undefined, 'consensus was started');
    return this.#node;
  }

  /** @throws ShoalError DataLoss, FailedPrecondition; see RaftNode.start. */
  async start(how: StartMode, store: ReplicatedStore, leadership: Leadership): Promise<void> {
    const { members, raftId, stateDir, clock, random, log, transport, keys, onFatal } = this.#options;
    this.#leadership = leadership;
    this.#syncPeers();
    this.#node = await RaftNode.start(
      {
        ...this.#options.raft,
        ...this.#options.ground,
        ...(keys === undefined ? {} : { keys }),
        // How many the cluster wants is known once the store is there.
        keepOldSnapshots: OLD_SNAPSHOTS_MAX,
        id: raftId,
        dir: join(stateDir, 'raft'),
        knownMembers: members.list().length,
        clock,
        random,
        log,
        transport,
        stateMachine: {
          apply: (entries) => {
            const last = entries.at(-1);
            if (last !== undefined) this.#lastEntry = { index: last.index, term: last.term };
            store.apply(entries);
          },
          applyConfChange: (change, index) => this.#applyConfChange(change, index),
          snapshot: () => encodeState(members, store),
          restore: (data, index) => {
            this.#lastEntry = { index, term: null };
            restoreState(data, index, members, store);
            this.#syncPeers();
          },
        },
        onFatal: (error) => {
          leadership.end();
          onFatal(error);
        },
        onRemoved: () => this.#wasRemoved(),
      },
      how,
    );
    this.#syncPeers();
    this.#settings = new RaftSettingsFollower(this.#node, store, this.#options.raft ?? {}, log);
    this.#following = this.#follow(this.#node);
  }

  /** Begins and ends terms as the role changes. */
  async #follow(node: RaftNode): Promise<void> {
    const changes = node.changes.subscribe();
    this.#onStatus(node.status());
    for await (const status of changes) this.#onStatus(status);
    this.#over = true;
    this.#leadership?.end();
  }

  #onStatus(status: RaftStatus): void {
    const { log, onChange } = this.#options;
    if (status.role !== 'leader') this.#leadership?.end();
    else if (this.#leadership?.leading !== true) {
      this.#beginTerm(status.term).catch((error: unknown) => log.error('the term cannot begin', { error }));
    }
    onChange();
  }

  /**
   * A new leader's store is up to date once a read is confirmed (thesis §6.4). Slow links may let it wait in vain: it asks
   * again for as long as it leads, for nothing else would begin its term.
   */
  async #beginTerm(term: number): Promise<void> {
    const node = this.#raft();
    const leads = (): boolean => {
      const { role, term: now } = node.status();
      return !this.#stopped && !this.#over && role === 'leader' && now === term;
    };
    if (this.#beginning === term) return;
    this.#beginning = term;
    while (leads()) {
      try {
        await node.readIndex();
        if (leads()) this.#leadership?.begin();
        return;
      } catch (error) {
        this.#options.log.debug('the term cannot begin yet', { term, error });
        await this.#options.clock.sleep(TERM_RETRY_MS);
      }
    }
  }

  /** Where the log ended before a forced start appended to it. */
  endBeforeForce(): EndBeforeForce {
    return this.#endBeforeForce;
  }

  #applyConfChange(change: RaftConfChange, index: number): void {
    const { members, raftId } = this.#options;
    // A forced start appends the addition of this member first.
    if (change.type === RaftConfChangeType.ConfChangeAddNode && change.node_id === raftId) {
      this.#endBeforeForce = { index: index - 1, term: this.#lastEntry.term, members: members.list() };
    }
    if (!members.apply(change)) return;
    this.#syncPeers();
    this.#options.onChange();
    if (change.type !== RaftConfChangeType.ConfChangeRemoveNode || change.node_id !== raftId) return;
    // Only news: a log that is replayed at start may hold removals that were followed by a return.
    if (this.#node !== undefined) this.#wasRemoved();
  }

  #wasRemoved(): void {
    if (this.#removed || this.#stopped) return;
    this.#removed = true;
    this.#options.log.info('this manager was removed from consensus');
    this.#leadership?.end();
    // Not inside the driver's own turn: the owner will stop the driver.
    this.#options.clock.after(0, () => this.#options.onRemoved());
  }

  readonly #peers = new Map<number, string>();

  /** Brings the transport's peers and the member file to the member list. */
  #syncPeers(): void {
    const { members, raftId, transport, stateDir } = this.#options;
    const wanted = new Map(members.list().map((member) => [member.raftId, member.addr]));
    wanted.delete(raftId);
    let changed = false;
    for (const id of this.#peers.keys()) {
      if (wanted.has(id)) continue;
      transport.removePeer(id);
      this.#peers.delete(id);
      changed = true;
    }
    for (const [id, addr] of wanted) {
      const known = this.#peers.get(id);
      if (known === addr) continue;
      if (known === undefined) transport.addPeer(id, addr);
      else transport.updatePeer(id, addr);
      this.#peers.set(id, addr);
      changed = true;
    }
    if (!changed) return;
    const save = this.#options.saveMembers ?? ((file: MemberFile): void => saveMemberFile(stateDir, file));
    save({ raftId, members: members.list() });
  }

  isLeader(): boolean {
    return this.#leadership?.leading === true;
  }

  propose(data: Uint8Array): Promise<number> {
    return this.#raft().propose(data);
  }

  async proposeConfChange(change: RaftConfChange): Promise<void> {
    await this.#raft().proposeConfChange(change);
  }

  /** @param to raft id; without one the voter that is furthest on. */
  transferLeadership(to?: number): Promise<void> {
    return this.#raft().transferLeadership(to);
  }

  /** Takes a snapshot of what is applied and lets go of the log before it. @throws ShoalError when the disk fails */
  async snapshotNow(): Promise<void> {
    await this.#raft().snapshotNow();
  }

  /** Resolves once everything committed before the call is applied here. @throws ShoalError Unavailable */
  async readBarrier(): Promise<void> {
    await this.#raft().readIndex();
  }

  /** As `readBarrier`, but without a round of messages while this leader's lease holds. @throws ShoalError Unavailable */
  async leaseBarrier(): Promise<void> {
    await this.#raft().readLease();
  }

  /** The driver as the transport's server half sees it; undefined until it has started. */
  receiver(): MessageReceiver | undefined {
    const node = this.#node;
    if (node === undefined) return undefined;
    return {
      isRemoved: (raftId) => node.isRemoved(raftId),
      step: (message) => {
        this.#options.onHeard?.(message.from);
        node.step(message);
      },
    };
  }

  status(): RaftStatus | undefined {
    return this.#node?.status();
  }

  progress(): MemberProgress[] {
    const status = this.#node?.status();
    if (status?.progress === undefined) return [];
    const nowMs = this.#options.clock.monotonic();
    const learners = new Set(status.learners);
    return [...status.progress].map(([raftId, { match, recentActive }]) => {
      if (recentActive || raftId === status.id) this.#lastActiveMs.set(raftId, nowMs);
      const silentMs = nowMs - (this.#lastActiveMs.get(raftId) ?? Number.NEGATIVE_INFINITY);
      const active = silentMs < Math.max(ACTIVE_FOR_MS, 2 * (this.#settings?.electionMs ?? 0));
      return { raftId, learner: learners.has(raftId), active, lag: Math.max(0, status.commit - match) };
    });
  }

  /** Stops taking part. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#settings?.stop();
    await this.#node?.stop();
    await this.#following;
    await this.#options.transport.stop();
  }
}
