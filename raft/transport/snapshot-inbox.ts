import { createHash, type Hash } from 'node:crypto';
import { must, ShoalError, type Clock, type Timer } from '../../base/index.ts';
import type { RaftMessage, SnapshotOffer } from '../../proto/index.ts';
import { SNAPSHOT_BYTES_MAX } from './snapshot-chunks.ts';

/** How long the pieces of a snapshot wait for the rest of it, ms. */
export const UNFINISHED_KEPT_MS = 60_000;
/** Unfinished snapshots kept at the most. A member gets one; a second comes when the leader changes meanwhile. */
export const UNFINISHED_MAX = 2;

/** A snapshot that is being received. */
class Assembly {
  readonly offer: SnapshotOffer;
  /** The stream that may add pieces: the newest that offered this snapshot. */
  owner: object;
  lastMs: number;
  received = 0;
  readonly #data: Buffer;
  readonly #hash: Hash = createHash('sha256');

  constructor(offer: SnapshotOffer, owner: object, nowMs: number) {
    this.offer = offer;
    this.owner = owner;
    this.lastMs = nowMs;
    this.#data = Buffer.allocUnsafeSlow(offer.bytes);
  }

  add(piece: Uint8Array): void {
    this.#data.set(piece, this.received);
    this.received += piece.length;
    this.#hash.update(piece);
  }

  /** The whole, if the digest is right. */
  whole(): Buffer | undefined {
    return this.#hash.digest().equals(this.offer.sha256) ? this.#data : undefined;
  }
}

/** What a stream that carries a snapshot adds its pieces to. */
export interface IncomingSnapshot {
  /** Bytes that are here already, from an earlier stream. */
  readonly offset: number;
  /** @throws ShoalError Aborted when the piece does not follow on what is here. */
  add(message: RaftMessage, offset: number): void;
  /** The whole message. @throws ShoalError Aborted when it is incomplete, DataLoss when its checksum is wrong. */
  finish(): RaftMessage;
}

/**
 * Keeps what has arrived of snapshots, for a bounded time, so that a new stream goes on where an earlier one broke off.
 * A snapshot is the same one when index, term, size and digest are.
 */
export class SnapshotInbox {
  readonly #clock: Clock;
  readonly #assemblies = new Map<string, Assembly>();
  #timer: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Unfinished snapshots here now. */
  get unfinished(): number {
    return this.#assemblies.size;
  }

  /** @throws ShoalError ResourceExhausted when the snapshot is too large, InvalidArgument when the offer is none. */
  open(offer: SnapshotOffer): IncomingSnapshot {
    if (offer.bytes > SNAPSHOT_BYTES_MAX) {
      const why = `a raft snapshot of ${offer.bytes} bytes is too large: at most ${SNAPSHOT_BYTES_MAX} are taken`;
      throw new ShoalError('ResourceExhausted', why);
    }
    if (offer.sha256.length !== 32)
      throw new ShoalError('InvalidArgument', 'a raft snapshot was offered without digest');
    const key = `${offer.index} ${offer.term} ${offer.bytes} ${Buffer.from(offer.sha256).toString('hex')}`;
    const owner = {};
    const assembly = this.#assemblies.get(key) ?? this.#begin(key, offer, owner);
    assembly.owner = owner;
    assembly.lastMs = this.#clock.monotonic();
    this.#arm();
    let first: RaftMessage | null = null;
    return {
      offset: assembly.received,
      add: (message, offset) => {
        this.#add(key, assembly, owner, message, offset);
        first ??= message;
      },
      finish: () => this.#finish(key, assembly, owner, first),
    };
  }

  #begin(key: string, offer: SnapshotOffer, owner: object): Assembly {
    if (this.#assemblies.size >= UNFINISHED_MAX) {
      // What was quiet the longest is the least likely to go on.
      const [stalest] = [...this.#assemblies].sort(([, a], [, b]) => a.lastMs - b.lastMs);
      if (stalest !== undefined) this.#assemblies.delete(stalest[0]);
    }
    const assembly = new Assembly(offer, owner, this.#clock.monotonic());
    this.#assemblies.set(key, assembly);
    return assembly;
  }

  #check(key: string, assembly: Assembly, owner: object): void {
    if (this.#assemblies.get(key) === assembly && assembly.owner === owner) return;
    throw new ShoalError('Aborted', 'this raft snapshot is being received on another stream, or was given up');
  }

  #add(key: string, assembly: Assembly, owner: object, message: RaftMessage, offset: number): void {
    this.#check(key, assembly, owner);
    const snapshot = must(message.snapshot, 'snapshot of a MsgSnap');
    const { received, offer } = assembly;
    const { index, term } = snapshot.metadata ?? {};
    const fits = index === offer.index && term === offer.term && offset === received;
    if (!fits || received + snapshot.data.length > offer.bytes) {
      const what = `a piece of raft snapshot ${index} at byte ${offset}`;
      throw new ShoalError('Aborted', `${what} does not follow on byte ${received} of snapshot ${offer.index}`);
    }
    assembly.add(snapshot.data);
    assembly.lastMs = this.#clock.monotonic();
  }

  #finish(key: string, assembly: Assembly, owner: object, first: RaftMessage | null): RaftMessage {
    this.#check(key, assembly, owner);
    const { received, offer } = assembly;
    // The last stream may have had nothing left to carry but one empty piece.
    if (received < offer.bytes || first === null) {
      throw new ShoalError('Aborted', `raft snapshot ${offer.index} ended at byte ${received} of ${offer.bytes}`);
    }
    this.#assemblies.delete(key);
    const data = assembly.whole();
    if (data === undefined) {
      throw new ShoalError('DataLoss', `raft snapshot ${offer.index} arrived with a wrong checksum and was dropped`);
    }
    return { ...first, snapshot: { ...must(first.snapshot, 'snapshot of a MsgSnap'), data } };
  }

  /** Drops what has waited too long; looks again while anything waits. */
  #arm(): void {
    if (this.#timer !== null) return;
    this.#timer = this.#clock.after(UNFINISHED_KEPT_MS, () => {
      this.#timer = null;
      const oldestMs = this.#clock.monotonic() - UNFINISHED_KEPT_MS;
      for (const [key, assembly] of this.#assemblies) if (assembly.lastMs <= oldestMs) this.#assemblies.delete(key);
      if (this.#assemblies.size > 0) this.#arm();
    });
  }
}
