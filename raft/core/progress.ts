import { assert } from '../../base/index.ts';
import { Inflight } from './inflight.ts';

/**
 * How entries go to a follower:
 * - probe: its log is unknown; one append at a time until it accepts one;
 * - replicate: it accepts; appends stream, bounded by the in-flight window;
 * - snapshot: it needs entries that are compacted; nothing is sent until the snapshot's fate is known.
 */
export type ProgressState = 'probe' | 'replicate' | 'snapshot';

/** What the leader knows of one member. Invariant: match < next. */
export class Progress {
  state: ProgressState = 'probe';
  /** Highest index known to be durable there. */
  match: number;
  /** Next index to send. */
  next: number;
  /** In probe state: an append is out and unanswered. */
  probeSent = false;
  /** In snapshot state: index of the snapshot on its way. */
  pendingSnapshot = 0;
  snapshotTicks = 0;
  /** Highest commit index that it was told, if nothing was lost. */
  sentCommit = 0;
  /** Heard of since the last check of the quorum. */
  recentActive: boolean;
  readonly inflight: Inflight;

  constructor(match: number, next: number, inflight: Inflight, recentActive: boolean) {
    assert(match < next, 'match is below next');
    this.match = match;
    this.next = next;
    this.inflight = inflight;
    this.recentActive = recentActive;
  }

  get inflightCount(): number {
    return this.inflight.count;
  }

  /** Whether no entries may be sent now. */
  get paused(): boolean {
    if (this.state === 'probe') return this.probeSent;
    if (this.state === 'replicate') return this.inflight.full;
    return true;
  }

  becomeProbe(): void {
    // After a snapshot that arrived the follower's log ends there.
    const afterSnapshot = this.state === 'snapshot' ? this.pendingSnapshot + 1 : 0;
    this.#enter('probe');
    this.next = Math.max(this.match + 1, afterSnapshot);
  }

  becomeReplicate(): void {
    this.#enter('replicate');
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.#enter('snapshot');
    this.pendingSnapshot = index;
  }

  /** The snapshot on its way did not arrive: `becomeProbe` must not assume that it did. */
  snapshotFailed(): void {
    this.pendingSnapshot = 0;
  }

  #enter(state: ProgressState): void {
    this.state = state;
    this.probeSent = false;
    this.pendingSnapshot = 0;
    this.snapshotTicks = 0;
    this.sentCommit = 0;
    this.inflight.clear();
  }

  /** Notes an append of `count` entries, `bytes` in all, that carries the commit index. */
  sent(count: number, bytes: number, commit: number): void {
    assert(this.state !== 'snapshot', 'no append is sent while a snapshot is');
    this.sentCommit = commit;
    if (this.state === 'probe') {
      this.probeSent = true;
    } else if (count > 0) {
      this.next += count;
      this.inflight.add(this.next - 1, bytes);
    }
  }

  /** The follower holds everything up to `index`. False when that is no news. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.probeSent = false;
    return true;
  }

  /**
   * The follower refused an append after `rejected`; `hint` is the last index at which the logs may agree.
   * False when the answer is stale.
   */
  maybeDecrease(rejected: number, hint: number): boolean {
    if (this.state === 'replicate') {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      return true;
    }
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.probeSent = false;
    return true;
  }

  /**
   * The follower lost entries that it had acknowledged: its log ends at `lastIndex` and may not even equal the leader's
   * up to there. What was counted for commits stays so (repair.ts says why).
   */
  lost(lastIndex: number): void {
    this.match = 0;
    if (this.state === 'snapshot') return;
    this.#enter('probe');
    this.next = lastIndex + 1;
  }
}
