import { ShoalError } from '../base/index.ts';
import type { Watch } from '../base/index.ts';
import type { RaftConfChange, RaftMessage } from '../proto/index.ts';
import type { StartMode } from './bootstrap.ts';
import { NONE, type ProposalResult, type Raft } from './core/index.ts';
import { Driver } from './driver.ts';
import { notLeader, refusalError } from './failures.ts';
import { jointChange } from './joint.ts';
import { checkTicks } from './options.ts';
import type { RaftNodeOptions, RaftStatus, RaftTicks } from './options.ts';
import { openStorage, prepareLog } from './open.ts';
import type { RaftStorage, RecoveredLog } from './storage.ts';
import { LEADER_TYPES, WIRE_TYPES } from './wire.ts';

/**
 * One member of a raft group. Proposals are taken by the leader only: elsewhere they are refused with the leader's id,
 * and the owner brings the request there (it knows the addresses and what may be asked twice). Reads are served by every
 * member.
 */
export class RaftNode {
  readonly #driver: Driver;

  private constructor(options: RaftNodeOptions, storage: RaftStorage, found: RecoveredLog) {
    this.#driver = new Driver(options, storage, found);
  }

  /**
   * Opens the log, restores the state machine from it and begins to take part.
   * @throws ShoalError DataLoss when the log is damaged and no peer can repair it, FailedPrecondition when it does not
   *   fit `how`, InvalidArgument for times that do not go together.
   */
  static async start(options: RaftNodeOptions, how: StartMode): Promise<RaftNode> {
    checkTicks(options);
    const { storage, recovered } = openStorage(options, how);
    try {
      const found = await prepareLog(options, how, storage, recovered);
      const node = new RaftNode(options, storage, found);
      node.#driver.begin(found);
      return node;
    } catch (error) {
      await new Promise<void>((resolve) => {
        storage.close(() => resolve());
      });
      throw error;
    }
  }

  /** Published when leader, role, term or membership changed. */
  get changes(): Watch<RaftStatus> {
    return this.#driver.changes;
  }

  get id(): number {
    return this.#driver.core.id;
  }

  /** The state machine of the algorithm, for checkers; do not change it. */
  get core(): Raft {
    return this.#driver.core;
  }

  /** Whether the member was removed since this process started or according to the log that it replayed. */
  isRemoved(raftId: number): boolean {
    return this.#driver.applier.isRemoved(raftId);
  }

  status(): RaftStatus {
    return this.#driver.status();
  }

  /**
   * Proposes an entry; resolves with its index once it is applied on this member.
   * @throws ShoalError Unavailable when this member does not lead (the message names the leader), loses the lead (the
   *   entry may still be committed) or stops; ResourceExhausted when too much waits; InvalidArgument when it is too
   *   large or empty.
   */
  propose(data: Uint8Array): Promise<number> {
    const driver = this.#driver;
    return new Promise((resolve, reject) => {
      driver.checkRunning();
      if (data.length === 0) throw new ShoalError('InvalidArgument', 'an entry without data says nothing');
      driver.proposals.checkRoom(data.length);
      if (driver.core.role !== 'leader') throw notLeader(driver.core.leaderId);
      driver.proposals.enqueue({ data, resolve, reject });
      driver.schedule();
    });
  }

  /** Proposes a change of one member; as `propose`. FailedPrecondition when the membership forbids it. */
  proposeConfChange(change: RaftConfChange): Promise<number> {
    return this.#proposeChange(change.context, () => this.core.proposeConfChange(change));
  }

  /**
   * Proposes several changes as one (Raft §6): the group goes through a joint membership, in which the old and the new
   * voters decide, and leaves it of its own accord. Resolves when the joint membership is entered: additions are in
   * force then, removals as soon as it is left. The state machine hears of each change by itself.
   * @throws as `proposeConfChange`.
   */
  proposeJointChange(changes: readonly RaftConfChange[]): Promise<number> {
    const change = jointChange(changes);
    return this.#proposeChange(change.context, () => this.core.proposeConfChangeV2(change));
  }

