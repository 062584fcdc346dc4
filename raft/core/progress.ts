import { assert } from '../../base/index.ts';

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
  /** Heard of since the last check of the quorum. */
  recentActive: boolean;
  /** Last index of each append on its way, oldest first. */
  #inflight: number[] = [];
  readonly #maxInflight: number;

  constructor(match: number, next: number, maxInflight: number, recentActive: boolean) {
    assert(match < next, 'match is below next');
    this.match = match;
    this.next = next;
    this.#maxInflight = maxInflight;
    this.recentActive = recentActive;
  }

  get inflightCount(): number {
    return this.#inflight.length;
  }

  get inflightFull(): boolean {
    return this.#inflight.length >= this.#maxInflight;
  }

  get paused(): boolean {
    if (this.state === 'probe') return this.probeSent;
    if (this.state === 'replicate') return this.inflightFull;
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
    this.pendingSnapshot = this.state === 'snapshot' ? this.pendingSnapshot : 0;
    this.snapshotTicks = 0;
    this.#inflight = [];
  }

  /** Notes an append of entries up to `lastIndex` (0 entries when `lastIndex` is below `next`). */
  sent(lastIndex: number): void {
    if (this.state === 'replicate') {
      if (lastIndex < this.next) return;
      this.next = lastIndex + 1;
      this.#inflight.push(lastIndex);
    } else {
      assert(this.state === 'probe', 'no append is sent while a snapshot is');
      this.probeSent = true;
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

  /** Frees the window of all appends up to `index`. */
  acknowledge(index: number): void {
    let count = 0;
    while (count < this.#inflight.length && (this.#inflight[count] as number) <= index) count++;
    if (count > 0) this.#inflight.splice(0, count);
  }

  /** Lets one more append through a full window: the answers may have been lost. */
  freeOldest(): void {
    this.#inflight.shift();
  }
}
