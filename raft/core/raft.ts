import { assert, unreachable } from '../../base/index.ts';
import { RaftConfChange, RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry, RaftHardState, RaftMessage, RaftSnapshotMetadata } from '../../proto/index.ts';
import { changeMembership, confChangeProblem, confStateOf, type Membership } from './conf-change.ts';
import type { Progress } from './progress.ts';
import { broadcastAppend, broadcastHeartbeat, maybeCommit, releaseHeldReads, sendAppend } from './replication.ts';
import { appendOwn, becomeFollower, campaign, CAMPAIGN_TRANSFER, syncProgress } from './roles.ts';
import { RaftState } from './state.ts';
import { stepCandidate } from './step-candidate.ts';
import { stepFollower } from './step-follower.ts';
import { leaderRead, startTransfer, stepLeader, tickLeader } from './step-leader.ts';
import { NONE, type InitialState, type ProposalResult, type RaftOptions, type Ready, type Refusal } from './types.ts';

/** Entry bytes handed out for applying in one Ready, about. */
const APPLY_BATCH_BYTES = 8 * 1024 * 1024;

function refused(refusal: Refusal, detail: string): ProposalResult {
  return { accepted: false, refusal, detail };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/**
 * The consensus algorithm of one member as a pure state machine (Ongaro and Ousterhout 2014, and Ongaro's thesis):
 * ticks and messages in, `Ready` out. No time, disk, network or randomness but what the options give.
 */
export class Raft {
  readonly #state: RaftState;
  #lastHard: RaftHardState;
  #lastLeader = NONE;
  #lastRole: string = 'follower';
  #handedOut: Ready | null = null;

  constructor(options: RaftOptions, initial: InitialState) {
    this.#state = new RaftState(options, initial);
    this.#lastHard = this.#hardState();
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
  get membership(): Membership {
    return this.#state.membership;
  }
  /** Leader: progress of every member; else empty. */
  get progress(): ReadonlyMap<number, Progress> {
    return this.#state.progress;
  }
  /** Term of the entry at `index`, undefined when it is compacted or missing. */
  termAt(index: number): number | undefined {
    return this.#state.log.term(index);
  }

  /** One unit of time passes. */
  tick(): void {
    const state = this.#state;
    if (state.role === 'leader') {
      tickLeader(state);
      return;
    }
    state.electionElapsed++;
    if (state.promotable && state.electionElapsed >= state.electionTimeout) {
      state.electionElapsed = 0;
      campaign(state, 'pre-election');
    }
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
      if (this.#ignoredByLease(message)) return;
      this.#adoptTerm(message);
    } else if (message.term < state.term) {
      this.#answerOldTerm(message);
      return;
    }
    if (message.type === RaftMessageType.MsgVote || message.type === RaftMessageType.MsgPreVote) {
      this.#answerVote(message);
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

  /** A member that hears its leader does not help to depose it (thesis §4.2.3), unless the leader itself asked. */
  #ignoredByLease(message: RaftMessage): boolean {
    const state = this.#state;
    if (message.type !== RaftMessageType.MsgVote && message.type !== RaftMessageType.MsgPreVote) return false;
    if (sameBytes(message.context, CAMPAIGN_TRANSFER)) return false;
    return state.leaderId !== NONE && state.electionElapsed < state.options.electionTicks;
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

  #answerOldTerm(message: RaftMessage): void {
    const state = this.#state;
    // oxlint-disable-next-line typescript/switch-exhaustiveness-check -- the other types say nothing here
    switch (message.type) {
      case RaftMessageType.MsgApp:
      case RaftMessageType.MsgHeartbeat:
      case RaftMessageType.MsgSnap:
        // With pre-vote and leases a stale leader may never see a higher term in a vote: tell it.
        state.send({ type: RaftMessageType.MsgAppResp, to: message.from });
        return;
      case RaftMessageType.MsgPreVote:
        // Lets a candidate with an old term catch up, so that it cannot be stuck asking.
        state.send({ type: RaftMessageType.MsgPreVoteResp, to: message.from, reject: true });
        return;
      default:
        return;
    }
  }

  /** RequestVote at the receiver (Raft §5.2, §5.4.1) and its pre-vote form. */
  #answerVote(message: RaftMessage): void {
    const state = this.#state;
    const pre = message.type === RaftMessageType.MsgPreVote;
    const type = pre ? RaftMessageType.MsgPreVoteResp : RaftMessageType.MsgVoteResp;
    const free =
      state.vote === message.from ||
      (state.vote === NONE && state.leaderId === NONE) ||
      (pre && message.term > state.term);
    if (!free || !state.log.isUpToDate(message.index, message.log_term)) {
      state.send({ type, to: message.from, reject: true });
      return;
    }
    state.send({ type, to: message.from, term: message.term });
    if (pre) return;
    state.electionElapsed = 0;
    state.vote = message.from;
  }

  /** Proposes entries; they are taken all or none. Index and term are those of the first. */
  propose(items: readonly Uint8Array[]): ProposalResult {
    assert(items.length > 0, 'a proposal has entries');
    const problem = this.#proposalProblem();
    if (problem !== undefined) return problem;
    const index = appendOwn(
      this.#state,
      items.map((data) => ({ type: RaftEntryType.EntryNormal, data })),
    );
    broadcastAppend(this.#state, false);
    return { accepted: true, index, term: this.#state.term };
  }

  /** Proposes one change of membership. One at a time, and only after an entry of the own term is committed. */
  proposeConfChange(change: RaftConfChange): ProposalResult {
    const state = this.#state;
    const problem = this.#proposalProblem();
    if (problem !== undefined) return problem;
    if (!state.committedInTerm) return refused('not-ready', 'this leader has not committed an entry of its term yet');
    if (state.pendingConfIndex > state.log.applied) {
      return refused('conf-change-pending', `the change at ${state.pendingConfIndex} is not applied yet`);
    }
    const invalid = confChangeProblem(state.membership, change);
    if (invalid !== undefined) return refused('invalid', invalid);
    const data = RaftConfChange.encode(change);
    const index = appendOwn(state, [{ type: RaftEntryType.EntryConfChange, data }]);
    state.pendingConfIndex = index;
    broadcastAppend(state, false);
    return { accepted: true, index, term: state.term };
  }

  #proposalProblem(): ProposalResult | undefined {
    const state = this.#state;
    if (state.role !== 'leader') return refused('not-leader', `member ${state.id} does not lead`);
    if (!state.progress.has(state.id)) return refused('not-leader', `member ${state.id} was removed`);
    if (state.transferee !== NONE) return refused('transferring', `the lead passes to member ${state.transferee}`);
    return undefined;
  }

  /** Asks for a linearizable read; the answer comes as a ReadState with this context. False without a leader. */
  readIndex(context: Uint8Array): boolean {
    const state = this.#state;
    if (state.role === 'leader') leaderRead(state, state.id, context);
    else if (state.leaderId === NONE) return false;
    else state.send({ type: RaftMessageType.MsgReadIndex, to: state.leaderId, context });
    return true;
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

  #hardState(): RaftHardState {
    const state = this.#state;
    return { term: state.term, vote: state.vote, commit: state.log.committed };
  }

  hasReady(): boolean {
    const { log, messages, readStates, leaderId, role } = this.#state;
    if (messages.length > 0 || readStates.length > 0 || log.pendingSnapshot !== null) return true;
    if (log.stable < log.lastIndex || log.applied < log.committed) return true;
    if (leaderId !== this.#lastLeader || role !== this.#lastRole) return true;
    const hard = this.#hardState();
    const last = this.#lastHard;
    return hard.term !== last.term || hard.vote !== last.vote || hard.commit !== last.commit;
  }

  /** Takes the work that waits. The driver must do it and call `persisted` before it asks again. */
  ready(): Ready {
    assert(this.#handedOut === null, 'the last Ready is done before the next is taken');
    const state = this.#state;
    const hard = this.#hardState();
    const last = this.#lastHard;
    const voteChanged = hard.term !== last.term || hard.vote !== last.vote;
    const hardChanged = voteChanged || hard.commit !== last.commit;
    const softChanged = state.leaderId !== this.#lastLeader || state.role !== this.#lastRole;
    const entries = state.log.unstable();
    // A leader's own copy counts only once it is durable, so its appends need not wait; all else promises something.
    const early = state.role === 'leader' && !voteChanged;
    const isEarly = (message: RaftMessage): boolean => early && message.type === RaftMessageType.MsgApp;
    const ready: Ready = {
      hardState: hardChanged ? hard : null,
      softState: softChanged ? { leaderId: state.leaderId, role: state.role } : null,
      entries,
      snapshot: state.log.pendingSnapshot,
      earlyMessages: state.messages.filter(isEarly),
      messages: state.messages.filter((message) => !isEarly(message)),
      committed: state.log.nextCommitted(APPLY_BATCH_BYTES),
      readStates: state.readStates,
      mustSync: voteChanged || entries.length > 0 || state.log.pendingSnapshot !== null,
    };
    state.messages = [];
    state.readStates = [];
    this.#lastHard = hard;
    this.#lastLeader = state.leaderId;
    this.#lastRole = state.role;
    this.#handedOut = ready;
    return ready;
  }

  /** Entries, hard state and snapshot of `ready` are durable. */
  persisted(ready: Ready): void {
    assert(this.#handedOut === ready, 'only the Ready handed out is reported');
    this.#handedOut = null;
    const { log, progress, id } = this.#state;
    if (log.pendingSnapshot === ready.snapshot) log.pendingSnapshot = null;
    const last = ready.entries.at(-1);
    if (last === undefined || !log.matches(last.index, last.term)) return;
    log.stable = Math.max(log.stable, last.index);
    if (this.#state.role !== 'leader') return;
    if (progress.get(id)?.maybeUpdate(last.index) !== true || !maybeCommit(this.#state)) return;
    releaseHeldReads(this.#state);
    broadcastAppend(this.#state);
  }

  /** Entries up to `index` are applied (conf changes through `applyConfChange`). */
  appliedTo(index: number): void {
    this.#state.log.appliedTo(index);
  }

  /** Makes a committed change of membership effective, when the driver applies its entry. */
  applyConfChange(change: RaftConfChange): void {
    const state = this.#state;
    state.membership = changeMembership(state.membership, change);
    if (state.role !== 'leader') return;
    if (!state.membership.voters.has(state.id)) {
      // Tell the others that the change is committed, then give way: a leader that is no voter leads nobody.
      broadcastAppend(state);
      broadcastHeartbeat(state);
      becomeFollower(state, state.term, NONE);
      return;
    }
    syncProgress(state);
    if (!state.membership.voters.has(state.transferee)) state.transferee = NONE;
    if (maybeCommit(state)) broadcastAppend(state);
    else for (const id of state.peers()) sendAppend(state, id, false);
  }

  /** Metadata for a snapshot of the applied state, to be taken now. */
  snapshotMetadata(): RaftSnapshotMetadata {
    const { log, membership } = this.#state;
    const term = log.term(log.applied);
    assert(term !== undefined, 'the applied entry is in the log');
    return { index: log.applied, term, conf_state: confStateOf(membership) };
  }

  /** A snapshot of the own state is durable; entries up to `compactIndex` may be forgotten. */
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
