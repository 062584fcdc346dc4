import { assert, must, ShoalError } from '../../base/index.ts';
import type { RaftEntry, RaftSnapshot } from '../../proto/index.ts';
import type { InitialState } from './types.ts';

/**
 * The log of one member, from the last compaction on, in memory. Invariants:
 * offset ≤ applied ≤ committed ≤ lastIndex, and entry i stands at position i - offset - 1.
 */
export class RaftLog {
  #entries: RaftEntry[];
  /** Index and term of the last compacted entry. */
  #offset: number;
  #offsetTerm: number;
  committed: number;
  applied: number;
  /** Highest index that the driver reported as durable. */
  stable: number;
  /** A received snapshot that is not durable yet. */
  pendingSnapshot: RaftSnapshot | null = null;

  constructor(initial: InitialState) {
    this.#offset = initial.snapshot?.index ?? 0;
    this.#offsetTerm = initial.snapshot?.term ?? 0;
    this.#entries = [...initial.entries];
    for (const [i, entry] of this.#entries.entries()) {
      assert(entry.index === this.#offset + 1 + i, 'a log has no gaps');
    }
    this.applied = this.#offset;
    this.committed = Math.max(this.#offset, initial.hardState?.commit ?? 0);
    this.stable = this.lastIndex;
    this.#checkCommit(this.committed);
  }

  get offset(): number {
    return this.#offset;
  }

  get firstIndex(): number {
    return this.#offset + 1;
  }

  get lastIndex(): number {
    return this.#offset + this.#entries.length;
  }

  get lastTerm(): number {
    return must(this.term(this.lastIndex), 'term of the last entry');
  }

  /** Term of an entry; undefined when it is compacted or not there yet. */
  term(index: number): number | undefined {
    if (index === this.#offset) return this.#offsetTerm;
    return this.#entries[index - this.#offset - 1]?.term;
  }

  entry(index: number): RaftEntry | undefined {
    return this.#entries[index - this.#offset - 1];
  }

  matches(index: number, term: number): boolean {
    return this.term(index) === term;
  }

  /** Whether a log that ends with (index, term) is at least as up to date as this one (Raft §5.4.1). */
  isUpToDate(index: number, term: number): boolean {
    return term > this.lastTerm || (term === this.lastTerm && index >= this.lastIndex);
  }

  /** Entries from `low` to `high`, as many as fit `maxBytes`, but one at least. */
  slice(low: number, high: number, maxBytes: number): RaftEntry[] {
    assert(low >= this.firstIndex && high <= this.lastIndex, 'a slice lies inside the log');
    const out: RaftEntry[] = [];
    let bytes = 0;
    for (let i = low; i <= high; i++) {
      const entry = must(this.entry(i), 'entry of a slice');
      bytes += entry.data.length;
      if (out.length > 0 && bytes > maxBytes) break;
      out.push(entry);
    }
    return out;
  }

  /** Appends own new entries (leader). */
  append(entries: readonly RaftEntry[]): void {
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, 'a leader appends at the end of its log');
      assert(entry.term >= this.lastTerm, 'terms never fall along a log');
      this.#entries.push(entry);
    }
  }

  /**
   * A follower's append (Raft §5.3): refuses unless the log holds (prevIndex, prevTerm); conflicting entries and all
   * after them give way. Returns the last index that is now known to equal the leader's, or undefined.
   */
  maybeAppend(
    prevIndex: number,
    prevTerm: number,
    leaderCommit: number,
    entries: readonly RaftEntry[],
  ): number | undefined {
    if (!this.matches(prevIndex, prevTerm)) return undefined;
    const lastNew = prevIndex + entries.length;
    const fresh = entries.findIndex((entry) => !this.matches(entry.index, entry.term));
    if (fresh >= 0) this.#overwrite(entries.slice(fresh));
    this.commitTo(Math.min(leaderCommit, lastNew));
    return lastNew;
  }

  #overwrite(entries: readonly RaftEntry[]): void {
    const first = must(entries[0], 'first entry').index;
    assert(first > this.committed, 'committed entries are never overwritten');
    assert(first <= this.lastIndex + 1, 'a log has no gaps');
    this.#entries.length = first - this.#offset - 1;
    this.stable = Math.min(this.stable, first - 1);
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, 'entries of an append follow each other');
      this.#entries.push(entry);
    }
  }

  /** Moves the commit index forward; never back. */
  commitTo(index: number): void {
    if (index <= this.committed) return;
    this.#checkCommit(index);
    this.committed = index;
  }

  #checkCommit(index: number): void {
    if (index <= this.lastIndex) return;
    throw new ShoalError(
      'DataLoss',
      `raft log ends at ${this.lastIndex} but ${index} was committed: entries were lost from this disk; ` +
        'remove this manager from the cluster and join it anew',
    );
  }

  /**
   * Largest index ≤ `index` whose term is ≤ `term`, and its term: where two logs may agree, skipping whole terms
   * (Raft §5.3, last paragraph). Term 0 when unknown.
   */
  lastPossibleMatch(index: number, term: number): { index: number; term: number } {
    if (index > this.lastIndex) return { index, term: 0 };
    let at = index;
    while (at > this.#offset && must(this.term(at), 'term inside the log') > term) at--;
    return { index: at, term: this.term(at) ?? 0 };
  }

  appliedTo(index: number): void {
    assert(index >= this.applied && index <= this.committed, 'applied moves forward, up to committed');
    this.applied = index;
  }

  /** Forgets entries up to `index`, which must be applied. */
  compact(index: number): void {
    if (index <= this.#offset) return;
    assert(index <= this.applied, 'only applied entries are compacted');
    const term = must(this.term(index), 'term of the compacted entry');
    this.#entries.splice(0, index - this.#offset);
    this.#offset = index;
    this.#offsetTerm = term;
  }

  /** Replaces the whole log by a received snapshot. */
  restore(snapshot: RaftSnapshot): void {
    const metadata = must(snapshot.metadata, 'snapshot metadata');
    assert(metadata.index > this.committed, 'a snapshot moves the log forward');
    this.#entries = [];
    this.#offset = metadata.index;
    this.#offsetTerm = metadata.term;
    this.committed = metadata.index;
    this.applied = metadata.index;
    this.stable = metadata.index;
    this.pendingSnapshot = snapshot;
  }

  /** Entries that are not durable yet. */
  unstable(): RaftEntry[] {
    return this.#entries.slice(this.stable - this.#offset);
  }

  /** Committed entries that were not handed out for applying, at most about `maxBytes` of them. */
  nextCommitted(maxBytes: number): RaftEntry[] {
    if (this.committed <= this.applied) return [];
    return this.slice(this.applied + 1, this.committed, maxBytes);
  }
}
