import { ShoalError, unavailable } from '../base/index.ts';

/** Proposals that wait to be applied at once at the most. */
export const PENDING_PROPOSALS_MAX = 16_384;
/** Bytes of proposals that wait at the most. */
export const PENDING_PROPOSAL_BYTES_MAX = 64 * 1024 * 1024;
/** Bytes of one proposal at the most: it must fit one gRPC message (4 MiB) with room to spare. */
export const PROPOSAL_BYTES_MAX = 2 * 1024 * 1024;

export interface Waiter {
  resolve(index: number): void;
  reject(error: Error): void;
}

export interface QueuedProposal extends Waiter {
  data: Uint8Array;
}

interface Outstanding extends Waiter {
  term: number;
  bytes: number;
}

/** Proposals of this member from the call until they are applied here. Bounded in number and bytes. */
export class ProposalWaiters {
  #queue: QueuedProposal[] = [];
  #outstanding = new Map<number, Outstanding>();
  #bytes = 0;

  /** Proposals that wait for the next batch. */
  get queued(): number {
    return this.#queue.length;
  }

  get size(): number {
    return this.#queue.length + this.#outstanding.size;
  }

  /** @throws ShoalError ResourceExhausted when a bound is reached, InvalidArgument when one proposal is too large. */
  checkRoom(bytes: number): void {
    if (bytes > PROPOSAL_BYTES_MAX) {
      throw new ShoalError(
        'InvalidArgument',
        `a change of ${bytes} bytes is too large for the cluster's log; the limit is ${PROPOSAL_BYTES_MAX} bytes`,
      );
    }
    if (this.size >= PENDING_PROPOSALS_MAX || this.#bytes + bytes > PENDING_PROPOSAL_BYTES_MAX) {
      throw new ShoalError('ResourceExhausted', `${this.size} changes already wait for the cluster's log; try later`);
    }
  }

  enqueue(proposal: QueuedProposal): void {
    this.#queue.push(proposal);
    this.#bytes += proposal.data.length;
  }

  /** Takes everything queued: the next batch of the group commit. */
  takeQueue(): QueuedProposal[] {
    const taken = this.#queue;
    this.#queue = [];
    for (const proposal of taken) this.#bytes -= proposal.data.length;
    return taken;
  }

  /** Waits for the entry at `index`, which must turn out to be of `term`. */
  expect(index: number, term: number, bytes: number, waiter: Waiter): void {
    this.#outstanding.set(index, { term, bytes, resolve: waiter.resolve, reject: waiter.reject });
    this.#bytes += bytes;
  }

  applied(index: number, term: number): void {
    const waiter = this.#outstanding.get(index);
    if (waiter === undefined) return;
    this.#outstanding.delete(index);
    this.#bytes -= waiter.bytes;
    if (waiter.term === term) waiter.resolve(index);
    else waiter.reject(unavailable('another leader overwrote the change before it was committed; try again'));
  }

  /** Proposals that are in the log and not applied yet. */
  get outstanding(): number {
    return this.#outstanding.size;
  }

  rejectOutstanding(error: Error): void {
    const all = [...this.#outstanding.values()];
    this.#outstanding = new Map();
    for (const waiter of all) {
      this.#bytes -= waiter.bytes;
      waiter.reject(error);
    }
  }

  rejectAll(error: Error): void {
    for (const proposal of this.takeQueue()) proposal.reject(error);
    this.rejectOutstanding(error);
  }
}

interface PendingRead {
  waiters: Waiter[];
  ticksLeft: number;
  /** Set once the leader confirmed the read. */
  index: number;
}

/** Reads between asking the leader and having applied what it named. */
export class ReadWaiters {
  #next: Waiter[] = [];
  #asked = new Map<number, PendingRead>();
  #counter = 0;

  get queued(): number {
    return this.#next.length;
  }

  get size(): number {
    let size = this.#next.length;
    for (const read of this.#asked.values()) size += read.waiters.length;
    return size;
  }

  enqueue(waiter: Waiter): void {
    this.#next.push(waiter);
  }

  /** Starts one read for all that wait. @returns its key. */
  ask(timeoutTicks: number): number {
    const key = ++this.#counter;
    this.#asked.set(key, { waiters: this.#next, ticksLeft: timeoutTicks, index: 0 });
    this.#next = [];
    return key;
  }

  confirmed(key: number, index: number): void {
    const read = this.#asked.get(key);
    if (read !== undefined) read.index = index;
  }

  /** Serves the confirmed reads that `applied` covers. */
  serve(applied: number): void {
    for (const [key, read] of this.#asked) {
      if (read.index === 0 || read.index > applied) continue;
      this.#asked.delete(key);
      for (const waiter of read.waiters) waiter.resolve(read.index);
    }
  }

  reject(key: number, error: Error): void {
    const read = this.#asked.get(key);
    this.#asked.delete(key);
    for (const waiter of read?.waiters ?? []) waiter.reject(error);
  }

  /** One tick passes; reads without an answer for too long are given up. */
  tick(): void {
    for (const [key, read] of this.#asked) {
      if (--read.ticksLeft > 0) continue;
      this.reject(key, unavailable('no leader confirmed the read in time; try again'));
    }
  }

  rejectAll(error: Error): void {
    for (const waiter of this.#next.splice(0)) waiter.reject(error);
    for (const key of this.#asked.keys()) this.reject(key, error);
  }
}
