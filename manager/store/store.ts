import {
  assert,
  errorMessage,
  ShoalError,
  systemRandom,
  unavailable,
  Watch,
  type Clock,
  type Logger,
  type Random,
  type Subscription,
} from '../../base/index.ts';
import { applySteps, stepsOf, type Step } from './apply.ts';
import { decodeRequest, decodeSnapshot, encodeRequest, encodeSnapshot, hashTables, requestIdOf } from './codec.ts';
import { deepFreeze } from './freeze.ts';
import { KINDS, TableSet } from './tables.ts';
import { Batch, type BatchTransaction } from './transaction.ts';
import type { Commit, ReadView, Store, Transaction } from './types.ts';

/** Encoded size at which a raft entry takes no further transaction, bytes. */
export const BATCH_BYTES_MAX = 1024 * 1024;
/** Changed objects at which a raft entry takes no further transaction. */
export const BATCH_CHANGES_MAX = 2000;
/** Time for which transactions are run before what they wrote is proposed: others need the event loop, too. */
export const BATCH_MS_MAX = 20;
/** Updates that may wait for their turn. */
export const UPDATES_WAITING_MAX = 10_000;

/** Docker's words for a cluster without a leader. */
export const NO_LEADER_MESSAGE =
  "The swarm does not have a leader. It's possible that too few managers are online. " +
  'Make sure more than half of the managers are online.';

/** What the store needs of consensus. */
export interface Proposer {
  /**
   * Brings data into the log; resolves with the entry's index once it is committed, rejects when it was not or when
   * that cannot be known. The entry reaches every store through `apply`.
   */
  propose(data: Uint8Array): Promise<number>;
  /** Whether this manager leads and its store has applied all entries of former leaders. */
  isLeader(): boolean;
}

/** What of a committed log entry the store reads. Entries without data (a new leader's first) only move the index. */
export interface StoreEntry {
  index: number;
  data: Uint8Array;
}

/** The store with its other side: the state machine that raft drives. */
export interface ReplicatedStore extends Store {
  /** Raft index of the newest entry applied; 0 before the first. */
  readonly currentIndex: number;
  /** Applies committed entries in order. Entries at or below `currentIndex` are skipped. */
  apply(entries: readonly StoreEntry[]): void;
  /** The state at `currentIndex` (a `Snapshot` message without membership). */
  snapshot(): Uint8Array;
  /** Replaces everything by a snapshot taken at `index`; watchers get a commit with `reset`. */
  restore(data: Uint8Array, index: number): void;
  /** SHA-256 of the state (hex); equal on all replicas at the same index. */
  stateHash(): string;
  /** Refuses further updates and ends all watches. Idempotent. */
  close(): void;
}

export interface StoreOptions {
  proposer: Proposer;
  clock: Clock;
  log: Logger;
  /** Source of request ids. */
  random?: Random;
  /** What it begins with, and the index that this is the state at; for copies of another store. */
  initial?: { tables: TableSet; index: number };
  /** Changed objects at which an entry takes no further transaction; BATCH_CHANGES_MAX unless given. */
  batchChangesMax?: number;
  /** Deep-freezes every object handed out, so that tests catch whoever changes one. */
  freeze?: boolean;
}

interface Waiting {
  run: (tx: Transaction) => unknown;
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
}

/** A batch that was proposed, with how to end each of its updates. */
interface InFlight {
  id: number;
  /** What its entry does, so that it need not be decoded here. */
  steps: Step[];
  /** Raft index, once known. */
  index: number | undefined;
  settle: ((failure: unknown) => void)[];
}

class RaftStore implements ReplicatedStore {
  readonly #options: StoreOptions;
  readonly #random: Random;
  readonly #watch = new Watch<Commit>();
  #tables = new TableSet();
  #index = 0;
  #waiting: Waiting[] = [];
  #urgent: Waiting[] = [];
  #inFlight: InFlight | undefined;
  #scheduled = false;
  #closed = false;

  constructor(options: StoreOptions) {
    this.#options = options;
    this.#random = options.random ?? systemRandom;
    if (options.initial === undefined) return;
    this.#tables = options.initial.tables;
    this.#index = options.initial.index;
  }

  get currentIndex(): number {
    return this.#index;
  }

  view(): ReadView {
    return this.#tables;
  }

  watch(): Subscription<Commit> {
    return this.#watch.subscribe();
  }

  update<T>(run: (tx: Transaction) => T, urgent = false): Promise<T> {
    if (this.#closed || !this.#options.proposer.isLeader()) return Promise.reject(unavailable(NO_LEADER_MESSAGE));
    const queue = urgent ? this.#urgent : this.#waiting;
    if (queue.length >= UPDATES_WAITING_MAX) {
      return Promise.reject(unavailable(`${UPDATES_WAITING_MAX} changes are already waiting; try again later`));
    }
    return new Promise<T>((resolve, reject) => {
      queue.push({ run, resolve, reject });
      this.#schedule();
    });
  }

  get #queued(): number {
    return this.#urgent.length + this.#waiting.length;
  }

