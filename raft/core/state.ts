import { assert } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage, RaftSnapshotMetadata } from '../../proto/index.ts';
import type { LogWrite } from '../storage.ts';
import { membersOf, membershipOf, type Membership } from './conf-change.ts';
import { RaftLog } from './log.ts';
import { Outbox } from './outbox.ts';
import { Patience } from './patience.ts';
import type { Progress } from './progress.ts';
import type { Quorum } from './quorum.ts';
import { ReadQueue } from './read-queue.ts';
import { Repair } from './repair.ts';
import { NONE, type InitialState, type RaftOptions, type RaftRole, type ReadState } from './types.ts';

const EMPTY = new Uint8Array(0);

/** A whole message from some of its fields (as `RaftMessage.create`, without the cost of a codec round). */
export function raftMessage(fields: Partial<RaftMessage> & { type: RaftMessageType }): RaftMessage {
  return {
    type: fields.type,
    to: fields.to ?? 0,
    from: fields.from ?? 0,
    term: fields.term ?? 0,
    log_term: fields.log_term ?? 0,
    index: fields.index ?? 0,
    entries: fields.entries ?? [],
    commit: fields.commit ?? 0,
    snapshot: fields.snapshot ?? null,
    reject: fields.reject ?? false,
    reject_hint: fields.reject_hint ?? 0,
    context: fields.context ?? EMPTY,
  };
}

/** Everything one member knows. The step functions of the roles change it; nothing else does. */
export class RaftState {
  readonly options: RaftOptions;
  readonly id: number;
  readonly log: RaftLog;
  readonly outbox = new Outbox();
  readonly repair: Repair;
  electionTicks: number;
  /** Silence that every member keeps at the least before it votes: what a lease may count on. */
  leaseTicks: number;
  heartbeatTicks: number;
  term: number;
  vote: number;
  leaderId = NONE;
  role: RaftRole = 'follower';
  /** Newest snapshot that the driver can send. */
  snapshot: RaftSnapshotMetadata | null;
  /** What a snapshot of the state machine would say, while it waits for a received one. */
  beforeRestore: RaftSnapshotMetadata | null = null;
  /** The write under way, and the version of term and vote that it holds. */
  writing: { write: LogWrite; version: number } | null = null;
  /** Leader only: every member's progress, its own included. */
  progress = new Map<number, Progress>();
  /** Candidate only. */
  votes = new Map<number, boolean>();
  /** Leader only: a conf change may be proposed once this index is applied. */
  pendingConfIndex = 0;
  /** Leader only: entry bytes that are not committed yet. */
  uncommittedBytes = 0;
  /** Leader only: who shall lead next. */
  transferee = NONE;
  /** Leader only: followers may elect another before the lease ends (a transfer was begun, or the ticks changed). */
  leaseBroken = false;
  /** Leader only: what `flush` will send to all, once for everything that happens in one turn. */
  due: 'nothing' | 'entries' | 'commit' = 'nothing';
  heartbeatDue = false;
  /** Leader only: the commit index at the last tick; who does not know it by the next one is told. */
  committedAtTick = 0;
  reads = new ReadQueue();
  /** Reads that came before this leader committed an entry of its own term. */
  heldReads: { from: number; context: Uint8Array }[] = [];
  readStates: ReadState[] = [];
  /** The present time in ticks. */
  now = 0;
  /** Calls of `tick` for which a member that was started again elects nobody. */
  guardTicks: number;
  electionElapsed = 0;
  heartbeatElapsed = 0;
  electionTimeout = 0;
  readonly patience = new Patience();
  #membership: Membership;
  #peers: readonly number[] = [];
  #quorum: Quorum = { incoming: [], outgoing: [] };

