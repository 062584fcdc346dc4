import { assert, must, ShoalError } from '../../base/index.ts';
import { RaftEntryType } from '../../proto/index.ts';
import type { RaftEntry, RaftSnapshot } from '../../proto/index.ts';
import type { LogWrite } from '../storage.ts';
import { EntryStore, ownEntries } from './entry-store.ts';
import type { InitialState } from './types.ts';

/**
 * The log of one member, from the last compaction on, in memory. Invariants:
 * applied ≤ applying ≤ committed ≤ lastIndex; durable ≤ handed ≤ lastIndex; and offset ≤ applied, unless a received
 * snapshot waits for the disk or the state machine.
 */
export class RaftLog {
  #store: EntryStore;
  /** Index and term of the last compacted entry. */
  #offset: number;
  #offsetTerm: number;
  committed: number;
  /** What the state machine holds. */
  applied: number;
  /** What was handed out to be applied. */
  #applying: number;
  /** The log as it is now is on the disk up to here; 0 while a received snapshot is not. */
  durable: number;
  /** What was handed to the disk, durable or on its way. */
  #handed: number;
  /** A received snapshot that is not durable yet. */
  pendingSnapshot: RaftSnapshot | null = null;
  #snapshotHanded = false;
  /** A received snapshot that is durable and not restored yet. */
  #restorable: RaftSnapshot | null = null;
  /** Committed changes of membership of which the disk does not know yet that they are committed. */
  #heldChanges: number[] = [];

  constructor(initial: InitialState) {
    const { index, term } = initial.snapshot ?? { index: 0, term: 0 };
    // Of the first kept entry only its place counts: the log begins after it.
    const [begin = { index, term }, ...kept] = initial.kept ?? [];
    this.#offset = begin.index;
    this.#offsetTerm = begin.term;
    this.#store = new EntryStore(this.#offset + 1);
    for (const entry of kept) this.#store.push(entry);
    assert(this.lastIndex === index && this.lastTerm === term, 'kept entries reach to the snapshot');
    for (const entry of initial.entries) this.#store.push(entry);
    this.applied = index;
    this.#applying = index;
    this.durable = this.lastIndex;
    this.#handed = this.lastIndex;
    const commit = initial.hardState?.commit ?? 0;
    // A damaged log may end before what it knew as committed; all others may not.
    this.committed = Math.max(index, initial.repair === null ? commit : Math.min(commit, this.lastIndex));
    this.#checkCommit(this.committed);
  }

  get offset(): number {
    return this.#offset;
  }

  get firstIndex(): number {
    return this.#offset + 1;
  }

  get lastIndex(): number {
    return this.#store.lastIndex;
  }

  get lastTerm(): number {
    return must(this.term(this.lastIndex), 'term of the last entry');
  }