  /** Starts a batch a microtask later, so that updates made together go together. */
  #schedule(): void {
    if (this.#scheduled || this.#inFlight !== undefined || this.#queued === 0) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#startBatch();
    });
  }

  #startBatch(): void {
    if (this.#inFlight !== undefined) return;
    if (this.#closed || !this.#options.proposer.isLeader()) {
      this.#rejectWaiting(NO_LEADER_MESSAGE);
      return;
    }
    const batch = new Batch(this.#tables, this.#index);
    const settle: InFlight['settle'] = [];
    const { clock, batchChangesMax = BATCH_CHANGES_MAX } = this.#options;
    const endMs = clock.monotonic() + BATCH_MS_MAX;
    for (const queue of [this.#urgent, this.#waiting]) {
      let taken = 0;
      for (const waiting of queue) {
        if (batch.bytes >= BATCH_BYTES_MAX || batch.size >= batchChangesMax) break;
        // One of each queue goes in any case: neither keeps the other waiting for ever.
        if (taken > 0 && clock.monotonic() >= endMs) break;
        taken++;
        settle.push(this.#runOne(batch, waiting));
      }
      queue.splice(0, taken);
    }
    const actions = batch.encodedActions();
    if (actions.length === 0) {
      for (const end of settle) end(undefined);
      this.#schedule();
      return;
    }
    this.#propose(batch, actions, settle);
  }

  /** Runs one callback in the batch; returns how to end it when the outcome of the batch is known. */
  #runOne(batch: Batch, waiting: Waiting): (failure: unknown) => void {
    const tx: BatchTransaction = batch.begin(this.#options.clock.now());
    try {
      const result = waiting.run(tx);
      assert(!(result instanceof Promise), 'a store update is synchronous');
      tx.commit();
      const end = (failure: unknown): void =>
        failure === undefined ? waiting.resolve(result as never) : waiting.reject(failure);
      return this.#endNowIf(batch.isEmpty, end);
    } catch (error) {
      tx.rollback();
      // What it saw of others' uncommitted writes may have made it fail: their failure goes first.
      return this.#endNowIf(batch.isEmpty, (failure) => waiting.reject(failure ?? error));
    }
  }

  #endNowIf(now: boolean, end: (failure: unknown) => void): (failure: unknown) => void {
    if (!now) return end;
    end(undefined);
    return () => undefined;
  }

  #propose(batch: Batch, actions: readonly Uint8Array[], settle: InFlight['settle']): void {
    const id = 1 + this.#random.int(2 ** 52);
    const flight: InFlight = { id, steps: batch.steps(), index: undefined, settle };
    this.#inFlight = flight;
    const data = encodeRequest(id, actions, batch.templates.encoded);
    // A proposer that throws is one that rejects.
    new Promise<number>((resolve) => resolve(this.#options.proposer.propose(data))).then(
      (index) => {
        if (this.#inFlight !== flight) return;
        flight.index = index;
        // A snapshot may have brought the entry: what became of it cannot be told.
        if (index <= this.#index) this.#land(flight, unavailable('the outcome of the change is not known'));
      },
      (error: unknown) => {
        this.#land(flight, error instanceof ShoalError ? error : unavailable(errorMessage(error)));
      },
    );
  }

  #rejectWaiting(message: string): void {
    for (const { reject } of [...this.#urgent.splice(0), ...this.#waiting.splice(0)]) reject(unavailable(message));
  }

  #land(flight: InFlight, failure: unknown): void {
    if (this.#inFlight !== flight) return;
    this.#inFlight = undefined;
    for (const end of flight.settle) end(failure);
    this.#schedule();
  }

  apply(entries: readonly StoreEntry[]): void {
    for (const entry of entries) this.#applyOne(entry);
  }

  #applyOne({ index, data }: StoreEntry): void {
    if (index <= this.#index) return;
    this.#index = index;
    if (data.length === 0) return;
    const flight = this.#inFlight?.id === requestIdOf(data) ? this.#inFlight : undefined;
    const applied = applySteps(this.#tables, flight?.steps ?? stepsOf(decodeRequest(data).action), index);
    if (applied.ok) {
      if (this.#options.freeze === true) for (const change of applied.changes) deepFreeze(change.object);
      if (applied.changes.length > 0) this.#watch.publish({ index, changes: applied.changes, reset: false });
    } else {
      this.#options.log.warn('an entry did not fit the state and was dropped', { index, reason: applied.reason });
    }
    if (flight !== undefined) {
      this.#land(flight, applied.ok ? undefined : new ShoalError('Aborted', `${applied.reason}; try again`));
    }
  }

  snapshot(): Uint8Array {
    return encodeSnapshot(this.#tables);
  }

  restore(data: Uint8Array, index: number): void {
    const tables = decodeSnapshot(data);
    if (this.#options.freeze === true) for (const kind of KINDS) tables.list(kind).forEach(deepFreeze);
    this.#tables = tables;
    this.#index = index;
    this.#watch.publish({ index, changes: [], reset: true });
    const flight = this.#inFlight;
    if (flight?.index !== undefined && flight.index <= index) {
      this.#land(flight, unavailable('the outcome of the change is not known'));
    }
  }

  stateHash(): string {
    return hashTables(this.#tables);
  }

  close(): void {
    this.#closed = true;
    this.#rejectWaiting('the manager is stopping');
    if (this.#inFlight !== undefined) this.#land(this.#inFlight, unavailable('the manager is stopping'));
    this.#watch.close();
  }
}

/** A replicated store. Hand its `apply`, `snapshot` and `restore` to the raft driver as the state machine. */
export function createStore(options: StoreOptions): ReplicatedStore {
  return new RaftStore(options);
}