  constructor(options: RaftOptions, initial: InitialState) {
    assert(Number.isSafeInteger(options.id) && options.id > 0, 'a member id is a positive integer below 2^53');
    assert(options.maxInflightMessages > 0 && options.maxAppendBytes > 0, 'bounds are positive');
    this.options = options;
    this.id = options.id;
    this.electionTicks = options.electionTicks;
    this.leaseTicks = options.electionTicks;
    this.heartbeatTicks = options.heartbeatTicks;
    this.checkTicks();
    this.log = new RaftLog(initial);
    this.term = initial.hardState?.term ?? 0;
    this.vote = initial.hardState?.vote ?? NONE;
    assert(this.term >= this.log.lastTerm, 'the term is not behind the log');
    this.#membership = membershipOf(null);
    this.setMembership(membershipOf(initial.snapshot?.conf_state ?? null));
    this.snapshot = initial.snapshot;
    // A member that never took part promised nothing.
    this.guardTicks = this.term === 0 ? 0 : (options.restartGuardTicks ?? options.electionTicks - 1);
    this.repair = new Repair(initial.repair, this.term);
    if (this.repair.wantsNewTerm) this.reset(this.term + 1);
    else this.randomizeTimeout();
  }

  checkTicks(): void {
    assert(this.heartbeatTicks > 0, 'heartbeats need at least one tick');
    assert(this.electionTicks > this.heartbeatTicks, 'an election takes longer than a heartbeat');
  }

  get membership(): Membership {
    return this.#membership;
  }

  setMembership(membership: Membership): void {
    this.#membership = membership;
    this.#peers = membersOf(membership).filter((id) => id !== this.id);
    this.#quorum = { incoming: [...membership.voters], outgoing: [...membership.outgoing] };
  }

  /** All members but this one. */
  get peers(): readonly number[] {
    return this.#peers;
  }

  /** Who decides about votes, commits, reads and the lead. */
  get quorum(): Quorum {
    return this.#quorum;
  }

  isVoter(id: number): boolean {
    return this.#membership.voters.has(id) || this.#membership.outgoing.has(id);
  }

  /** Whether this member may campaign. */
  get promotable(): boolean {
    return this.isVoter(this.id) && this.log.pendingSnapshot === null && !this.repair.active;
  }

  /** Jitter that keeps candidates apart (Raft §5.2). */
  randomizeTimeout(): void {
    this.electionTimeout = this.electionTicks + this.options.random.int(this.electionTicks);
  }

  #message(fields: Partial<RaftMessage> & { type: RaftMessageType; to: number }): RaftMessage {
    assert(fields.to !== this.id && fields.to !== NONE, 'messages go to other members');
    const message = raftMessage(fields);
    message.from = this.id;
    message.term = fields.term ?? this.term;
    return message;
  }

  /** Sends a message as soon as the present term and vote are durable. */
  send(fields: Partial<RaftMessage> & { type: RaftMessageType; to: number }): void {
    this.outbox.push(this.#message(fields));
  }

  /** Tells the leader that this log equals its own up to `index`, as soon as that is durable. */
  sendAccept(to: number, index: number): void {
    this.outbox.pushAccept(this.#message({ type: RaftMessageType.MsgAppResp, to, index }), this.log.durable);
  }

  /** Gives this term's vote. It is a promise: it counts, and is told, once it is durable. */
  setVote(id: number): void {
    if (this.vote === id) return;
    assert(this.vote === NONE, 'one vote a term');
    this.vote = id;
    this.outbox.voteChanged();
  }

  /** Leader: whether an entry of its own term is committed (before that its commit index may be behind). */
  get committedInTerm(): boolean {
    return this.log.term(this.log.committed) === this.term;
  }

  /** Common part of every change of role. */
  reset(term: number): void {
    assert(term >= this.term, 'terms never fall');
    if (term !== this.term) {
      this.term = term;
      this.vote = NONE;
      this.outbox.termChanged();
    }
    this.leaderId = NONE;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.randomizeTimeout();
    this.transferee = NONE;
    this.leaseBroken = false;
    this.pendingConfIndex = 0;
    this.uncommittedBytes = 0;
    this.due = 'nothing';
    this.heartbeatDue = false;
    this.committedAtTick = 0;
    this.votes = new Map();
    this.progress = new Map();
    this.reads = new ReadQueue();
    this.heldReads = [];
  }
}