  #proposeChange(data: Uint8Array, propose: () => ProposalResult): Promise<number> {
    const driver = this.#driver;
    return new Promise((resolve, reject) => {
      driver.checkRunning();
      driver.proposals.checkRoom(data.length);
      driver.takeProposals();
      const result = propose();
      driver.schedule();
      if (!result.accepted) throw refusalError(result, driver.core.leaderId);
      driver.logged(result.index, result.term, [{ data, resolve, reject }]);
    });
  }

  /**
   * A linearizable read (thesis §6.4), on any member: resolves with an index once everything up to it is applied here
   * and a majority confirmed the leader after the call. @throws ShoalError Unavailable, ResourceExhausted.
   */
  readIndex(): Promise<number> {
    const driver = this.#driver;
    return new Promise((resolve, reject) => {
      driver.checkRunning();
      driver.reads.enqueue({ resolve, reject });
      driver.schedule();
    });
  }

  /**
   * As `readIndex`, but without a round when the leader's lease surely holds (thesis §6.4.1): a majority answered
   * heartbeats that were sent so recently that nobody else can have been elected, by the monotonic clock at this moment.
   * Needs clocks that run at about the same speed and members that all use the same ticks.
   */
  readLease(): Promise<number> {
    const driver = this.#driver;
    const index = driver.leaseRead();
    if (index === null) return this.readIndex();
    return new Promise((resolve, reject) => driver.whenApplied(index, { resolve, reject }));
  }

  /**
   * Hands the lead to `target`, or to the voter that is furthest on; resolves when another member leads.
   * @throws ShoalError FailedPrecondition without a fit target, Unavailable when this member does not lead or the
   *   transfer does not happen within two election timeouts, ResourceExhausted when too many wait for one.
   */
  transferLeadership(target?: number): Promise<void> {
    const driver = this.#driver;
    return new Promise((resolve, reject) => {
      driver.checkRunning();
      if (driver.core.role !== 'leader') throw notLeader(driver.core.leaderId);
      driver.transfers.begin(driver.core, target, { resolve, reject, ticksLeft: 2 * driver.ticks.electionTicks });
      driver.schedule();
    });
  }

  /**
   * Takes a snapshot of what is applied and compacts the log; resolves when it is durable, written with the present
   * key. @throws ShoalError Unavailable when this member stops first.
   */
  snapshotNow(): Promise<void> {
    const driver = this.#driver;
    return new Promise((resolve, reject) => {
      driver.checkRunning();
      driver.snapshots.request({ resolve, reject });
      driver.schedule();
    });
  }

  /** Other times from now on. @throws ShoalError InvalidArgument when they do not go together. */
  setTicks(ticks: RaftTicks): void {
    checkTicks(ticks);
    const driver = this.#driver;
    const { tickMs, electionTicks, heartbeatTicks, leaseTicks = electionTicks } = ticks;
    if (!driver.stopped) driver.setTicks({ tickMs, electionTicks, heartbeatTicks, leaseTicks });
  }

  /** Other distances of snapshots from now on: entries between two, entries kept before one, older ones kept. */
  setSnapshots(everyEntries: number, keepEntries: number, keepOldSnapshots = 0): void {
    const driver = this.#driver;
    if (driver.stopped) return;
    driver.snapshots.configure(everyEntries, keepEntries, keepOldSnapshots);
    driver.schedule();
  }

  /**
   * To be called often, from whatever keeps the event loop busy; costs next to nothing. When thousands of sockets have
   * something to say, timers wait for all of them: a leader then sends its heartbeats from here, so that being busy does
   * not cost it the lead. Elsewhere, and while ticks are in time, nothing happens.
   */
  pulse(): void {
    this.#driver.pulse();
  }

  /** Takes a message from the transport. Messages for others, and local types, are dropped. */
  step(message: RaftMessage): void {
    const driver = this.#driver;
    const { core } = driver;
    if (message.to !== core.id || message.from === core.id || message.from === NONE) return;
    if (!WIRE_TYPES.has(message.type)) return;
    driver.input(() => {
      core.step(message);
      if (message.from === core.leaderId && LEADER_TYPES.has(message.type)) driver.ticker.heardLeader();
    });
  }

  /** The transport lost messages to a member. */
  reportUnreachable(id: number): void {
    this.#driver.input(() => this.core.reportUnreachable(id));
  }

  /** The transport knows the fate of a snapshot. */
  reportSnapshot(id: number, delivered: boolean): void {
    this.#driver.input(() => this.core.reportSnapshot(id, delivered));
  }

  /**
   * Stops taking part; what waits is rejected with Unavailable. Resolves when the log is closed. The transport is its
   * owner's to stop. Idempotent.
   */
  stop(): Promise<void> {
    return this.#driver.stop();
  }
}
