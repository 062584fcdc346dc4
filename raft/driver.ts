import { assert, must, ShoalError, unavailable, Watch } from '../base/index.ts';
import type { Logger } from '../base/index.ts';
import type { RaftSnapshot } from '../proto/index.ts';
import { Applier } from './applier.ts';
import { Raft, type Ready } from './core/index.ts';
import { haltError, isSystemError, notLeader, OUTCOME_UNKNOWN, refusalError } from './failures.ts';
import * as defaults from './options.ts';
import type { RaftNodeOptions, RaftStatus, RaftTicks } from './options.ts';
import { Proposals, type Proposal } from './proposals.ts';
import { Reads, type Read } from './reads.ts';
import { Sender } from './sender.ts';
import { Snapshots } from './snapshots.ts';
import type { LogWrite, RaftStorage, RecoveredLog } from './storage.ts';
import { BUSY_ELECTIONS_MAX, Ticker } from './ticker.ts';
import { Transfers } from './transfers.ts';

/** Readies worked off in one turn; the rest waits for the next, so that timers and sockets get their share. */
const READY_PER_TURN_MAX = 256;

/**
 * The loop of one member: takes what the core asks for to transport, disk and state machine. It never waits for the
 * disk: while one batch is written, messages leave, entries are applied, and the next batch gathers.
 */
export class Driver {
  readonly changes = new Watch<RaftStatus>();
  readonly core: Raft;
  readonly applier: Applier;
  readonly snapshots: Snapshots;
  readonly proposals = new Proposals();
  readonly reads: Reads;
  readonly transfers = new Transfers();
  readonly ticker: Ticker;
  ticks: RaftTicks;
  readonly #options: RaftNodeOptions;
  readonly #log: Logger;
  readonly #storage: RaftStorage;
  readonly #sender: Sender;
  /** Term in which this member led when it took the outstanding proposals. */
  #leaderTerm = 0;
  /** Index that the disk was last told is committed. */
  #noted = 0;
  #leaseBrokenTerm = 0;
  /** How late a tick must be, ms, for the next heartbeat out of turn. */
  #pulseAtMs = 0;
  #published: Pick<Raft, 'leaderId' | 'role' | 'term' | 'membership'> | undefined;
  #removed = false;
  #scheduled = false;
  #stopped = false;
  #closed: Promise<void> | undefined;

