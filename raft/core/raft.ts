import { assert, unreachable } from '../../base/index.ts';
import { RaftConfChangeTransition, RaftConfChangeV2, RaftMessageType } from '../../proto/index.ts';
import type { RaftConfChange, RaftConfChangeSingle, RaftEntry, RaftMessage } from '../../proto/index.ts';
import type { RaftSnapshotMetadata } from '../../proto/index.ts';
import type { LogWrite } from '../storage.ts';
import { changeMembership, changeMembershipJointly, confStateOf, type Membership } from './conf-change.ts';
import { leaseRead } from './lease.ts';
import { switchMembership } from './membership.ts';
import type { Progress } from './progress.ts';
import { propose, proposeConfChange, proposeJointChange } from './proposals.ts';
import { broadcastHeartbeat, flush, maybeCommit } from './replication.ts';
import { becomeFollower, campaign, voteWritten } from './roles.ts';
import { RaftState } from './state.ts';
import { stepCandidate } from './step-candidate.ts';
import { stepFollower } from './step-follower.ts';
import { leaderRead, startTransfer, stepLeader, tickLeader } from './step-leader.ts';
import { NONE, type InitialState, type ProposalResult, type RaftOptions, type Ready } from './types.ts';
import { answerOldTerm, answerVote, ignoredByLease } from './votes.ts';

/** Entry bytes handed out for applying in one Ready, about. */
const APPLY_BATCH_BYTES = 8 * 1024 * 1024;

/**
 * The consensus algorithm of one member as a pure state machine (Ongaro and Ousterhout 2014, and Ongaro's thesis):
 * ticks and messages in, `Ready` out. No time, disk, network or randomness but what the options give.
 */
export class Raft {
  readonly #state: RaftState;
  #lastLeader = NONE;
  #lastRole: string = 'follower';

  /** @throws ShoalError DataLoss when the log ends before what it knew as committed and is not marked as damaged. */
  constructor(options: RaftOptions, initial: InitialState) {
    this.#state = new RaftState(options, initial);
  }

  get id(): number {
    return this.#state.id;
  }
  get term(): number {
    return this.#state.term;
  }
  get role(): RaftState['role'] {
    return this.#state.role;
  }
  get leaderId(): number {
    return this.#state.leaderId;
  }
  get vote(): number {
    return this.#state.vote;
  }
  get commit(): number {
    return this.#state.log.committed;
  }
  get applied(): number {
    return this.#state.log.applied;
  }
  get firstIndex(): number {
    return this.#state.log.firstIndex;
  }
  get lastIndex(): number {
    return this.#state.log.lastIndex;
  }
  /** The log as it is now is on the disk up to this index. */
  get durable(): number {
    return this.#state.log.durable;
  }
  get membership(): Membership {
    return this.#state.membership;
  }
  /** Leader: progress of every member; else empty. */
  get progress(): ReadonlyMap<number, Progress> {
    return this.#state.progress;
  }
  /** Why this member lacks entries that it once held; null when it lacks none. */
  get repairReason(): string | null {
    return this.#state.repair.reason;
  }
  /** Whether a write was handed out and not reported by `written` yet. */
  get isWriting(): boolean {
    return this.#state.writing !== null;
  }
  /** Messages that wait for the disk. */
  get heldMessages(): number {
    return this.#state.outbox.heldCount;
  }
  /** Leader: entry bytes that are not committed yet. */
  get uncommittedBytes(): number {
    return this.#state.uncommittedBytes;
  }
  /** Term of the entry at `index`, undefined when it is compacted or missing. */
  termAt(index: number): number | undefined {
    return this.#state.log.term(index);
  }

  /**
   * One unit of time passes.
   * @param now the present time in ticks by a clock that never goes back, for leases; default one more than before.
   */
  tick(now?: number): void {
    const state = this.#state;
    state.now = Math.max(state.now, now ?? state.now + 1);
    if (state.guardTicks > 0) state.guardTicks--;
    if (state.role === 'leader') {
      tickLeader(state);
      return;
    }
    state.electionElapsed++;
    state.patience.tick();
    if (state.leaderId !== NONE && state.repair.isStuck(state.log, state.electionTicks)) {
      becomeFollower(state, state.term + 1, NONE);
    }
    const extraTicks = state.leaderId === NONE ? 0 : state.patience.extraTicks(state.electionTicks);
    if (state.promotable && state.electionElapsed >= state.electionTimeout + extraTicks) {
      state.electionElapsed = 0;
      campaign(state, 'pre-election');
    }
  }

  /**
   * Leader: a round of heartbeats out of turn, and what else may leave; nothing elsewhere. No time passes by it: whether
   * a quorum answers is looked at by `tick` only.
   */
  pulse(): RaftMessage[] {
    const state = this.#state;
    if (state.role !== 'leader') return [];
    broadcastHeartbeat(state);
    return state.outbox.take();
  }

