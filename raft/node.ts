import { assert, errorMessage, failedPrecondition, must, ShoalError, unavailable, Watch } from '../base/index.ts';
import type { Logger, Timer } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftEntryType, RaftMessageType } from '../proto/index.ts';
import type { RaftEntry, RaftMessage, RaftSnapshot } from '../proto/index.ts';
import type { StartMode } from './bootstrap.ts';
import { NONE, Raft, type ProposalResult, type Ready } from './core/index.ts';
import * as defaults from './options.ts';
import type { AppliedEntry, RaftNodeOptions, RaftStatus } from './options.ts';
import { openStorage, prepareLog } from './open.ts';
import { ReadContexts } from './read-context.ts';
import type { RaftStorage, RecoveredLog } from './storage.ts';
import { ProposalWaiters, ReadWaiters, type Waiter } from './waiters.ts';
import { WIRE_TYPES } from './wire.ts';

/** Readies worked off in one turn; the rest waits for the next, so that timers and sockets get their share. */
const READY_PER_TURN_MAX = 256;
/** Linearizable reads that wait at the most. */
const PENDING_READS_MAX = 65_536;

/** One member of a raft group: drives the pure state machine with a clock, a disk and a transport. */
export class RaftNode {
  /** Published when leader, role, term or membership changed. */
  readonly changes = new Watch<RaftStatus>();
  readonly #options: RaftNodeOptions;
  readonly #log: Logger;
  readonly #storage: RaftStorage;
  readonly #core: Raft;
  readonly #proposals = new ProposalWaiters();
  readonly #reads = new ReadWaiters();
  readonly #readContexts: ReadContexts;
  readonly #removed = new Set<number>();
  readonly #electionTicks: number;
  #transfers: (Waiter & { ticksLeft: number })[] = [];
  /** Term in which this member led when it took the outstanding proposals. */
  #leaderTerm = 0;
  #snapshotIndex: number;
  #published = '';
  #timer: Timer | undefined;
  #scheduled = false;
  #stopped = false;

