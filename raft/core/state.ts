import { assert } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage, RaftSnapshotMetadata } from '../../proto/index.ts';
import { membershipOf, type Membership } from './conf-change.ts';
import { RaftLog } from './log.ts';
import { Progress } from './progress.ts';
import { ReadQueue } from './read-queue.ts';
import { NONE, type InitialState, type RaftOptions, type RaftRole, type ReadState } from './types.ts';

const EMPTY = new Uint8Array(0);

/** A whole message from some of its fields (as `RaftMessage.create`, without the cost of a codec round). */
export function raftMessage(fields: Partial<RaftMessage> & { type: RaftMessageType }): RaftMessage {
  return {
    to: 0,
    from: 0,
    term: 0,
    log_term: 0,
    index: 0,
    entries: [],
    commit: 0,
    snapshot: null,
    reject: false,
    reject_hint: 0,
    context: EMPTY,
    ...fields,
  };
}

/** Everything one member knows. The step functions of the roles change it; nothing else does. */
export class RaftState {
  readonly options: RaftOptions;
  readonly id: number;
  readonly log: RaftLog;
  term: number;
  vote: number;
  leaderId = NONE;
  role: RaftRole = 'follower';
  membership: Membership;
  /** Newest snapshot that the driver can send. */
  snapshot: RaftSnapshotMetadata | null;
  /** Leader only: every member's progress, its own included. */
  progress = new Map<number, Progress>();
  /** Candidate only. */
  votes = new Map<number, boolean>();
  /** Leader only: a conf change may be proposed once this index is applied. */
  pendingConfIndex = 0;
  /** Leader only: who shall lead next. */
  transferee = NONE;
  reads = new ReadQueue();
  /** Reads that came before this leader committed an entry of its own term. */
  heldReads: { from: number; context: Uint8Array }[] = [];
  readStates: ReadState[] = [];
  messages: RaftMessage[] = [];
  electionElapsed = 0;
  heartbeatElapsed = 0;
  electionTimeout = 0;

  constructor(options: RaftOptions, initial: InitialState) {
    assert(Number.isSafeInteger(options.id) && options.id > 0, 'a member id is a positive integer below 2^53');
    assert(options.heartbeatTicks > 0, 'heartbeats need at least one tick');
    assert(options.electionTicks > options.heartbeatTicks, 'an election takes longer than a heartbeat');
    assert(options.maxInflightMessages > 0 && options.maxAppendBytes > 0, 'bounds are positive');
    this.options = options;
    this.id = options.id;
    this.log = new RaftLog(initial);
    this.term = initial.hardState?.term ?? 0;
    this.vote = initial.hardState?.vote ?? NONE;
    this.membership = membershipOf(initial.snapshot?.conf_state ?? null);
    this.snapshot = initial.snapshot;
    assert(this.term >= this.log.lastTerm, 'the term is not behind the log');
    this.randomizeTimeout();
  }

  /** Whether this member may campaign. */
  get promotable(): boolean {
    return this.membership.voters.has(this.id) && this.log.pendingSnapshot === null;
  }

  /** Jitter that keeps candidates apart (Raft §5.2). */
  randomizeTimeout(): void {
    this.electionTimeout = this.options.electionTicks + this.options.random.int(this.options.electionTicks);
  }

  send(fields: Partial<RaftMessage> & { type: RaftMessageType; to: number }): void {
    assert(fields.to !== this.id && fields.to !== NONE, 'messages go to other members');
    this.messages.push(raftMessage({ term: this.term, ...fields, from: this.id }));
  }

  /** Leader: whether an entry of its own term is committed (before that its commit index may be behind). */
  get committedInTerm(): boolean {
    return this.log.term(this.log.committed) === this.term;
  }

  peers(): number[] {
    return [...this.membership.voters, ...this.membership.learners].filter((id) => id !== this.id);
  }

  /** Common part of every change of role. */
  reset(term: number): void {
    assert(term >= this.term, 'terms never fall');
    if (term !== this.term) {
      this.term = term;
      this.vote = NONE;
    }
    this.leaderId = NONE;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.randomizeTimeout();
    this.transferee = NONE;
    this.pendingConfIndex = 0;
    this.votes = new Map();
    this.progress = new Map();
    this.reads = new ReadQueue();
    this.heldReads = [];
  }
}