  /**
   * Changes the ticks while running.
   * @param leaseTicks election ticks that all members keep at the least, also those that do not know the new ones yet;
   *   when these change, leases are not used until another term begins.
   */
  setTicks(electionTicks: number, heartbeatTicks: number, leaseTicks = electionTicks): void {
    const state = this.#state;
    if (leaseTicks !== state.leaseTicks) state.leaseBroken = true;
    state.leaseTicks = leaseTicks;
    if (electionTicks === state.electionTicks && heartbeatTicks === state.heartbeatTicks) return;
    state.electionTicks = electionTicks;
    state.heartbeatTicks = heartbeatTicks;
    state.checkTicks();
    state.randomizeTimeout();
  }

  /** Asks for the lead now, if this member may have it. */
  campaign(): void {
    campaign(this.#state, 'pre-election');
  }

  /** Takes a message of another member. */
  step(message: RaftMessage): void {
    const state = this.#state;
    assert(message.to === state.id && message.from !== state.id, 'a message is for this member, from another');
    if (message.term > state.term) {
      if (ignoredByLease(state, message)) return;
      this.#adoptTerm(message);
    } else if (message.term < state.term) {
      answerOldTerm(state, message);
      return;
    }
    if (message.type === RaftMessageType.MsgVote || message.type === RaftMessageType.MsgPreVote) {
      answerVote(state, message);
      return;
    }
    this.#stepRole(message);
  }

  #stepRole(message: RaftMessage): void {
    const state = this.#state;
    switch (state.role) {
      case 'leader':
        stepLeader(state, message);
        return;
      case 'follower':
        stepFollower(state, message);
        return;
      case 'candidate':
      case 'pre-candidate':
        stepCandidate(state, message);
        return;
      default:
        unreachable(state.role);
    }
  }