  constructor(options: RaftNodeOptions, storage: RaftStorage, found: RecoveredLog) {
    const { transport, stateMachine, clock, id } = options;
    this.#options = options;
    this.#log = options.log.with({ component: 'raft', raftId: id });
    this.#storage = storage;
    this.ticks = defaults.ticksOf(options);
    this.reads = new Reads(options.random);
    const core = newCore(options, this.ticks, found);
    this.core = core;
    const guard = (run: () => void): void => this.#turn(run);
    const onError = (error: unknown): void => this.#fatal(error);
    this.applier = new Applier(core, stateMachine);
    this.snapshots = new Snapshots(
      {
        ...{ core, storage, guard, onError, machine: stateMachine },
        applied: () => this.applier.applied,
        everyEntries: options.snapshotEntries ?? defaults.DEFAULT_SNAPSHOT_ENTRIES,
        keepEntries: options.keepEntries ?? defaults.DEFAULT_KEEP_ENTRIES,
      },
      found.snapshot?.metadata?.index ?? 0,
    );
    const onUnreadable = (): void => this.snapshots.replace();
    this.#sender = new Sender({ core, storage, transport, guard, onUnreadable, log: this.#log });
    this.ticker = new Ticker({
      ...{ ...this.ticks, clock, core, onError },
      onTick: () => this.#afterTick(),
      onLate: (lateMs) => {
        const role = this.core.role;
        this.#log.warn('this process was held up; others may have elected a leader', {
          lateMs: Math.round(lateMs),
          role,
        });
      },
    });
  }

  /** Brings the state machine to what the log knows as committed, and begins to take part. */
  begin({ snapshot, repair }: RecoveredLog): void {
    if (repair !== null) {
      this.#log.error('the raft log lost entries by damage; they are fetched from the leader again', { ...repair });
    }
    if (snapshot !== null) this.applier.restore(snapshot);
    this.#options.transport.attach({
      unreachable: (id) => this.input(() => this.core.reportUnreachable(id)),
      snapshot: (id, delivered) => this.input(() => this.core.reportSnapshot(id, delivered)),
      removed: () => this.wasRemoved(),
    });
    // Applies all of it before anyone can ask; ends because the log does.
    for (let i = 0; i < Number.MAX_SAFE_INTEGER && this.core.hasReady(); i++) this.#process(this.core.ready());
    const { voters } = this.core.membership;
    // Nobody else can lead: no reason to wait for the election timeout.
    if (voters.size === 1 && voters.has(this.core.id)) this.core.campaign();
    this.ticker.start();
    this.schedule();
  }

  setTicks(ticks: RaftTicks): void {
    // Followers promised their patience by other ticks.
    if (ticks.tickMs !== this.ticks.tickMs) this.#leaseBrokenTerm = this.core.term;
    this.ticks = ticks;
    this.core.setTicks(ticks.electionTicks, ticks.heartbeatTicks, ticks.leaseTicks);
    this.ticker.set(ticks);
  }

  /** Index for a read that needs no round, when the lease holds; it may be about to be applied. Else null. */
  leaseRead(): number | null {
    if (this.#stopped || this.#removed || this.core.term === this.#leaseBrokenTerm) return null;
    return this.core.leaseRead(this.ticker.now());
  }

  /** Resolves `read` when `index`, which the lease named, is applied. @throws ShoalError ResourceExhausted. */
  whenApplied(index: number, read: Read): void {
    if (index <= this.applier.applied) read.resolve(index);
    else this.reads.await(index, read, 2 * this.ticks.electionTicks);
  }

  /** See `RaftNode.pulse`. */
  pulse(): void {
    if (this.#stopped || this.core.role !== 'leader') return;
    const lateMs = this.ticker.lateMs();
    const { tickMs, heartbeatTicks, electionTicks } = this.ticks;
    const periodMs = tickMs * heartbeatTicks;
    if (lateMs < this.#pulseAtMs) {
      // A tick came since the last one.
      if (lateMs < periodMs) this.#pulseAtMs = periodMs;
      return;
    }
    if (lateMs > BUSY_ELECTIONS_MAX * electionTicks * tickMs) return;
    this.#pulseAtMs = lateMs + periodMs;
    this.#guard(() => this.#sender.send(this.core.pulse()));
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** @throws ShoalError Unavailable when this member has stopped or was removed. */
  checkRunning(): void {
    if (this.#stopped) throw unavailable('this manager is stopping');
    if (this.#removed) throw unavailable('this manager was removed from the cluster');
  }

  /** Something comes from outside; what follows from it is done at the end of the turn. */
  input(run: () => void): void {
    if (this.#stopped) return;
    this.#guard(run);
    this.schedule();
  }

  /** Once: tells the owner, but not inside whatever call brought the news. */
  wasRemoved(): void {
    if (this.#stopped || this.#removed) return;
    this.#removed = true;
    this.#log.info('this manager was removed from the cluster');
    this.#defer(() => {
      if (!this.#stopped) this.#options.onRemoved?.();
    });
  }

  /** Work is done once at the end of the turn: all that was proposed until then shares one sync of the disk. */
  schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.#defer(() => {
      this.#scheduled = false;
      if (!this.#stopped) this.#guard(() => this.#pump());
    });
  }

  #defer(run: () => void): void {
    if (this.#options.schedule === undefined) setImmediate(run);
    else this.#options.schedule(run);
  }

  /** The disk has done something that it was asked for. */
  #turn(run: () => void): void {
    if (this.#stopped) return;
    this.#guard(() => {
      run();
      this.#pump();
    });
  }

  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#fatal(error);
    }
  }

  #afterTick(): void {
    this.reads.tick(this.core, this.#askAgainTicks());
    this.transfers.tick();
    this.schedule();
  }

  #askAgainTicks(): number {
    return Math.ceil(this.ticks.electionTicks / 2);
  }

  #pump(): void {
    this.takeProposals();
    this.#takeReads();
    for (let i = 0; i < READY_PER_TURN_MAX && this.core.hasReady(); i++) {
      this.#process(this.core.ready());
      if (this.#stopped) return;
    }
    const { applied } = this.applier;
    this.reads.serve(applied);
    this.snapshots.maybe();
    // What is applied is committed and durable here: more would name entries that the disk does not have yet.
    if (applied > this.#noted) {
      this.#noted = applied;
      this.#storage.noteCommit(applied);
    }
    if (this.applier.isRemoved(this.core.id)) this.wasRemoved();
    if (this.core.hasReady()) this.schedule();
  }

  /** Everything proposed until now becomes one batch of the log. */
  takeProposals(): void {
    const batch = this.proposals.takeQueue();
    if (batch.length === 0) return;
    const result = this.core.propose(batch.map((proposal) => proposal.data));
    if (!result.accepted) {
      const error = refusalError(result, this.core.leaderId);
      for (const proposal of batch) proposal.reject(error);
      return;
    }
    this.logged(result.index, result.term, batch);
  }

  /** Proposals are in the log; they are answered when they are applied. */
  logged(index: number, term: number, batch: readonly Proposal[]): void {
    if (term !== this.#leaderTerm) this.#rejectOutstanding();
    this.#leaderTerm = term;
    this.proposals.logged(index, term, batch);
  }

  #takeReads(): void {
    if (this.reads.ask(this.core, 2 * this.ticks.electionTicks, this.#askAgainTicks())) return;
    this.reads.rejectWaiting(notLeader(this.core.leaderId));
  }

  /** Does one Ready: send, begin to persist, apply. */
  #process(ready: Ready): void {
    this.#sender.send(ready.messages);
    if (ready.write !== null) this.#write(ready.write);
    if (ready.restore !== null) this.#restore(ready.restore);
    if (ready.committed.length > 0) {
      this.applier.apply(ready.committed);
      this.proposals.applied(ready.committed);
    }
    for (const read of ready.readStates) this.reads.confirmed(read.context, read.index);
    this.#afterRole();
  }

  #write(write: LogWrite): void {
    this.#storage.write(write, (error) => {
      if (error !== null && error !== undefined) this.#fatal(error);
      else this.#turn(() => this.core.written(write));
    });
  }

  #restore(snapshot: RaftSnapshot): void {
    const { index } = must(snapshot.metadata, 'snapshot metadata');
    assert(index > this.applier.applied, 'a snapshot moves the state forward');
    // Whatever was proposed here in an earlier term lies before its end.
    this.#rejectOutstanding();
    this.applier.restore(snapshot);
    this.snapshots.restored(index);
    this.#log.info('state replaced by the leader’s snapshot', { index });
  }

  #rejectOutstanding(): void {
    if (this.proposals.outstanding === 0) return;
    const message = `this manager lost the lead before the change was confirmed; ${OUTCOME_UNKNOWN}`;
    this.proposals.rejectOutstanding(unavailable(message));
  }

  /** What follows from a change of leader, role, term or membership. */
  #afterRole(): void {
    const { leaderId, role, term, membership } = this.core;
    if (role !== 'leader' || term !== this.#leaderTerm) this.#rejectOutstanding();
    this.transfers.observe(this.core);
    const old = this.#published;
    if (old?.leaderId === leaderId && old.role === role && old.term === term && old.membership === membership) return;
    this.#published = { leaderId, role, term, membership };
    this.changes.publish(this.status());
  }

  status(): RaftStatus {
    const { core } = this;
    const { id, leaderId, term, role, commit, repairReason: repair } = core;
    const { voters, learners } = core.membership;
    const applied = this.applier.applied;
    const status: RaftStatus = {
      id,
      leaderId,
      term,
      role,
      commit,
      applied,
      voters: [...voters],
      learners: [...learners],
      repair,
    };
    if (role === 'leader') {
      status.progress = new Map(
        [...core.progress].map(([key, { match, recentActive }]) => [key, { match, recentActive }]),
      );
    }
    return status;
  }

  /** Stops, rejects what waits, closes the log. Resolves when it is closed; idempotent. */
  stop(): Promise<void> {
    if (!this.#stopped) this.#halt(unavailable('this manager is stopping'));
    return must(this.#closed, 'a stopped member closes its log');
  }

  #halt(error: ShoalError, diskFailed = false): void {
    this.#stopped = true;
    this.ticker.stop();
    this.proposals.rejectQueued(error);
    this.proposals.rejectOutstanding(unavailable(`${error.message}; ${OUTCOME_UNKNOWN}`));
    this.reads.rejectAll(error);
    this.transfers.rejectAll(error);
    this.snapshots.rejectAll(error);
    this.changes.close();
    this.#closed = new Promise((resolve) => {
      this.#storage.close((closeError) => {
        // Nothing that was promised is lost: at the most the commit index is older than it could be.
        if (closeError !== null && closeError !== undefined && !diskFailed) {
          this.#log.warn('raft log did not close', { error: closeError });
        }
        resolve();
      });
    });
  }

  /** A disk error or a broken invariant: stop at once, write nothing more, tell the owner. */
  #fatal(error: unknown): void {
    if (this.#stopped) return;
    const failure = haltError(error, this.#options.dir);
    this.#log.error('raft stopped', { error, role: this.core.role, wayOut: failure.message });
    this.#halt(unavailable(failure.message), true);
    this.#options.onFatal(isSystemError(error) ? failure : error);
  }
}

function newCore(options: RaftNodeOptions, ticks: RaftTicks, found: RecoveredLog): Raft {
  return new Raft(
    {
      id: options.id,
      random: options.random,
      electionTicks: ticks.electionTicks,
      heartbeatTicks: ticks.heartbeatTicks,
      maxAppendBytes: options.maxAppendBytes ?? defaults.APPEND_BYTES_MAX,
      maxInflightMessages: options.maxInflightMessages ?? defaults.INFLIGHT_MESSAGES_MAX,
      snapshotRetryTicks: defaults.SNAPSHOT_RETRY_ELECTIONS * ticks.electionTicks,
      commitAtTick: true,
    },
    {
      hardState: found.hardState,
      snapshot: found.snapshot?.metadata ?? null,
      entries: found.entries,
      repair: found.repair,
      kept: found.kept ?? [],
    },
  );
}
