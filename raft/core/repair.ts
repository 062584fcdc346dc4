import type { LogRepair } from '../storage.ts';
import type { RaftLog } from './log.ts';

/** Election timeouts after which a member that has all there is, but not its floor, asks for a new term. */
const PATIENCE_ELECTIONS = 10;

/**
 * A member whose disk lost durable entries. It may have acknowledged them, so that it must not help anybody to an
 * election before it holds again all that it may have promised; until then it takes entries and snapshots, but neither
 * campaigns nor votes.
 *
 * When is it whole? Let T be the newest term it knew when it started (a term is never lost). An entry that its lost
 * acknowledgements helped to commit was acknowledged to a leader of a term ≤ T.
 * - A leader of a later term was elected without this member's vote, by a majority that shares with every majority of
 *   the earlier acknowledgements a member that is sound: it holds all of them (leader completeness, Raft §5.4.3). So
 *   the log is whole when it is durable up to an entry of the leader's own term that is committed.
 * - A leader of the term T itself may still count, even after this start, an old acknowledgement that was on its way.
 *   The log is whole only if it also reaches `floor`, the highest index that may have been promised.
 * Without a floor the member therefore begins a term of its own, without a vote: the leader of T gives way, and the
 * next one is of a later term. So does a member that has long had all there is without reaching its floor: what it had
 * promised up to there may have been overwritten, and an idle leader never get there.
 */
export class Repair {
  #task: LogRepair | null;
  readonly #startTerm: number;
  #found = false;
  #idleTicks = 0;

  constructor(task: LogRepair | null, startTerm: number) {
    this.#task = task;
    this.#startTerm = startTerm;
  }

  /** Whether this member still lacks what it promised. */
  get active(): boolean {
    return this.#task !== null;
  }

  /** Why, for people; null when it is whole. */
  get reason(): string | null {
    return this.#task?.reason ?? null;
  }

  /** A leader of the old term could not be told apart from one that is safe. */
  get wantsNewTerm(): boolean {
    return this.#task !== null && this.#task.floor === null;
  }

  /** Whether the log is whole although the disk does not say so yet. */
  isWhole(log: RaftLog, term: number): boolean {
    if (this.#task === null) return false;
    if (this.#found) return true;
    const covered = Math.min(log.committed, log.durable);
    if (covered === 0 || log.term(covered) !== term) return false;
    const { floor } = this.#task;
    this.#found = term > this.#startTerm || (floor !== null && log.durable >= floor);
    return this.#found;
  }

  /** A tick passes. @returns whether a new term should begin, so that the floor does not matter any more. */
  isStuck(log: RaftLog, electionTicks: number): boolean {
    if (this.#task === null || this.#found) return false;
    const isIdle = log.committed === log.lastIndex && log.durable === log.lastIndex && log.lastIndex > 0;
    this.#idleTicks = isIdle ? this.#idleTicks + 1 : 0;
    if (this.#idleTicks < PATIENCE_ELECTIONS * electionTicks) return false;
    this.#idleTicks = 0;
    return true;
  }

  /** The disk knows that the log is whole. */
  finish(): void {
    this.#task = null;
  }
}