  #adoptTerm(message: RaftMessage): void {
    const state = this.#state;
    // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the other types say nothing here
    switch (message.type) {
      case RaftMessageType.MsgPreVote:
        // Asks about a term that has not begun.
        return;
      case RaftMessageType.MsgPreVoteResp:
        // A granted pre-vote carries the term it was asked for; that term begins only with the election.
        if (!message.reject) return;
        becomeFollower(state, message.term, NONE);
        return;
      case RaftMessageType.MsgApp:
      case RaftMessageType.MsgHeartbeat:
      case RaftMessageType.MsgSnap:
        becomeFollower(state, message.term, message.from);
        return;
      default:
        becomeFollower(state, message.term, NONE);
    }
  }

  /** Proposes entries; they are taken all or none. Index and term are those of the first. */
  propose(items: readonly Uint8Array[]): ProposalResult {
    return propose(this.#state, items);
  }

  /** Proposes one change of membership. One at a time, and only after an entry of the own term is committed. */
  proposeConfChange(change: RaftConfChange): ProposalResult {
    return proposeConfChange(this.#state, change);
  }

  /**
   * Proposes several changes of membership as one, through a joint membership (Raft §6), which the leader leaves by
   * itself. The result names the entry that enters it.
   */
  proposeJointChange(changes: readonly RaftConfChangeSingle[], context: Uint8Array): ProposalResult {
    const transition = RaftConfChangeTransition.ConfChangeTransitionJointImplicit;
    assert(changes.length > 0, 'a joint change has parts');
    return proposeJointChange(this.#state, { transition, changes: [...changes], context });
  }

  /** The same in raftpb's form: an explicit joint membership is left only by a change without parts. */
  proposeConfChangeV2(change: RaftConfChangeV2): ProposalResult {
    return proposeJointChange(this.#state, change);
  }

  /** Asks for a linearizable read; the answer comes as a ReadState with this context. False without a leader. */
  readIndex(context: Uint8Array): boolean {
    const state = this.#state;
    if (state.role === 'leader') leaderRead(state, state.id, context);
    else if (state.leaderId === NONE) return false;
    else state.send({ type: RaftMessageType.MsgReadIndex, to: state.leaderId, context });
    return true;
  }

  /**
   * Leader: index for a linearizable read without a round, or null when the lease does not surely hold at `now` (on the
   * clock that `tick` is given, which must go on during pauses of the process). See lease.ts.
   */
  leaseRead(now: number): number | null {
    return leaseRead(this.#state, now);
  }

  /** Leader: hands the lead to a voter. False when this member does not lead or `target` is no other voter. */
  transferLeadership(target: number): boolean {
    const state = this.#state;
    if (state.role !== 'leader' || target === state.id || !state.membership.voters.has(target)) return false;
    startTransfer(state, target);
    return true;
  }

  /** The transport could not reach a member: appends on their way to it are probably lost. */
  reportUnreachable(id: number): void {
    const progress = this.#state.progress.get(id);
    if (progress?.state === 'replicate') progress.becomeProbe();
  }

  /** The transport knows the fate of a snapshot. */
  reportSnapshot(id: number, delivered: boolean): void {
    const progress = this.#state.progress.get(id);
    if (progress?.state !== 'snapshot') return;
    if (!delivered) progress.snapshotFailed();
    progress.becomeProbe();
    // Wait for the follower's answer, or the next heartbeat's, before the next append.
    progress.probeSent = true;
  }

  hasReady(): boolean {
    const { log, outbox, readStates, leaderId, role, due, heartbeatDue } = this.#state;
    if (outbox.readyCount > 0 || readStates.length > 0 || due !== 'nothing' || heartbeatDue) return true;
    if (leaderId !== this.#lastLeader || role !== this.#lastRole) return true;
    return log.hasCommitted || this.#wantsWrite();
  }

  #wantsWrite(): boolean {
    const { log, outbox, repair, term, writing } = this.#state;
    if (writing !== null) return false;
    return log.hasUnwritten || log.holdsChange || !outbox.voteDurable || repair.isWhole(log, term);
  }

  /** Takes the work that waits; `types.ts` says what the driver must do with it. */
  ready(): Ready {
    const state = this.#state;
    flush(state);
    const softChanged = state.leaderId !== this.#lastLeader || state.role !== this.#lastRole;
    this.#lastLeader = state.leaderId;
    this.#lastRole = state.role;
    const { readStates, log } = state;
    state.readStates = [];
    const restore = log.takeRestore();
    return {
      softState: softChanged ? { leaderId: state.leaderId, role: state.role } : null,
      messages: state.outbox.take(),
      write: this.#wantsWrite() ? this.#beginWrite() : null,
      restore,
      committed: log.takeCommitted(APPLY_BATCH_BYTES),
      readStates,
    };
  }

  #beginWrite(): LogWrite {
    const state = this.#state;
    const write: LogWrite = {
      ...state.log.takeUnwritten(),
      hardState: { term: state.term, vote: state.vote, commit: state.log.committed },
      repaired: state.repair.isWhole(state.log, state.term),
    };
    state.writing = { write, version: state.outbox.version };
    return write;
  }

  /** A write that `ready` gave is durable. What waited for it goes out with the next Ready. */
  written(write: LogWrite): void {
    const state = this.#state;
    const { writing, log, outbox } = state;
    assert(writing !== null && writing.write === write, 'the write under way is reported');
    state.writing = null;
    log.written(write);
    if (write.repaired) state.repair.finish();
    outbox.release(writing.version, log.durable);
    voteWritten(state);
    // A leader's own copy counts only now.
    if (state.role === 'leader' && state.progress.get(state.id)?.maybeUpdate(log.durable) === true) maybeCommit(state);
  }

  /** Entries up to `index` are applied (conf changes through `applyConfChange`). */
  appliedTo(index: number): void {
    this.#state.log.appliedTo(index);
  }

  /** Makes a committed change of membership effective, when the driver applies its entry. */
  applyConfChange(change: RaftConfChange): void {
    switchMembership(this.#state, changeMembership(this.#state.membership, change));
  }

  /** The same for an entry of the type EntryConfChangeV2, which may enter or leave a joint membership. */
  applyConfChangeV2(change: RaftConfChangeV2): void {
    switchMembership(this.#state, changeMembershipJointly(this.#state.membership, change));
  }

  /** Metadata for a snapshot of the applied state, to be taken now. */
  snapshotMetadata(): RaftSnapshotMetadata {
    const { log, membership, beforeRestore } = this.#state;
    const term = log.term(log.applied);
    if (term !== undefined) return { index: log.applied, term, conf_state: confStateOf(membership) };
    // A received snapshot waits for the disk; the state machine is still the old one.
    assert(beforeRestore !== null && beforeRestore.index === log.applied, 'the applied entry is known');
    return beforeRestore;
  }

  /**
   * A snapshot of the own state is durable; entries up to `compactIndex` may be forgotten. May come long after
   * `snapshotMetadata`; nothing happens when a snapshot of the leader has overtaken it.
   */
  snapshotTaken(metadata: RaftSnapshotMetadata, compactIndex: number): void {
    const state = this.#state;
    assert(compactIndex <= metadata.index, 'the log begins not after the snapshot');
    if (metadata.index > (state.snapshot?.index ?? 0)) state.snapshot = metadata;
    state.log.compact(compactIndex);
  }

  /** Entries that are held in memory, for checkers. */
  entriesFrom(index: number): RaftEntry[] {
    const { log } = this.#state;
    const low = Math.max(index, log.firstIndex);
    return low > log.lastIndex ? [] : log.slice(low, log.lastIndex, Number.MAX_SAFE_INTEGER);
  }
}