  private constructor(options: RaftNodeOptions, storage: RaftStorage, found: RecoveredLog) {
    this.#options = options;
    this.#log = options.log.with({ component: 'raft', raftId: options.id });
    this.#storage = storage;
    this.#electionTicks = options.electionTicks ?? defaults.DEFAULT_ELECTION_TICKS;
    this.#readContexts = new ReadContexts(options.random);
    this.#core = new Raft(
      {
        id: options.id,
        random: options.random,
        electionTicks: this.#electionTicks,
        heartbeatTicks: options.heartbeatTicks ?? defaults.DEFAULT_HEARTBEAT_TICKS,
        maxAppendBytes: defaults.APPEND_BYTES_MAX,
        maxInflightMessages: defaults.INFLIGHT_MESSAGES_MAX,
        snapshotRetryTicks: 20 * this.#electionTicks,
      },
      { hardState: found.hardState, snapshot: found.snapshot?.metadata ?? null, entries: found.entries },
    );
    this.#snapshotIndex = found.snapshot?.metadata?.index ?? 0;
  }

  /**
   * Opens the log, restores the state machine from it and begins to take part.
   * @throws ShoalError DataLoss when the log is damaged, FailedPrecondition when it does not fit `how`.
   */
  // oxlint-disable-next-line require-await -- a promise by contract: recovery may become asynchronous
  static async start(options: RaftNodeOptions, how: StartMode): Promise<RaftNode> {
    const { storage, recovered } = openStorage(options, how);
    try {
      const found = prepareLog(how, storage, recovered);
      const node = new RaftNode(options, storage, found);
      node.#begin(found.snapshot);
      return node;
    } catch (error) {
      storage.close();
      throw error;
    }
  }

  #begin(snapshot: RaftSnapshot | null): void {
    const { transport, stateMachine, onRemoved } = this.#options;
    if (snapshot !== null) stateMachine.restore(snapshot.data, must(snapshot.metadata, 'snapshot metadata').index);
    transport.attach({
      unreachable: (id) => this.reportUnreachable(id),
      snapshot: (id, delivered) => this.reportSnapshot(id, delivered),
      removed: () => onRemoved?.(),
    });
    // Applies what the log knows as committed, before anyone can ask.
    for (let i = 0; i < Number.MAX_SAFE_INTEGER && this.#core.hasReady(); i++) this.#process(this.#core.ready());
    const { voters } = this.#core.membership;
    // Nobody else can lead: no reason to wait for the election timeout.
    if (voters.size === 1 && voters.has(this.#core.id)) this.#core.campaign();
    this.#armTick();
    this.#schedule();
  }

  get id(): number {
    return this.#core.id;
  }

  /** The state machine of the algorithm, for checkers; do not change it. */
  get core(): Raft {
    return this.#core;
  }

  /** Whether the member was removed since this process started or according to the log that it replayed. */
  isRemoved(raftId: number): boolean {
    return this.#removed.has(raftId);
  }

  /**
   * Proposes an entry; resolves with its index once it is applied on this member.
   * @throws ShoalError Unavailable when this member does not lead, loses the lead (the entry may still be committed) or
   *   stops; ResourceExhausted when too much waits; InvalidArgument when it is too large or empty.
   */
  propose(data: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#checkRunning();
      if (data.length === 0) throw new ShoalError('InvalidArgument', 'an entry without data says nothing');
      this.#proposals.checkRoom(data.length);
      if (this.#core.role !== 'leader') throw this.#notLeader();
      this.#proposals.enqueue({ data, resolve, reject });
      this.#schedule();
    });
  }

  /** Proposes one change of membership; as `propose`. FailedPrecondition when the membership forbids it. */
  proposeConfChange(change: RaftConfChange): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#checkRunning();
      this.#proposals.checkRoom(change.context.length);
      this.#takeProposals();
      const result = this.#core.proposeConfChange(change);
      this.#schedule();
      if (!result.accepted) throw this.#refusal(result);
      this.#leaderTerm = result.term;
      this.#proposals.expect(result.index, result.term, 0, { resolve, reject });
    });
  }

  /**
   * A linearizable read (thesis §6.4), on any member: resolves with an index once everything up to it is applied here
   * and a majority confirmed the leader after the call. @throws ShoalError Unavailable.
   */
  readIndex(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#checkRunning();
      if (this.#reads.size >= PENDING_READS_MAX) throw new ShoalError('ResourceExhausted', 'too many reads wait');
      this.#reads.enqueue({ resolve, reject });
      this.#schedule();
    });
  }

  /**
   * Hands the lead to `target`, or to the voter that is furthest on; resolves when another member leads.
   * @throws ShoalError FailedPrecondition without a fit target, Unavailable when this member does not lead or the
   *   transfer does not happen within two election timeouts.
   */
  transferLeadership(target?: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#checkRunning();
      if (this.#core.role !== 'leader') throw this.#notLeader();
      const to = target ?? this.#bestSuccessor();
      if (to === undefined || !this.#core.transferLeadership(to)) {
        throw failedPrecondition(to === undefined ? 'no other manager can lead' : `manager ${to} cannot lead`);
      }
      this.#transfers.push({ resolve: () => resolve(), reject, ticksLeft: 2 * this.#electionTicks });
      this.#schedule();
    });
  }

  #bestSuccessor(): number | undefined {
    const { membership, progress, id } = this.#core;
    let best: number | undefined;
    for (const voter of membership.voters) {
      const known = progress.get(voter);
      if (voter === id || known === undefined || !known.recentActive) continue;
      if (best === undefined || known.match > must(progress.get(best), 'progress').match) best = voter;
    }
    return best;
  }

  /** Takes a message from the transport. Messages for others, and local types, are dropped. */
  step(message: RaftMessage): void {
    if (this.#stopped) return;
    if (message.to !== this.#core.id || message.from === this.#core.id || message.from === NONE) {
      this.#log.debug('raft message for another member', { to: message.to, from: message.from });
      return;
    }
    if (!WIRE_TYPES.has(message.type)) return;
    this.#guard(() => this.#core.step(message));
    this.#schedule();
  }

  /** The transport lost messages to a member. */
  reportUnreachable(id: number): void {
    if (this.#stopped) return;
    this.#core.reportUnreachable(id);
    this.#schedule();
  }

  /** The transport knows the fate of a snapshot. */
  reportSnapshot(id: number, delivered: boolean): void {
    if (this.#stopped) return;
    this.#core.reportSnapshot(id, delivered);
    this.#schedule();
  }

  status(): RaftStatus {
    const core = this.#core;
    const status: RaftStatus = {
      id: core.id,
      leaderId: core.leaderId,
      term: core.term,
      role: core.role,
      commit: core.commit,
      applied: core.applied,
      voters: [...core.membership.voters],
      learners: [...core.membership.learners],
    };
    if (core.role === 'leader') {
      status.progress = new Map(
        [...core.progress].map(([id, { match, recentActive }]) => [id, { match, recentActive }]),
      );
    }
    return status;
  }

  /** Stops taking part; what waits is rejected with Unavailable. The transport is its owner's to stop. Idempotent. */
  // oxlint-disable-next-line require-await -- a promise by contract
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#halt(unavailable('this manager is stopping'));
    this.#storage.close();
  }

  #halt(error: Error): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#proposals.rejectAll(error);
    this.#reads.rejectAll(error);
    for (const transfer of this.#transfers.splice(0)) transfer.reject(error);
    this.changes.close();
  }

  /** A disk error or a broken invariant: stop at once, write nothing more, tell the owner. */
  #fatal(error: unknown): void {
    if (this.#stopped) return;
    this.#log.error('raft stopped', { error });
    const message = `the raft log of this manager failed: ${errorMessage(error)}`;
    this.#halt(new ShoalError('Unavailable', message, { cause: error }));
    try {
      this.#storage.close();
    } catch (closeError) {
      this.#log.warn('raft log did not close', { error: closeError });
    }
    this.#options.onFatal(error);
  }

  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#fatal(error);
    }
  }

  #checkRunning(): void {
    if (this.#stopped) throw unavailable('this manager is stopping');
  }

  #notLeader(): ShoalError {
    const { leaderId } = this.#core;
    return unavailable(
      leaderId === NONE
        ? 'the cluster has no leader now; try again'
        : `manager ${leaderId} leads the cluster, not this one`,
    );
  }

  #refusal(result: Extract<ProposalResult, { accepted: false }>): ShoalError {
    if (result.refusal === 'not-leader') return this.#notLeader();
    if (result.refusal === 'invalid') return failedPrecondition(`membership: ${result.detail}`);
    return unavailable(`${result.detail}; try again`);
  }

  #armTick(): void {
    this.#timer = this.#options.clock.after(this.#options.tickMs ?? defaults.DEFAULT_TICK_MS, () => {
      if (this.#stopped) return;
      this.#armTick();
      this.#guard(() => this.#core.tick());
      this.#reads.tick();
      this.#tickTransfers();
      this.#schedule();
    });
  }

  #tickTransfers(): void {
    for (const transfer of [...this.#transfers]) {
      if (--transfer.ticksLeft > 0) continue;
      this.#transfers = this.#transfers.filter((other) => other !== transfer);
      transfer.reject(unavailable('the lead was not taken over in time; try again'));
    }
  }

  /** Work is done once at the end of the turn: all that was proposed until then shares one sync of the disk. */
  #schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    const run = (): void => {
      this.#scheduled = false;
      if (!this.#stopped) this.#guard(() => this.#pump());
    };
    if (this.#options.schedule === undefined) setImmediate(run);
    else this.#options.schedule(run);
  }

  #pump(): void {
    this.#takeProposals();
    this.#takeReads();
    for (let i = 0; i < READY_PER_TURN_MAX && this.#core.hasReady(); i++) {
      this.#process(this.#core.ready());
      if (this.#stopped) return;
    }
    this.#reads.serve(this.#core.applied);
    this.#maybeSnapshot();
    if (this.#core.hasReady()) this.#schedule();
  }

  #takeProposals(): void {
    const batch = this.#proposals.takeQueue();
    if (batch.length === 0) return;
    const result = this.#core.propose(batch.map((proposal) => proposal.data));
    if (!result.accepted) {
      const error = this.#refusal(result);
      for (const proposal of batch) proposal.reject(error);
      return;
    }
    this.#leaderTerm = result.term;
    for (const [i, proposal] of batch.entries()) {
      this.#proposals.expect(result.index + i, result.term, proposal.data.length, proposal);
    }
  }

  #takeReads(): void {
    if (this.#reads.queued === 0) return;
    const key = this.#reads.ask(2 * this.#electionTicks);
    if (!this.#core.readIndex(this.#readContexts.encode(key))) this.#reads.reject(key, this.#notLeader());
  }

  /** Does one Ready: persist, send, apply. */
  #process(ready: Ready): void {
    this.#send(ready.earlyMessages);
    if (ready.snapshot !== null) {
      this.#storage.installSnapshot(ready.snapshot, must(ready.hardState, 'hard state beside a snapshot'));
    }
    this.#storage.append(ready.entries, ready.hardState, ready.mustSync);
    this.#core.persisted(ready);
    this.#send(ready.messages);
    if (ready.snapshot !== null) this.#restore(ready.snapshot);
    this.#apply(ready.committed);
    for (const read of ready.readStates) {
      const key = this.#readContexts.decode(read.context);
      if (key !== undefined) this.#reads.confirmed(key, read.index);
    }
    this.#afterRole();
  }

  #send(messages: readonly RaftMessage[]): void {
    if (messages.length === 0) return;
    const whole = messages.map((message) =>
      message.type === RaftMessageType.MsgSnap ? { ...message, snapshot: this.#storage.loadSnapshot() } : message,
    );
    this.#options.transport.send(whole);
  }

  #restore(snapshot: RaftSnapshot): void {
    const { index } = must(snapshot.metadata, 'snapshot metadata');
    this.#options.stateMachine.restore(snapshot.data, index);
    this.#snapshotIndex = index;
    this.#log.info('state replaced by the leader’s snapshot', { index });
  }

  #apply(entries: readonly RaftEntry[]): void {
    let batch: AppliedEntry[] = [];
    const flush = (): void => {
      if (batch.length > 0) this.#options.stateMachine.apply(batch);
      batch = [];
    };
    for (const entry of entries) {
      if (entry.type === RaftEntryType.EntryNormal) {
        if (entry.data.length > 0) batch.push({ index: entry.index, term: entry.term, data: entry.data });
        continue;
      }
      flush();
      assert(entry.type === RaftEntryType.EntryConfChange, 'joint changes are not made by any member');
      this.#core.appliedTo(entry.index);
      this.#applyConfChange(RaftConfChange.decode(entry.data), entry.index);
    }
    flush();
    const last = entries.at(-1);
    if (last !== undefined) this.#core.appliedTo(last.index);
    for (const entry of entries) this.#proposals.applied(entry.index, entry.term);
  }

  #applyConfChange(change: RaftConfChange, index: number): void {
    this.#core.applyConfChange(change);
    if (change.type === RaftConfChangeType.ConfChangeRemoveNode) this.#removed.add(change.node_id);
    else this.#removed.delete(change.node_id);
    this.#options.stateMachine.applyConfChange(change, index);
  }

  /** What follows from a change of leader, role, term or membership. */
  #afterRole(): void {
    const core = this.#core;
    if (core.role !== 'leader' || core.term !== this.#leaderTerm) {
      if (this.#proposals.outstanding > 0) {
        this.#proposals.rejectOutstanding(
          unavailable('this manager lost the lead before the change was confirmed; it may or may not take effect'),
        );
      }
    }
    if (core.leaderId !== NONE && core.leaderId !== core.id) {
      for (const transfer of this.#transfers.splice(0)) transfer.resolve(0);
    }
    const { voters, learners } = core.membership;
    const key = `${core.leaderId} ${core.role} ${core.term} ${[...voters].join()} ${[...learners].join()}`;
    if (key === this.#published) return;
    this.#published = key;
    this.changes.publish(this.status());
  }

  #maybeSnapshot(): void {
    const { snapshotEntries = defaults.DEFAULT_SNAPSHOT_ENTRIES, keepEntries = defaults.DEFAULT_KEEP_ENTRIES } =
      this.#options;
    if (this.#core.applied - this.#snapshotIndex < snapshotEntries) return;
    const metadata = this.#core.snapshotMetadata();
    this.#storage.saveSnapshot({ data: this.#options.stateMachine.snapshot(), metadata });
    this.#core.snapshotTaken(metadata, Math.max(metadata.index - keepEntries, this.#core.firstIndex - 1));
    this.#snapshotIndex = metadata.index;
  }
}