  /** Term of an entry; undefined when it is compacted or not there yet. */
  term(index: number): number | undefined {
    if (index > this.#offset) return this.#store.term(index);
    return index === this.#offset ? this.#offsetTerm : undefined;
  }

  entry(index: number): RaftEntry | undefined {
    return index > this.#offset ? this.#store.entry(index) : undefined;
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
      const entry = must(this.#store.entry(i), 'entry of a slice');
      bytes += entry.data.length;
      if (out.length > 0 && bytes > maxBytes) break;
      out.push(entry);
    }
    return out;
  }

  /** Appends own new entries (leader). */
  append(entries: readonly RaftEntry[]): void {
    for (const entry of ownEntries(entries)) {
      assert(entry.term >= this.lastTerm, 'terms never fall along a log');
      this.#store.push(entry);
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
    // The consistency check: without it logs could differ before an entry that they share (Raft figure 3).
    if (!this.matches(prevIndex, prevTerm)) return undefined;
    const lastNew = prevIndex + entries.length;
    const fresh = entries.findIndex((entry) => !this.matches(entry.index, entry.term));
    if (fresh >= 0) this.#overwrite(ownEntries(fresh === 0 ? entries : entries.slice(fresh)));
    this.commitTo(Math.min(leaderCommit, lastNew));
    return lastNew;
  }

  #overwrite(entries: readonly RaftEntry[]): void {
    const first = must(entries[0], 'first entry').index;
    assert(first > this.committed, 'committed entries are never overwritten');
    assert(first <= this.lastIndex + 1, 'a log has no gaps');
    if (first <= this.lastIndex) this.#store.truncate(first);
    this.#handed = Math.min(this.#handed, first - 1);
    this.durable = Math.min(this.durable, first - 1);
    for (const entry of entries) this.#store.push(entry);
  }

  /** Moves the commit index forward; never back. */
  commitTo(index: number): void {
    if (index <= this.committed) return;
    this.#checkCommit(index);
    for (let i = this.committed + 1; i <= index; i++) {
      if (must(this.#store.entry(i), 'committed entry').type !== RaftEntryType.EntryNormal) this.#heldChanges.push(i);
    }
    this.committed = index;
  }

  /**
   * Whether a change of membership waits until the disk knows that it is committed. It must not be in force before: a
   * member that forgets it in a crash would ask the old voters again, of whom one may be gone for good, and rightly so.
   */
  get holdsChange(): boolean {
    return this.#heldChanges.length > 0;
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

  /** The state machine holds everything up to `index`. */
  appliedTo(index: number): void {
    assert(index <= this.#applying, 'only what was handed out is applied');
    if (index <= this.applied) return;
    this.applied = index;
    this.#store.pack(this.applied);
  }

  /** Forgets entries up to `index`, which must be applied. */
  compact(index: number): void {
    if (index <= this.#offset) return;
    assert(index <= this.applied, 'only applied entries are compacted');
    this.#offsetTerm = must(this.term(index), 'term of the compacted entry');
    this.#offset = index;
    this.#store.forget(index);
  }

  /** Replaces the whole log by a received snapshot. The state machine follows when it is durable. */
  restore(snapshot: RaftSnapshot): void {
    const metadata = must(snapshot.metadata, 'snapshot metadata');
    assert(metadata.index > this.committed, 'a snapshot moves the log forward');
    this.#offset = metadata.index;
    this.#offsetTerm = metadata.term;
    this.#store = new EntryStore(metadata.index + 1);
    this.committed = metadata.index;
    this.#handed = metadata.index;
    this.durable = 0;
    this.pendingSnapshot = snapshot;
    this.#snapshotHanded = false;
    this.#heldChanges = [];
    // An older one that was not given to the state machine yet is of no use any more.
    this.#restorable = null;
  }

  /** Whether entries or a snapshot wait for a write. */
  get hasUnwritten(): boolean {
    return this.#handed < this.lastIndex || (this.pendingSnapshot !== null && !this.#snapshotHanded);
  }

  /** What the next write must hold; it will not be given again, unless it is overwritten meanwhile. */
  takeUnwritten(): { snapshot: RaftSnapshot | null; entries: RaftEntry[] } {
    const snapshot = this.#snapshotHanded ? null : this.pendingSnapshot;
    const entries =
      this.#handed < this.lastIndex ? this.slice(this.#handed + 1, this.lastIndex, Number.MAX_SAFE_INTEGER) : [];
    this.#snapshotHanded = this.pendingSnapshot !== null;
    this.#handed = this.lastIndex;
    return { snapshot, entries };
  }

  /** A write is durable. What was overwritten while it was under way does not count: the terms tell. */
  written(write: LogWrite): void {
    if (this.holdsChange) this.#heldChanges = this.#heldChanges.filter((index) => index > write.hardState.commit);
    if (write.snapshot !== null && write.snapshot === this.pendingSnapshot) {
      this.#restorable = write.snapshot;
      this.pendingSnapshot = null;
      this.#snapshotHanded = false;
      this.durable = must(write.snapshot.metadata, 'snapshot metadata').index;
    }
    // A snapshot that came meanwhile replaced everything this write held.
    if (this.pendingSnapshot !== null) return;
    for (let i = write.entries.length - 1; i >= 0; i--) {
      const { index, term } = write.entries[i] as RaftEntry;
      if (!this.matches(index, term)) continue;
      // Entries before one that matches match too (log matching).
      this.durable = Math.max(this.durable, index);
      this.#handed = Math.max(this.#handed, index);
      return;
    }
  }

  get #applicable(): number {
    const held = this.#heldChanges[0];
    return Math.min(this.committed, this.durable, held === undefined ? Number.MAX_SAFE_INTEGER : held - 1);
  }

  /** Whether there is a snapshot to restore or an entry to apply. */
  get hasCommitted(): boolean {
    return this.#restorable !== null || this.#applicable > this.#applying;
  }

  /** A durable snapshot for the state machine; given once. */
  takeRestore(): RaftSnapshot | null {
    const snapshot = this.#restorable;
    if (snapshot === null) return null;
    this.#restorable = null;
    this.applied = must(snapshot.metadata, 'snapshot metadata').index;
    this.#applying = this.applied;
    return snapshot;
  }

  /** Committed entries that are durable here, at most about `maxBytes` of them; each is given once. */
  takeCommitted(maxBytes: number): RaftEntry[] {
    const high = this.#applicable;
    if (high <= this.#applying) return [];
    assert(this.#applying >= this.#offset, 'a snapshot is restored before the entries after it are applied');
    const entries = this.slice(this.#applying + 1, high, maxBytes);
    this.#applying += entries.length;
    return entries;
  }

  /** Whether the state machine holds all that is committed, as far as this member knows. */
  get allApplied(): boolean {
    return this.applied === this.committed;
  }
}
