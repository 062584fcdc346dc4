import { ShoalError, unavailable } from '../base/index.ts';
import type { RaftEntry } from '../proto/index.ts';

/** Proposals that wait to be applied at once at the most. */
export const PENDING_PROPOSALS_MAX = 16_384;
/** Bytes of proposals that wait at the most. */
export const PENDING_PROPOSAL_BYTES_MAX = 64 * 1024 * 1024;
/** Bytes of one proposal at the most: it must fit one gRPC message (4 MiB) with room to spare. */
export const PROPOSAL_BYTES_MAX = 2 * 1024 * 1024;

/** One proposal from the call until it is applied here. */
export interface Proposal {
  readonly data: Uint8Array;
  resolve(index: number): void;
  reject(error: Error): void;
}

/** Proposals that entered the log together: entries `first`, `first + 1`, … of one term. */
interface Batch {
  first: number;
  term: number;
  proposals: readonly Proposal[];
  /** How many of them are answered. */
  answered: number;
}

/**
 * Proposals of this member from the call until they are applied here. Bounded in number and bytes. Whole batches are
 * kept, in the order of the log: applying walks along them, so one proposal costs no look-up.
 */
export class Proposals {
  #queue: Proposal[] = [];
  #batches: Batch[] = [];
  #size = 0;
  #bytes = 0;

  /** Proposals that wait for the next batch. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Proposals that are in the log and not applied yet. */
  get outstanding(): number {
    return this.#size - this.#queue.length;
  }

  /** @throws ShoalError ResourceExhausted when a bound is reached, InvalidArgument when one proposal is too large. */
  checkRoom(bytes: number): void {
    if (bytes > PROPOSAL_BYTES_MAX) {
      throw new ShoalError(
        'InvalidArgument',
        `a change of ${bytes} bytes is too large for the cluster's log; the limit is ${PROPOSAL_BYTES_MAX} bytes`,
      );
    }
    if (this.#size < PENDING_PROPOSALS_MAX && this.#bytes + bytes <= PENDING_PROPOSAL_BYTES_MAX) return;
    const limit =
      this.#size >= PENDING_PROPOSALS_MAX
        ? `the limit is ${PENDING_PROPOSALS_MAX} changes`
        : `the limit is ${PENDING_PROPOSAL_BYTES_MAX} bytes`;
    throw new ShoalError(
      'ResourceExhausted',
      `${this.#size} changes (${this.#bytes} bytes) already wait for the cluster's log; ${limit}: try again when some ` +
        'are done; when none gets done, look whether a majority of the managers is reachable and their disks are fast',
    );
  }

  enqueue(proposal: Proposal): void {
    this.#queue.push(proposal);
    this.#size++;
    this.#bytes += proposal.data.length;
  }

  /** Everything queued: the next batch of the group commit. Hand it back by `logged` or `refused`. */
  takeQueue(): readonly Proposal[] {
    const taken = this.#queue;
    if (taken.length > 0) this.#queue = [];
    this.#size -= taken.length;
    for (const proposal of taken) this.#bytes -= proposal.data.length;
    return taken;
  }

  /** The proposals are in the log, from index `first` on; they are answered when they are applied. */
  logged(first: number, term: number, proposals: readonly Proposal[]): void {
    this.#batches.push({ first, term, proposals, answered: 0 });
    this.#size += proposals.length;
    for (const proposal of proposals) this.#bytes += proposal.data.length;
  }

  /** These entries were applied, in order, none left out. */
  applied(entries: readonly RaftEntry[]): void {
    for (const { index, term } of entries) {
      const batch = this.#batches[0];
      if (batch === undefined) return;
      if (index < batch.first + batch.answered) continue;
      const proposal = batch.proposals[batch.answered++];
      if (batch.answered >= batch.proposals.length) this.#batches.shift();
      if (proposal === undefined) continue;
      this.#size--;
      this.#bytes -= proposal.data.length;
      if (batch.term === term) proposal.resolve(index);
      else proposal.reject(unavailable('another leader overwrote the change before it was committed; try again'));
    }
  }

  /** Answers those that are in the log: their fate is not known. */
  rejectOutstanding(error: Error): void {
    const batches = this.#batches;
    this.#batches = [];
    for (const { proposals, answered } of batches) {
      for (let i = answered; i < proposals.length; i++) {
        const proposal = proposals[i] as Proposal;
        this.#size--;
        this.#bytes -= proposal.data.length;
        proposal.reject(error);
      }
    }
  }

  /** Answers those that never entered the log. */
  rejectQueued(error: Error): void {
    for (const proposal of this.takeQueue()) proposal.reject(error);
  }
}
