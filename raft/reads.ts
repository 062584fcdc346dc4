import { ShoalError, unavailable } from '../base/index.ts';
import type { Random } from '../base/index.ts';
import type { Raft } from './core/index.ts';
import { ReadContexts } from './read-context.ts';

/** Linearizable reads that wait at the most. */
export const PENDING_READS_MAX = 65_536;
/** Rounds to the leader under way at the most; reads that come meanwhile share the next one. */
export const READ_ROUNDS_MAX = 64;

export interface Read {
  resolve(index: number): void;
  reject(error: Error): void;
}

/** Reads that share one round. */
interface Round {
  reads: readonly Read[];
  ticksLeft: number;
  /** The question or its answer may be lost: it is asked again after so many ticks. */
  askAgainTicks: number;
  /** Set once the leader confirmed the read. */
  index: number;
}

/** A read under the leader's lease: confirmed already, it waits for what is committed to be applied. */
interface Leased {
  read: Read;
  index: number;
  ticksLeft: number;
}

/** Reads between asking the leader and having applied what it named (thesis §6.4). Bounded. */
export class Reads {
  #waiting: Read[] = [];
  #rounds = new Map<number, Round>();
  #leased: Leased[] = [];
  #size = 0;
  #counter = 0;
  readonly #contexts: ReadContexts;

  constructor(random: Random) {
    this.#contexts = new ReadContexts(random);
  }

  get size(): number {
    return this.#size;
  }

  /** @throws ShoalError ResourceExhausted when too many wait. */
  enqueue(read: Read): void {
    this.#count();
    this.#waiting.push(read);
  }

  /** Resolves `read` once `index` is applied. @throws ShoalError ResourceExhausted when too many wait. */
  await(index: number, read: Read, timeoutTicks: number): void {
    this.#count();
    this.#leased.push({ read, index, ticksLeft: timeoutTicks });
  }

  #count(): void {
    if (this.#size >= PENDING_READS_MAX) {
      throw new ShoalError(
        'ResourceExhausted',
        `${this.#size} reads already wait for the leader of the cluster, as many as may; try again when some are done`,
      );
    }
    this.#size++;
  }

  /** Starts one round for all reads that wait. @returns false when there is nobody to ask; the reads wait on. */
  ask(core: Raft, timeoutTicks: number, askAgainTicks: number): boolean {
    if (this.#waiting.length === 0 || this.#rounds.size >= READ_ROUNDS_MAX) return true;
    const key = ++this.#counter;
    if (!core.readIndex(this.#contexts.encode(key))) return false;
    this.#rounds.set(key, { reads: this.#waiting, ticksLeft: timeoutTicks, askAgainTicks, index: 0 });
    this.#waiting = [];
    return true;
  }

  /** The leader confirmed the reads that bear this context; contexts of other runs are dropped. */
  confirmed(context: Uint8Array, index: number): void {
    const round = this.#rounds.get(this.#contexts.decode(context) ?? 0);
    if (round !== undefined && round.index === 0) round.index = index;
  }

  /** Serves the confirmed reads that `applied` covers. */
  serve(applied: number): void {
    const covered = this.#takeLeased(({ index }) => index <= applied);
    for (const { read, index } of covered) read.resolve(index);
    for (const [key, round] of this.#rounds) {
      if (round.index === 0 || round.index > applied) continue;
      this.#rounds.delete(key);
      this.#size -= round.reads.length;
      for (const read of round.reads) read.resolve(round.index);
    }
  }

  /** One tick passes: rounds that are silent are asked again, and given up in the end. */
  tick(core: Raft, askAgainTicks: number): void {
    for (const { read } of this.#takeLeased((leased) => --leased.ticksLeft <= 0)) {
      read.reject(unavailable('what was committed was not applied here in time; try again'));
    }
    for (const [key, round] of this.#rounds) {
      if (--round.ticksLeft <= 0) {
        this.#reject(key, unavailable('no leader confirmed the read in time; try again'));
      } else if (round.index === 0 && --round.askAgainTicks <= 0) {
        round.askAgainTicks = askAgainTicks;
        core.readIndex(this.#contexts.encode(key));
      }
    }
  }

  #takeLeased(isDone: (leased: Leased) => boolean): Leased[] {
    if (this.#leased.length === 0) return [];
    const done: Leased[] = [];
    const left: Leased[] = [];
    for (const leased of this.#leased) (isDone(leased) ? done : left).push(leased);
    this.#leased = left;
    this.#size -= done.length;
    return done;
  }

  #reject(key: number, error: Error): void {
    const round = this.#rounds.get(key);
    if (round === undefined) return;
    this.#rounds.delete(key);
    this.#size -= round.reads.length;
    for (const read of round.reads) read.reject(error);
  }

  /** Answers the reads that wait for a round. */
  rejectWaiting(error: Error): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#size -= waiting.length;
    for (const read of waiting) read.reject(error);
  }

  rejectAll(error: Error): void {
    this.rejectWaiting(error);
    for (const { read } of this.#takeLeased(() => true)) read.reject(error);
    for (const key of this.#rounds.keys()) this.#reject(key, error);
  }
}
